"""A cache of keys and values: what every position told those after it, kept so that it is computed once."""

from __future__ import annotations

import torch
from torch import Tensor

from llmlib.model import ModelConfig


class KVCache:
    """Keys and values of the positions that a model has read, per layer, in memory that is taken once.

    It belongs to the caller, who hands it to `prefill` and `decode_step`, and takes exactly
    batch * capacity * `config.kv_bytes(bytes per number)`.

    >>> config = ModelConfig(vocab_size=50, context=8, width=16, layers=2, heads=2)
    >>> cache = KVCache(config, batch=3)
    >>> cache.length, cache.capacity, cache.nbytes == 3 * 8 * config.kv_bytes()
    (0, 8, True)
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int = 1,
        capacity: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        """Room for `batch` texts of `capacity` positions each (the model's context, unless given)."""
        self.capacity = config.context if capacity is None else capacity
        for name, value in (("batch", batch), ("capacity", self.capacity)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; it has to be a whole number of at least 1.")
        if self.capacity > config.context:
            raise ValueError(f"capacity is {capacity}, and the model's context {config.context}; it cannot be more.")
        shape = (2, config.layers, batch, config.kv_heads, self.capacity, config.head_width)
        self.memory = torch.zeros(shape, dtype=dtype, device=device)
        self.batch = batch  # texts held now, at most the room taken
        self.length = 0  # positions held of each, padding included
        self.padding: Tensor | None = None  # (B,), positions before each text's first token; None: none anywhere
        self._point()

    def _point(self) -> None:
        held = self.memory[:, :, : self.batch]
        self._layers = list(zip(held[0], held[1], strict=True))

    @property
    def nbytes(self) -> int:
        """Bytes taken, used or not."""
        return self.memory.nbytes

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Adds T positions to one layer, (B, K, T, D) each, and returns all of them, (B, K, S, D) each.

        The last layer's addition moves `length` on. Raises ValueError if there is no room.
        """
        S = self.length + keys.size(2)
        self.check_room(keys.size(2))
        all_keys, all_values = self._layers[layer]
        all_keys[:, :, self.length : S] = keys
        all_values[:, :, self.length : S] = values
        if layer == len(self._layers) - 1:
            self.length = S
        return all_keys[:, :, :S], all_values[:, :, :S]

    def check_room(self, T: int) -> None:
        """Raise ValueError unless T more positions fit."""
        if self.length + T > self.capacity:
            raise ValueError(
                f"The cache has room for {self.capacity} positions and was to hold {self.length + T}; "
                "make it with more capacity, or write fewer tokens."
            )

    def truncate(self, length: int) -> None:
        """Forgets every position from `length` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f"The cache holds {self.length} positions and cannot be cut to {length}.")
        self.length = length
        if length == 0:
            self.padding = None

    def select(self, rows: Tensor, start: int = 0) -> None:
        """Text i becomes a copy of what text `rows[i]` was, and the batch as large as `rows`, (B',).

        Positions before `start` stay as they are: the caller knows them to be the same in all texts, and in as many
        rows of memory as `rows` has. Raises ValueError for more rows than room was taken for, and for rows not there.
        """
        if len(rows) > self.memory.size(2):
            raise ValueError(f"The cache has room for {self.memory.size(2)} texts and was to hold {len(rows)}.")
        sources = rows.tolist()
        if not sources or min(sources) < 0 or max(sources) >= self.batch:
            raise ValueError(f"The cache holds {self.batch} texts, from 0, and was to keep those of {sources}.")
        if sources == list(range(self.batch)):
            return
        moved = [i for i, source in enumerate(sources) if i != source]
        if moved:
            part = self.memory[..., start : self.length, :]
            kept = part.index_select(2, rows[moved])
            part.index_copy_(2, torch.tensor(moved, device=rows.device), kept)
        if self.padding is not None:
            self.padding = self.padding[rows]
        self.batch = len(rows)
        self._point()

    def places(self, T: int) -> tuple[Tensor | None, Tensor | None]:
        """The `mask`, (B, 1, T, S), and `positions`, (B, T), of the next T tokens; None twice where nothing is padded.

        A text's first token is at position 0, wherever its padding ends.
        """
        if self.padding is None:
            return None, None
        keys = torch.arange(self.length + T, device=self.padding.device)  # (S,)
        queries = keys[self.length :].unsqueeze(1)  # (T, 1)
        first = self.padding.view(-1, 1, 1)
        # Padding sees itself, for a softmax over nothing is NaN, and so is NaN times a weight of 0.
        mask = (keys <= queries) & (keys >= first) | (keys == queries)  # (B, T, S)
        return mask.unsqueeze(1), (queries.squeeze(1) - first.squeeze(1)).clamp(min=0)
