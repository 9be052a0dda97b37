"""Small functions to be run by `launch`: what a group of processes can do, and how it can fail."""

from __future__ import annotations

import os
import signal
import time

import torch
import torch.distributed as dist


def rank_and_sum() -> tuple[int, float]:
    """This process' rank, and the sum of all ranks + 1: an all-reduce of one number."""
    rank = dist.get_rank()
    number = torch.tensor(rank + 1.0)
    dist.all_reduce(number)
    return rank, number.item()


def fail_on(rank: int, how: str) -> None:
    """The process of that rank fails ("raise", "kill", "hang" or "exit") while the others wait for it in an all-reduce.

    With "deadlock" every process waits to receive, and none sends.
    """
    if how == "deadlock":
        dist.recv(torch.zeros(1), (dist.get_rank() + 1) % dist.get_world_size())
    if dist.get_rank() == rank:
        if how == "raise":
            raise ValueError("3 heads cannot be shared by 2 processes")
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "exit":
            os._exit(3)
        time.sleep(3600)
    dist.all_reduce(torch.zeros(1))
