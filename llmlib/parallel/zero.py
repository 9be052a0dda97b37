"""Sharded optimiser states: of the moments that AdamW keeps for each weight, a process keeps those of its share alone.

Source: Rajbhandari et al. 2019 (arXiv 1910.02054), section 5.1: stage 1 of ZeRO.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from llmlib.parallel.tensor import Group

# The newest torch calls them so, and warns where it is asked for the old names.
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


def zero_bytes(parameters: float, processes: int, stage: int) -> float:
    """Bytes that a process holds for weights, gradients and optimiser in mixed precision, without activations.

    A parameter takes 2 bytes of weight, 2 of gradient, and 12 of the optimiser: the weight in 32 bits and two moments.
    Stage 0 shares nothing, 1 the optimiser's, 2 the gradients too, 3 all.
    Source: Rajbhandari et al. 2019, figure 1, whose model of 7.5e9 parameters on 64 processes this is, in GB:

    >>> [round(zero_bytes(7.5e9, 64, stage) / 1e9, 1) for stage in range(4)]
    [120.0, 31.4, 16.6, 1.9]

    Raises ValueError for another stage.
    """
    if stage not in range(4):
        raise ValueError(f"stage is {stage!r}; ZeRO has the stages 1, 2 and 3, and 0 is without it.")
    whole, shared = [(16, 0), (4, 12), (2, 14), (0, 16)][stage]
    return parameters * (whole + shared / processes)


class ShardedAdamW:
    """AdamW whose moments are spread over the processes; a step averages the gradients by itself.

    All weights become views of one row of numbers, of which each process has a run as its own. A step sums the
    gradients so that each process gets the mean for its run (reduce-scatter), moves its run, and gathers the others'
    (all-gather): as many bytes on the way as one all-reduce.

    `options` are those of `torch.optim.AdamW`.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], group: Group | None = None, **options) -> None:
        self.parameters, self.group = list(parameters), group
        self.processes, rank = dist.get_world_size(group), dist.get_rank(group)
        sizes = [parameter.numel() for parameter in self.parameters]
        share = -(-sum(sizes) // self.processes)  # rounded up: the last one's end may stand for nothing
        first = self.parameters[0]
        self._weights = torch.zeros(share * self.processes, dtype=first.dtype, device=first.device)
        self._gradients = torch.zeros_like(self._weights)
        for parameter, part in zip(self.parameters, self._weights[: sum(sizes)].split(sizes), strict=True):
            part.copy_(parameter.detach().flatten())
            parameter.data = part.view_as(parameter)
        self._own = nn.Parameter(self._weights[rank * share : (rank + 1) * share])
        self._sizes = sizes
        self.optimizer = torch.optim.AdamW([self._own], **options)

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step of AdamW with the mean gradient of all processes."""
        for parameter, part in zip(
            self.parameters, self._gradients[: sum(self._sizes)].split(self._sizes), strict=True
        ):
            if parameter.grad is None:
                part.zero_()
            else:
                part.copy_(parameter.grad.flatten())
        own = torch.empty_like(self._own)
        _reduce_scatter(own, self._gradients, group=self.group)
        self._own.grad = own.div_(self.processes)
        self.optimizer.step()
        self._own.grad = None
        _all_gather(self._weights, self._own.detach().clone(), group=self.group)

    @property
    def state_bytes(self) -> int:
        """Bytes of the moments that this process keeps: 8 for each weight of its share, in float32."""
        return sum(
            value.nbytes
            for state in self.optimizer.state.values()
            for value in state.values()
            if isinstance(value, Tensor) and value.dim()
        )
