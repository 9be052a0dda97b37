"""Keys and values in blocks: a text's cache need not lie in one piece, and texts with one beginning can share it.

As an operating system gives a program pages of memory, a pool gives a text blocks of a few positions, one at a time, as
it grows. At most one block a text is not full. Source: Kwon et al. 2023 (arXiv 2309.06180).
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmlib.model import ModelConfig


class BlockPool:
    """Memory for keys and values, cut into blocks of `block` positions that any text may take.

    >>> config = ModelConfig(vocab_size=50, context=64, width=16, layers=2, heads=2)
    >>> pool = BlockPool(config, blocks=10, block=4)
    >>> pool.memory.nbytes == 10 * 4 * config.kv_bytes(), pool.free
    (True, 10)
    """

    def __init__(self, config: ModelConfig, blocks: int, block: int = 16, dtype: torch.dtype = torch.float32) -> None:
        for name, value in (("blocks", blocks), ("block", block)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; it has to be a whole number of at least 1.")
        self.config, self.block = config, block
        self.memory = torch.zeros(2, config.layers, blocks, config.kv_heads, block, config.head_width, dtype=dtype)
        self.holders = [0] * blocks  # how many texts hold each
        self._free = list(range(blocks))[::-1]

    @property
    def free(self) -> int:
        """Blocks that no text holds."""
        return len(self._free)

    def take(self) -> int:
        """A block that no other text holds. Raises ValueError if there is none."""
        if not self._free:
            raise ValueError(
                f"All {len(self.holders)} blocks are taken; release a text, or make the pool with more blocks."
            )
        number = self._free.pop()
        self.holders[number] = 1
        return number

    def give_back(self, number: int) -> None:
        """One holder less; a block without a holder is free again."""
        if self.holders[number] == 0:
            raise ValueError(f"Block {number} is free already; a text can be released only once.")
        self.holders[number] -= 1
        if self.holders[number] == 0:
            self._free.append(number)


class PagedCache:
    """The cache of one text, in blocks of a pool; the model takes it where it takes a `KVCache`.

    >>> config = ModelConfig(vocab_size=50, context=64, width=16, layers=2, heads=2)
    >>> pool = BlockPool(config, blocks=10, block=4)
    >>> cache = PagedCache(pool)
    >>> for layer in range(2):
    ...     keys, values = cache.append(layer, torch.ones(1, 2, 5, 8), torch.ones(1, 2, 5, 8))
    >>> keys.shape, cache.length, len(cache.blocks), pool.free
    (torch.Size([1, 2, 5, 8]), 5, 2, 8)
    """

    def __init__(self, pool: BlockPool) -> None:
        self.pool = pool
        self.blocks: list[int] = []  # the text's block table: where its positions 0 .. block - 1 are, and so on
        self.length = 0

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Adds T positions to one layer, (1, K, T, D) each, and returns all of them, (1, K, S, D) each.

        Blocks are taken as they are needed; the last layer's addition moves `length` on. Raises ValueError for a batch,
        and when the pool has no block left; then the text is as it was before.
        """
        if len(keys) != 1:
            raise ValueError(f"A paged cache holds one text, and was given {len(keys)}; give each text its own.")
        pool, S = self.pool, self.length + keys.size(2)
        needed = -(-S // pool.block) - len(self.blocks)
        if needed > pool.free:
            raise ValueError(
                f"The text needs {needed} more blocks and {pool.free} are free; release a text, or make a larger pool."
            )
        self.blocks += [pool.take() for _ in range(needed)]
        table, positions = torch.tensor(self.blocks), torch.arange(self.length, S)
        held = pool.memory[:, layer]  # (2, blocks, K, block, D)
        new = torch.stack([keys[0], values[0]]).transpose(1, 2)  # (2, T, K, D)
        held[:, table[positions // pool.block], :, positions % pool.block] = new.transpose(0, 1).to(held.dtype)
        if layer == pool.config.layers - 1:
            self.length = S
        gathered = held[:, table].transpose(1, 2).flatten(2, 3)[:, :, :S]  # (2, K, S, D)
        return gathered[:1], gathered[1:]

    def fork(self) -> PagedCache:
        """A second text that begins as this one: full blocks are shared, and the last one is copied if it is not full.

        Raises ValueError when the pool has no block left for the copy.
        """
        other, pool = PagedCache(self.pool), self.pool
        full, rest = divmod(self.length, pool.block)
        copied = [pool.take()] if rest else []
        for number in copied:
            pool.memory[:, :, number] = pool.memory[:, :, self.blocks[full]]
        for number in self.blocks[:full]:
            pool.holders[number] += 1
        other.blocks, other.length = self.blocks[:full] + copied, self.length
        return other

    def release(self) -> None:
        """Gives all blocks back to the pool; the text is forgotten."""
        for number in self.blocks:
            self.pool.give_back(number)
        self.blocks, self.length = [], 0
