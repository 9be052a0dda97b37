"""How much texts repeat themselves and each other: shares of n-grams, runs of n tokens in a row."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence


def repeated_share(tokens: Sequence[Hashable], n: int = 4) -> float:
    """Of a text's runs of n tokens, the share that stood in it before; 0 for a text too short to have two.

    >>> repeated_share("and so on and so on and so on".split(), n=3)  # 7 runs, 3 of them different
    0.5714285714285714

    Raises ValueError for n below 1. Source: Welleck et al. 2020 (arXiv 1908.04319), section 6, as seq-rep-n.
    """
    runs = _runs(tokens, n)
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def distinct_share(texts: Iterable[Sequence[Hashable]], n: int = 4) -> float:
    """Of all runs of n tokens in several texts together, the share that are different: distinct-n.

    It falls as texts are added, whatever they are: compare only sets of one size. No run goes from text to text.

    >>> distinct_share(["the owl ran".split(), "the owl slept".split()], n=2)  # "the owl" stands there twice
    0.75

    Raises ValueError for n below 1, and where no text has n tokens. Source: Li et al. 2016 (arXiv 1510.03055).
    """
    runs = [run for text in texts for run in _runs(text, n)]
    if not runs:
        raise ValueError(f"No text has {n} tokens, so that there is nothing to count; give longer texts.")
    return len(set(runs)) / len(runs)


def _runs(tokens: Sequence[Hashable], n: int) -> list[tuple]:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"n is {n!r}; it counts the tokens of a run, so it is a whole number of at least 1.")
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
