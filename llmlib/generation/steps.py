"""One pass of the model with a cache: over a prompt, over one more token, and over one more token again and again."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from operator import index

import torch
from torch import Tensor
from torch.nn import functional

from llmlib.generation.cache import KVCache
from llmlib.model import ModelConfig, Transformer


def check_count(name: str, value: int) -> None:
    """Raise ValueError unless this is a whole number above 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}; it has to be a whole number of at least 1.")


def check_room(T: int, max_tokens: int, context: int, remedy: str = "or shorten the prompt") -> None:
    """Raise ValueError unless a prompt of T tokens and as many new ones fit; the last token is never read."""
    check_count("max_tokens", max_tokens)
    if T + max_tokens - 1 > context:
        raise ValueError(
            f"A prompt of {T} tokens and {max_tokens} new ones do not fit a context of {context}; "
            f"ask for at most {context + 1 - T}, {remedy}."
        )


def check_ids(ids: Tensor, config: ModelConfig) -> None:
    """Raise ValueError unless there are tokens, all of which the model knows."""
    if ids.dtype == torch.bool or ids.is_floating_point():
        raise ValueError(f"The ids are numbers of {ids.dtype}; they have to be whole ones, such as torch.long.")
    if ids.numel() == 0:
        raise ValueError("There is no token to read; begin with at least one, such as the end-of-text token.")
    least, most = (int(number) for number in ids.aminmax())
    if least < 0 or most >= config.vocab_size:
        raise ValueError(
            f"The token {least if least < 0 else most} is unknown to this model; its ids go from 0 to "
            f"{config.vocab_size - 1}. Encode the text with the model's own tokenizer."
        )


def check_batch(ids: Tensor, cache: KVCache) -> None:
    """Raise ValueError unless there is one token for each text of the cache."""
    if ids.shape != (cache.batch,):
        raise ValueError(
            f"The ids have shape {tuple(ids.shape)}; a cache of {cache.batch} texts takes a token of each, "
            f"({cache.batch},)."
        )


def check_stop(stop: Collection[int]) -> None:
    """Raise ValueError unless this can be asked which tokens are in it."""
    if isinstance(stop, int):
        raise ValueError(f"stop is {stop!r}; give a collection of token ids, such as {{{stop!r}}}.")


def check_prompts(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """The prompts as lists of whole numbers. Raises ValueError for texts, bare token ids, and broken numbers."""
    if isinstance(prompts, str) or any(isinstance(prompt, str) for prompt in prompts):
        raise ValueError("A prompt is a text; encode it with the model's own tokenizer, and give the list of its ids.")
    if not all(isinstance(prompt, Iterable) for prompt in prompts):
        raise ValueError("The prompts are bare token ids; give a list of prompts, each a list of token ids.")
    rows = []
    for number, prompt in enumerate(prompts):
        try:
            rows.append([index(id_) for id_ in prompt])
        except TypeError:
            raise ValueError(
                f"Prompt {number} is {str(prompt)[:60]}; token ids are whole numbers, as a tokenizer's encode gives."
            ) from None
    return rows


def pad(prompts: Sequence[Sequence[int]], config: ModelConfig, device=None) -> tuple[Tensor, Tensor | None]:
    """Prompts as one tensor, the short ones padded in front: ids (B, T), and how much each is padded (B,), or None.

    Raises ValueError where there is no prompt, where one is a text, empty or longer than the context, and for what is
    no token of the model's.
    """
    if len(prompts) == 0:
        raise ValueError("There is no prompt; give a list of prompts, each a list of token ids.")
    prompts = check_prompts(prompts)
    lengths = [len(prompt) for prompt in prompts]
    if min(lengths) == 0:
        raise ValueError(
            f"Prompt {lengths.index(0)} is empty; begin with at least one token, such as the end-of-text token."
        )
    T = max(lengths)
    if config.context < T:
        raise ValueError(
            f"Prompt {lengths.index(T)} has {T} tokens and the model's context is {config.context}; "
            "shorten it, or slide a window over the text."
        )
    ids = torch.tensor([[0] * (T - len(prompt)) + prompt for prompt in prompts], dtype=torch.long, device=device)
    check_ids(ids, config)
    return ids, None if min(lengths) == T else T - torch.tensor(lengths, device=device)


@torch.no_grad()
def prefill(model: Transformer, ids: Tensor, cache: KVCache, padding: Tensor | None = None, chunk: int = 256) -> Tensor:
    """Reads texts into the cache and returns the logits of what follows: ids (B, T) -> (B, V).

    It takes `chunk` positions at a time, which bounds the memory of a long prompt's activations. `padding`, (B,), says
    how many ids at the start of each row stand for nothing; then the cache has to be empty. Only the last position's
    logits are computed.

    Raises ValueError for no tokens, unknown ones, too many, a cache for another batch, and a text that is all padding.
    """
    check_ids(ids, model.config)
    if ids.dim() != 2 or len(ids) != cache.batch:
        raise ValueError(f"The ids have shape {tuple(ids.shape)}; a cache of {cache.batch} texts takes as many rows.")
    check_count("chunk", chunk)
    cache.check_room(ids.size(1))
    if padding is not None:
        if cache.length:
            raise ValueError("Padding stands before a text's first token, but the cache holds tokens already.")
        if padding.shape != (cache.batch,) or not ((padding >= 0) & (padding < ids.size(1))).all():
            raise ValueError(
                f"The padding is {padding.tolist()}; it is one number for each of {cache.batch} texts, from 0 to "
                f"{ids.size(1) - 1}, so that a token is left."
            )
        cache.padding = padding
    for part in ids.split(chunk, dim=1):
        mask, positions = cache.places(part.size(1))
        x = model.hidden(part, cache, mask, positions)  # (B, T, C)
    return model.head(x[:, -1])  # (B, V)


@torch.no_grad()
def decode_step(model: Transformer, ids: Tensor, cache: KVCache) -> Tensor:
    """Reads one more token of each text and returns the logits of what follows: ids (B,) -> (B, V).

    Raises ValueError for unknown tokens, for more or fewer than the cache has texts, and for a full cache.
    """
    check_ids(ids, model.config)
    check_batch(ids, cache)
    cache.check_room(1)
    mask, positions = cache.places(1)
    return model.head(model.hidden(ids.unsqueeze(1), cache, mask, positions)[:, 0])


def step_flops(config: ModelConfig, length: int) -> float:
    """Floating-point operations of a decode step, per text, whose token sees `length` positions (itself included).

    Counted is what `ModelConfig.forward_flops` counts.
    """
    return config.forward_flops(2 * length - 1)  # which sees half of its length on average, and one half more


def prefill_flops(config: ModelConfig, length: int) -> float:
    """As `step_flops`, of reading a prompt of `length` tokens, with the output layer once, at the last."""
    return length * config.forward_flops(length) - (length - 1) * 2 * config.vocab_size * config.width


def step_bytes(config: ModelConfig, length: int, batch: int = 1, bytes_per_number: int = 4) -> int:
    """Bytes that a decode step has to read: every weight once, and each text's keys and values at `length` positions.

    Of an embedding that is not the output layer too, it reads a row per text.
    """
    unread = 0 if config.tied else (config.vocab_size - batch) * config.width
    weights = config.count_parameters() - unread
    return weights * bytes_per_number + batch * length * config.kv_bytes(bytes_per_number)


class Decoder:
    """`decode_step` over and over, with all that does not change between steps prepared: ids (B,) -> logits (B, V).

    A step of a small model is so short that the time goes into starting operations, not into doing them. So this one
    starts few: it writes into memory taken once, adds in place, and lets the query heads that share a head of keys be
    the rows of one attention. A step of a larger model waits for its weights, and then x W^T of a few rows is asked
    for as W x^T, of at least two columns, for which they are read up to three times as fast. All this is done for
    float32 on a CPU; any other model, and one that is cut over several processes, takes `decode_step`.

    >>> model = Transformer(ModelConfig(vocab_size=50, context=8, width=16, layers=2, heads=2))
    >>> cache = KVCache(model.config)
    >>> decoder, logits = Decoder(model, cache), prefill(model, torch.tensor([[3, 1]]), cache)
    >>> decoder(torch.tensor([4])).shape, cache.length
    (torch.Size([1, 50]), 3)

    Raises ValueError as `decode_step` does.
    """

    LARGE, FEW = 2_000_000, 8  # weights, and rows, from which and up to which W x^T pays (measured)

    def __init__(self, model: Transformer, cache: KVCache) -> None:
        self.model, self.cache = model, cache
        weight = model.head.weight
        self._plain = (weight.dtype, weight.device.type, cache.memory.dtype) != (torch.float32, "cpu", torch.float32)
        self._plain |= type(model.head) is not torch.nn.Linear  # a model whose layers are cut over processes
        self._batch, self._padding = 0, None  # what it is prepared for

    def _prepare(self) -> None:
        config, cache, B = self.model.config, self.cache, self.cache.batch
        C, H, K, D, F = config.width, config.heads, config.kv_heads, config.head_width, config.feed_forward_width
        self._batch, self._padding = B, cache.padding
        self._by_columns = config.count_parameters() >= self.LARGE and B <= self.FEW
        self._held = cache.memory[:, :, :B].flatten(0, 1)  # (2 L, B, K, capacity, D)
        table = self.model.rotation
        self._cos, self._sin = table[0].repeat(1, 2), table[1]  # (context, D), (context, D / 2)
        self._bias = None
        if cache.padding is not None:
            padded = torch.arange(cache.capacity) < cache.padding.view(B, 1, 1, 1)
            self._bias = torch.zeros(padded.shape).masked_fill_(padded, -math.inf)  # (B, 1, 1, capacity)

        self._x, self._normed, self._length = torch.empty(B, C), torch.empty(B, C), torch.empty(B, 1)
        self._zero, self._root = torch.zeros(1), math.sqrt(C)
        self._floor = torch.full((B, 1), math.sqrt(C * config.norm_epsilon))
        self._qkv = torch.empty(B, (H + 2 * K) * D)
        heads = self._qkv.view(B, H + 2 * K, D)
        self._unturned, self._values = heads[:, : H + K], heads[:, H + K :]
        self._turned = torch.empty(B, H + K, D)
        self._halves = [*self._unturned.chunk(2, dim=2), *self._turned.chunk(2, dim=2)]
        self._queries = self._turned[:, :H].unflatten(1, (K, H // K))  # (B, K, H / K, D): a group's heads as rows
        self._keys = self._turned[:, H:]  # (B, K, D)
        self._gate_up = torch.empty(B, 2 * F)
        self._gate, self._up = self._gate_up.chunk(2, dim=1)
        self._weights = [
            (
                layer.attention_norm.weight,
                layer.attention.qkv.weight,
                layer.attention.output.weight,
                layer.feed_forward_norm.weight,
                layer.feed_forward.gate_up.weight,
                layer.feed_forward.down.weight,
            )
            for layer in self.model.layers
        ]

    def _norm(self, weight: Tensor) -> None:
        """sqrt(C) x / sqrt(|x|^2 + C epsilon) * weight, which is RMSNorm, from `_x` into `_normed`."""
        torch.linalg.vector_norm(self._x, dim=1, keepdim=True, out=self._length)
        torch.hypot(self._length, self._floor, out=self._length)
        torch.addcdiv(self._zero, self._x, self._length, value=self._root, out=self._normed)
        self._normed.mul_(weight)

    def _product(self, x: Tensor, weight: Tensor, out: Tensor, add: bool = False) -> None:
        """x W^T, (B, n) and (N, n) -> (B, N), into `out` or added to it."""
        if self._by_columns:
            x = x if len(x) > 1 else torch.cat((x, x))
            y = torch.mm(weight, x.t()).t()[: len(out)]
            out.add_(y) if add else out.copy_(y)
        elif add:
            out.addmm_(x, weight.t())
        else:
            torch.mm(x, weight.t(), out=out)

    def __call__(self, ids: Tensor) -> Tensor:
        if self._plain:
            return decode_step(self.model, ids, self.cache)
        cache = self.cache
        cache.check_room(1)
        check_batch(ids, cache)
        if cache.batch != self._batch or cache.padding is not self._padding:
            with torch.no_grad():
                self._prepare()
        logits = torch.empty(cache.batch, self.model.config.vocab_size)  # made here: a reader may change it
        try:
            with torch.inference_mode():
                self._step(ids, logits)
        except (IndexError, RuntimeError):  # an embedding finds out for nothing that it has no such row
            check_ids(ids, self.model.config)
            raise
        cache.length += 1
        return logits

    def _step(self, ids: Tensor, logits: Tensor) -> None:
        place, x, L = self.cache.length, self._x, len(self._weights)
        at = place if self._bias is None else place - self.cache.padding
        cos, sin = self._cos[at], self._sin[at]
        bias = None
        if self._bias is not None:
            cos, sin, bias = cos.unsqueeze(1), sin.unsqueeze(1), self._bias[..., : place + 1]
        new = self._held.select(3, place).unbind(0)  # 2 L times (B, K, D)
        seen = self._held.narrow(3, 0, place + 1).unbind(0)  # 2 L times (B, K, S, D)
        first, second, turned_first, turned_second = self._halves
        torch.index_select(self.model.embedding.weight, 0, ids, out=x)
        for layer, (norm, qkv, output, norm_2, gate_up, down) in enumerate(self._weights):
            self._norm(norm)
            self._product(self._normed, qkv, self._qkv)
            torch.mul(self._unturned, cos, out=self._turned)
            turned_first.addcmul_(second, sin, value=-1)
            turned_second.addcmul_(first, sin)
            new[layer].copy_(self._keys)
            new[L + layer].copy_(self._values)
            attended = functional.scaled_dot_product_attention(self._queries, seen[layer], seen[L + layer], bias)
            self._product(attended.reshape(len(x), -1), output, x, add=True)
            self._norm(norm_2)
            self._product(self._normed, gate_up, self._gate_up)
            functional.silu(self._gate, inplace=True).mul_(self._up)
            self._product(self._gate, down, x, add=True)
        self._norm(self.model.norm.weight)
        self._product(self._normed, self.model.head.weight, logits)
