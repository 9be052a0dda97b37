"""Train a grid of small models on the story world, for the chapter on scaling laws.

    python -m llmlib.experiments.scaling_sweep runs/scaling
    python -m llmlib.experiments.scaling_sweep runs/scaling --row grid-94032-1134k-0

Sizes from 13 thousand to 3.1 million parameters, each on several amounts of stories, chosen so that models of
different size meet at the same C = 6ND. Every run is one pass over its stories, with a schedule that ends where they
do; a step takes one story, because budgets this small need many steps more than they need exact gradients. First the
learning rate is tuned at three sizes, and a power law in N through the three optima gives it for all.

The folder receives `runs.csv`, one row for each run, written when the run has ended: the same command goes on after an
interruption, and only a run that was killed or failed begins anew. `--row` trains one row again and shows it beside the
recorded one.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from llmlib.experiments.scaling_run import (
    CONTEXT,
    VOCABULARY,
    SweepJob,
    SweepRun,
    read_runs,
    train_job,
    write_runs,
)
from llmlib.model import ModelConfig


def _size(width: int, layers: int, heads: int) -> ModelConfig:
    return ModelConfig(VOCABULARY, CONTEXT, width, layers, heads, feed_forward_width=2 * width)


@dataclass(frozen=True)
class Plan:
    """Which models, on how many tokens: size i has `levels[i]` runs, at C = first_flops * 2^(i + j), j = 0, 1, ..."""

    sizes: tuple[ModelConfig, ...]
    levels: tuple[int, ...]
    repeated: tuple[int, ...]  # so many of them with a second seed too
    first_flops: float
    tuned: tuple[tuple[int, tuple[float, ...]], ...]  # sizes at which learning rates are tried, at j = 0
    checked: tuple[tuple[int, int], ...]  # (i, j) where half and twice the fitted rate are tried
    held_out: int  # stories


SWEEP = Plan(
    sizes=(
        _size(16, 2, 2),
        _size(24, 2, 2),
        _size(32, 3, 2),
        _size(48, 3, 3),
        _size(64, 4, 4),
        _size(96, 4, 4),
        _size(128, 5, 4),
        _size(224, 6, 4),
    ),
    levels=(5, 5, 5, 5, 5, 4, 4, 3),
    repeated=(3, 3, 3, 3, 2, 1, 1, 1),
    first_flops=2e10,
    tuned=((0, (8e-3, 1.6e-2, 3.2e-2, 6.4e-2)), (2, (4e-3, 8e-3, 1.6e-2, 3.2e-2)), (4, (2e-3, 4e-3, 8e-3, 1.6e-2))),
    checked=((1, 2),),
    held_out=500,
)
TRIAL = Plan(
    sizes=(_size(8, 1, 1), _size(16, 1, 1)),
    levels=(2, 2),
    repeated=(1, 0),
    first_flops=6 * 4_688 * 2_000.0,
    tuned=((0, (4e-3, 1.6e-2, 6.4e-2)), (1, (4e-3, 1.6e-2, 6.4e-2))),
    checked=(),
    held_out=8,
)


def _tokens_at(plan: Plan, i: int, j: int) -> int:
    return round(plan.first_flops * 2 ** (i + j) / (6 * plan.sizes[i].count_parameters()))


def tuning_jobs(plan: Plan) -> list[SweepJob]:
    return [
        SweepJob("tune", plan.sizes[i], _tokens_at(plan, i, 0), 0, rate) for i, rates in plan.tuned for rate in rates
    ]


def grid_jobs(plan: Plan, rate_at: Callable[[int], float]) -> list[SweepJob]:
    """The grid, the cheapest runs first: stopped early, it still covers all amounts of the small sizes."""
    jobs = [
        SweepJob(stage, plan.sizes[i], _tokens_at(plan, i, j), seed, factor * rate_at(plan.sizes[i].count_parameters()))
        for i in range(len(plan.sizes))
        for j in range(plan.levels[i])
        for stage, seed, factor in (("grid", 0, 1), ("grid", 1, 1), ("check", 0, 0.5), ("check", 0, 2))
        if (stage == "grid" and (seed == 0 or j < plan.repeated[i])) or (stage == "check" and (i, j) in plan.checked)
    ]
    return sorted(jobs, key=lambda job: job.expected_seconds)


def fitted_rate(runs: Sequence[SweepRun]) -> Callable[[int], float]:
    """The learning rate for N parameters: at each tuned size the lowest point of a parabola through the best rate and
    its neighbours (over ln rate), and through these optima a power law in N by least squares."""
    optima = []
    for N in sorted({run.N for run in runs}):
        tried = sorted((math.log(run.learning_rate), run.loss) for run in runs if run.N == N)
        best = min(range(len(tried)), key=lambda k: tried[k][1])
        if 0 < best < len(tried) - 1:
            a, b, _ = np.polyfit(*zip(*tried[best - 1 : best + 2], strict=True), 2)
            optima.append((math.log(N), -b / (2 * a)))
        else:
            optima.append((math.log(N), tried[best][0]))  # the lowest or the highest tried: nothing lies beyond it
    slope, intercept = np.polyfit(*zip(*optima, strict=True), 1)
    return lambda N: float(f"{math.exp(intercept + slope * math.log(N)):.3g}")


def _made(jobs: Sequence[SweepJob], plan: Plan, processes: int) -> Iterator[SweepRun]:
    """The runs as they end: `processes` at a time, each on one thread and in a pool of its own, so that what is killed
    or fails takes no other run with it. Raises RuntimeError at the end, when all others are made."""
    if processes == 1:
        yield from (train_job(job, plan.held_out) for job in jobs)
        return

    def worker() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=get_context("spawn"))

    waiting, running, lost = list(jobs), {}, {}
    idle = [worker() for _ in range(processes)]
    try:
        while waiting or running:
            while waiting and idle:
                own, job = idle.pop(), waiting.pop(0)
                running[own.submit(train_job, job, plan.held_out)] = own, job
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                own, job = running.pop(future)
                error = future.exception()
                idle.append(worker() if isinstance(error, BrokenProcessPool) else own)
                if error is None:
                    yield future.result()
                else:
                    lost[job.key] = error
    finally:
        for own in [*idle, *(own for own, _ in running.values())]:
            own.shutdown(wait=False, cancel_futures=True)
    if lost:
        (key, error), *others = lost.items()
        more = f", and so were {len(others)} more" if others else ""
        raise RuntimeError(f"Run {key} was lost{more}; the same command makes what is missing.") from error


def run_sweep(folder: Path, plan: Plan = SWEEP, processes: int = 2) -> list[SweepRun]:
    """Makes every run of the plan that `runs.csv` lacks, and returns all, in the plan's order."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "runs.csv"
    done = {run.key: run for run in read_runs(path)}
    first = tuning_jobs(plan)
    guess = grid_jobs(plan, lambda N: 1.0)
    with tqdm(
        total=sum(job.expected_seconds for job in [*first, *guess]),
        bar_format="{percentage:3.0f}%|{bar}| {elapsed}, {remaining} left{postfix}",
    ) as progress:

        def make(jobs: list[SweepJob]) -> list[SweepRun]:
            seconds = {job.key: job.expected_seconds for job in jobs}
            before = sum(seconds[key] for key in done.keys() & seconds.keys())
            progress.initial += before  # made by an earlier call: no part of this one's speed
            progress.update(before)
            for run in _made([job for job in jobs if job.key not in done], plan, processes):
                done[run.key] = run
                write_runs(path, list(done.values()))
                progress.update(seconds[run.key])
                progress.set_postfix_str(f"{run.key}: {run.loss:.3f}")
            return [done[job.key] for job in jobs]

        tuned = make(first)
        runs = tuned + make(grid_jobs(plan, fitted_rate(tuned)))
    write_runs(path, runs)
    return runs


def train_again(key: str, plan: Plan, recorded: Sequence[SweepRun]) -> SweepRun:
    """Trains one recorded row anew."""
    tuned = [run for run in recorded if run.stage == "tune"]
    jobs = {job.key: job for job in [*tuning_jobs(plan), *(grid_jobs(plan, fitted_rate(tuned)) if tuned else [])]}
    if key not in jobs:
        raise ValueError(f"The plan has no run {key!r}; it has {', '.join(jobs)}.")
    return train_job(jobs[key], plan.held_out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where runs.csv goes")
    parser.add_argument("--trial", action="store_true", help="tiny models for a few seconds, to see that all works")
    parser.add_argument("--processes", type=int, default=2, help="runs at a time, each on one thread (2)")
    parser.add_argument("--row", help="train only this row of runs.csv again")
    given = parser.parse_args()
    plan = TRIAL if given.trial else SWEEP
    if given.row:
        recorded = read_runs(given.folder / "runs.csv")
        for run in [*(run for run in recorded if run.key == given.row), train_again(given.row, plan, recorded)]:
            print(",".join(map(str, asdict(run).values())))
    else:
        run_sweep(given.folder, plan, given.processes)


if __name__ == "__main__":
    main()
