"""One run of the scaling sweep: which, on what, and what is measured; and the table of those that were made."""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch

from llmlib.corpus import Story, stories
from llmlib.experiments.describe_story_model import hardware
from llmlib.experiments.train_story_model import END_OF_TEXT
from llmlib.model import ModelConfig, Transformer
from llmlib.tokenizer import Tokenizer
from llmlib.training import IGNORED, Batch, Recipe, Trainer, token_losses

VOCABULARY, CONTEXT = 512, 640  # one story in thousands is longer, and loses its end
TOKENIZER_SEED, TOKENIZER_STORIES, HELD_OUT_SEED, FIRST_SEED = 1, 2_000, 5, 100
OCTAVES = 11  # of facts by rank: 1, 2-3, 4-7, ..., 1024 and beyond


@dataclass(frozen=True)
class SweepJob:
    """One run to make. `stage`: "tune" (for the learning rate), "grid", or "check" (of the learning rate)."""

    stage: str
    size: ModelConfig
    tokens: int  # to be trained on; the last story is taken whole
    seed: int
    learning_rate: float
    stories_a_step: int = 1

    @property
    def key(self) -> str:
        """The row's name. Of the grid's runs the learning rate is no part: it follows from the size."""
        rate = f"-{self.learning_rate:.2g}" if self.stage != "grid" else ""
        return f"{self.stage}-{self.size.count_parameters()}-{self.tokens / 1000:.0f}k-{self.seed}{rate}"

    @property
    def expected_seconds(self) -> float:
        """About how long it takes, for the progress bar and the order."""
        return self.tokens * (6e-5 + 1.1e-10 * self.size.count_parameters())


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


def training_batches(tokens: int, seed: int, rows_a_step: int = 1) -> list[Batch]:
    """The first stories of this seed that hold `tokens` tokens, each once; those of one step are of like length."""
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
    return [story_batch(batches[k]) for k in order]


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
    batches = training_batches(job.tokens, job.seed, job.stories_a_step)
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
        seed=job.seed, learning_rate=job.learning_rate, stories_a_step=job.stories_a_step, steps=len(batches),
        **measure_on(model, held_out_set(held_out_stories)),
        seconds=round(time.perf_counter() - started, 1), hardware=hardware(), date=date.today().isoformat(),
    )  # fmt: skip


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
