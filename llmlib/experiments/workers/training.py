"""The same small training on one process and, in every way, on several: losses and gradients are to be the same.

Each `train_...` function takes a `Task` and returns a `Run`; all but `train_alone` are functions for `run_workers`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from llmlib.model import ModelConfig, Transformer
from llmlib.parallel.schedules import Order, Timeline
from llmlib.training import Batch, StreamBatches, loss_sum


@dataclass(frozen=True)
class Task:
    """A model and a few steps of training, all of it drawn from fixed seeds."""

    config: ModelConfig = field(
        default_factory=lambda: ModelConfig(vocab_size=64, context=16, width=32, layers=4, heads=4, kv_heads=4)
    )
    steps: int = 20
    rows: int = 8
    learning_rate: float = 3e-3

    def model(self) -> Transformer:
        """The model before its first step, the same wherever it is made."""
        return Transformer(self.config, torch.Generator().manual_seed(1))

    def batches(self) -> StreamBatches:
        """Windows of a text of numbers that has some order in it to learn."""
        draws = torch.randint(self.config.vocab_size, (500,), generator=torch.Generator().manual_seed(2))
        stream = draws.repeat_interleave(2).cumsum(0) % self.config.vocab_size
        return StreamBatches(stream, self.rows, self.config.context)

    def optimizer(self, parameters) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=self.learning_rate)


@dataclass
class Run:
    """What a training gave: the loss of each step (nats per token), and the whole gradient of each step by name."""

    losses: list[float]
    gradients: list[dict[str, Tensor]]

    def difference(self, other: Run) -> tuple[float, float]:
        """The greatest difference of a loss, and of an entry of a gradient, over all steps."""
        losses = max(abs(a - b) for a, b in zip(self.losses, other.losses, strict=True))
        if any(mine.keys() != theirs.keys() for mine, theirs in zip(self.gradients, other.gradients, strict=True)):
            raise ValueError("The two runs have gradients of different parameters.")
        pairs = [
            (mine[name], theirs[name])
            for mine, theirs in zip(self.gradients, other.gradients, strict=True)
            for name in mine
        ]
        return losses, max((a - b).abs().max().item() for a, b in pairs)


def follow_training(
    task: Task,
    parameters,
    add_gradients: Callable[[Batch], Tensor | float],
    whole_gradients: Callable[[], dict[str, Tensor]],
) -> Run:
    """The loop that all share: `add_gradients` leaves gradients of the mean loss in place, and returns that loss."""
    optimizer, batches, run = task.optimizer(parameters), task.batches(), Run([], [])
    for step in range(task.steps):
        optimizer.zero_grad()
        run.losses.append(float(add_gradients(batches[step])))
        run.gradients.append({name: gradient.clone() for name, gradient in whole_gradients().items()})
        optimizer.step()
    return run


def own_gradients(model: nn.Module) -> dict[str, Tensor]:
    """The gradients of a model that is whole, by name."""
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def train_alone(task: Task) -> Run:
    """On one process: what all others are held against."""
    model = task.model()

    def add_gradients(batch: Batch) -> Tensor:
        loss = loss_sum(model, batch) / batch.tokens
        loss.backward()
        return loss.detach()

    return follow_training(task, model.parameters(), add_gradients, lambda: own_gradients(model))


def train_tensor(task: Task) -> Run:
    """Tensor parallelism by hand: every process sees the whole batch and holds a part of every matrix."""
    from llmlib.parallel import gathered_weights, shard_transformer, split_loss_sum

    model = shard_transformer(task.model())

    def add_gradients(batch: Batch) -> Tensor:
        loss = split_loss_sum(model, batch) / batch.tokens
        loss.backward()
        return loss.detach()

    gradients = lambda: gathered_weights(model, lambda parameter: parameter.grad)  # noqa: E731
    return follow_training(task, model.parameters(), add_gradients, gradients)


def train_dtensor(task: Task) -> Run:
    """Tensor parallelism by torch's own `parallelize_module`."""
    from torch.distributed.device_mesh import init_device_mesh

    from llmlib.parallel import dtensor_transformer, whole_dtensors

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    model = dtensor_transformer(task.model(), mesh)

    def add_gradients(batch: Batch) -> Tensor:
        logits = model(batch.inputs)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        loss.backward()
        return loss.detach()

    return follow_training(task, model.parameters(), add_gradients, lambda: whole_dtensors(model, own_gradients(model)))


def together(run: Run, group=None) -> Run:
    """A run whose gradients each process has a part of, by name: all of them on every process."""
    from llmlib.parallel import gathered

    parts = gathered(run.gradients, group)  # [process][step][name]
    steps = ({name: g for part in parts for name, g in part[step].items()} for step in range(len(run.losses)))
    return Run(run.losses, list(steps))


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
