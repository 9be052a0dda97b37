"""Text from a model, one token after the other, with a cache of keys and values so that nothing is computed twice.

Sizes are those of `llmlib.model`: B batch, T positions given now, S positions in the cache, V vocabulary, L layers,
K heads of keys and values, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmlib.decoding import greedy
from llmlib.model import ModelConfig, Transformer

Choose = Callable[[Tensor, Tensor, torch.Generator | None], Tensor]
NO_TOKEN = -1  # before a text that is shorter than others in its batch


class KVCache:
    """Keys and values of every position that a model has seen, per layer, in memory that is taken once.

    It belongs to the caller, who hands it to `prefill` and `decode_step`. It takes
    B * capacity * `ModelConfig.kv_bytes()` bytes.

    >>> cache = KVCache(ModelConfig(vocab_size=50, context=8, width=16, layers=2, heads=2), batch=3)
    >>> cache.length, cache.capacity, cache.nbytes
    (0, 8, 6144)
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int = 1,
        capacity: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        """Room for `batch` texts of `capacity` positions, the model's context unless given."""
        self.capacity = config.context if capacity is None else capacity
        shape = (2, config.layers, batch, config.kv_heads, self.capacity, config.head_width)
        self._memory = torch.zeros(shape, dtype=dtype, device=device)
        self.batch, self.length = batch, 0
        self.padding: Tensor | None = None  # (B,), positions before each text's first token
        self._point()

    def _point(self) -> None:
        self._layers = [(k[: self.batch], v[: self.batch]) for k, v in zip(*self._memory, strict=True)]

    @property
    def nbytes(self) -> int:
        """Bytes taken."""
        return self._memory.nbytes

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Adds T positions to one layer, (B, K, T, D) each, and returns all of them, (B, K, S, D) each."""
        S = self.length + keys.size(2)
        if S > self.capacity:
            raise ValueError(
                f"The cache has room for {self.capacity} positions and was to hold {S}; make it with more capacity."
            )
        all_keys, all_values = self._layers[layer]
        all_keys[:, :, self.length : S] = keys
        all_values[:, :, self.length : S] = values
        if layer == len(self._layers) - 1:
            self.length = S
        return all_keys[:, :, :S], all_values[:, :, :S]

    def select(self, rows: Tensor) -> None:
        """Text i becomes what text `rows[i]` was, and the batch as large as `rows`, (B',), at most the room taken."""
        kept = self._memory[:, :, : self.batch, :, : self.length].index_select(2, rows)
        self.batch = len(rows)
        self._memory[:, :, : self.batch, :, : self.length] = kept
        if self.padding is not None:
            self.padding = self.padding[rows]
        self._point()

    def places(self, T: int) -> tuple[Tensor | None, Tensor | None]:
        """For the next T positions, what each may see, (B, 1, T, S), and where it is, (B, T); (None, None) unpadded."""
        if self.padding is None:
            return None, None
        keys = torch.arange(self.length + T, device=self.padding.device)  # (S,)
        queries = keys[self.length :].unsqueeze(1)  # (T, 1)
        first = self.padding.view(-1, 1, 1)
        # Padding sees itself, since a softmax over nothing is NaN, and NaN times a weight of 0 is NaN.
        mask = (keys <= queries) & (keys >= first) | (keys == queries)  # (B, T, S)
        return mask.unsqueeze(1), (queries.squeeze(1) - first.squeeze(1)).clamp(min=0)


@torch.no_grad()
def prefill(model: Transformer, ids: Tensor, cache: KVCache, chunk: int = 512) -> Tensor:
    """Reads a prompt into the cache, `chunk` positions at a time: ids (B, T) -> logits of what follows, (B, V)."""
    for part in ids.split(chunk, dim=1):
        mask, positions = cache.places(part.size(1))
        x = model.hidden(part, cache, mask, positions)  # (B, T, C)
    return model.head(x[:, -1])


@torch.no_grad()
def decode_step(model: Transformer, ids: Tensor, cache: KVCache) -> Tensor:
    """Reads one more token of each text: ids (B,) -> logits of what follows, (B, V)."""
    mask, positions = cache.places(1)
    return model.head(model.hidden(ids.unsqueeze(1), cache, mask, positions)[:, -1])


@dataclass(frozen=True)
class Generated:
    """A text that a model wrote after its prompt."""

    tokens: list[int]  # without the stop token
    reason: str  # what ended it: "stop" (one of the stop tokens) or "length"


@torch.no_grad()
def generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    choose: Choose = greedy,
    stop: Collection[int] = (),
    generator: torch.Generator | None = None,
) -> list[Generated]:
    """What the model writes after each prompt, all at once, until a token of `stop` or for `max_tokens`.

    `choose(logits, ids, generator)` picks the next tokens, (B, V), (B, S) -> (B,); `ids` are the tokens so far, after
    NO_TOKEN where a text is shorter than others. Texts that have ended are left out of the batch.
    """
    device = model.rotation.device
    longest = max(map(len, prompts))
    if longest + max_tokens > model.config.context + 1:  # the last token is never read
        raise ValueError(
            f"A prompt of {longest} tokens and {max_tokens} new ones do not fit a context of {model.config.context}; "
            "shorten the prompt or ask for fewer."
        )
    ids = torch.full((len(prompts), longest + max_tokens), NO_TOKEN, device=device)
    padding = torch.tensor([longest - len(prompt) for prompt in prompts], device=device)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) : longest] = torch.tensor(prompt, device=device)
    cache = KVCache(model.config, len(prompts), longest + max_tokens - 1, model.embedding.weight.dtype, device)
    cache.padding = padding if padding.any() else None
    stops = torch.tensor(sorted(stop), device=device, dtype=torch.long)
    rows = torch.arange(len(prompts), device=device)  # the prompts whose texts are in the cache
    ends = torch.full((len(prompts),), longest + max_tokens, device=device)  # one past each text's last token
    stopped = torch.zeros(len(prompts), dtype=torch.bool, device=device)

    logits = prefill(model, ids[:, :longest].clamp(min=0), cache)
    for place in range(longest, longest + max_tokens):
        chosen = choose(logits, ids[rows, :place], generator)
        ids[rows, place] = chosen
        if len(stops):
            new = torch.isin(chosen, stops) & ~stopped[rows]
            stopped[rows[new]], ends[rows[new]] = True, place
            going = ~stopped[rows]
            n_going = int(going.sum())
            if n_going == 0:
                break
            if n_going <= 0.8 * len(rows):  # moving the cache is worth it from about here
                rows, chosen = rows[going], chosen[going]
                cache.select(torch.nonzero(going).flatten())
        if place < longest + max_tokens - 1:
            logits = decode_step(model, chosen, cache)
    return [
        Generated(row[longest:end], "stop" if has_stopped else "length")
        for row, end, has_stopped in zip(ids.tolist(), ends.tolist(), stopped.tolist(), strict=True)
    ]
