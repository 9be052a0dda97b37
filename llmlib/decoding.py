"""From logits to a token: what may be chosen, and how.

A step turns logits into logits, (..., V) -> (..., V), and steps compose; -inf stands for a token that is ruled out. A
chooser turns the logits of B texts into B tokens: `greedy`, `sample`, or a `Sampling`, which takes its steps first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def greedy(logits: Tensor, ids: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
    """The most probable token, the first of equals: (..., V) -> (...). Neither `ids` nor `generator` plays a part.

    >>> greedy(torch.tensor([[0.5, 2.0, 1.0], [3.0, 0.0, 3.0]]))
    tensor([1, 0])
    """
    return logits.argmax(dim=-1)


def sample(logits: Tensor, ids: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
    """A token drawn with its probability, softmax(logits): (B, V) -> (B,). `ids` play no part."""
    return torch.multinomial(logits.float().softmax(dim=-1), 1, generator=generator).squeeze(1)


def temperature(logits: Tensor, T: float) -> Tensor:
    """Logits / T: sharper below 1, flatter above. Source: Ackley et al. 1985, equation 5."""
    return logits / T


@dataclass(frozen=True)
class Sampling:
    """A chooser that draws from what its steps leave: (B, V) -> (B,)."""

    temperature: float = 1.0

    def __call__(self, logits: Tensor, ids: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        return sample(temperature(logits, self.temperature), ids, generator)
