"""The general form: a weight W(x, t) for each text at each time, and the distribution that training then draws from.

    p_t(x) = W(x, t) / sum over y of W(y, t)

A hard window has W = 1 where d(x) <= c(t), else 0. A soft one lets the weight fall off beyond it. A curriculum in the
sense of Bengio et al. 2009 (section 4.1) is any W whose weights never fall as t grows, whose distribution's entropy
rises with t, and that ends at W = 1.
"""

from __future__ import annotations

import numpy as np


def window_weights(difficulties, competence: float, softness: float = 0.0) -> np.ndarray:
    """W = min(1, exp((c - d) / s)): (n,) difficulties in [0, 1] -> (n,) weights in [0, 1].

    1 inside the window d <= c. Beyond it, a weight is divided by e for every `softness` s by which d exceeds c; with
    s = 0, the window is hard.

    >>> window_weights([0.2, 0.5, 0.6, 0.9], 0.5).tolist()
    [1.0, 1.0, 0.0, 0.0]
    >>> window_weights([0.2, 0.5, 0.6, 0.9], 0.5, softness=0.1).round(2).tolist()
    [1.0, 1.0, 0.37, 0.02]
    """
    d = np.asarray(difficulties, dtype=float)
    if d.size and not (d.min() >= 0 and d.max() <= 1):
        raise ValueError(
            f"Difficulties are places in an order, from 0 to 1; given {d.min()} to {d.max()}. "
            "Turn scores into difficulties with difficulty_cdf."
        )
    if not 0 <= competence <= 1:
        raise ValueError(f"The competence is {competence!r}; it has to be from 0 to 1.")
    if not (np.isfinite(softness) and softness >= 0):
        raise ValueError(f"The softness is {softness!r}; it has to be 0 (a hard window) or above.")
    if softness == 0:
        return (d <= competence).astype(float)
    return np.exp(-np.maximum(0.0, d - competence) / softness)


def curriculum_distribution(weights) -> np.ndarray:
    """Weights divided by their sum: (n,) -> (n,) probabilities.

    >>> curriculum_distribution([1, 1, 0.5, 0]).tolist()
    [0.4, 0.4, 0.2, 0.0]

    Raises ValueError where a weight is negative or no number, and where all are 0: then nothing can be drawn.
    """
    weights = np.asarray(weights, dtype=float)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("A weight is negative or not a finite number; W(x, t) has to be 0 or above for each text.")
    if not weights.sum() > 0:
        raise ValueError("All weights are 0, so nothing can be drawn: raise the competence until one text is open.")
    return checked_distribution(weights / weights.sum())


def checked_distribution(probabilities) -> np.ndarray:
    """The probabilities, if they are a distribution: none below 0, and their sum 1 to rounding.

    Raises ValueError, and says by how much, where they are not.
    """
    p = np.asarray(probabilities, dtype=float)
    if not (p >= 0).all():  # nan is not >= 0
        raise ValueError(f"A probability is {p[~(p >= 0)][0]}; it has to be 0 or above.")
    if abs(p.sum() - 1) > 1e-9:
        raise ValueError(f"The probabilities sum to {p.sum():.6f}, not to 1; divide the weights by their sum.")
    return p
