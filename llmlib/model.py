"""A decoder-only Transformer in the shape of Llama, for training and for inference.

Letters for sizes, here and in every chapter:

    B  batch                T  positions of the tokens given now       V  vocabulary
    C  width of the model   S  positions attended to (T, and those     L  layers
    F  feed-forward width      in the cache before them)
    H  query heads          K  heads of keys and values (K divides H)  D  width of a head

A layer is two residual steps, x + attention(norm(x)) and x + feed_forward(norm(x)). The norm is RMSNorm, positions
enter by rotating queries and keys (RoPE), H / K query heads share a head of keys and values (GQA), and the feed-forward
network is gated (SwiGLU), without bias or dropout. Source: Touvron et al. 2023 (arXiv 2302.13971); parts name theirs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmlib.fused import rms_norm, rotate


@dataclass(frozen=True)
class ModelConfig:
    """The sizes of a Transformer; what is left out follows from the others.

    >>> config = ModelConfig(vocab_size=2048, context=256, width=192, layers=6, heads=3)
    >>> config.head_width, config.feed_forward_width, config.count_parameters()
    (64, 512, 3049920)
    """

    vocab_size: int
    context: int  # the most positions the model may be asked for
    width: int
    layers: int
    heads: int
    kv_heads: int | None = None  # heads, if not given
    head_width: int | None = None  # width / heads
    feed_forward_width: int | None = None  # 8/3 of the width, rounded up to a multiple of 32
    tied: bool = True  # the output layer is the embedding
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        def settle(name: str, default: int | None = None) -> None:
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
            if type(value := getattr(self, name)) is not int or value < 1:
                raise ValueError(f"{name} is {value!r}; it has to be a whole number of at least 1.")

        for name in ("vocab_size", "context", "width", "layers", "heads"):
            settle(name)
        if self.head_width is None and self.width % self.heads:
            raise ValueError(
                f"{self.width} does not divide into {self.heads} heads; change either, or give head_width."
            )
        settle("kv_heads", self.heads)
        settle("head_width", self.width // self.heads)
        settle("feed_forward_width", 32 * math.ceil(self.width * 8 / 3 / 32))
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} heads cannot share {self.kv_heads} kv_heads; choose a divisor.")
        if self.head_width % 2:
            raise ValueError(f"head_width is {self.head_width}; positions rotate pairs, so it has to be even.")
        for name in ("rope_base", "norm_epsilon"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be above 0.")

    @property
    def layer_matrices(self) -> int:
        """Entries of one layer's weight matrices: 2C(H + K)D in attention, 3CF in the feed-forward network."""
        attention = 2 * self.width * (self.heads + self.kv_heads) * self.head_width
        return attention + 3 * self.width * self.feed_forward_width

    def count_parameters(self, embeddings: bool = True) -> int:
        """Learned numbers; without `embeddings`, those of the layers and the last norm alone (Kaplan's N)."""
        inside = self.layers * (self.layer_matrices + 2 * self.width) + self.width
        return inside + (2 - self.tied) * self.vocab_size * self.width * embeddings

    def forward_flops(self, length: int) -> float:
        """Floating-point operations of one forward pass, per token, in a sequence of `length` tokens.

        Counted are the matrix products, two operations for each multiplication: the weights of the layers and of the
        output layer, and, with 2HD for scores and 2HD for sums at each of (length + 1) / 2 positions on average, causal
        attention. Left out are norms, softmax and rotations: under 3% at the book's sizes, less in larger models.
        """
        weights = self.layers * self.layer_matrices + self.vocab_size * self.width
        return 2 * weights + self.layers * 4 * self.heads * self.head_width * (length + 1) / 2

    def train_flops(self, length: int) -> float:
        """As `forward_flops`, forward and backward: each product is followed by two, one for each factor's gradient."""
        return 3 * self.forward_flops(length)

    def kv_bytes(self, bytes_per_number: int = 4) -> int:
        """Bytes that keys and values take per token in a cache: 2 L K D numbers."""
        return 2 * self.layers * self.kv_heads * self.head_width * bytes_per_number


class Cache(Protocol):
    """What the model asks of a cache of keys and values: its length, and to add to one layer and return all of it."""

    length: int  # positions held before this pass

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Adds T positions, (B, K, T, D) each, and returns all S of that layer, (B, K, S, D) each."""


def rotation_table(context: int, head_width: int, base: float) -> Tensor:
    """Cosines and sines of RoPE's angles, (2, context, D / 2): pair i turns by base^(-2i/D) a position.

    Source: Su et al. 2021 (arXiv 2104.09864), section 3.4.2.
    """
    frequencies = base ** -(torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
    angles = torch.outer(torch.arange(context, dtype=torch.float64), frequencies)
    return torch.stack([angles.cos(), angles.sin()]).float()


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(QK^T / sqrt(D)) V: (B, H, T, D), (B, K, S, D) twice -> (B, H, T, D).

    `mask`, broadcast to (B, H, T, S), is true where a query may look; without one, the T queries are the last of the S
    positions, and each sees itself and what came before.
    Source: Vaswani et al. 2017 (arXiv 1706.03762), equation 1; grouped as in Ainslie et al. 2023 (arXiv 2305.13245).
    """
    T, S = queries.size(2), keys.size(2)
    if mask is None and 1 < T < S:
        mask = torch.ones(T, S, dtype=torch.bool, device=queries.device).tril(S - T)
    return functional.scaled_dot_product_attention(
        queries, keys, values, mask, is_causal=mask is None and T > 1, enable_gqa=queries.size(1) != keys.size(1)
    )


class Attention(nn.Module):
    """Each position gathers from itself and those before it: (B, T, C) -> (B, T, C)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        C, H, K, D = config.width, config.heads, config.kv_heads, config.head_width
        self.layer, self.heads = layer, (H, K, D)
        self.qkv = nn.Linear(C, (H + 2 * K) * D, bias=False)  # one product for queries, keys and values
        self.output = nn.Linear(H * D, C, bias=False)

    def project(self, x: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, rotated, and values: (B, H, T, D), (B, K, T, D), (B, K, T, D)."""
        (B, T, _), (H, K, D) = x.shape, self.heads
        q, k, v = rotate(self.qkv(x).view(B, T, H + 2 * K, D), table, H, K)  # (B, T, H or K, D)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def forward(self, x: Tensor, table: Tensor, mask: Tensor | None, cache: Cache | None) -> Tensor:
        q, k, v = self.project(x, table)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)  # (B, K, S, D)
        return self.output(attend(q, k, v, mask).transpose(1, 2).flatten(2))  # (B, T, C)


class RMSNorm(nn.Module):
    """x / rms(x) * weight, (..., C) -> (..., C). Source: Zhang & Sennrich 2019 (arXiv 1910.07467), equation 4."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(width)), epsilon

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.epsilon)


class FeedForward(nn.Module):
    """SwiGLU, (B, T, C) -> (B, T, C): down(silu(gate(x)) * up(x)). Source: Shazeer 2020 (arXiv 2002.05202), eq. 6."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        C, F = config.width, config.feed_forward_width
        self.gate_up = nn.Linear(C, 2 * F, bias=False)  # one product for both
        self.down = nn.Linear(F, C, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)  # (B, T, F)
        return self.down(functional.silu(gate) * up)


class Layer(nn.Module):
    """Two residual steps, each of which reads a normed copy of the stream: (B, T, C) -> (B, T, C)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.width, config.norm_epsilon)
        self.attention = Attention(config, layer)
        self.feed_forward_norm = RMSNorm(config.width, config.norm_epsilon)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor, table: Tensor, mask: Tensor | None, cache: Cache | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), table, mask, cache)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Transformer(nn.Module):
    """Token ids in, logits of the next token out: (B, T) -> (B, T, V).

    Weights are drawn from a normal distribution of standard deviation 0.02, those that write into the residual stream
    divided by sqrt(2L) (Radford et al. 2019, section 2.3), from `generator` if one is given.

    >>> model = Transformer(ModelConfig(vocab_size=50, context=8, width=16, layers=2, heads=2))
    >>> model(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 50])
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.layers = nn.ModuleList(Layer(config, layer) for layer in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_epsilon)
        self.head = nn.Linear(config.width, config.vocab_size, bias=False)
        if config.tied:
            self.head.weight = self.embedding.weight
        table = rotation_table(config.context, config.head_width, config.rope_base)
        self.register_buffer("rotation", table, persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                shrink = math.sqrt(2 * config.layers) if name.endswith(("output.weight", "down.weight")) else 1
                nn.init.normal_(weight, std=0.02 / shrink, generator=generator)

    def forward(
        self, ids: Tensor, cache: Cache | None = None, mask: Tensor | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """Logits of what follows each token: ids (B, T) -> (B, T, V).

        `cache` holds keys and values of earlier tokens, and receives those of `ids`. `mask` is as in `attend`.
        `positions`, (T,) or (B, T), are those that follow the cache unless given.
        """
        return self.head(self.hidden(ids, cache, mask, positions))

    def hidden(self, ids: Tensor, cache=None, mask=None, positions=None) -> Tensor:
        """What the output layer reads, (B, T) -> (B, T, C); arguments as in `forward`."""
        if ids.dim() != 2 or ids.is_floating_point():
            raise ValueError(f"The model reads whole numbers, (B, T); it was given {ids.dtype}, {tuple(ids.shape)}.")
        start = 0 if cache is None else cache.length
        last = start + ids.size(1) if positions is None else int(positions.max()) + 1
        if last > self.config.context:
            given = f"The text reaches {last} tokens, and the model's context is {self.config.context}"
            raise ValueError(f"{given}; shorten the text, or slide a window over it.")
        table = self.rotation[:, start:last] if positions is None else self.rotation[:, positions]  # (2, [B,] T, D / 2)
        x = self.embedding(ids)  # (B, T, C)
        for layer in self.layers:
            x = layer(x, table, mask, cache)
        return self.norm(x)
