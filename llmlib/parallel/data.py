"""Data parallelism for training: every process holds the whole model, sees its share of each batch, and takes the step
of the mean gradient. Three ways to form that mean, each faster than the one before: a sum for each parameter, a sum for
each bucket of parameters, and sums that run while the backward pass still computes.

Each process' loss has to be such that the mean of the gradients is the whole batch's: with shares of unequal size, the
sum over its tokens, times the number of processes, divided by the tokens of the whole batch.
Source: Li et al. 2020 (arXiv 2006.15704), section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from llmlib.parallel.tensor import Group

BUCKET_BYTES = 4 * 2**20  # of gradients in a sum: large enough that its start costs little, small enough to start early


def average_each(parameters: Iterable[nn.Parameter], group: Group | None = None) -> None:
    """Replaces each gradient by its mean over the processes: one all-reduce for each parameter, one after the other."""
    processes = dist.get_world_size(group)
    for parameter in parameters:
        gradient = _gradient(parameter)
        dist.all_reduce(gradient, group=group)
        parameter.grad = gradient.div_(processes)


def average_in_buckets(
    parameters: Iterable[nn.Parameter], bucket_bytes: int = BUCKET_BYTES, group: Group | None = None
) -> None:
    """As `average_each`, with one all-reduce for several parameters together: up to `bucket_bytes` of gradients."""
    processes = dist.get_world_size(group)
    for bucket in fill_buckets(list(parameters), bucket_bytes):
        gradients = [_gradient(parameter) for parameter in bucket]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat, group=group)
        flat.div_(processes)
        for parameter, part in zip(bucket, flat.split([g.numel() for g in gradients]), strict=True):
            parameter.grad = part.view_as(parameter)


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def fill_buckets(parameters: list[nn.Parameter], bucket_bytes: int) -> list[list[nn.Parameter]]:
    """Parameters in their order, as many to a bucket as its bytes allow, at least one.

    >>> sizes = [nn.Parameter(torch.zeros(n)) for n in (5, 1, 1, 9, 2)]
    >>> [[len(parameter) for parameter in bucket] for bucket in fill_buckets(sizes, bucket_bytes=4 * 7)]
    [[5, 1, 1], [9], [2]]

    Raises ValueError for no bytes.
    """
    if not bucket_bytes > 0:
        raise ValueError(f"bucket_bytes is {bucket_bytes!r}; a bucket has to hold something, so give more than 0.")
    buckets: list[list[nn.Parameter]] = []
    room = 0
    for parameter in parameters:
        if not buckets or parameter.nbytes > room:
            buckets.append([])
            room = bucket_bytes
        buckets[-1].append(parameter)
        room -= parameter.nbytes
    return buckets


class OverlappedAverage:
    """Means of gradients that are on their way while the backward pass still computes others.

    The backward pass comes to the last layers first: buckets are filled from the last parameter to the first, and a
    bucket's all-reduce starts as soon as all its gradients are there. After `backward`, `finish` waits for the rest.

    `starts` counts, for the last step, the buckets whose sum started before the backward pass had ended.

    Raises RuntimeError for a second backward pass before `finish`.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], bucket_bytes: int = BUCKET_BYTES, group: Group | None = None
    ) -> None:
        self.group, self.processes, self.starts = group, dist.get_world_size(group), 0
        self.buckets = fill_buckets([p for p in parameters if p.requires_grad][::-1], bucket_bytes)
        self._flats = [bucket[0].new_empty(sum(p.numel() for p in bucket)) for bucket in self.buckets]
        self._views: dict[nn.Parameter, Tensor] = {}
        self._places: dict[nn.Parameter, int] = {}
        for place, (bucket, flat) in enumerate(zip(self.buckets, self._flats, strict=True)):
            for parameter, part in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                self._views[parameter], self._places[parameter] = part.view_as(parameter), place
                parameter.register_post_accumulate_grad_hook(self._arrived)
        self._begin()

    def _begin(self) -> None:
        self._missing = [set(bucket) for bucket in self.buckets]
        self._sums: list[dist.Work | None] = [None] * len(self.buckets)
        self._next = 0  # sums start in the same order on all processes

    def _arrived(self, parameter: nn.Parameter) -> None:
        missing = self._missing[self._places[parameter]]
        if parameter not in missing:
            raise RuntimeError(
                "A gradient came a second time before `finish`; call it after each backward pass, or sum the losses "
                "and go backward once."
            )
        self._views[parameter].copy_(parameter.grad)
        parameter.grad = self._views[parameter]
        missing.remove(parameter)
        while self._next < len(self.buckets) and not self._missing[self._next]:
            self._start()

    def _start(self) -> None:
        self._sums[self._next] = dist.all_reduce(self._flats[self._next], group=self.group, async_op=True)
        self._next += 1

    def finish(self) -> None:
        """Waits for the sums, and leaves the means in the parameters; a parameter that no loss used counts as 0."""
        self.starts = self._next
        for missing in self._missing:
            for parameter in missing:
                parameter.grad = self._views[parameter].zero_()
        while self._next < len(self.buckets):
            self._start()
        for flat, work in zip(self._flats, self._sums, strict=True):
            work.wait()
            flat.div_(self.processes)
        self._begin()
