"""The classroom: draws texts from the window that is open, however many there are."""

from __future__ import annotations

import numpy as np

from llmlib.curriculum.difficulty import checked_scores


class CurriculumSampler:
    """Draws texts x with d(x) <= c, all with equal probability, or with the weights of a soft window.

    Texts are sorted by score once. Those open at competence c are then the first k of the order, and k is found by
    bisection: a draw takes O(log n), and memory is 4 bytes a text, and where scores tie 4 more a group of equal ones (8
    more again once a soft window was drawn from). Texts of equal score have the same difficulty d, the share of texts
    with at most their score, and enter together; the easiest of them are always open. Drawing is with replacement.

    >>> sampler = CurriculumSampler([30, 10, 20, 20])
    >>> [sampler.count_open(c) for c in (0.1, 0.5, 0.75, 1.0)]
    [1, 1, 3, 4]
    >>> sorted(set(sampler.draw(0.75, 100, np.random.default_rng(0)).tolist()))
    [1, 2, 3]

    Raises ValueError for scores that cannot be ordered, and for more than 2^32 - 1 of them.
    """

    def __init__(self, scores) -> None:
        scores = checked_scores(scores)
        if len(scores) >= 2**32:
            raise ValueError(f"The sampler counts in 4 bytes, up to 2^32 - 1 texts; given {len(scores)}: split them.")
        self.order = np.argsort(scores, kind="stable").astype(np.uint32)  # (n,), easiest first
        ordered = scores[self.order]
        last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
        self.ends = None if len(last) == len(scores) else (last + 1).astype(np.uint32)  # where each tie ends
        self._tails = (0.0, np.empty(0))  # the last rate at which ties were drawn, and what `_tails_at` found

    def __len__(self) -> int:
        return len(self.order)

    @property
    def nbytes(self) -> int:
        """Bytes that the order and the ties take."""
        return self.order.nbytes + (0 if self.ends is None else self.ends.nbytes + self._tails[1].nbytes)

    def count_open(self, competence):
        """How many texts have d <= c, at least the easiest: an int, or an array of them for an array."""
        k, _ = self._opened(competence)
        return int(k) if k.ndim == 0 else k

    def _opened(self, competence) -> tuple[np.ndarray, np.ndarray]:
        """How many texts are open, and how many groups of equal scores: arrays of the competence's shape."""
        c = np.asarray(competence, dtype=float)
        if not ((c >= 0) & (c <= 1)).all():
            raise ValueError(f"The competence is {competence!r}; it has to be from 0 to 1.")
        k = np.floor(c * len(self))
        k = (k + ((k + 1) / len(self) <= c) - (k / len(self) > c)).astype(np.int64)  # where the product was rounded
        if self.ends is None:
            k = np.maximum(1, k)
            return k, k
        k = k.astype(np.uint32)  # of the same type, or all ends would be converted for a single search
        groups = np.maximum(1, np.searchsorted(self.ends, k, side="right"))
        return self.ends[groups - 1].astype(np.int64), groups

    def difficulties(self) -> np.ndarray:
        """d of each text, as `difficulty_cdf` gives it: (n,)."""
        places = np.arange(1, len(self) + 1)
        ends = places if self.ends is None else np.repeat(self.ends, np.diff(self.ends, prepend=0))
        d = np.empty(len(self))
        d[self.order] = ends / len(self)
        return d

    def draw(self, competence, size: int, generator: np.random.Generator, softness: float = 0.0) -> np.ndarray:
        """`size` texts, by their number: (size,) uint32. `competence` is one for all, or one for each draw.

        With `softness` s, each is drawn from the distribution of `window_weights`: beyond the k open texts, the i-th of
        the order has d = (k + i) / n and so the weight exp(c / s - d / s), a geometric series, whose sum is known and
        can be inverted. Where scores tie, all of a group have the weight at its end; their sums are kept for one s, and
        a bisection inverts them.
        """
        (k, groups), n = self._opened(competence), len(self)
        if softness == 0:
            return self.order[generator.integers(0, k, size)]
        if not (np.isfinite(softness) and softness > 0):
            raise ValueError(f"The softness is {softness!r}; it has to be 0 (a hard window) or above.")
        rate = 1 / (n * softness)
        edge = np.maximum(k, np.asarray(competence) * n)  # the place from which on the weights fall
        if self.ends is None:
            beyond = np.exp((edge - k - 1) * rate) * np.expm1((k - n) * rate) / np.expm1(-rate)
        else:
            tails = self._tails_at(rate)
            beyond = np.exp(edge * rate - tails[groups])
        at = generator.random(size) * (k + beyond)
        far = np.flatnonzero(at >= k)
        k, groups, beyond = (np.broadcast_to(each, size)[far] for each in (k, groups, beyond))
        share = np.minimum((at[far] - k) / beyond, 1 - 2**-53)
        if self.ends is None:
            place = k + np.floor(-np.log1p(share * np.expm1((k - n) * rate)) / rate)
        else:
            group = np.searchsorted(tails, tails[groups] - np.log1p(-share), side="right") - 1
            group = np.minimum(group, len(self.ends) - 1)
            start = self.ends[group - 1]
            place = start + np.floor(generator.random(len(far)) * (self.ends[group] - start))
        at[far] = np.minimum(place, n - 1)
        return self.order[at.astype(np.int64)]

    def _tails_at(self, rate: float) -> np.ndarray:
        """-ln of the weight of a group and all after it, texts weighing exp(-rate * end): (groups + 1,), rising."""
        if self._tails[0] != rate:
            logs = np.log(np.diff(self.ends, prepend=0)) - self.ends * rate
            self._tails = rate, -np.append(np.logaddexp.accumulate(logs[::-1])[::-1], -np.inf)
        return self._tails[1]
