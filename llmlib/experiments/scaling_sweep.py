"""Train a grid of small models on the story world, for the chapter on scaling laws.

    python -m llmlib.experiments.scaling_sweep runs/scaling
    python -m llmlib.experiments.scaling_sweep runs/scaling --row grid-94032-1134k-0

Sizes from 13 thousand to 0.9 million parameters, each on several amounts of stories, chosen so that models of
different size meet at the same C = 6ND. Every run is one pass over its stories, with a schedule that ends where they
do. First the learning rate is tuned at three sizes, and a power law in N through the three optima gives it for all.

The folder receives `runs.csv`, one row for each run, written when the run has ended: the same command goes on after an
interruption, and a run that was killed begins anew. `--row` trains one row again and shows it beside the recorded one.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import lru_cache
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from llmlib.corpus import Story, stories
from llmlib.experiments.describe_story_model import hardware
from llmlib.experiments.train_story_model import END_OF_TEXT
from llmlib.model import ModelConfig, Transformer
from llmlib.tokenizer import Tokenizer
from llmlib.training import IGNORED, Batch, Recipe, Trainer, token_losses

VOCABULARY, CONTEXT = 512, 640  # of 100,000 stories, none is longer than the context
TOKENIZER_SEED, TOKENIZER_STORIES, HELD_OUT_SEED, FIRST_SEED = 1, 2_000, 5, 100
OCTAVES = 11  # of facts by rank: 1, 2-3, 4-7, ..., 1024 and beyond


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
    ),
    levels=(5, 5, 5, 4, 4, 3, 3),
    repeated=(3, 3, 3, 2, 1, 0, 0),
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


@dataclass(frozen=True)
class SweepJob:
    """One run to make. `stage`: "tune" (for the learning rate), "grid", or "check" (of the learning rate)."""

    stage: str
    size: ModelConfig
    tokens: int  # to be trained on; the last story is taken whole
    seed: int
    learning_rate: float

    @property
    def key(self) -> str:
        """The row's name. Of the grid's runs the learning rate is no part: it follows from the size."""
        rate = f"-{self.learning_rate:.2g}" if self.stage != "grid" else ""
        return f"{self.stage}-{self.size.count_parameters()}-{self.tokens / 1000:.0f}k-{self.seed}{rate}"

    @property
    def expected_seconds(self) -> float:
        """About how long it takes, for the progress bar and the order."""
        return self.tokens * (2.5e-5 + 3e-10 * self.size.count_parameters())


@dataclass(frozen=True)
class SweepRun:
    """One run that was made, a row of the table. Losses are on stories that no run was trained on, nats per token."""

    key: str
    stage: str
    N: int
    N_without_embedding: int
    D: int
    C: int  # 6ND
    exact_flops: int  # every matrix product, attention included
    width: int
    layers: int
    heads: int
    seed: int
    learning_rate: float
    stories_a_step: int
    steps: int
    loss: float
    excess: float  # loss less what these very stories must cost
    excess_error: float  # standard error over stories
    facts: str  # nats per fact, where a story states it first, by octave of the fact's rank
    seconds: float
    hardware: str
    date: str


@lru_cache(maxsize=1)
def sweep_tokenizer() -> Tokenizer:
    """The tokenizer of all runs: 512 tokens."""
    texts = (story.text for story in stories(TOKENIZER_SEED, TOKENIZER_STORIES))
    return Tokenizer.train(texts, VOCABULARY, special_tokens=[END_OF_TEXT])


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


# One run -----------------------------------------------------------------------------------------------------------


def encoded_stories(texts: Sequence[Story]) -> list[list[int]]:
    """Each story's ids, with END_OF_TEXT before and after it."""
    coder = sweep_tokenizer()
    end = coder.special_tokens[END_OF_TEXT]
    return [[end, *coder.encode(story.text), end] for story in texts]


def story_batch(rows: Sequence[Sequence[int]]) -> Batch:
    """Whole stories as rows, padded to the longest."""
    T = max(map(len, rows)) - 1
    inputs, targets = torch.zeros(len(rows), T, dtype=torch.long), torch.full((len(rows), T), IGNORED)
    for i, row in enumerate(rows):
        inputs[i, : len(row) - 1] = torch.tensor(row[:-1])
        targets[i, : len(row) - 1] = torch.tensor(row[1:])
    return Batch(inputs, targets)


def training_batches(tokens: int, seed: int) -> tuple[list[Batch], int]:
    """The first stories of this seed that hold `tokens` tokens, each once, and how many make a step.

    A step has one story up to half a million tokens, and then as many as the square root of the tokens asks for: small
    budgets need many steps more than they need exact gradients. Stories of like length share a step.
    """
    rows_a_step = max(1, round(math.sqrt(tokens / 250_000)))
    rows, left = [], tokens
    for story in stories(FIRST_SEED + seed):
        (row,) = encoded_stories([story])
        row = row[: CONTEXT + 1]
        rows.append(row)
        left -= len(row) - 1
        if left <= 0:
            break
    pool, batches = 32 * rows_a_step, []
    for start in range(0, len(rows), pool):
        near = sorted(rows[start : start + pool], key=len)
        batches += [near[k : k + rows_a_step] for k in range(0, len(near), rows_a_step)]
    order = np.random.default_rng(seed).permutation(len(batches))
    return [story_batch(batches[k]) for k in order], rows_a_step


@dataclass
class HeldOut:
    """Stories to measure on: what each must cost, and where each states a fact for the first time."""

    batches: list[Batch]
    floors: list[float]  # nats a story, in the batches' order
    spans: list[tuple[int, int, int, int]] = field(default_factory=list)  # story, first token, last + 1, octave


@lru_cache(maxsize=1)
def held_out_set(n: int) -> HeldOut:
    """n stories that no run is trained on, in batches of like length."""
    coder, drawn = sweep_tokenizer(), list(stories(HELD_OUT_SEED, n))
    pairs = sorted(zip(encoded_stories(drawn), drawn, strict=True), key=lambda pair: len(pair[0]))
    pairs = [(row, story) for row, story in pairs if len(row) <= CONTEXT + 1]
    result = HeldOut(
        [story_batch([row for row, _ in pairs[k : k + 8]]) for k in range(0, len(pairs), 8)],
        [-story.log_prob for _, story in pairs],
    )
    for s, (row, story) in enumerate(pairs):
        ends = list(accumulate(len(coder.token_bytes(id_)) for id_ in row[1:-1]))
        for span in story.facts:
            if span.first:
                first = next(k for k, end in enumerate(ends) if end > span.start)
                last = next(k for k, end in enumerate(ends) if end >= span.end)
                result.spans.append((s, first, last + 1, min(OCTAVES, span.fact.rank.bit_length()) - 1))
    return result


def measure_on(model: Transformer, on: HeldOut) -> dict:
    """Loss, excess over the floor and its error (nats per token), and nats per fact by octave of its rank."""
    rows = [row for batch in on.batches for row in token_losses(model, batch).double().numpy()]
    nats, tokens = np.array([row.sum() for row in rows]), sum(batch.tokens for batch in on.batches)
    excess = nats - np.array(on.floors)
    sums, counts = np.zeros(OCTAVES), np.zeros(OCTAVES)
    for story, first, last, octave in on.spans:
        sums[octave] += rows[story][first:last].sum()
        counts[octave] += 1
    with np.errstate(invalid="ignore"):
        facts = " ".join(f"{x:.3f}" for x in sums / counts)
    per_token = len(nats) / tokens
    error = excess.std(ddof=1) / math.sqrt(len(excess)) * per_token
    return {
        "loss": round(nats.sum() / tokens, 5),
        "excess": round(excess.mean() * per_token, 5),
        "excess_error": round(error, 5),
        "facts": facts,
    }


def train_job(job: SweepJob, held_out_stories: int) -> SweepRun:
    """Makes one run, on one thread: the same job gives the same run."""
    torch.set_num_threads(1)
    started, size = time.perf_counter(), job.size
    batches, rows_a_step = training_batches(job.tokens, job.seed)
    model = Transformer(size, torch.Generator().manual_seed(job.seed))
    recipe = Recipe(len(batches), job.learning_rate, warm_up=min(100, len(batches) // 10))
    trainer = Trainer(model, batches, recipe)
    flops = 0.0
    for _ in trainer.run():
        pass
    for batch in batches:
        lengths = (batch.targets != IGNORED).sum(1).tolist()
        flops += sum(size.train_flops(length) * length for length in lengths)
    N, D = size.count_parameters(), trainer.tokens
    model.eval()
    return SweepRun(
        key=job.key, stage=job.stage, N=N, N_without_embedding=size.count_parameters(embeddings=False), D=D,
        C=6 * N * D, exact_flops=round(flops), width=size.width, layers=size.layers, heads=size.heads,
        seed=job.seed, learning_rate=job.learning_rate, stories_a_step=rows_a_step, steps=len(batches),
        **measure_on(model, held_out_set(held_out_stories)),
        seconds=round(time.perf_counter() - started, 1), hardware=hardware(), date=date.today().isoformat(),
    )  # fmt: skip


# The sweep ---------------------------------------------------------------------------------------------------------


def read_runs(path: Path) -> list[SweepRun]:
    """The finished runs; a line that an interruption cut short is left out."""
    if not path.exists():
        return []
    kinds = {"int": int, "float": float, "str": str}
    lines = path.read_text("utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    kind_of = {name: kinds[entry.type] for name, entry in SweepRun.__dataclass_fields__.items()}
    return [SweepRun(**{name: kind_of[name](value) for name, value in row.items()}) for row in csv.DictReader(whole)]


def write_runs(path: Path, runs: Sequence[SweepRun]) -> None:
    """All of the table, in one step: whoever reads it finds the old one or the new one."""
    beside = path.with_name(path.name + ".new")
    with open(beside, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(SweepRun.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(run) for run in runs)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _made(jobs: Sequence[SweepJob], plan: Plan, processes: int) -> Iterator[SweepRun]:
    """The runs as they end: `processes` at a time, each on one thread."""
    if processes == 1:
        yield from (train_job(job, plan.held_out) for job in jobs)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(train_job, job, plan.held_out) for job in jobs]):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


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
            progress.update(sum(seconds[key] for key in done.keys() & seconds.keys()))
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
