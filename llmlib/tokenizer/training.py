"""Stage 3, training: learn the merges fast, by updating the pair counts instead of counting anew.

How it works. A word is a Python string whose characters are tokens: character 256 is the first merged token, 257 the
next. Merging a pair inside a word is then cutting the word at the pair and joining the parts with the new character,
both in C. Only words that hold the pair are touched, and only the pairs beside each cut change their counts.

Why the best pair is cheap to find. A merge only lowers counts of old pairs, and a new pair holds the new token, of
which there are at most as many as the merged pair was counted. So the highest count never rises: pairs wait in one
list per count, the lists are visited from the highest count down, and a pair whose count has dropped since is moved
on when it is met. Only the list in hand is kept as a heap, which is where ties are decided.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush
from operator import add
from typing import NamedTuple

from llmlib.tokenizer.bpe import check_tie_break


class Merge(NamedTuple):
    """One step of training: the pair, how often it was counted, and how many tokens the text has after it."""

    left: bytes
    right: bytes
    count: int
    n_tokens: int


def learn_merges(
    word_counts: Mapping[bytes, int], n_merges: int, *, tie_break: str = "greatest", min_count: int = 2
) -> Iterator[Merge]:
    """Yield up to `n_merges` merges, best first: {word: count} -> Merge, Merge, ...

    The rules are those of `bpe.learn_merges_by_recount` and so are the results: pairs are counted with overlap (aaa
    holds aa twice), merged from left to right without overlap, ties go as `tie_break` says
    (`bpe.most_frequent_pair`), and training stops early when no pair occurs `min_count` times (at least 1). A merge
    never crosses from one word into the next.

    >>> [step.left + step.right for step in learn_merges({b"aaabdaaabac": 1}, 3)]
    [b'aa', b'aaa', b'aaab']
    >>> next(learn_merges({b"low": 5, b"lower": 2, b"newest": 6}, 1))
    Merge(left=b'w', right=b'e', count=8, n_tokens=53)

    Raises ValueError for a tie-break that does not exist. Source: Sennrich, Haddow and Birch 2016.
    """
    check_tie_break(tie_break)
    words = [word.decode("latin-1") for word in word_counts]
    freqs = list(word_counts.values())
    n_tokens = sum(len(word) * freq for word, freq in zip(words, freqs, strict=True))
    token_bytes = {chr(byte): bytes([byte]) for byte in range(256)}
    queue = _PairQueue(words, freqs, token_bytes, tie_break, max(1, min_count))
    for rank in range(n_merges):
        best = queue.pop()
        if best is None:
            return
        pair, count = best
        a, b = pair
        z = chr(256 + rank)
        token_bytes[z] = token_bytes[a] + token_bytes[b]
        n_tokens -= _merge_everywhere(pair, z, words, freqs, queue)
        yield Merge(token_bytes[a], token_bytes[b], count, n_tokens)


def _merge_everywhere(pair: str, z: str, words: list[str], freqs: list[int], queue: _PairQueue) -> int:
    """Merge a pair in all words that hold it, and tell the queue; return how many tokens fewer the text has now.

    The gaps between the cuts say which pairs change: in x|ab|y the pairs xa and by lose an occurrence, xZ and Zy gain
    one; in ab|ab the pair ba between the two is lost and ZZ is gained. With a = b this also holds for runs: aaaa
    loses its middle pair, which is the merged pair itself and goes away with it.
    """
    a, b = pair
    counts = queue.counts
    found: defaultdict[str, list[int]] = defaultdict(list)  # one entry an occurrence: a word's index
    shorter = 0
    for i in queue.where.pop(pair):
        parts = words[i].split(pair)
        if (n_cuts := len(parts) - 1) == 0:
            continue  # the word has lost the pair to an earlier merge, or was done a moment ago: it held the pair twice
        freq = freqs[i]
        shorter += n_cuts * freq
        words[i] = z.join(parts)
        if left := parts[0]:
            x = left[-1]
            counts[x + a] -= freq
            found[x + z].append(i)
        if right := parts[-1]:
            y = right[0]
            counts[b + y] -= freq
            found[z + y].append(i)
        for gap in parts[1:-1]:
            if gap:
                x, y = gap[-1], gap[0]
                counts[b + y] -= freq
                counts[x + a] -= freq
                found[z + y].append(i)
                found[x + z].append(i)
            else:
                counts[b + a] -= freq
                found[z + z].append(i)
    del counts[pair]
    queue.add(found)
    return shorter


class _PairQueue:
    """The pairs by count: knows where each occurs, and gives the most frequent one under the tie-break."""

    def __init__(
        self, words: list[str], freqs: list[int], token_bytes: dict[str, bytes], tie_break: str, min_count: int
    ) -> None:
        self.words, self.freqs, self.token_bytes, self.tie_break, self.min_count = (
            words, freqs, token_bytes, tie_break, min_count,
        )  # fmt: skip
        self.counts: dict[str, int] = {}
        self.where: dict[str, list[int]] = {}  # word indices, ascending; may hold words that have lost the pair since
        self.waiting: dict[int, list[str]] = {}  # count (or more: counts drop) -> pairs
        self.levels: list[int] = []  # heap of the counts in `waiting`, negated
        self.level = 0
        self.ties: list[tuple] = []  # heap of (key, pair) at the present level
        self.sort_keys: dict[str, str] = {}
        found: defaultdict[str, list[int]] = defaultdict(list)
        for i, word in enumerate(words):
            for pair in map(add, word, word[1:]):
                found[pair].append(i)
        self.add(found)

    def add(self, found: dict[str, list[int]]) -> None:
        """Take in new pairs, each with the index of a word for each of its occurrences."""
        freq_of = self.freqs.__getitem__
        for pair, indices in found.items():
            count = sum(map(freq_of, indices))
            self.counts[pair] = count
            if count >= self.min_count:
                self.where[pair] = indices
                self._wait(pair, count)

    def _wait(self, pair: str, count: int) -> None:
        if count == self.level:
            heappush(self.ties, (self._key(pair), pair))
        elif count in self.waiting:
            self.waiting[count].append(pair)
        else:
            self.waiting[count] = [pair]
            heappush(self.levels, -count)

    def pop(self) -> tuple[str, int] | None:
        """Remove and return the best pair and its count; None when no pair is frequent enough."""
        while True:
            while self.ties:
                key, pair = heappop(self.ties)
                count = self.counts[pair]
                if count < self.level:
                    if count >= self.min_count:
                        self._wait(pair, count)
                    else:
                        self.where.pop(pair)
                elif self.tie_break == "first" and (now := self._first_place(pair)) != key:
                    heappush(self.ties, (now, pair))
                else:
                    return pair, count
            if not self.levels:
                return None
            self.level = -heappop(self.levels)
            self.ties = [(self._key(p), p) for p in self.waiting.pop(self.level) if self._still(p)]
            heapify(self.ties)

    def _still(self, pair: str) -> bool:
        """Whether a pair still has the count of the present level; if not, it is moved to where it belongs."""
        count = self.counts[pair]
        if count == self.level:
            return True
        if count >= self.min_count:
            self._wait(pair, count)
        else:
            self.where.pop(pair)
        return False

    def _key(self, pair: str) -> str | tuple[int, int]:
        """What ties are sorted by, smallest first."""
        if self.tie_break == "first":
            return self._first_place(pair)
        a, b = pair
        return self._sort_key(a) + self._sort_key(b)

    def _sort_key(self, token: str) -> str:
        """A string that sorts as the bytes do, or in reverse; its end mark lets left + right sort as the pair."""
        if token not in self.sort_keys:
            token_bytes = self.token_bytes[token]
            if self.tie_break == "greatest":
                key = "".join(chr(255 - byte) for byte in token_bytes) + "\u0100"
            else:
                key = "".join(chr(byte + 1) for byte in token_bytes) + "\0"
            self.sort_keys[token] = key
        return self.sort_keys[token]

    def _first_place(self, pair: str) -> tuple[int, int]:
        """The first place where a pair stands now: (word's index, byte offset in it). It only moves to the right."""
        indices = self.where[pair]
        start = next(k for k, i in enumerate(indices) if pair in self.words[i])
        if start:
            del indices[:start]
        word = self.words[indices[0]]
        return indices[0], sum(len(self.token_bytes[token]) for token in word[: word.index(pair)])
