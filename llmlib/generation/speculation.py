"""Speculative decoding with two models that share a tokenizer: the small one drafts, the large one checks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmlib.decoding import Sampling, accept_draft
from llmlib.generation.cache import KVCache
from llmlib.generation.steps import Decoder, check_count, check_room, check_stop, pad, prefill
from llmlib.model import Transformer


@dataclass(frozen=True)
class Speculation:
    """A text written by two models, and how often the large one had to read."""

    tokens: list[int]  # without the stop token
    reason: str  # why it ends: "stop" or "length"
    drafted: int  # tokens that the small model proposed
    accepted: int  # of these, how many the large one took
    readings: int  # passes of the large model, that over the prompt included


@torch.no_grad()
def generate_speculatively(
    model: Transformer,
    draft: Transformer,
    prompt: Sequence[int],
    max_tokens: int,
    sampling: Sampling = Sampling(temperature=0),  # noqa: B008 (frozen)
    *,
    ahead: int = 4,
    stop: Collection[int] = (),
    generator: torch.Generator | None = None,
) -> Speculation:
    """What `model` alone would write, in distribution (at temperature 0: exactly), in fewer passes over its weights.

    `draft` proposes up to `ahead` tokens, `model` reads them in one pass, and `accept_draft` decides how many stay. Its
    cache forgets the others. Both draw as `sampling` says.

    Raises ValueError for two vocabularies, `ahead` below 1, an empty prompt, unknown tokens, and what does not fit.
    """
    if model.config.vocab_size != draft.config.vocab_size:
        raise ValueError(
            f"The models know {model.config.vocab_size} and {draft.config.vocab_size} tokens; a draft is of use only "
            "between models of one tokenizer."
        )
    check_count("ahead", ahead)
    check_stop(stop)
    device, context = model.embedding.weight.device, min(model.config.context, draft.config.context)
    ids, _ = pad([prompt], model.config, device)
    T = ids.size(1)
    check_room(T, max_tokens, context)
    text = torch.cat([ids[0], ids.new_zeros(max_tokens)])
    caches = [
        KVCache(each.config, 1, T + max_tokens - 1, each.embedding.weight.dtype, device) for each in (model, draft)
    ]
    decoder = Decoder(draft, caches[1])
    target = sampling.probabilities(prefill(model, ids, caches[0]), ids)  # (1, V), of the next token
    draft_logits = prefill(draft, ids, caches[1])
    length, end = T, T + max_tokens  # of the text so far; the model has read all but at most its last token
    drafted_in_all, accepted_in_all, readings = 0, 0, 1

    text[T] = torch.multinomial(target[0], 1, generator=generator)[0]
    length += 1
    while length < end and int(text[length - 1]) not in stop:
        ahead_now = min(ahead, end - length - 1)  # one more token comes from the model itself
        drafted, q = text.new_zeros(ahead_now), []
        for i in range(ahead_now):
            while caches[1].length < length + i:  # what it has not read yet: its last token, or an accepted one
                draft_logits = decoder(text[caches[1].length].view(1))
            q.append(sampling.probabilities(draft_logits, text[: length + i].view(1, -1))[0])
            drafted[i] = torch.multinomial(q[-1], 1, generator=generator)[0]
            text[length + i] = drafted[i]
        read = caches[0].length
        logits = model(text[None, read : length + ahead_now], caches[0])[0]  # (1 + ahead_now, V)
        p = _probabilities(sampling, logits, text, length)
        new, n = accept_draft(drafted, torch.stack(q) if q else p[:0], p, generator)
        new = _up_to_stop(new, stop)
        text[length : length + len(new)] = torch.tensor(new, device=device)
        drafted_in_all, accepted_in_all, readings = drafted_in_all + ahead_now, accepted_in_all + n, readings + 1
        length += len(new)
        for cache in caches:
            cache.truncate(min(cache.length, length - 1))
    tokens = text[T:length].tolist()
    stopped = tokens[-1] in stop
    return Speculation(
        tokens[:-1] if stopped else tokens,
        "stop" if stopped else "length",
        drafted_in_all,
        accepted_in_all,
        readings,
    )


def _probabilities(sampling: Sampling, logits: Tensor, text: Tensor, length: int) -> Tensor:
    """Of each place after `length` tokens, (n, V); a repetition penalty looks at what stands before each."""
    if sampling.repetition_penalty is None:
        return sampling.probabilities(logits)
    rows = [sampling.probabilities(row[None], text[None, : length + i]) for i, row in enumerate(logits)]
    return torch.cat(rows)


def _up_to_stop(tokens: list[int], stop: Collection[int]) -> list[int]:
    return next((tokens[: i + 1] for i, token in enumerate(tokens) if token in stop), tokens)
