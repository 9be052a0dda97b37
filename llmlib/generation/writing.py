"""Texts written to their ends: one token after the other to watch, or many texts at once."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmlib.decoding import NO_TOKEN, Choose, greedy
from llmlib.generation.cache import KVCache
from llmlib.generation.steps import Decoder, check_count, check_prompts, check_room, check_stop, pad, prefill
from llmlib.model import Transformer
from llmlib.tokenizer import Tokenizer


@dataclass(frozen=True)
class Token:
    """One token that a model wrote."""

    id: int
    logits: Tensor  # (V,), the model's own, that it was chosen from
    log_probability: float  # according to these logits, in nats
    seconds: float  # to compute the logits and to choose; the first token's include reading the prompt
    reason: str | None  # why the text ends with it: "stop", "string" or "length"; None: it goes on


@dataclass(frozen=True)
class Generated:
    """A text that a model wrote after its prompt."""

    tokens: list[int]  # without the stop token
    reason: str  # why it ends: "stop" (a stop token), "string" (one of the stop strings) or "length"


class _Writer:
    """Texts being written side by side: what they are so far, and the cache that stands behind them."""

    def __init__(self, model: Transformer, prompts: Sequence[Sequence[int]], max_tokens: int, window: int | None):
        config, device = model.config, model.embedding.weight.device
        check_count("max_tokens", max_tokens)
        if window is not None:
            if isinstance(window, bool) or not isinstance(window, int) or not 0 < window < config.context:
                raise ValueError(
                    f"The window is {window!r}; it is how many tokens to read anew when the context of "
                    f"{config.context} is full, so it is at least 1 and at most {config.context - 1}."
                )
            prompts = [row if len(row) <= config.context else row[-window:] for row in check_prompts(prompts)]
        start, padding = pad(prompts, config, device)
        B, T = start.shape
        if window is None:
            check_room(T, max_tokens, config.context, "shorten the prompt, or give a window to slide over the text")
        room = min(T + max_tokens - 1, config.context)  # the last token is never read
        self.model, self.window, self.place = model, window, T
        self.ids = torch.full((B, T + max_tokens), NO_TOKEN, device=device)
        self.ids[:, :T] = start
        if padding is not None:
            self.ids[:, :T].masked_fill_(torch.arange(T, device=device) < padding.unsqueeze(1), NO_TOKEN)
        self.cache = KVCache(config, B, room, model.embedding.weight.dtype, device)
        self.decoder = Decoder(model, self.cache)
        self.first = padding  # the column of each text's first token; None: 0 everywhere
        self.logits = prefill(model, start, self.cache, padding)

    def choose(self, choose: Choose, generator: torch.Generator | None) -> Tensor:
        """The next token of each text, (B,). Raises ValueError where the chooser returns no such tokens."""
        chosen = choose(self.logits, self.ids[:, : self.place], generator)
        B, V = self.logits.shape
        if not isinstance(chosen, Tensor) or chosen.shape != (B,) or chosen.dtype not in (torch.long, torch.int):
            raise ValueError(f"The chooser returned {chosen}; it has to return a tensor of whole numbers, ({B},).")
        ids = chosen.tolist()
        if min(ids) < 0 or max(ids) >= V:
            raise ValueError(
                f"The chooser returned the token {min(ids) if min(ids) < 0 else max(ids)}, which is unknown to this "
                f"model; its ids go from 0 to {V - 1}."
            )
        self.ids[:, self.place] = chosen
        self.place += 1
        return chosen

    def read(self, chosen: Tensor) -> None:
        """Reads what was chosen last; where the context is full, the newest `window` tokens are read anew instead."""
        if self.cache.length < self.cache.capacity:
            self.logits = self.decoder(chosen)
            return
        start = self.place - self.window
        self.cache.truncate(0)
        padding = None if self.first is None else (self.first - start).clamp(min=0)
        if padding is not None and not padding.any():
            padding = None
        newest = self.ids[:, start : self.place].clamp(min=0)
        self.logits = prefill(self.model, newest, self.cache, padding)

    def select(self, rows: Tensor) -> None:
        """Keeps these texts alone."""
        self.cache.select(rows)
        self.ids = self.ids[rows]
        self.first = None if self.first is None else self.first[rows]


class _Ending:
    """Watches one text for its end."""

    def __init__(self, max_tokens: int, stop: Collection[int], strings: Sequence[str], coder: Tokenizer | None) -> None:
        if isinstance(strings, str) or "" in strings:
            raise ValueError(f"stop_strings is {strings!r}; give a list of strings, none of them empty.")
        if strings and coder is None:
            raise ValueError("Stop strings are found in text; give the tokenizer as `coder`.")
        check_stop(stop)
        self.left, self.stop, self.coder = max_tokens, stop, coder
        self.strings = [string.encode() for string in strings]
        self.longest = max(map(len, self.strings), default=0)
        self.tail = b""  # bytes, since a token may hold a part of a character

    def __call__(self, token: int) -> str | None:
        self.left -= 1
        if token in self.stop:
            return "stop"
        if self.strings:
            text = self.tail + self.coder.token_bytes(token)
            if any(string in text for string in self.strings):
                return "string"
            self.tail = text[-self.longest :]
        return None if self.left else "length"


@torch.no_grad()
def stream(
    model: Transformer,
    prompt: Sequence[int],
    max_tokens: int,
    choose: Choose = greedy,
    *,
    stop: Collection[int] = (),
    stop_strings: Sequence[str] = (),
    coder: Tokenizer | None = None,
    window: int | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Token]:
    """One token after the other, each as soon as it is chosen, with what it was chosen from; the last tells why it is.

    The arguments are those of `generate`. A stop token is given too, as the last. Nothing is computed before a token is
    asked for, and the time that a reader takes between two tokens counts for neither.

    >>> from llmlib.model import ModelConfig
    >>> model = Transformer(ModelConfig(vocab_size=50, context=8, width=16, layers=2, heads=2))
    >>> [token.reason for token in stream(model, [3, 1, 4], max_tokens=2)]
    [None, 'length']
    """
    begin = time.perf_counter()
    ending = _Ending(max_tokens, stop, stop_strings, coder)
    writer = _Writer(model, [prompt], max_tokens, window)
    while True:
        chosen, logits = writer.choose(choose, generator), writer.logits[0]
        id_ = int(chosen)
        log_probability = float(logits[id_] - logits.logsumexp(dim=0))
        reason = ending(id_)
        yield Token(id_, logits, log_probability, time.perf_counter() - begin, reason)
        if reason is not None:
            return
        begin = time.perf_counter()
        writer.read(chosen)


@torch.no_grad()
def generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    choose: Choose = greedy,
    *,
    stop: Collection[int] = (),
    stop_strings: Sequence[str] = (),
    coder: Tokenizer | None = None,
    window: int | None = None,
    generator: torch.Generator | None = None,
) -> list[Generated]:
    """What the model writes after each prompt, all of them at once.

    A text ends with a token of `stop`, which is left out, or after `max_tokens`, or when the new tokens spell one of
    `stop_strings`, which stays: it may begin or end inside a token. `coder` tells what tokens spell. Texts that have
    ended leave the batch.

    `choose(logits, ids, generator)` picks the next tokens, (B, V), (B, S) -> (B,): `greedy`, `sample`, a `Sampling`.
    `ids` are the tokens so far, with NO_TOKEN before a text that is shorter than others.

    Prompt and new tokens fit into the context, or `window` says how many of the newest tokens are read anew, as if the
    text began there, each time the context is full.

    >>> from llmlib.model import ModelConfig
    >>> model = Transformer(ModelConfig(vocab_size=50, context=8, width=16, layers=2, heads=2))
    >>> [len(text.tokens) for text in generate(model, [[3, 1, 4], [1]], max_tokens=5)]
    [5, 5]

    Raises ValueError for an empty prompt, unknown tokens (a chooser's, too), and what does not fit.
    """
    endings = [_Ending(max_tokens, stop, stop_strings, coder) for _ in prompts]
    writer = _Writer(model, prompts, max_tokens, window)
    texts: list[list[int]] = [[] for _ in prompts]
    reasons: list[str | None] = [None] * len(texts)
    rows = list(range(len(texts)))  # the text in each row of the batch
    while True:
        chosen = writer.choose(choose, generator)
        for row, token in zip(rows, chosen.tolist(), strict=True):
            if reasons[row] is None:
                reasons[row] = endings[row](token)
                if reasons[row] != "stop":
                    texts[row].append(token)
        going = [i for i, row in enumerate(rows) if reasons[row] is None]
        if not going:
            return [Generated(text, reason) for text, reason in zip(texts, reasons, strict=True)]
        if len(going) <= 0.8 * len(rows):  # a smaller batch is worth moving the cache from about here
            rows, places = [rows[i] for i in going], torch.tensor(going, device=chosen.device)
            chosen = chosen[places]
            writer.select(places)
        writer.read(chosen)
