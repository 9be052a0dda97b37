"""Functions that the tests of the launcher run on several processes."""

import os
import signal
import time

import torch
import torch.distributed as dist


def echo(numbers, text):
    """Everything a worker is told and says."""
    print(f"rank {dist.get_rank()} heard {text}")
    total = numbers * (dist.get_rank() + 1)
    dist.all_reduce(total)
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    places = tuple(os.environ[name] for name in names)
    carrier = dist.group.WORLD._get_backend(total.device).name()  # of tensors that are where this one is
    return dist.get_rank(), total, torch.get_num_threads(), places, os.getpid(), carrier


def unpicklable():
    return lambda: None


def killed_among_sleepers(noted):
    """Process 2 notes the time and is killed; the others sleep, so that nothing tells them of it."""
    if dist.get_rank() == 2:
        with open(noted, "w") as file:
            file.write(repr(time.monotonic()))
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(3600)


def later_failure():
    """Process 1 fails, and process 0 at once because of it: the cause has to be named, not its consequence."""
    if dist.get_rank() == 1:
        raise KeyError("the cause")
    try:
        dist.all_reduce(torch.zeros(1))
    except RuntimeError:
        raise OSError("the consequence") from None
