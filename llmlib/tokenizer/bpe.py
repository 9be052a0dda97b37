"""Byte pair encoding in its plainest form: count, merge, repeat. Symbols are strings or bytes; a merge joins two.

This is the teaching path, and the truth for the fast one (`training.py`, `encoding.py`): tests hold both equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

Symbol = TypeVar("Symbol", str, bytes)

TIE_BREAKS = ("greatest", "smallest", "first")


def count_pairs(
    symbols: Sequence[Symbol], weight: int = 1, counts: dict | None = None
) -> dict[tuple[Symbol, Symbol], int]:
    """Count adjacent pairs, overlapping ones too: symbols (n) -> {pair: count}, in order of first appearance.

    A run is counted at every position: `aaa` holds the pair (a, a) twice, although only one of the two can be merged.
    `weight` is what each occurrence adds (how often a word stands in the text); `counts`, if given, is added to.

    >>> count_pairs("aaab")
    {('a', 'a'): 2, ('a', 'b'): 1}
    """
    counts = {} if counts is None else counts
    for pair in pairwise(symbols):
        counts[pair] = counts.get(pair, 0) + weight
    return counts


def merge(symbols: Sequence[Symbol], pair: tuple[Symbol, Symbol]) -> list[Symbol]:
    """Join each occurrence of a pair into one symbol, from left to right without overlap: (n) -> (m), m <= n.

    >>> merge("aaabdaaabac", ("a", "a"))
    ['aa', 'a', 'b', 'd', 'aa', 'a', 'b', 'a', 'c']
    """
    left, right = pair
    merged, i = [], 0
    while i < len(symbols):
        if symbols[i] == left and i + 1 < len(symbols) and symbols[i + 1] == right:
            merged.append(left + right)
            i += 2
        else:
            merged.append(symbols[i])
            i += 1
    return merged


def most_frequent_pair(
    counts: Mapping[tuple[Symbol, Symbol], int], tie_break: str = "greatest"
) -> tuple[Symbol, Symbol]:
    """Choose the pair to merge next: the highest count; among equal counts, as `tie_break` says.

    - "greatest": the lexicographically greatest pair (compare the left symbols; if equal, the right ones). Byte strings
      compare byte by byte, and a string that begins another is the smaller one. This is the book's rule.
    - "smallest": the lexicographically smallest pair.
    - "first": the pair that stands first in the text as it is now, after the merges made so far, reading each word from
      left to right and the words in the order in which each first appears in the text.

    >>> counts = count_pairs("abcdabcd")
    >>> most_frequent_pair(counts), most_frequent_pair(counts, "smallest"), most_frequent_pair(counts, "first")
    (('c', 'd'), ('a', 'b'), ('a', 'b'))

    Raises ValueError for a tie-break that does not exist, or if there is no pair.
    """
    check_tie_break(tie_break)
    if not counts:
        raise ValueError("There is no pair to choose from: each word is one symbol already, or the text is empty.")
    if tie_break == "greatest":
        return max(counts, key=lambda pair: (counts[pair], pair))
    if tie_break == "smallest":
        return min(counts, key=lambda pair: (-counts[pair], pair))
    return max(counts, key=counts.__getitem__)  # max keeps the first of equals, and a dict its order of insertion


def learn_merges_by_recount(
    word_counts: Mapping[Symbol, int], n_merges: int, *, tie_break: str = "greatest", min_count: int = 2
) -> list[tuple[Symbol, Symbol]]:
    """Learn merges the obvious way, counting all pairs anew before each: {word: count} -> [pair, ...], best first.

    Stops early when no pair occurs `min_count` times. Each round costs time in proportion to all words:
    `training.learn_merges` gives the same list hundreds of times faster.

    >>> learn_merges_by_recount({"aaabdaaabac": 1}, 3)
    [('a', 'a'), ('aa', 'a'), ('aaa', 'b')]
    >>> learn_merges_by_recount({"aaabdaaabac": 1}, 3, tie_break="smallest")
    [('a', 'a'), ('a', 'b'), ('aa', 'ab')]

    Source: Gage 1994; Sennrich, Haddow and Birch 2016, algorithm 1.
    """
    check_tie_break(tie_break)
    words = [(split_symbols(word), count) for word, count in word_counts.items()]
    merges: list[tuple[Symbol, Symbol]] = []
    while len(merges) < n_merges:
        counts: dict[tuple[Symbol, Symbol], int] = {}
        for symbols, count in words:
            count_pairs(symbols, count, counts)
        if not counts:
            break
        pair = most_frequent_pair(counts, tie_break)
        if counts[pair] < min_count:
            break
        merges.append(pair)
        words = [(merge(symbols, pair), count) for symbols, count in words]
    return merges


def apply_merges(word: Symbol, ranks: Mapping[tuple[Symbol, Symbol], int]) -> list[Symbol]:
    """Encode one word by merge rank: again and again, join the pair that was learned earliest: word -> symbols.

    This is not the longest match: `ab` was learned first here, so that `bcd` is never reached.

    >>> apply_merges("abcd", {("a", "b"): 0, ("b", "c"): 1, ("bc", "d"): 2})
    ['ab', 'c', 'd']

    Source: the encoder of GPT-2 works in this way.
    """
    symbols = split_symbols(word)
    while len(symbols) > 1:
        pair = min(pairwise(symbols), key=lambda pair: ranks.get(pair, len(ranks)))
        if pair not in ranks:
            break
        symbols = merge(symbols, pair)
    return symbols


def split_symbols(word: Symbol) -> list[Symbol]:
    """Cut a word into the symbols that training starts from: its characters, or its single bytes.

    >>> split_symbols("né"), split_symbols("né".encode())
    (['n', 'é'], [b'n', b'\\xc3', b'\\xa9'])
    """
    return [word[i : i + 1] for i in range(len(word))]


def rank_merges(merges: Iterable[tuple[Symbol, Symbol]]) -> dict[tuple[Symbol, Symbol], int]:
    """Number merges by the order in which they were learned: [pair, ...] -> {pair: rank}, rank 0 first.

    >>> rank_merges([("a", "b"), ("ab", "c")])
    {('a', 'b'): 0, ('ab', 'c'): 1}
    """
    return {pair: rank for rank, pair in enumerate(merges)}


def check_tie_break(tie_break: str) -> None:
    """Raise ValueError unless the tie-break is one of "greatest", "smallest", "first"."""
    if tie_break not in TIE_BREAKS:
        raise ValueError(f"tie_break is {tie_break!r}; choose 'greatest', 'smallest' or 'first'.")
