"""Training and serving with copies of the model, and with copies of a model that is cut: functions for `run_workers`.

Each training takes a `Task` and gives a `Run`, whose losses and gradients are to be those of `train_alone`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from llmlib.experiments.workers.tasks import Run, Task, device_of, follow_training, own_gradients, together
from llmlib.model import Transformer
from llmlib.parallel.schedules import Order
from llmlib.training import Batch, loss_sum

AVERAGES = ("each", "buckets", "overlapped")
SMALL_BUCKET = 2**13  # bytes, so that the small model has several


def train_data(task: Task, how: str = "overlapped") -> Run:
    """Data parallelism by hand: gradients averaged in the way that `how` names, one of AVERAGES."""
    from llmlib.parallel import OverlappedAverage, average_each, average_in_buckets

    model = task.model()
    finish = {
        "each": lambda: average_each(model.parameters()),
        "buckets": lambda: average_in_buckets(model.parameters(), SMALL_BUCKET),
        "overlapped": None,
    }
    if how not in finish:
        raise ValueError(f"how is {how!r}; choose one of {', '.join(finish)}.")
    average = finish[how] or OverlappedAverage(model.parameters(), SMALL_BUCKET).finish

    def add_gradients(batch: Batch) -> float:
        loss = own_share_of_loss(model, batch, loss_sum)
        loss.backward()
        average()
        return mean_over_processes(loss.detach())

    return follow_training(task, model.parameters(), add_gradients, lambda: own_gradients(model))


def own_share_of_loss(model: nn.Module, batch: Batch, loss: Callable[..., Tensor], group=None) -> Tensor:
    """The loss of this process' rows, scaled so that its mean over the processes is the whole batch's mean loss."""
    rank, processes = dist.get_rank(group), dist.get_world_size(group)
    return loss(model, batch.rows(rank, processes)) * (processes / batch.tokens)


def mean_over_processes(loss: Tensor, group=None) -> float:
    total = loss.double()
    dist.all_reduce(total, group=group)
    return total.item() / dist.get_world_size(group)


def train_ddp(task: Task) -> Run:
    """Data parallelism by torch's DistributedDataParallel."""
    from torch.nn.parallel import DistributedDataParallel

    from llmlib.parallel import ModelLoss

    model = task.model()
    replica = DistributedDataParallel(ModelLoss(model))

    def add_gradients(batch: Batch) -> float:
        loss = own_share_of_loss(replica, batch, lambda model, share: model(share.inputs, share.targets))
        loss.backward()
        return mean_over_processes(loss.detach())

    return follow_training(task, model.parameters(), add_gradients, lambda: own_gradients(model))


def train_fully_sharded(task: Task) -> Run:
    """Data parallelism with weights, gradients and moments spread, by torch's `fully_shard`."""
    from torch.distributed.device_mesh import init_device_mesh

    from llmlib.parallel import fully_sharded, gathered

    model = task.model()
    replica = fully_sharded(model, init_device_mesh(device_of(model).type, (dist.get_world_size(),)))

    def add_gradients(batch: Batch) -> float:
        loss = own_share_of_loss(replica, batch, lambda model, share: model(share.inputs, share.targets))
        loss.backward()
        return mean_over_processes(loss.detach())

    def gradients() -> dict[str, Tensor]:  # this process' rows of each
        return {name: gradient.to_local() for name, gradient in own_gradients(model).items()}

    run = follow_training(task, replica.parameters(), add_gradients, gradients)
    parts = gathered(run.gradients)  # [process][step][name]
    steps = range(task.steps)
    whole = [{name: torch.cat([part[step][name] for part in parts]) for name in parts[0][step]} for step in steps]
    return Run(run.losses, whole)


def train_zero(task: Task) -> tuple[Run, int]:
    """Data parallelism with AdamW's moments spread, by hand; and the bytes of them that this process kept."""
    from llmlib.parallel import ShardedAdamW

    model, spread = task.model(), []

    def add_gradients(batch: Batch) -> float:
        loss = own_share_of_loss(model, batch, loss_sum)
        loss.backward()
        return mean_over_processes(loss.detach())

    def gradients() -> dict[str, Tensor]:  # the optimiser's step averages by itself: here they are for comparison
        means = {}
        for name, gradient in own_gradients(model).items():
            means[name] = gradient.clone()
            dist.all_reduce(means[name])
            means[name] /= dist.get_world_size()
        return means

    def optimizer(parameters):
        spread.append(ShardedAdamW(parameters, lr=task.learning_rate))
        return spread[0]

    run = follow_training(task, model.parameters(), add_gradients, gradients, optimizer)
    return run, spread[0].state_bytes


def train_mesh(task: Task, data: int, tensor: int) -> Run:
    """Both at once: `data` replicas of a model that is cut over `tensor` processes each."""
    from torch.distributed.device_mesh import init_device_mesh

    from llmlib.parallel import OverlappedAverage, gathered_weights, shard_transformer, split_loss_sum

    model = task.model()
    mesh = init_device_mesh(device_of(model).type, (data, tensor), mesh_dim_names=("data", "tensor"))
    replicas, parts = mesh.get_group("data"), mesh.get_group("tensor")
    shard_transformer(model, parts)
    average = OverlappedAverage(model.parameters(), SMALL_BUCKET, replicas)

    def add_gradients(batch: Batch) -> float:
        loss = own_share_of_loss(model, batch, split_loss_sum, replicas)
        loss.backward()
        average.finish()
        return mean_over_processes(loss.detach(), replicas)

    def gradients() -> dict[str, Tensor]:
        return gathered_weights(model, lambda parameter: parameter.grad)

    return follow_training(task, model.parameters(), add_gradients, gradients)


def train_cube(task: Task, order: Order, data: int, tensor: int) -> Run:
    """All three at once: `data` replicas of a pipeline, whose stages hold layers that are cut over `tensor` processes.

    The order says how many stages there are. A rank's digits are replica, stage and part, and a group is those that
    differ in one digit alone. Replicas take equally many rows of a batch.
    """
    from torch.distributed.device_mesh import init_device_mesh

    from llmlib.parallel import Pipeline, average_in_buckets, shard_transformer

    model = task.model()
    names = ("replica", "stage", "part")
    mesh = init_device_mesh(device_of(model).type, (data, len(order), tensor), mesh_dim_names=names)
    replicas, stages, parts = (mesh.get_group(name) for name in names)
    pipeline = Pipeline(shard_transformer(model, parts), order, stages)

    def add_gradients(batch: Batch) -> float:
        share = batch.rows(dist.get_rank(replicas), data)
        loss = pipeline.add_gradients(share.inputs, share.targets)
        average_in_buckets(pipeline.pieces.parameters(), SMALL_BUCKET, replicas)
        return mean_over_processes(torch.tensor(loss), replicas)

    run = follow_training(task, pipeline.pieces.parameters(), add_gradients, pipeline.own_gradients)
    return together(run, stages)


def serve_texts(
    model: Transformer, prompts: Sequence[Sequence[int]], max_tokens: int, counts: Sequence[int]
) -> dict[int, list]:
    """The prompts' continuations, greedily, by so many replicas at a time: count -> what `serve_replicas` tells."""
    from llmlib.generation import generate
    from llmlib.parallel import serve_replicas

    def answer(prompt: Sequence[int]) -> list[int]:
        return generate(model, [prompt], max_tokens)[0].tokens

    answer(prompts[0])  # the first one is slower: it is not measured
    return {count: serve_replicas(prompts, answer, count) for count in counts}
