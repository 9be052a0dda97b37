"""Training with the model cut, by layers and by matrices: functions for `run_workers`, each beside torch's own way.

Each takes a `Task` and gives a `Run`, whose losses and gradients are to be those of `train_alone`.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from llmlib.experiments.workers.tasks import Run, Task, device_of, follow_training, own_gradients, together, train_alone
from llmlib.parallel.schedules import Order, Timeline
from llmlib.training import Batch

__all__ = [
    "Run",
    "Task",
    "train_alone",
    "train_dtensor",
    "train_pipeline",
    "train_tensor",
    "train_torch_pipeline",
]


def train_tensor(task: Task) -> Run:
    """Tensor parallelism by hand: every process sees the whole batch and holds a part of every matrix."""
    from llmlib.parallel import gathered_weights, shard_transformer, split_loss_sum

    model = shard_transformer(task.model())

    def add_gradients(batch: Batch) -> Tensor:
        loss = split_loss_sum(model, batch) / batch.tokens
        loss.backward()
        return loss.detach()

    def gradients() -> dict[str, Tensor]:
        return gathered_weights(model, lambda parameter: parameter.grad)

    return follow_training(task, model.parameters(), add_gradients, gradients)


def train_dtensor(task: Task) -> Run:
    """Tensor parallelism by torch's own `parallelize_module`."""
    from torch.distributed.device_mesh import init_device_mesh

    from llmlib.parallel import dtensor_transformer, whole_dtensors

    model = task.model()
    mesh = init_device_mesh(device_of(model).type, (dist.get_world_size(),))
    dtensor_transformer(model, mesh)

    def add_gradients(batch: Batch) -> Tensor:
        logits = model(batch.inputs)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        loss.backward()
        return loss.detach()

    return follow_training(task, model.parameters(), add_gradients, lambda: whole_dtensors(model, own_gradients(model)))


def train_pipeline(task: Task, order: Order, group=None) -> tuple[Run, Timeline]:
    """Pipeline parallelism by hand, in that order; with the run, when each stage worked in the last step."""
    from llmlib.parallel import Pipeline, measured_timeline

    pipeline = Pipeline(task.model(), order, group)

    run = follow_training(
        task,
        pipeline.pieces.parameters(),
        lambda batch: pipeline.add_gradients(batch.inputs, batch.targets),
        pipeline.own_gradients,
    )
    return together(run, group), measured_timeline(pipeline.spans, pipeline.most_kept, group)


def train_torch_pipeline(task: Task, schedule: str, micro_batches: int, chunks: int = 1) -> Run:
    """Pipeline parallelism by `torch.distributed.pipelining`, which leaves tied weights to its user: give none."""
    from llmlib.parallel import gathered, torch_pipeline

    if task.config.tied:
        raise ValueError("torch's pipeline does not sum the gradients of tied weights; give a config with tied=False.")
    pipeline, pieces = torch_pipeline(task.model(), schedule, micro_batches, chunks)

    def add_gradients(batch: Batch) -> float:
        losses: list[Tensor] = []
        last = pieces[-1].last
        inputs = (batch.inputs,) if pieces[0].first else ()
        pipeline.step(*inputs, **({"target": batch.targets, "losses": losses} if last else {}))
        return gathered(torch.stack(losses).mean().item() if last else None)[-1]

    def gradients() -> dict[str, Tensor]:
        return {name: p.grad for piece in pieces for name, p in piece.named_parameters()}

    parameters = [parameter for piece in pieces for parameter in piece.parameters()]
    return together(follow_training(task, parameters, add_gradients, gradients))
