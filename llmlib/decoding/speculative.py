"""Speculative decoding: a small model drafts a few tokens, the large one reads them all at once and keeps what it may.

The result is distributed exactly as if the large model had drawn every token itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def accept_draft(
    drafted: Tensor, draft: Tensor, target: Tensor, generator: torch.Generator | None = None
) -> tuple[list[int], int]:
    """The tokens to append, and how many of them are from the draft: (G,), (G, V), (G + 1, V) -> at most G + 1 tokens.

    `drafted` were drawn from the probabilities `draft`; `target` has those of the large model at the same places and
    one further. Token x is accepted with probability min(1, target(x) / draft(x)). At the first that is not, a token is
    drawn from max(0, target - draft), normalised, and the rest of the draft is dropped; if all are accepted, one more
    is drawn from the last row of `target`.

    >>> certain = torch.tensor([[0.0, 1.0]])
    >>> accept_draft(torch.tensor([1]), certain, torch.cat([certain, certain]))
    ([1, 1], 1)

    Raises ValueError for other shapes, unknown tokens, and rows that are no probabilities. Source: Leviathan et al.
    2023 (arXiv 2211.17192), algorithm 1; Chen et al. 2023 (arXiv 2302.01318).
    """
    G, V = len(drafted), target.size(-1)
    if drafted.dim() != 1 or draft.shape != (G, V) or target.shape != (G + 1, V):
        raise ValueError(
            f"The shapes are {tuple(drafted.shape)}, {tuple(draft.shape)} and {tuple(target.shape)}; for G drafted "
            "tokens they are (G,), (G, V) and (G + 1, V)."
        )
    tokens = drafted.tolist()
    if unknown := [token for token in tokens if not 0 <= token < V]:
        raise ValueError(f"The drafted token {unknown[0]} is unknown; the probabilities are of tokens 0 to {V - 1}.")
    for name, rows in (("draft", draft), ("target", target)):
        if rows.numel():
            least, most = rows.aminmax()  # NaN is both
            if not (least >= 0 and most < math.inf):
                raise ValueError(
                    f"The probabilities of {name} go from {least.item():.3g} to {most.item():.3g}; "
                    "they have to be numbers of at least 0, as a softmax gives."
                )
    places = torch.arange(G, device=drafted.device)
    luck = torch.rand(G, generator=generator, device=drafted.device, dtype=target.dtype)
    accepted = (luck * draft[places, drafted] < target[places, drafted]).tolist()
    n = accepted.index(False) if False in accepted else G
    left = target[G] if n == G else (target[n] - draft[n]).clamp(min=0)
    if not left.any():  # the two differ by rounding alone
        left = target[n]
        if not left.any():
            raise ValueError(f"Row {n} of target is 0 everywhere; the probabilities of a place sum to 1.")
    return [*tokens[:n], int(torch.multinomial(left, 1, generator=generator))], n


def expected_tokens(acceptance: float, ahead: int) -> float:
    """Tokens per reading of the large model, on average, if each of `ahead` is accepted with that probability.

    That is 1 + a + a^2 + ... + a^ahead: the independence of acceptances is an idealisation.

    >>> round(expected_tokens(0.8, 4), 2)
    3.36

    Raises ValueError unless 0 <= acceptance <= 1 and ahead is a whole number of at least 0. Source: Leviathan et al.
    2023 (arXiv 2211.17192), equation 1.
    """
    if not 0 <= acceptance <= 1:
        raise ValueError(f"The acceptance is {acceptance}; it is a probability, from 0 to 1.")
    if isinstance(ahead, bool) or not isinstance(ahead, int) or ahead < 0:
        raise ValueError(f"ahead is {ahead!r}; it counts drafted tokens, so it is a whole number of at least 0.")
    return sum(acceptance**i for i in range(ahead + 1))
