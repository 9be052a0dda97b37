"""A small training, the same on one process and on several: the task, what a run gives, and the loop that all share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from llmlib.model import ModelConfig, Transformer
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
    optimizer: Callable | None = None,
) -> Run:
    """The loop that all share: `add_gradients` leaves gradients of the mean loss in place, and returns that loss."""
    optimizer, batches, run = (optimizer or task.optimizer)(parameters), task.batches(), Run([], [])
    for step in range(task.steps):
        optimizer.zero_grad()
        run.losses.append(float(add_gradients(batches[step])))
        run.gradients.append({name: gradient.clone() for name, gradient in whole_gradients().items()})
        optimizer.step()
    return run


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights are."""
    return next(model.parameters()).device


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


def together(run: Run, group=None) -> Run:
    """A run whose gradients each process has a part of, by name: all of them on every process."""
    from llmlib.parallel import gathered

    parts = gathered(run.gradients, group)  # [process][step][name]
    steps = ({name: g for part in parts for name, g in part[step].items()} for step in range(len(run.losses)))
    return Run(run.losses, list(steps))
