"""Stage 4, encoding, made fast: one word by merge rank, whatever its length, and a memory of the words seen before.

Here a token is a character, `chr(id)`, and a word a string of them: a pair is a string of
two, cheap to make and to look up.
`bpe.apply_merges` is the same rule in plain Python.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import repeat
from operator import add

LONG_WORD = 100  # symbols; from about here a heap is faster than looking through the ranks for each merge (measured)
CACHED_CHARACTERS = 64
CACHE_BYTES = 64_000_000
ENTRY_BYTES, CHARACTER_BYTES = 220, 4  # most that an entry takes: two strings and a place in the table


class RankMerger:
    """The merges of a tokenizer, ready to encode: tokens and merged tokens as characters.

    >>> merger = RankMerger([("a", "b", "X"), ("X", "c", "Y")])
    >>> merger("abcab")
    'YX'
    """

    def __init__(self, merges: list[tuple[str, str, str]]) -> None:
        self.products = [product for _, _, product in merges]
        self.pairs = [left + right for left, right, _ in merges]
        self.rank_of = {pair: rank for rank, pair in enumerate(self.pairs)}

    def __call__(self, word: str) -> str:
        """Encode one word: a string of base tokens -> a string of tokens."""
        return self.merge_short(word) if len(word) <= LONG_WORD else self.merge_long(word)

    def merge_short(self, word: str) -> str:
        """Join one pair at a time, lowest rank first, leftmost first among equals.

        Each merge looks through the ranks of all pairs, at C speed: quadratic in length, fastest for short words.
        """
        rank_of, products, none = self.rank_of.get, self.products, len(self.products)
        symbols = [
            *word,
            "",
        ]  # the empty end has no rank with anything: so neither end needs a check, index -1 is it, too
        ranks = [*map(rank_of, map(add, word, word[1:]), repeat(none)), none]
        while (rank := min(ranks)) != none:
            i = ranks.index(rank)
            del symbols[i], ranks[i]
            symbols[i] = product = products[rank]
            ranks[i] = rank_of(product + symbols[i + 1], none)
            i -= 1
            ranks[i] = rank_of(symbols[i] + product, none)
        return "".join(symbols)

    def merge_long(self, word: str) -> str:
        """The same in O(n log n) for n symbols: a heap of pairs by rank and place, and a linked list of symbols."""
        rank_of = self.rank_of.get
        n = len(word)
        symbols: list[str] = list(word)
        after = list(range(1, n + 1))
        before = list(range(-1, n - 1))
        heap = [rank * n + i for i, rank in enumerate(map(rank_of, map(add, word, word[1:]))) if rank is not None]
        heapify(heap)
        while heap:
            rank, i = divmod(heappop(heap), n)
            j = after[i]
            if j == n or symbols[i] + symbols[j] != self.pairs[rank]:
                continue  # one of the two has been merged since
            symbols[i] = self.products[rank]
            symbols[j] = ""  # never part of a pair again
            after[i] = k = after[j]
            if k < n:
                before[k] = i
                new_rank = rank_of(symbols[i] + symbols[k])
                if new_rank is not None:
                    heappush(heap, new_rank * n + i)
            h = before[i]
            if h >= 0:
                new_rank = rank_of(symbols[h] + symbols[i])
                if new_rank is not None:
                    heappush(heap, new_rank * n + h)
        return "".join(symbols)


class Cache(dict):
    """A memory for a function from a string to a string: `cache[key]` computes what is not there yet.

    When keys and values have filled `CACHE_BYTES`, it is emptied and starts anew, and keys longer than
    `CACHED_CHARACTERS` are never kept, so it cannot grow without end.

    >>> capitals = Cache(str.upper)
    >>> capitals["ab"], capitals["ab"], len(capitals)
    ('AB', 'AB', 1)
    """

    def __init__(self, compute: Callable[[str], str]) -> None:
        super().__init__()
        self.compute = compute
        self.room = CACHE_BYTES

    def __missing__(self, key: str) -> str:
        value = self.compute(key)
        if len(key) <= CACHED_CHARACTERS:
            self.room -= ENTRY_BYTES + CHARACTER_BYTES * (len(key) + len(value))
            if self.room < 0:
                self.clear()
            self[key] = value
        return value

    def clear(self) -> None:
        """Empty the memory."""
        super().clear()
        self.room = CACHE_BYTES
