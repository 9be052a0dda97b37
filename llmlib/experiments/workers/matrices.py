"""One product X W on several processes, cut by columns and by rows."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from llmlib.parallel import g_sum, gather_columns


def by_columns(x: Tensor, w: Tensor) -> dict[str, Tensor]:
    """W = [W1 | W2 | ...]: what this process holds and computes, and the whole product, gathered."""
    own = w.chunk(dist.get_world_size(), dim=1)[dist.get_rank()]
    product = x @ own
    return {"holds": own, "computes": product, "result": gather_columns(product)}


def by_rows(x: Tensor, w: Tensor) -> dict[str, Tensor]:
    """W cut into rows, X into columns: what this process holds, reads and computes, and the whole product, summed."""
    rank, n = dist.get_rank(), dist.get_world_size()
    own, part = w.chunk(n, dim=0)[rank], x.chunk(n, dim=1)[rank]
    product = part @ own
    return {"holds": own, "reads": part, "computes": product, "result": g_sum(product)}


def both_ways(x: Tensor, w: Tensor) -> dict[str, dict[str, Tensor]]:
    """`by_columns` and `by_rows` in one launch."""
    return {"columns": by_columns(x, w), "rows": by_rows(x, w)}


def all_reduce_seconds(numbers: list[int], rounds: int = 5) -> dict[int, float]:
    """Seconds that an all-reduce of so many float32 numbers takes here: the fastest of some rounds."""
    import time

    result = {}
    for count in numbers:
        x, times = torch.zeros(count), []
        for _ in range(rounds + 1):
            dist.barrier()
            begin = time.perf_counter()
            dist.all_reduce(x)
            times.append(time.perf_counter() - begin)
        result[count] = min(times[1:])
    return result
