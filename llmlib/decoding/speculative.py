"""Speculative decoding: a small model drafts a few tokens, the large one reads them all at once and keeps what it may.

The result is distributed exactly as if the large model had drawn every token itself.
"""

from __future__ import annotations

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

    Source: Leviathan et al. 2023 (arXiv 2211.17192), algorithm 1; Chen et al. 2023 (arXiv 2302.01318).
    """
    G = len(drafted)
    tokens = drafted.tolist()
    places = torch.arange(G, device=drafted.device)
    luck = torch.rand(G, generator=generator, device=drafted.device, dtype=target.dtype)
    accepted = (luck * draft[places, drafted] < target[places, drafted]).tolist()
    n = accepted.index(False) if False in accepted else G
    left = target[G] if n == G else (target[n] - draft[n]).clamp(min=0)
    if not left.any():  # the two differ by rounding alone
        left = target[n]
    return [*tokens[:n], int(torch.multinomial(left, 1, generator=generator))], n


def expected_tokens(acceptance: float, ahead: int) -> float:
    """Tokens per reading of the large model, on average, if each of `ahead` is accepted with that probability.

    That is 1 + a + a^2 + ... + a^ahead: the independence of acceptances is an idealisation.

    >>> round(expected_tokens(0.8, 4), 2)
    3.36

    Source: Leviathan et al. 2023 (arXiv 2211.17192), equation 1.
    """
    return sum(acceptance**i for i in range(ahead + 1))
