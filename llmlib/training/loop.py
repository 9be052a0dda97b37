"""The loss, and a loop that yields a record of each step."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from llmlib.fused import output_loss
from llmlib.model import Transformer
from llmlib.training.batches import IGNORED, Batch, Batches, DocumentBatches
from llmlib.training.recipe import Recipe, parameter_groups


def loss_sum(model: Transformer, batch: Batch) -> Tensor:
    """Cross-entropy summed over the batch's tokens, in nats: a scalar."""
    wanted = batch.targets != IGNORED
    return output_loss(model.hidden(batch.inputs)[wanted], model.head.weight, batch.targets[wanted])


@torch.no_grad()
def token_losses(model: Transformer, batch: Batch) -> Tensor:
    """Each token's surprise, -ln p(target), in nats: (B, T), 0 where a target is ignored."""
    logits = model(batch.inputs).float()
    losses = functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="none")
    return losses.view_as(batch.targets)


def evaluate(model: Transformer, batches: Sequence[Batch] | DocumentBatches) -> float:
    """Mean loss over `batches`, nats per token."""
    total, tokens, device = 0.0, 0, next(model.parameters()).device
    for batch in batches:
        total += token_losses(model, batch.to(device)).double().sum().item()
        tokens += batch.tokens
    if not tokens:
        raise ValueError("There is no token to evaluate on: give at least one batch with a target.")
    return total / tokens


@dataclass(frozen=True)
class StepRecord:
    """One step of training, as a plot or a progress bar wants it."""

    step: int  # the first is 1
    loss: float  # nats per token, before the step
    learning_rate: float
    gradient_norm: float  # before clipping
    tokens: int  # predicted so far
    tokens_per_second: float
    held_out_loss: float | None = None  # nats per token, after the step, where it was measured


class Diverged(ArithmeticError):
    """The loss is no longer a number; the message says at which step and what to change."""


class Trainer:
    """A model on its way: the weights, the optimiser's moments, and how far it has come.

    `run` may be left at any step, and called again; what was learned stays. With a process `group`, each process takes
    its share of a batch's rows, and gradients are summed over the group: the step is that of one process.

    >>> from llmlib.model import ModelConfig
    >>> from llmlib.training import StreamBatches
    >>> model = Transformer(ModelConfig(vocab_size=20, context=8, width=16, layers=1, heads=2))
    >>> recipe = Recipe(steps=30, learning_rate=1e-2, warm_up=5)
    >>> trainer = Trainer(model, StreamBatches(torch.arange(20), rows=4, length=8), recipe)
    >>> losses = [record.loss for record in trainer.run()]
    >>> losses[-1] < 0.7 * losses[0], trainer.step
    (True, 30)
    """

    def __init__(
        self,
        model: Transformer,
        batches: Batches,
        recipe: Recipe,
        held_out: Sequence[Batch] = (),
        evaluate_every: int = 0,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        self.model, self.batches, self.recipe = model, batches, recipe
        self.held_out, self.evaluate_every, self.group = held_out, evaluate_every, group
        self.device = next(model.parameters()).device
        groups = parameter_groups(model, recipe.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True)
        self.loss_sum = loss_sum  # or what torch.compile makes of it
        self.step = self.tokens = 0

    def run(self, steps: int | None = None) -> Iterator[StepRecord]:
        """Trains up to the recipe's end, or for `steps` steps, and yields a record after each."""
        last = self.recipe.steps if steps is None else min(self.recipe.steps, self.step + steps)
        while self.step < last:
            yield self._take_step()

    def _take_step(self) -> StepRecord:
        started, recipe = time.perf_counter(), self.recipe
        first = self.step * recipe.accumulate
        batches = [self.batches[n] for n in range(first, first + recipe.accumulate)]
        tokens = sum(batch.tokens for batch in batches)
        self.optimizer.zero_grad()
        loss = self._add_gradients(batches, tokens)
        norm = clip_grad_norm_(self.model.parameters(), recipe.clip_norm)
        if not math.isfinite(loss) or not torch.isfinite(norm):
            raise Diverged(
                f"At step {self.step + 1} the loss is {loss} and the gradient's norm {norm.item()}: training diverged. "
                "The weights are those of the step before; try a lower learning rate or a longer warm-up."
            )
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(self.step)
        self.optimizer.step()
        self.step, self.tokens = self.step + 1, self.tokens + tokens
        seconds = time.perf_counter() - started
        due = self.evaluate_every and (self.step % self.evaluate_every == 0 or self.step == recipe.steps)
        held_out_loss = evaluate(self.model, self.held_out) if due and self.held_out else None
        learning_rate = recipe.learning_rate_at(self.step - 1)
        return StepRecord(self.step, loss, learning_rate, norm.item(), self.tokens, tokens / seconds, held_out_loss)

    def _add_gradients(self, batches: list[Batch], tokens: int) -> float:
        """Leaves the gradient of the mean loss over `tokens` in the parameters, and returns that loss."""
        rank, size = (0, 1) if self.group is None else (dist.get_rank(self.group), dist.get_world_size(self.group))
        autocast = (
            torch.autocast(self.device.type, torch.bfloat16) if self.recipe.precision == "bfloat16" else nullcontext()
        )
        total = torch.zeros((), device=self.device)
        for batch in batches:
            share = batch.rows(rank, size).to(self.device)
            if share.tokens:
                with autocast:
                    loss = self.loss_sum(self.model, share) / tokens
                loss.backward()
                total += loss.detach()
        if self.group is not None:
            gradients = [p.grad if p.grad is not None else p.new_zeros(p.shape) for p in self.model.parameters()]
            flat = torch.cat([total.view(1), *(gradient.flatten() for gradient in gradients)])
            dist.all_reduce(flat, group=self.group)
            total, *parts = flat.split([1, *(gradient.numel() for gradient in gradients)])
            for parameter, part in zip(self.model.parameters(), parts, strict=True):
                parameter.grad = part.view_as(parameter)
        return total.item()

    def state(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Everything that a run resumes from besides the weights: the optimiser's moments by name, and two counters."""
        moments = {}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                moments[f"{name}:{key}"] = value
        return moments, {"step": self.step, "tokens": self.tokens}

    def restore(self, moments: dict[str, Tensor], counters: dict[str, int]) -> None:
        """Takes up a `state`; the model has to hold that moment's weights already."""
        for name, parameter in self.model.named_parameters():
            kept = {key.removeprefix(f"{name}:"): value for key, value in moments.items() if key.startswith(f"{name}:")}
            self.optimizer.state[parameter] = {key: value.clone() for key, value in kept.items()}
        self.step, self.tokens = counters["step"], counters["tokens"]
