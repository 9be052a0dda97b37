"""Hoffmann's first and second approach: find the best model at each compute directly, then how it grows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from llmlib.scaling.counting import positive, six_nd
from llmlib.scaling.fitting import checked_runs


@dataclass(frozen=True)
class PowerLaw:
    """y = coefficient * x^exponent: a straight line on two log axes, whose slope is the exponent.

    >>> PowerLaw(coefficient=2.0, exponent=0.5).at(100.0)
    20.0
    """

    coefficient: float
    exponent: float

    def at(self, x):
        return self.coefficient * x**self.exponent


@dataclass(frozen=True)
class IsoflopMinimum:
    """The best size found at one compute. `sizes`: how many sizes it was found among."""

    flops: float
    N: float
    loss: float
    sizes: int

    @property
    def D(self) -> float:
        return self.flops / 6 / self.N


def fit_power_law(x, y) -> PowerLaw:
    """The straight line through (ln x, ln y) by least squares.

    >>> fit_power_law([1, 10, 100], [3, 30, 300])
    PowerLaw(coefficient=3.0, exponent=1.0)

    Raises ValueError for fewer than two different x, and for what has no logarithm.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.shape != y.shape or x.ndim != 1 or len(np.unique(x)) < 2:
        raise ValueError(f"A line needs two different x and as many y; given {x.size} x, {y.size} y. Give more points.")
    if not (np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)).all():
        raise ValueError("A power law has no place on log axes for numbers that are not above 0: leave them out.")
    slope, intercept = np.polyfit(np.log(x), np.log(y), 1)
    return PowerLaw(round(float(np.exp(intercept)), 12), round(float(slope), 12))


def parabola_minimum(N, L) -> tuple[float, float] | None:
    """Where a parabola through (ln N, L) is lowest, and how low: (N, loss).

    None if it opens downwards, or is lowest outside the sizes given: then the runs do not show where the best size is.

    >>> N, loss = parabola_minimum([1e6, 1e7, 1e8], [3.0, 2.0, 3.0])
    >>> f"{N:.3g} {loss:.3g}"
    '1e+07 2'

    Raises ValueError for fewer than three different sizes, and for an N or L that is no finite number above 0.
    """
    N, L = np.asarray(N, dtype=float), np.asarray(L, dtype=float)
    if N.shape != L.shape or N.ndim != 1:
        raise ValueError(f"N and L have the shapes {N.shape} and {L.shape}; give two lists of one length.")
    positive("N", N)
    positive("L", L)
    if len(np.unique(N)) < 3:
        raise ValueError(
            f"A parabola needs three different sizes; given {len(np.unique(N))}. Add runs at this compute."
        )
    c, b, a = np.polyfit(np.log(N), L, 2)
    lowest = -b / (2 * c)
    if c <= 0 or not math.log(N.min()) < lowest < math.log(N.max()):
        return None
    return math.exp(lowest), float(a - b * b / (4 * c))


def isoflop_minima(N, D, L, least_sizes: int = 4, spread: float = 0.05) -> list[IsoflopMinimum]:
    """Approach 2: at each compute that at least `least_sizes` sizes were trained at, the lowest point of a parabola.

    Computes 6ND that differ by less than `spread` (relative) from one to the next count as one. A compute whose
    parabola has no lowest point inside gives none. Source: Hoffmann et al. 2022, section 3.2.
    """
    N, D, L = checked_runs(N, D, L)
    order = np.argsort(six_nd(N, D))
    log_c = np.log(six_nd(N, D)[order])
    minima = []
    for group in np.split(order, np.flatnonzero(np.diff(log_c) > spread) + 1):
        if len(np.unique(N[group])) >= least_sizes:
            sizes = np.unique(N[group])
            lowest = parabola_minimum(sizes, [L[group][N[group] == size].mean() for size in sizes])
            if lowest is not None:
                flops = float(np.exp(np.log(six_nd(N, D)[group]).mean()))
                minima.append(IsoflopMinimum(flops, *lowest, len(sizes)))
    return minima


def envelope_minima(N, D, L, points: int = 200) -> list[IsoflopMinimum]:
    """Approach 1: the lower envelope of one curve a size, loss against compute; at each compute, whose curve it is.

    A size's curve joins its runs by straight lines over ln C. A compute counts where at least three sizes have a curve,
    and neither the smallest nor the largest of these is the best: beyond them there might be a better one.
    Source: Hoffmann et al. 2022, section 3.1, there with curves along each training run.
    """
    if points < 2:
        raise ValueError(f"The envelope is looked at in {points} points; give at least 2.")
    N, D, L = checked_runs(N, D, L)
    log_c, curves = np.log(six_nd(N, D)), {}
    for size in np.unique(N):
        own = size == N
        amounts = np.unique(np.round(log_c[own], 2))
        if len(amounts) >= 2:
            near = [own & (np.abs(log_c - amount) < 0.01) for amount in amounts]
            curves[float(size)] = amounts, np.array([L[runs].mean() for runs in near])
    minima = []
    for c in np.linspace(log_c.min(), log_c.max(), points):
        there = {size: np.interp(c, *curve) for size, curve in curves.items() if curve[0][0] <= c <= curve[0][-1]}
        if len(there) >= 3:
            best = min(there, key=there.get)
            if min(there) < best < max(there):
                minima.append(IsoflopMinimum(float(np.exp(c)), best, float(there[best]), len(there)))
    return minima


def subset_exponents(
    minima: Callable[..., list[IsoflopMinimum]], N, D, L, draws: int = 100, share: float = 0.8, seed: int = 0
) -> list[float]:
    """a of N* ~ C^a from each of `draws` random subsets that hold `share` of the runs, as Hoffmann et al. do.

    A subset that leaves fewer than two different computes or best sizes is left out.
    """
    if not (0 < share <= 1 and draws >= 1):
        raise ValueError(f"{draws} draws of a share {share}; give at least 1, and a share above 0 and at most 1.")
    N, D, L = checked_runs(N, D, L)
    random, exponents = np.random.default_rng(seed), []
    for _ in range(draws):
        kept = random.choice(len(N), round(share * len(N)), replace=False)
        found = minima(N[kept], D[kept], L[kept])
        if len({each.flops for each in found}) >= 2:
            exponents.append(fit_power_law([each.flops for each in found], [each.N for each in found]).exponent)
    return exponents
