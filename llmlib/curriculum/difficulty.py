"""The teacher: a number for each text that says how difficult it is, and its place among all texts, d in (0, 1].

Any number will do, as long as a harder text has a larger one: words in it, how rare they are, how surprised a small
model is by it. What a curriculum uses is only their order. Source: Platanios et al. 2019 (arXiv 1903.09848), section 2.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import log

import numpy as np

WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case.

    >>> words_of("Don't panic: 3 well-read cats.")
    ["don't", 'panic', 'well-read', 'cats']
    """
    return WORD.findall(text.lower())


def text_lengths(texts: Iterable[str]) -> np.ndarray:
    """Words in each text: (n,).

    >>> text_lengths(["A cat sat.", "Rain."]).tolist()
    [3, 1]
    """
    return np.array([len(words_of(text)) for text in texts])


def word_surprises(texts: Iterable[str]) -> dict[str, float]:
    """-ln of each word's share of all words, nats: 0 for the only word there is, more for a rare one.

    >>> {word: round(nats, 2) for word, nats in word_surprises(["the cat", "the owl"]).items()}
    {'the': 0.69, 'cat': 1.39, 'owl': 1.39}
    """
    counts = Counter(word for text in texts for word in words_of(text))
    total = sum(counts.values())
    return {word: -log(count / total) for word, count in counts.items()}


def text_rarities(texts: Sequence[str], surprises: Mapping[str, float] | None = None, mean: bool = False) -> np.ndarray:
    """How rare a text's words are, in nats: -sum ln p(word), or with `mean` that sum per word. Shape (n,).

    `surprises` are counted in `texts` unless given; a word that they lack counts as the rarest. The sum is the
    published measure (Platanios et al. 2019, equation 3), and grows with a text's length; the mean does not.

    >>> text_rarities(["the cat", "the the owl"]).round(2).tolist()
    [2.12, 2.63]

    Raises ValueError where a text holds no word, and where there is no text.
    """
    surprises = word_surprises(texts) if surprises is None else surprises
    if not surprises:
        raise ValueError("No word was found to count; give texts that hold words, or surprises of known words.")
    rarest, sums, sizes = max(surprises.values()), [], []
    for i, text in enumerate(texts):
        words = words_of(text)
        if mean and not words:
            raise ValueError(f"Text {i} holds no word ({text[:30]!r}), so it has no mean; leave it out.")
        sums.append(sum(surprises.get(word, rarest) for word in words))
        sizes.append(len(words))
    return np.array(sums) / (np.array(sizes) if mean else 1)


def checked_scores(scores) -> np.ndarray:
    """Scores as a row of finite numbers: (n,). Raises ValueError with a sentence where they are not."""
    scores = np.asarray(scores)
    if scores.ndim != 1 or not len(scores):
        raise ValueError(f"Difficulty scores are a row of numbers, one for each text; given shape {scores.shape}.")
    if not np.issubdtype(scores.dtype, np.number) or np.issubdtype(scores.dtype, np.complexfloating):
        raise ValueError(f"Difficulty scores are numbers; given {scores.dtype}.")
    if not np.isfinite(scores).all():
        bad = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(f"Score {bad} is {scores[bad]}: it has no place in an order; leave that text out.")
    return scores


def difficulty_cdf(scores) -> np.ndarray:
    """The share of texts whose score is at most one's own: (n,) scores -> (n,) difficulties d in (0, 1].

    Texts of equal score share a difficulty. Source: Platanios et al. 2019, section 2.1.

    >>> difficulty_cdf([30, 10, 20, 20]).tolist()
    [1.0, 0.25, 0.75, 0.75]

    Raises ValueError for no scores and for one that is not a finite number.
    """
    scores = checked_scores(scores)
    return np.searchsorted(np.sort(scores), scores, side="right") / len(scores)


def shuffled_ties(scores, generator: np.random.Generator) -> np.ndarray:
    """Ranks 1 ... n, those of equal scores in random order: (n,) scores -> (n,) uint32.

    >>> sorted(shuffled_ties([0, 0, 5], np.random.default_rng(0)).tolist())
    [1, 2, 3]
    """
    scores = checked_scores(scores)
    shuffled = generator.permutation(len(scores))
    ranks = np.empty(len(scores), np.uint32)
    ranks[shuffled[np.argsort(scores[shuffled], kind="stable")]] = np.arange(1, len(scores) + 1, dtype=np.uint32)
    return ranks
