"""Beam search: the most probable text, sought by going on with the best few at each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

Step = Callable[[Tensor, Tensor], Tensor]
"""What the search asks for: `step(parents, tokens)`, both (W,), says that text i now is what text `parents[i]` of the
call before was, and then `tokens[i]`; it returns the logits of what follows, (W, V). Before the first call there is one
text, number 0."""


@dataclass(frozen=True)
class Hypothesis:
    """A text that the search found."""

    tokens: list[int]  # with the end token, if it has one
    log_probability: float  # of all its tokens together, in nats
    score: float  # log_probability / the penalty of its length
    finished: bool  # by an end token; otherwise by its length


@dataclass(frozen=True)
class BeamStep:
    """The candidates of one step, the most probable first, at most twice the width."""

    parents: list[int]  # which of the texts kept before each goes on from
    tokens: list[int]
    log_probabilities: list[float]  # of the whole text
    fates: list[str]  # "kept", "finished", or "pruned"


def wu_penalty(alpha: float) -> Callable[[int], float]:
    """The length penalty ((5 + length) / 6)^alpha, to be given to `beam_search`.

    >>> wu_penalty(1.0)(7)
    2.0

    Source: Wu et al. 2016 (arXiv 1609.08144), equation 14.
    """
    return lambda length: ((5 + length) / 6) ** alpha


def beam_search(
    first: Tensor,
    step: Step,
    width: int,
    max_tokens: int,
    end: int | Collection[int] = (),
    length_penalty: float | Callable[[int], float] = 1.0,
    n_best: int = 1,
    on_step: Callable[[BeamStep], object] | None = None,
) -> list[Hypothesis]:
    """The best texts of at most `max_tokens`, best first: logits of the first token (V,) -> `n_best` hypotheses.

    At each step the `width` most probable texts without an end token go on, all in one call of `step`; a text that
    ends is set aside if it is among the `width` most probable candidates. What is set aside, and at the end what is
    still going on, is ordered by score = log-probability / penalty(length), and the length counts the end token. The
    penalty is length^`length_penalty`, as in `transformers`: 0 compares log-probabilities, 1 their mean per token,
    and more favours long texts; or it is what a function of the length returns, such as `wu_penalty(0.2)`. A penalty
    must be above 0.

    The search stops early only when no text that still goes on can come to be among the best. So one of width 1 is
    greedy, but where the penalty makes longer texts better it goes past an end token, with the next best.

    >>> table = torch.tensor([[0.6, 0.4], [0.55, 0.45], [0.05, 0.95]]).log()  # what follows nothing, a 0, a 1
    >>> best = beam_search(table[0], lambda parents, tokens: table[tokens + 1], width=2, max_tokens=2)[0]
    >>> best.tokens, round(math.exp(best.log_probability), 2)  # greedy's 0, 0 has 0.6 * 0.55 = 0.33
    ([1, 1], 0.38)

    Raises ValueError for `width`, `max_tokens` or `n_best` below 1, `n_best` above `width`, and logits that are NaN or
    of another shape.
    """
    for name, value in (("width", width), ("max_tokens", max_tokens), ("n_best", n_best)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; it has to be a whole number of at least 1.")
    if n_best > width:
        raise ValueError(f"n_best is {n_best}, and a search of width {width} finds {width}; make it wider.")
    ends = torch.tensor([end] if isinstance(end, int) else sorted(end), dtype=torch.long, device=first.device)
    penalties = [_penalty(length_penalty, length) for length in range(1, max_tokens + 1)]
    largest = penalties.copy()  # of this length and the ones after it
    for i in range(max_tokens - 2, -1, -1):
        largest[i] = max(largest[i], largest[i + 1])

    if first.dim() != 1:
        raise ValueError(f"The first logits have shape {tuple(first.shape)}; they are those of one place, (V,).")
    V = first.numel()
    texts: list[list[int]] = [[]]  # those that go on
    sums = torch.zeros(1, 1, device=first.device)  # their log-probabilities, (W, 1)
    found: list[Hypothesis] = []  # those that ended, best first
    logits = first.view(1, V)
    for length in range(1, max_tokens + 1):
        if not torch.isfinite(logits.amax(dim=-1)).all():
            raise ValueError("The logits hold NaN or infinity, or rule out every token.")
        totals = (sums + logits.float().log_softmax(dim=-1)).flatten()  # (W V)
        best, places = totals.topk(min(max(2, 1 + len(ends)) * width, totals.numel()))
        tokens, parents = places % V, places // V
        ended = torch.isin(tokens, ends) if len(ends) else torch.zeros_like(tokens, dtype=torch.bool)
        possible = best > -math.inf
        rank = torch.arange(len(best), device=best.device)
        finishing = ended & possible & (rank < width)
        going = torch.nonzero(~ended & possible).flatten()[:width]
        new = [[*texts[p], t] for p, t in zip(parents.tolist(), tokens.tolist(), strict=True)]
        log_probabilities = best.tolist()
        last = length == max_tokens
        for i in torch.nonzero(finishing).flatten().tolist() + (going.tolist() if last else []):
            score = log_probabilities[i] / penalties[length - 1]
            found.append(Hypothesis(new[i], log_probabilities[i], score, bool(ended[i])))
        found = sorted(found, key=lambda hypothesis: -hypothesis.score)[:width]
        if on_step is not None:
            kept, finished = set(going.tolist()), set(torch.nonzero(finishing).flatten().tolist())
            fates = ["finished" if i in finished else "kept" if i in kept else "pruned" for i in range(len(new))]
            on_step(BeamStep(parents.tolist(), tokens.tolist(), log_probabilities, fates))
        if last or not len(going):
            break
        # However a text goes on, its log-probability only falls, and a division by the largest penalty helps it most.
        if len(found) >= n_best and found[n_best - 1].score >= log_probabilities[going[0]] / largest[length]:
            break
        texts = [new[i] for i in going.tolist()]
        sums = best[going].unsqueeze(1)
        logits = step(parents[going], tokens[going])
        if logits.shape != (len(texts), V):
            raise ValueError(
                f"The step returned logits of shape {tuple(logits.shape)}; for {len(texts)} texts and {V} tokens it is "
                f"({len(texts)}, {V})."
            )
    return found[:n_best]


def _penalty(length_penalty: float | Callable[[int], float], length: int) -> float:
    penalty = length_penalty(length) if callable(length_penalty) else length**length_penalty
    if not 0 < penalty < math.inf:
        raise ValueError(f"The length penalty of {length} tokens is {penalty}; it has to be above 0.")
    return penalty
