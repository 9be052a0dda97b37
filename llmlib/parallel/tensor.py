"""Tensor parallelism: each process holds a part of every weight matrix, and computes with it a part of every layer.

A matrix cut by columns, W = [W1 | W2], gives each process some columns of X W; a matrix cut by rows takes them as they
are, and its products are summed. So a column-parallel layer followed by a row-parallel one needs a single sum over the
processes, at the end; going back, the gradient with respect to X needs a single sum too, at the beginning.

Here W is written as in the formula, X W; `torch.nn.Linear` stores its transpose, so W's columns are the stored rows.
Source: Shoeybi et al. 2019 (arXiv 1909.08053), section 3; f and g are named there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

Group = dist.ProcessGroup


def _summed(x: Tensor, group: Group | None) -> Tensor:
    total = x.contiguous().clone()
    dist.all_reduce(total, group=group)
    return total


class _F(Function):
    @staticmethod
    def forward(ctx, x: Tensor, group: Group | None) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor, None]:
        return _summed(dy, ctx.group), None


class _G(Function):
    @staticmethod
    def forward(ctx, x: Tensor, group: Group | None) -> Tensor:
        return _summed(x, group)

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor, None]:
        return dy, None


class _Gather(Function):
    @staticmethod
    def forward(ctx, x: Tensor, group: Group | None) -> Tensor:
        ctx.group = group
        return torch.cat(gathered_parts(x, group), dim=-1)

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor, None]:
        return dy.chunk(dist.get_world_size(ctx.group), dim=-1)[dist.get_rank(ctx.group)], None


def f_copy(x: Tensor, group: Group | None = None) -> Tensor:
    """Megatron's f, where all processes read the same x: x itself; going back, the sum of all their gradients."""
    return _F.apply(x, group)


def g_sum(x: Tensor, group: Group | None = None) -> Tensor:
    """Megatron's g, f's conjugate: the sum of all processes' x; going back, the gradient itself."""
    return _G.apply(x, group)


def gather_columns(x: Tensor, group: Group | None = None) -> Tensor:
    """The parts of all processes side by side, (..., N / n) -> (..., N); going back, this process' part alone."""
    return _Gather.apply(x, group)


def gathered_parts(x: Tensor, group: Group | None = None) -> list[Tensor]:
    """Every process' x, in order of rank; all have the same shape."""
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, x.contiguous(), group=group)
    return parts


def check_divides(what: str, size: int, processes: int) -> None:
    """Raise ValueError unless `size` can be shared equally."""
    if size % processes:
        fitting = [n for n in range(1, size + 1) if size % n == 0]
        nearest = sorted(sorted(fitting, key=lambda n: abs(n - processes))[:3])
        raise ValueError(
            f"{size} {what} cannot be shared equally by {processes} processes; "
            f"take {' or '.join(map(str, nearest))}, or change the number of {what}."
        )


def own_rows(weight: Tensor, blocks: Sequence[int], rank: int, processes: int) -> Tensor:
    """This process' share of each block of rows: (rows, ...) -> (rows / processes, ...).

    Blocks are matrices stored one below the other (queries, keys and values; gate and up): each is cut by itself.

    >>> own_rows(torch.arange(12), blocks=(8, 2, 2), rank=1, processes=2)
    tensor([ 4,  5,  6,  7,  9, 11])
    """
    return torch.cat([block.chunk(processes)[rank] for block in weight.split(list(blocks))])


def whole_rows(parts: Sequence[Tensor], blocks: Sequence[int]) -> Tensor:
    """What `own_rows` cut, put together again.

    >>> whole_rows([own_rows(torch.arange(12), (8, 2, 2), rank, 2) for rank in (0, 1)], (8, 2, 2)).tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    """
    split = [part.split([block // len(parts) for block in blocks]) for part in parts]
    return torch.cat([pieces[i] for i in range(len(blocks)) for pieces in split])


class ColumnLinear(nn.Module):
    """A linear layer cut by W's columns: the whole x in, this process' columns of x W out, (..., C) -> (..., N / n).

    Made from a whole `nn.Linear`, the same on all processes, of which it keeps its share. `blocks` are the widths of
    the matrices that stand in it side by side (all of it, unless given).

    Raises ValueError for a width that does not divide.
    """

    def __init__(self, linear: nn.Linear, group: Group | None = None, blocks: Sequence[int] | None = None) -> None:
        super().__init__()
        self.group, self.blocks = group, tuple(blocks or [linear.out_features])
        rank, n = dist.get_rank(group), dist.get_world_size(group)
        for block in self.blocks:
            check_divides("columns", block, n)
        self.weight = nn.Parameter(own_rows(linear.weight.detach(), self.blocks, rank, n).clone())
        bias = linear.bias
        self.bias = None if bias is None else nn.Parameter(own_rows(bias.detach(), self.blocks, rank, n).clone())

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(f_copy(x, self.group), self.weight, self.bias)

    def whole(self, part: Tensor) -> Tensor:
        """All processes' parts of the weight or its gradient, put together."""
        return whole_rows(gathered_parts(part, self.group), self.blocks)


class RowLinear(nn.Module):
    """A linear layer cut by W's rows: this process' columns of x in, the whole x W out, (..., C / n) -> (..., N).

    Made from a whole `nn.Linear`, as `ColumnLinear` is. A bias is added once, after the sum.
    """

    def __init__(self, linear: nn.Linear, group: Group | None = None) -> None:
        super().__init__()
        self.group = group
        rank, n = dist.get_rank(group), dist.get_world_size(group)
        check_divides("rows", linear.in_features, n)
        self.weight = nn.Parameter(linear.weight.detach().chunk(n, dim=1)[rank].clone())
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        y = g_sum(functional.linear(x, self.weight), self.group)
        return y if self.bias is None else y + self.bias

    def whole(self, part: Tensor) -> Tensor:
        """All processes' parts of the weight or its gradient, put together."""
        return torch.cat(gathered_parts(part, self.group), dim=1)
