"""A cache that forgets: the first few positions and the newest ones stay, and what lies between them is dropped."""

from __future__ import annotations

import torch
from torch import Tensor

from llmlib.model import ModelConfig


def window_mask(length: int, window: int, sinks: int = 0) -> Tensor:
    """What each position may see, (T, T): the newest `window` positions, itself included, and the first `sinks`.

    With it the model reads a text in one pass as it would step by step with a `SlidingCache`.

    >>> window_mask(4, window=2, sinks=1).int()
    tensor([[1, 0, 0, 0],
            [1, 1, 0, 0],
            [1, 1, 1, 0],
            [1, 0, 1, 1]], dtype=torch.int32)

    Raises ValueError for a window below 1 or fewer than 0 sinks. Source: Xiao et al. 2023 (arXiv 2309.17453).
    """
    _check(window, sinks)
    queries, keys = torch.arange(length).unsqueeze(1), torch.arange(length)
    return (keys <= queries) & ((queries - keys < window) | (keys < sinks))


class SlidingCache:
    """Keys and values of the first `sinks` positions and of the newest `window`, in memory that never grows.

    The model takes it where it takes a `KVCache`, one token at a time. `length` counts the positions read, and says
    where the next one is; a key stays turned by its place in the text, so that distances in the text are kept.

    >>> config = ModelConfig(vocab_size=50, context=64, width=16, layers=2, heads=2)
    >>> cache = SlidingCache(config, window=4, sinks=1)
    >>> cache.memory.nbytes == (1 + 4) * config.kv_bytes()
    True
    """

    def __init__(
        self, config: ModelConfig, window: int, sinks: int = 0, batch: int = 1, dtype: torch.dtype = torch.float32
    ) -> None:
        _check(window, sinks)
        self.window, self.sinks, self.layers = window, sinks, config.layers
        self.length = 0
        shape = (2, config.layers, batch, config.kv_heads, sinks + window, config.head_width)
        self.memory = torch.zeros(shape, dtype=dtype)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Adds one position, (B, K, 1, D) each, in place of the oldest that is no sink, and returns those held.

        Their order does not matter: a position's turn is in its key. Raises ValueError for several positions at once.
        """
        if keys.size(2) != 1:
            raise ValueError(
                f"A sliding cache reads one token at a time, and was given {keys.size(2)}; "
                "read a longer text in one pass with window_mask, or token by token."
            )
        past = self.length - self.sinks
        place = self.length if past < 0 else self.sinks + past % self.window
        held = self.memory[:, layer]
        held[0, :, :, place], held[1, :, :, place] = keys[:, :, 0], values[:, :, 0]
        S = min(self.length + 1, self.sinks + self.window)
        if layer == self.layers - 1:
            self.length += 1
        return held[0, :, :, :S], held[1, :, :, :S]


def _check(window: int, sinks: int) -> None:
    for name, value, least in (("window", window, 1), ("sinks", sinks, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} is {value!r}; it has to be a whole number of at least {least}.")
