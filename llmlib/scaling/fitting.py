"""Fit the loss law to runs, as in Hoffmann's third approach, and say how sure the constants are.

With e = ln E, a = ln A and b = ln B the law's logarithm is a log-sum-exp, and the constants minimise

    sum over runs of Huber_delta( LSE(a - alpha ln N, b - beta ln D, e) - ln L ).

Hoffmann et al. (2022, section 3.3) minimise it by L-BFGS from a grid of starts. So does the slow way in the tests; the
way here is damped Gauss-Newton, which needs fewer steps on five constants, and goes from all starts, and on all
resamples of a bootstrap, at once: arrays have one row a problem.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from llmlib.scaling.law import LossLaw

STARTS = tuple(itertools.product((0.1, 0.4, 0.9), (0.1, 0.4, 0.9), (0.05, 0.5, 0.9)))  # alpha, beta, E / least loss
LEAST_RUNS = 6


@dataclass(frozen=True)
class LawFit:
    """A fitted law, and the sum of Huber losses that it leaves."""

    law: LossLaw
    objective: float


def checked_runs(N, D, L) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parameters, tokens and losses as arrays of float, one entry a run.

    Raises ValueError, with what to do, where they cannot hold five constants.
    """
    arrays = [np.asarray(values, dtype=float) for values in (N, D, L)]
    shapes = [array.shape for array in arrays]
    if len({*shapes}) > 1 or arrays[0].ndim != 1:
        raise ValueError(f"N, D and L have the shapes {shapes}; give three lists of one length, an entry for each run.")
    for name, array in zip(("N", "D", "L"), arrays, strict=True):
        if bad := [float(value) for value in array if not (np.isfinite(value) and value > 0)]:
            raise ValueError(f"{name} holds {bad[0]}; every run needs a finite number above 0: leave that run out.")
    if len(arrays[0]) < LEAST_RUNS:
        raise ValueError(f"There are {len(arrays[0])} runs; five constants need at least {LEAST_RUNS}, better dozens.")
    for name, array, exponent in (("N", arrays[0], "alpha"), ("D", arrays[1], "beta")):
        if (different := len(np.unique(array))) < 3:
            raise ValueError(f"The runs have {different} different {name}; {exponent} needs at least 3: add such runs.")
    return arrays[0], arrays[1], arrays[2]


def fit_loss_law(N, D, L, delta: float = 1e-3) -> LawFit:
    """The loss law that fits runs of N parameters on D tokens with held-out losses L (nats per token) best.

    `delta` is the relative error of a loss from which on it counts linearly, no longer as a square: outliers pull less.
    E is 0 where the runs fit best without a floor.

    >>> truth = LossLaw(E=1.7, A=400.0, B=2000.0, alpha=0.35, beta=0.37)
    >>> N, D = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e9, 1e12, 6)))
    >>> fit = fit_loss_law(N, D, truth.loss(N, D))
    >>> round(fit.law.E, 4), round(fit.law.alpha, 4), round(fit.law.beta, 4)
    (1.7, 0.35, 0.37)
    """
    runs = _Runs(*checked_runs(N, D, L), _checked_delta(delta))
    p, objective = runs.descend(runs.starts(), np.ones((1, len(runs.z))))
    best = int(np.argmin(objective))
    return LawFit(runs.law(p[best]), float(objective[best]))


def bootstrap_loss_laws(N, D, L, resamples: int = 500, seed: int = 0, delta: float = 1e-3) -> list[LossLaw]:
    """The law fitted anew to each of `resamples` draws of as many runs, with replacement, from the given ones.

    How the laws scatter is how far another such set of runs might have led elsewhere. A resample is fitted from the fit
    to all runs and from a point far from it, and keeps the better.
    """
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; give at least 1, and some hundreds for an interval.")
    runs = _Runs(*checked_runs(N, D, L), _checked_delta(delta))
    random, n = np.random.default_rng(seed), len(runs.z)
    whole, objective = runs.descend(runs.starts(), np.ones((1, n)))
    starts = np.concatenate([whole[[np.argmin(objective)]], runs.starts()[[13]]])  # (S, 5)
    counts = np.array([runs.draw(random) for _ in range(resamples)], dtype=float)  # (R, n)
    p, objective = runs.descend(np.tile(starts, (resamples, 1)), np.repeat(counts, len(starts), axis=0))
    best = objective.reshape(resamples, -1).argmin(1) + len(starts) * np.arange(resamples)
    return [runs.law(row) for row in p[best]]


def percentile_interval(values, level: float = 0.95) -> tuple[float, float]:
    """The middle `level` of the values: what a bootstrap gives as its confidence interval.

    >>> percentile_interval(range(101), 0.9)
    (5.0, 95.0)

    Raises ValueError where there are no values, or one is no finite number.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; give a share between 0 and 1, such as 0.95.")
    values = np.asarray(list(values), dtype=float)
    if not len(values) or not np.isfinite(values).all():
        what = f"one of them is {values[~np.isfinite(values)][0]}" if len(values) else "there are none"
        raise ValueError(f"An interval needs finite values, and {what}; give those of some hundred resamples.")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return round(float(low), 12), round(float(high), 12)


def log_residuals(law: LossLaw, N, D, L) -> np.ndarray:
    """ln of the measured over the expected loss, a run: 0.01 is one per cent above the law."""
    N, D, L = checked_runs(N, D, L)
    return np.log(L / law.loss(N, D))


def _checked_delta(delta: float) -> float:
    if not delta > 0:
        raise ValueError(f"delta is {delta}; it has to be above 0: 0.001 is the usual choice.")
    return delta


class _Runs:
    """The runs, and many descents on them at once.

    A problem's constants are a row p = (a', ln alpha, b', ln beta, e), with a' = a - alpha mean(ln N) and b' likewise:
    in these, each can be varied without the others having to follow, and alpha and beta stay above 0.
    """

    STEPS = 400  # of a descent, at most
    STILL = 1e-11  # relative gain of a step below which a problem rests
    LOWEST = np.array([-40.0, np.log(0.005), -40.0, np.log(0.005), -40.0])
    HIGHEST = np.array([40.0, np.log(8.0), 40.0, np.log(8.0), 40.0])

    def __init__(self, N: np.ndarray, D: np.ndarray, L: np.ndarray, delta: float) -> None:
        self.means = np.log(N).mean(), np.log(D).mean()
        self.x, self.y, self.z = np.log(N) - self.means[0], np.log(D) - self.means[1], np.log(L)
        self.delta = delta

    def law(self, p: np.ndarray) -> LossLaw:
        alpha, beta = np.exp(p[1]), np.exp(p[3])
        A, B = np.exp(p[0] + alpha * self.means[0]), np.exp(p[2] + beta * self.means[1])
        E = np.exp(p[4]) if p[4] > self.z.min() - 20 else 0.0  # a billionth of the least loss is none
        return LossLaw(*(float(value) for value in (E, A, B, alpha, beta)))

    def starts(self) -> np.ndarray:
        """(S, 5): E is a share of the least loss, and what a middling run has above it belongs half to each term."""
        least, middling = np.exp(self.z.min()), np.exp(np.median(self.z))
        rows = []
        for alpha, beta, share in STARTS:
            half = np.log(max(middling - share * least, 0.05 * middling) / 2)
            rows.append((half, np.log(alpha), half, np.log(beta), np.log(share * least)))
        return np.array(rows)

    def draw(self, random: np.random.Generator) -> np.ndarray:
        """How often each run is drawn; drawn again if fewer than three sizes or amounts of tokens are among them."""
        while True:
            counts = np.bincount(random.integers(0, len(self.z), len(self.z)), minlength=len(self.z))
            if len(np.unique(self.x[counts > 0])) >= 3 and len(np.unique(self.y[counts > 0])) >= 3:
                return counts

    def residuals(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(P, n), ln expected less ln measured, and its derivative by each constant: (P, n, 5)."""
        alpha, beta = np.exp(p[:, 1:2]), np.exp(p[:, 3:4])
        terms = np.stack(
            [p[:, 0:1] - alpha * self.x, p[:, 2:3] - beta * self.y, np.broadcast_to(p[:, 4:5], (len(p), len(self.x)))]
        )
        top = terms.max(0)
        shares = np.exp(terms - top)
        total = shares.sum(0)
        shares /= total
        model, data, floor = shares
        slopes = np.stack([model, -model * alpha * self.x, data, -data * beta * self.y, floor], axis=-1)
        return top + np.log(total) - self.z, slopes

    def objective(self, r: np.ndarray, counts: np.ndarray) -> np.ndarray:
        size = np.abs(r)
        huber = np.where(size <= self.delta, r * r / 2, self.delta * (size - self.delta / 2))
        return (counts * huber).sum(1)

    def descend(self, p: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """From starts (P, 5) and how often each run counts (P or 1, n) to minima (P, 5) and objectives (P).

        Each step solves the least-squares problem in which a run weighs min(1, delta / |residual|), damped as in
        Levenberg-Marquardt; a step that does not lower the objective is taken back, and damped more.
        """
        p, counts = p.copy(), np.broadcast_to(counts, (len(p), len(self.z)))
        r, slopes = self.residuals(p)
        value, damping, moving = self.objective(r, counts), np.full(len(p), 1e-2), np.arange(len(p))
        for _ in range(self.STEPS):
            weights = counts[moving] * np.minimum(1, self.delta / np.maximum(np.abs(r), 1e-300))
            weighted = slopes * weights[..., None]
            gradient = np.einsum("pnk,pn->pk", weighted, r)
            curvature = np.matmul(weighted.transpose(0, 2, 1), slopes)
            diagonal = np.einsum("pkk->pk", curvature)
            diagonal += damping[moving, None] * (diagonal + 1e-9 * diagonal.max(1, keepdims=True)) + 1e-300
            trial = p[moving] - np.linalg.solve(curvature, gradient[..., None])[..., 0]
            trial = np.clip(trial, self.LOWEST, self.HIGHEST)
            new_r, new_slopes = self.residuals(trial)
            new_value = self.objective(new_r, counts[moving])
            better = new_value < value[moving]
            gain = (value[moving] - new_value) / value[moving].clip(1e-300)
            taken = moving[better]
            p[taken], value[taken] = trial[better], new_value[better]
            r[better], slopes[better] = new_r[better], new_slopes[better]
            damping[moving] = np.where(better, damping[moving] / 4, damping[moving] * 6).clip(1e-12, 1e12)
            resting = (better & (gain < self.STILL)) | (~better & (damping[moving] > 1e8))
            moving, r, slopes = moving[~resting], r[~resting], slopes[~resting]
            if not len(moving):
                break
        return p, value
