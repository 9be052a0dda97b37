"""Replicas that answer: copies of a model, each on a process of its own, take requests as they become free."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from llmlib.parallel.pipeline import common_start, gathered

_calls = itertools.count()  # every process counts alike, so that each call has a counter of its own


class Served(NamedTuple):
    """One request's answer: by which replica, and when, in seconds since all began together."""

    answer: Any
    replica: int
    start: float
    end: float


def serve_replicas(requests: Sequence[Any], answer: Callable[[Any], Any], replicas: int | None = None) -> list[Served]:
    """Answers all requests, in their order, on every process; the first `replicas` processes do it (all, unless given).

    A replica that is free takes the next request from a counter that all share, so that long requests do not hold up
    others.

    Raises ValueError for fewer than 1 replica or more than there are processes.
    """
    rank, processes = dist.get_rank(), dist.get_world_size()
    replicas = processes if replicas is None else replicas
    if isinstance(replicas, bool) or not isinstance(replicas, int) or not 1 <= replicas <= processes:
        raise ValueError(f"replicas is {replicas!r}; with {processes} processes it is a whole number from 1 to that.")
    store, counter = dist.distributed_c10d._get_default_store(), f"requests {next(_calls)}"
    origin, served = common_start(None, torch.zeros(1)), []
    while rank < replicas and (index := store.add(counter, 1) - 1) < len(requests):
        start = time.perf_counter() - origin
        given = answer(requests[index])
        served.append((index, Served(given, rank, start, time.perf_counter() - origin)))
    everyone = [pair for part in gathered(served) for pair in part]
    return [one for _, one in sorted(everyone, key=lambda pair: pair[0])]


def requests_per_second(served: Sequence[Served]) -> float:
    """Answers a second, from the beginning to the end of the last one."""
    return len(served) / max(one.end for one in served)
