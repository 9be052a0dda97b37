"""What a stage of a pipeline does: it computes with a piece of a model, or it sleeps for as long as it is told to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from llmlib.parallel.pieces import Piece


class Work(Protocol):
    """What a stage does with one of its chunks. Streams are (b, T, C); `None` stands where none comes or goes."""

    first: bool  # of all chunks: nothing comes in, no gradient goes out
    last: bool
    kept: dict[int, object]  # micro-batches that went forward and not yet all the way back

    def shape(self, micro_batch: int) -> tuple[int, ...]:
        """Of the stream that comes in, and of its gradient."""

    def forward(self, micro_batch: int, x: Tensor | None) -> Tensor: ...

    def backward(self, micro_batch: int, dy: Tensor | None) -> Tensor | None:
        """The whole backward pass; gives the gradient of what came in."""

    def backward_input(self, micro_batch: int, dy: Tensor | None) -> Tensor | None:
        """The gradient of what came in alone; `backward_weights` follows later."""

    def backward_weights(self, micro_batch: int) -> None: ...


class SleepWork:
    """A chunk that only takes time: its seconds forward, backward to the input, and backward to the weights.

    It hands on one number. With it, measured bubbles can be compared with predicted ones on a machine with fewer cores
    than stages: sleeping takes none.
    """

    def __init__(self, first: bool, last: bool, seconds: Sequence[float]) -> None:
        self.first, self.last, self.seconds = first, last, seconds
        self.kept: dict[int, object] = {}

    def shape(self, micro_batch: int) -> tuple[int, ...]:
        return (1,)

    def forward(self, micro_batch: int, x: Tensor | None) -> Tensor:
        self.kept[micro_batch] = None
        time.sleep(self.seconds[0])
        return torch.zeros(1)

    def backward(self, micro_batch: int, dy: Tensor | None) -> Tensor:
        time.sleep(self.seconds[1] + self.seconds[2])
        del self.kept[micro_batch]
        return torch.zeros(1)

    def backward_input(self, micro_batch: int, dy: Tensor | None) -> Tensor:
        time.sleep(self.seconds[1])
        return torch.zeros(1)

    def backward_weights(self, micro_batch: int) -> None:
        time.sleep(self.seconds[2])
        del self.kept[micro_batch]


class PieceWork:
    """A piece of a model at work on the micro-batches of one step: ids and targets, (b, T) each.

    The loss is summed over tokens and divided by `tokens`, those of the whole batch. `kept` holds the activations of
    micro-batches that went forward and not yet back.
    """

    def __init__(self, piece: Piece, inputs: Sequence[Tensor], targets: Sequence[Tensor], tokens: int) -> None:
        self.piece, self.first, self.last = piece, piece.first, piece.last
        self.inputs, self.targets, self.tokens = inputs, targets, tokens
        self.kept: dict[int, tuple[Tensor | None, Tensor]] = {}
        self.gradients: dict[int, Tensor | None] = {}  # of what went out, from the input's gradient to the weights'
        self.loss = 0.0

    def shape(self, micro_batch: int) -> tuple[int, ...]:
        return (*self.inputs[micro_batch].shape, self.piece.config.width)

    def forward(self, micro_batch: int, x: Tensor | None) -> Tensor:
        if x is not None:
            x.requires_grad_()
        y = self.piece(self.inputs[micro_batch] if x is None else x)
        if self.last:
            y = self.piece.loss_sum(y, self.targets[micro_batch]) / self.tokens
            self.loss += y.item()
        self.kept[micro_batch] = x, y
        return y

    def backward(self, micro_batch: int, dy: Tensor | None) -> Tensor | None:
        x, y = self.kept.pop(micro_batch)
        torch.autograd.backward(y, dy)
        return None if x is None else x.grad

    def backward_input(self, micro_batch: int, dy: Tensor | None) -> Tensor | None:
        """Autograd walks the graph once for the input and once more for the weights: right, but not free, since the
        second walk computes the inner gradients again."""
        x, y = self.kept[micro_batch]
        self.gradients[micro_batch] = dy
        return None if x is None else torch.autograd.grad(y, x, dy, retain_graph=True)[0]

    def backward_weights(self, micro_batch: int) -> None:
        (_, y), dy = self.kept.pop(micro_batch), self.gradients.pop(micro_batch)
        torch.autograd.backward(y, dy, inputs=list(self.piece.parameters()))
