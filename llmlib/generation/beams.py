"""Beam search with a model: the beams are the rows of one batch, and share one cache."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from llmlib.decoding import BeamStep, Hypothesis, beam_search
from llmlib.generation.cache import KVCache
from llmlib.generation.steps import Decoder, check_count, check_room, pad, prefill
from llmlib.model import Transformer


@torch.no_grad()
def generate_beams(
    model: Transformer,
    prompt: Sequence[int],
    max_tokens: int,
    width: int,
    *,
    end: int | Collection[int] = (),
    length_penalty: float | Callable[[int], float] = 1.0,
    n_best: int = 1,
    on_step: Callable[[BeamStep], object] | None = None,
) -> list[Hypothesis]:
    """The most probable continuations that a beam search finds, best first; see `llmlib.decoding.beam_search`.

    Raises ValueError as `beam_search` does, for an empty prompt, unknown tokens, and what does not fit the context.
    """
    config, weight = model.config, model.embedding.weight
    ids, _ = pad([prompt], config, weight.device)
    T = ids.size(1)
    check_count("width", width)
    check_room(T, max_tokens, config.context)
    cache = KVCache(config, width, T + max_tokens - 1, weight.dtype, weight.device)
    cache.select(torch.zeros(1, dtype=torch.long, device=weight.device))
    first = prefill(model, ids, cache)[0]
    decoder = Decoder(model, cache)

    def step(parents: Tensor, tokens: Tensor) -> Tensor:
        cache.select(parents, start=T if len(parents) <= cache.batch else 0)  # new rows need the prompt too
        return decoder(tokens)

    return beam_search(first, step, width, max_tokens, end, length_penalty, n_best, on_step)
