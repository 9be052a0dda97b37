"""The classroom: draws texts from the window that is open, however many there are."""

from __future__ import annotations

import numpy as np

from llmlib.curriculum.difficulty import checked_scores


class CurriculumSampler:
    """Draws texts x with d(x) <= c, all with equal probability, or with the weights of a soft window.

    Texts are sorted by score once. Those open at competence c are then the first k of the order, and k is found by
    bisection: a draw takes O(log n), and memory is 4 bytes a text, and 4 more where scores tie. Texts of equal
    score have the same difficulty d, the share of texts with at most their score, and enter together; the easiest of
    them are always open. Drawing is with replacement.

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

    def __len__(self) -> int:
        return len(self.order)

    @property
    def nbytes(self) -> int:
        """Bytes that the order and the ties take."""
        return self.order.nbytes + (0 if self.ends is None else self.ends.nbytes)

    def count_open(self, competence):
        """How many texts have d <= c, at least the easiest: an int, or an array of them for an array."""
        c = np.asarray(competence, dtype=float)
        if not ((c >= 0) & (c <= 1)).all():
            raise ValueError(f"The competence is {competence!r}; it has to be from 0 to 1.")
        k = np.floor(c * len(self))
        k = (k + ((k + 1) / len(self) <= c) - (k / len(self) > c)).astype(np.int64)  # where the product was rounded
        if self.ends is None:
            k = np.maximum(1, k)
        else:
            k = k.astype(np.uint32)  # of the same type, or all ends would be converted for a single search
            k = self.ends[np.maximum(0, np.searchsorted(self.ends, k, side="right") - 1)].astype(np.int64)
        return int(k) if k.ndim == 0 else k

    def difficulties(self) -> np.ndarray:
        """d of each text, as `difficulty_cdf` gives it: (n,)."""
        places = np.arange(1, len(self) + 1)
        ends = places if self.ends is None else np.repeat(self.ends, np.diff(self.ends, prepend=0))
        d = np.empty(len(self))
        d[self.order] = ends / len(self)
        return d

    def draw(self, competence, size: int, generator: np.random.Generator, softness: float = 0.0) -> np.ndarray:
        """`size` texts, by their number: (size,) uint32. `competence` is one for all, or one for each draw.

        With `softness` s, the i-th text of the order beyond the k open ones has weight exp(-i / (n s)), as in
        `window_weights` where no scores tie: a geometric series, whose inverse is known, so a draw is no slower.
        """
        k = np.maximum(1, self.count_open(competence))
        n = len(self)
        if softness == 0:
            return self.order[generator.integers(0, k, size)]
        if not (np.isfinite(softness) and softness > 0):
            raise ValueError(f"The softness is {softness!r}; it has to be 0 (a hard window) or above.")
        rate = 1 / (n * softness)
        # sum over i = 1 ... n - k of exp(-i rate)
        beyond = np.exp(-rate) * -np.expm1(-(n - k) * rate) / -np.expm1(-rate)
        at = generator.random(size) * (k + beyond)
        share = np.where(beyond > 0, (at - k) / np.where(beyond > 0, beyond, 1.0), 0.0)  # of what lies beyond
        further = np.floor(-np.log1p(np.clip(share, 0.0, 1.0) * np.expm1(-(n - k) * rate)) / rate)
        place = np.where(at < k, np.floor(at), np.minimum(k + further, n - 1))
        return self.order[place.astype(np.int64)]
