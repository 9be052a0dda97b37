"""What two processes do as replicas, in one launch: trainings against one process, and replicas that answer."""

import time

import torch
import torch.distributed as dist
from torch import nn
from torch.testing import assert_close

from llmlib import parallel
from llmlib.experiments.workers import replicas


def everything(task):
    result = {how: replicas.train_data(task, how) for how in replicas.AVERAGES}
    result["DDP"] = replicas.train_ddp(task)
    result["ZeRO"], result["ZeRO bytes"] = replicas.train_zero(task)
    result["fully_shard"] = replicas.train_fully_sharded(task)
    averages()
    result["overlap"] = overlap(task)
    result["refusals"] = refusals(task)
    result["served"] = {count: parallel.serve_replicas([0.02] * 6, nap, count) for count in (1, 2)}
    result["uneven"] = parallel.serve_replicas([0.3] + [0.02] * 6, nap)
    result["texts"] = replicas.serve_texts(task.model(), [[1, 2], [3]], 4, [2])[2]
    return result


def nap(seconds):
    time.sleep(seconds)
    return f"slept {seconds}"


def averages():
    """Of gradients that this process alone knows, of one that is missing here, in buckets of all sizes."""
    rank = dist.get_rank()
    sizes = [(3,), (2, 2), (1,), (5, 1)]
    for average in (
        parallel.average_each,
        lambda parameters: parallel.average_in_buckets(parameters, 1),
        lambda parameters: parallel.average_in_buckets(parameters, 24),
        lambda parameters: parallel.average_in_buckets(parameters, 10**6),
    ):
        parameters = [nn.Parameter(torch.zeros(size)) for size in sizes]
        for place, parameter in enumerate(parameters):
            if (place, rank) != (2, 1):
                parameter.grad = torch.full_like(parameter, place + 10.0 * rank)
        average(parameters)
        for place, parameter in enumerate(parameters):
            assert_close(parameter.grad, torch.full_like(parameter, place + 5.0 if place != 2 else 1.0))


def overlap(task):
    """Buckets, and how many of their sums began during the backward pass; then one parameter that no loss uses."""
    model = task.model()
    average = parallel.OverlappedAverage(model.parameters(), replicas.SMALL_BUCKET)
    replicas.own_share_of_loss(model, task.batches()[0], replicas.loss_sum).backward()
    average.finish()
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    other = parallel.OverlappedAverage([used, unused])
    (used.sum() * (1.0 + dist.get_rank())).backward()
    other.finish()
    assert_close(used.grad, torch.full((2,), 1.5))
    assert_close(unused.grad, torch.zeros(3))
    return len(average.buckets), average.starts


def refusals(task):
    said, weight = [], nn.Parameter(torch.ones(2))
    parallel.OverlappedAverage([weight])
    for refused in (
        lambda: [weight.sum().backward() for _ in range(2)],
        lambda: parallel.average_in_buckets([weight], 0),
        lambda: parallel.serve_replicas([1], nap, 3),
        lambda: replicas.train_data(task, "quickly"),
    ):
        try:
            refused()
        except (ValueError, RuntimeError) as error:
            said.append(str(error))
    return said
