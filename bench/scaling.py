"""Speed of `llmlib.scaling`'s fit: python bench/scaling.py [--write]. One core, processor time, best of several rounds.

50 runs from a known law with noise; the law is fitted, and fitted again to 500 resamples at once. Beside it the obvious
way, one resample after the other by scipy's L-BFGS-B from a small grid of starts, of which a few resamples are timed.
`--write` keeps the figures in bench/results/scaling.json.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import numpy as np
import records
from scipy.optimize import minimize

from llmlib.scaling import LossLaw, bootstrap_loss_laws, fit_loss_law, percentile_interval

TRUTH = LossLaw(E=0.35, A=60.0, B=300.0, alpha=0.35, beta=0.40)
RUNS, RESAMPLES, NOISE, BUDGET_S = 50, 500, 0.005, 20
SLOW_RESAMPLES = 4
STARTS = list(itertools.product((3.0, 6.0), (0.3, 0.8), (4.0, 8.0), (0.3, 0.8), (-1.0,)))


def invented() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    N, D = np.geomspace(1e4, 1e6, 10).repeat(5), np.tile(np.geomspace(2e5, 2e7, 5), 10)
    return N, D, TRUTH.loss(N, D) * np.exp(random.normal(0, NOISE, RUNS))


def slow_fit(N: np.ndarray, D: np.ndarray, L: np.ndarray) -> float:
    """The objective's minimum, the obvious way."""
    x, y, z = np.log(N), np.log(D), np.log(L)

    def objective(p):
        a, alpha, b, beta, e = p
        size = np.abs(np.logaddexp(np.logaddexp(a - alpha * x, b - beta * y), e) - z)
        return np.where(size <= 1e-3, size * size / 2, 1e-3 * (size - 5e-4)).sum()

    return min(minimize(objective, start, method="L-BFGS-B").fun for start in STARTS)


def seconds(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    N, D, L = invented()
    random, draws = np.random.default_rng(1), []
    for _ in range(SLOW_RESAMPLES):
        draws.append(random.integers(0, RUNS, RUNS))
    best = {"fit": np.inf, "bootstrap": np.inf, "one resample by scipy": np.inf}
    for _ in range(given.rounds):
        best["fit"] = min(best["fit"], seconds(lambda: fit_loss_law(N, D, L)))
        best["bootstrap"] = min(best["bootstrap"], seconds(lambda: bootstrap_loss_laws(N, D, L, RESAMPLES)))
        slow = seconds(lambda: [slow_fit(N[drawn], D[drawn], L[drawn]) for drawn in draws]) / SLOW_RESAMPLES
        best["one resample by scipy"] = min(best["one resample by scipy"], slow)
    laws = bootstrap_loss_laws(N, D, L, RESAMPLES)
    intervals = {
        name: [getattr(TRUTH, name), *percentile_interval([getattr(law, name) for law in laws])]
        for name in ("E", "alpha", "beta", "parameters_exponent")
    }
    record = {
        "runs": RUNS,
        "resamples": RESAMPLES,
        "starts of the slow way": len(STARTS),
        "budget_s": BUDGET_S,
        "fit_s": best["fit"],
        "bootstrap_s": best["bootstrap"],
        "scipy_s": best["one resample by scipy"] * RESAMPLES,
        "met": bool(best["fit"] + best["bootstrap"] <= BUDGET_S),
        "intervals": intervals,
    }
    print(f"fit {best['fit']:.2f} s, {RESAMPLES} resamples {best['bootstrap']:.2f} s (budget {BUDGET_S} s)")
    print(f"the obvious loop {record['scipy_s']:.0f} s: {record['scipy_s'] / best['bootstrap']:.0f} times as long")
    for name, (truth, low, high) in intervals.items():
        print(f"{name:20} truth {truth:.3f}, interval {low:.3f} to {high:.3f}")
    if given.write:
        records.write("scaling", record)


if __name__ == "__main__":
    main()
