"""From logits to one token.

A step turns logits into logits, (..., V) -> (..., V), and steps compose; -inf stands for a token that is ruled out, and
at least one token always stays. A chooser turns the logits of B texts into B tokens: `greedy`, `sample`, or a
`Sampling`, which takes its steps first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Choose = Callable[[Tensor, Tensor | None, torch.Generator | None], Tensor]
"""A chooser: logits (B, V), the tokens so far (B, S), a generator -> tokens (B,)."""

NO_TOKEN = -1
"""Stands in the tokens so far before a text that is shorter than others in its batch."""


def temperature(logits: Tensor, tau: float) -> Tensor:
    """Logits / tau, shifted so that the largest is 0: sharper for tau < 1, flatter for tau > 1; (..., V) -> (..., V).

    The limits are exact: at tau = 0 only the most probable tokens stay, at infinity all are equally probable.

    >>> temperature(torch.tensor([0.0, 1.0, 3.0]), 2.0)
    tensor([-1.5000, -1.0000,  0.0000])

    Raises ValueError for tau below 0. Source: Ackley, Hinton & Sejnowski 1985, Cognitive
    Science 9.
    """
    if not tau >= 0:
        raise ValueError(f"The temperature is {tau}; it is 0 (always the most probable token) or above.")
    if tau > 1e30:  # as good as infinite for float32, and -inf / inf would be NaN
        return logits.masked_fill(logits > -math.inf, 0.0)
    below = logits - logits.amax(dim=-1, keepdim=True)  # so that a small tau cannot overflow
    return below.masked_fill(below < 0, -math.inf) if tau == 0 else below / max(tau, 1e-30)


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keeps the k most probable tokens, and those equal to the last of them; (..., V) -> (..., V).

    A k above V keeps all.

    >>> top_k(torch.tensor([0.5, 2.0, 1.0]), 2)
    tensor([-inf, 2., 1.])

    Raises ValueError for k below 1. Source: Fan et al. 2018 (arXiv 1805.04833).
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"k is {k!r}; it counts the tokens to keep, so it is a whole number of at least 1.")
    if k >= logits.size(-1):
        return logits
    return logits.masked_fill(logits < logits.topk(k, dim=-1).values[..., -1:], -math.inf)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Keeps the nucleus, the fewest most probable tokens that together have p or more; (..., V) -> (..., V).

    >>> top_p(torch.tensor([0.2, 0.5, 0.3]).log(), 0.7).exp()
    tensor([0.0000, 0.5000, 0.3000])

    Raises ValueError unless 0 < p <= 1. Source: Holtzman et al. 2020 (arXiv 1904.09751), section 3.1.
    """
    if not 0 < p <= 1:
        raise ValueError(f"p is {p}; the probability to keep is above 0 and at most 1 (1 keeps every token).")
    if p == 1:
        return logits
    ordered, order = logits.sort(dim=-1)  # ascending, so that the sums of small numbers come first
    drop = ordered.softmax(dim=-1).cumsum(dim=-1) <= 1 - p
    drop[..., -1] = False
    return logits.masked_fill(drop.scatter(-1, order, drop), -math.inf)


def min_p(logits: Tensor, p: float) -> Tensor:
    """Keeps the tokens at least p times as probable as the most probable one; (..., V) -> (..., V).

    >>> min_p(torch.tensor([0.1, 0.6, 0.3]).log(), 0.4).exp()
    tensor([0.0000, 0.6000, 0.3000])

    Raises ValueError unless 0 <= p <= 1. Source: Nguyen et al. 2024 (arXiv 2407.01082).
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p is {p}; it is a fraction of the largest probability, from 0 (keeps every token) to 1.")
    least = logits.amax(dim=-1, keepdim=True) + (math.log(p) if p > 0 else -math.inf)
    return logits.masked_fill(logits < least, -math.inf)


def repetition_penalty(logits: Tensor, ids: Tensor, penalty: float) -> Tensor:
    """Makes tokens that occur in `ids` less probable: (B, V), (B, S) -> (B, V).

    Their logits are divided by `penalty` where positive and multiplied by it where negative, so this is a step for a
    model's own logits, before any other shifts them. NO_TOKEN in `ids` stands for nothing.

    >>> repetition_penalty(torch.tensor([[2.0, -1.0, 1.0]]), torch.tensor([[0, 1]]), 2.0)
    tensor([[ 1., -2.,  1.]])

    Raises ValueError unless `penalty` is above 0, and for ids that are no tokens of these logits.
    Source: Keskar et al. 2019 (arXiv 1909.05858), section 4.1.
    """
    if not 0 < penalty < math.inf:
        raise ValueError(f"The repetition penalty is {penalty}; it is above 0 (1 changes nothing, 1.2 is usual).")
    if penalty == 1:
        return logits
    B, V = logits.shape
    _check_ids(ids, B, V)
    seen = torch.zeros(B, V + 1, dtype=torch.bool, device=logits.device)
    seen = seen.scatter_(1, ids.where(ids != NO_TOKEN, V), True)[:, :V]
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def _check_ids(ids: Tensor, B: int, V: int) -> None:
    if ids.dim() != 2 or len(ids) != B or ids.dtype not in (torch.long, torch.int):
        raise ValueError(
            f"The tokens so far have shape {tuple(ids.shape)} and are {ids.dtype}; beside logits of {B} texts they are "
            f"whole numbers, ({B}, S)."
        )
    least, most = (int(number) for number in ids.aminmax()) if ids.numel() else (0, 0)
    if least < NO_TOKEN or most >= V:
        raise ValueError(
            f"The token {least if least < NO_TOKEN else most} among those so far is unknown: the logits are of {V} "
            f"tokens, from 0 to {V - 1}, and {NO_TOKEN} stands for none."
        )


def greedy(logits: Tensor, ids: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
    """The most probable token, the first of equals: (B, V) -> (B,). Neither `ids` nor `generator` plays a part.

    >>> greedy(torch.tensor([[0.5, 2.0, 1.0], [3.0, 0.0, 3.0]]))
    tensor([1, 0])

    Raises ValueError if a logit is NaN or infinite, or if every token is ruled out.
    """
    best, tokens = logits.max(dim=-1)
    _check_best(best)
    return tokens


def sample(logits: Tensor, ids: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
    """A token drawn with the probabilities softmax(logits): (B, V) -> (B,). `ids` play no part.

    >>> sample(torch.tensor([[0.0, 0.0], [0.0, float("-inf")]]), generator=torch.Generator().manual_seed(0)).shape
    torch.Size([2])

    Raises ValueError as `greedy` does.
    """
    _check_best(logits.amax(dim=-1))
    return torch.multinomial(logits.float().softmax(dim=-1), 1, generator=generator).squeeze(1)


def _check_best(best: Tensor) -> None:
    """A NaN is the largest of its row, and so is infinity; one number tells for all rows."""
    if not math.isfinite(best.sum().item()):
        raise ValueError(
            "The logits hold NaN or infinity, or rule out every token; look for weights that are not finite, "
            "or for a step that removed all tokens."
        )


@dataclass(frozen=True)
class Sampling:
    """A chooser that draws from what its steps leave: (B, V) -> (B,). Steps that are None are not taken.

    They come in this order, each on what the one before it left: repetition penalty, temperature, top-k, top-p, min-p.
    At temperature 0 it is `greedy` after the penalty.

    >>> choose = Sampling(temperature=0.8, top_p=0.5)
    >>> choose.probabilities(torch.tensor([[0.0, 2.0, 1.5]]))
    tensor([[0., 1., 0.]])
    >>> choose(torch.tensor([[0.0, 2.0, 1.5]]))
    tensor([1])

    Raises ValueError at once for what its steps do not allow.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None

    def __post_init__(self) -> None:
        self.logits(torch.zeros(1, 2), torch.zeros(1, 1, dtype=torch.long))  # the steps check their settings

    def logits(self, logits: Tensor, ids: Tensor | None = None) -> Tensor:
        """The logits after all steps, (B, V) -> (B, V); a repetition penalty needs the tokens so far, `ids` (B, S)."""
        if self.repetition_penalty is not None:
            if ids is None:
                raise ValueError("A repetition penalty needs the tokens so far; give them as `ids`, (B, S).")
            logits = repetition_penalty(logits, ids, self.repetition_penalty)
        if self.temperature != 1:
            logits = temperature(logits, self.temperature)
        if self.top_k is not None:
            logits = top_k(logits, self.top_k)
        if self.top_p is not None:
            logits = top_p(logits, self.top_p)
        if self.min_p is not None:
            logits = min_p(logits, self.min_p)
        return logits

    def probabilities(self, logits: Tensor, ids: Tensor | None = None) -> Tensor:
        """What it draws from, (B, V) -> (B, V): at temperature 0, all on `greedy`'s token."""
        logits = self.logits(logits, ids)
        if self.temperature == 0:
            return torch.zeros_like(logits).scatter_(-1, greedy(logits).unsqueeze(-1), 1.0)
        _check_best(logits.amax(dim=-1))
        return logits.float().softmax(dim=-1)

    def __call__(self, logits: Tensor, ids: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        logits = self.logits(logits, ids)
        return greedy(logits) if self.temperature == 0 else sample(logits, None, generator)
