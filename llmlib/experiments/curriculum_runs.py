"""Train one small model many times: with curricula, against them, and with none.

    python -m llmlib.experiments.curriculum_runs runs/curriculum

Every run reads the same number of tokens, from stories of three difficulties. A step takes two stories, so a step on
short ones has fewer tokens, and both are recorded; some runs take one story a step, and so twice as many steps. At
moments on the way, the loss is measured on unseen stories of each difficulty. The learning rate is tuned first, on
seeds of its own: for training without a curriculum, and on the same grid with one.

The folder receives `runs.csv`, a line for each moment of each run, `about.json`, and `sample.json`, stories for the
figure. The same command goes on after an interruption, which costs at most the run that it fell into.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from random import Random

import numpy as np
import torch
from tqdm import tqdm

from llmlib.curriculum import CurriculumSampler, Pacing
from llmlib.experiments.curriculum_arms import (
    ARMS,
    FULL,
    KEY,
    LONG_ARMS,
    MEASURED,
    TRIAL,
    Arm,
    Run,
    Scale,
    compared_runs,
    tuning_runs,
)
from llmlib.experiments.curriculum_corpus import (
    DIALS,
    END_OF_TEXT,
    CurriculumCorpus,
    as_documents,
    make_corpus,
    mixed_stories,
    shown_sample,
    train_reference,
    with_noise,
)
from llmlib.experiments.describe_story_model import hardware
from llmlib.model import Transformer
from llmlib.tokenizer import Tokenizer
from llmlib.training import Batch, DocumentBatches, Recipe, Trainer, evaluate

TOKENIZER_SEED, REFERENCE_SEED, HELD_OUT_SEED, CORPUS_SEED = 1, 2, 3, 4  # of the stories; a run's own: the rest


@dataclass(frozen=True)
class PacedRecipe(Recipe):
    """A recipe whose schedule follows the tokens read, not the steps taken: the same for short stories as for long."""

    shares: tuple[float, ...] = ()  # of all tokens, read before each step

    def learning_rate_at(self, step: int) -> float:
        return super().learning_rate_at(self.shares[step] * self.steps)


class PlannedBatches:
    """The batch of step n holds the stories that a plan names for it."""

    def __init__(self, documents: DocumentBatches, plan: list[np.ndarray]) -> None:
        self.documents, self.plan = documents, plan

    def __getitem__(self, n: int) -> Batch:
        return self.documents.batch_of(self.plan[n])


def plan_steps(
    corpus: CurriculumCorpus, arm: Arm, tokens: int, scale: Scale, generator: np.random.Generator
) -> list[np.ndarray]:
    """Which stories each step reads, up to `tokens` of them: the curriculum's clock runs in tokens, too."""
    score = corpus.scores.get(arm.measure, np.zeros(len(corpus.lengths)))
    sampler = CurriculumSampler(-score if arm.hard_first else score)
    pacing = Pacing(arm.pacing, scale.growing * tokens, scale.start)
    size, plan, read = arm.stories, [], 0
    while read < tokens:
        drawn = sampler.draw(pacing.competence(read), size * scale.steps_a_pool, generator, arm.softness)
        steps = drawn[np.argsort(corpus.lengths[drawn], kind="stable")].reshape(-1, size)
        for chosen in generator.permutation(steps):
            if read < tokens:
                plan.append(chosen)
                read += int(corpus.lengths[chosen].sum())
    return plan


class Laboratory:
    """What all runs of one scale share: tokenizer, reference models, unseen stories, and the corpus, clean or noisy."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.corpus, self.reference = cache(self._corpus), cache(self._reference)  # by the share of noise

    @cached_property
    def coder(self) -> Tokenizer:
        texts = (story.text for story in mixed_stories(TOKENIZER_SEED, self.scale.tokenizer_stories))
        return Tokenizer.train(texts, self.scale.size.vocab_size, special_tokens=[END_OF_TEXT])

    def _reference(self, noise: float) -> tuple[Transformer, float]:
        """A reference model learns from stories like those that it will judge, noise included, but not from them."""
        texts = [story.text for story in mixed_stories(REFERENCE_SEED, self.scale.stories // 3)]
        noisy = with_noise(texts, noise, Random(REFERENCE_SEED))
        return train_reference(noisy, self.coder, self.scale.reference, self.scale.reference_steps)

    @cached_property
    def held_out(self) -> dict[str, list[Batch]]:
        """Unseen stories by difficulty."""
        drawn = list(mixed_stories(HELD_OUT_SEED, self.scale.held_out_stories))
        parts = {name: [s.text for s in drawn if s.world.difficulty == dial] for name, dial in DIALS.items()}
        context = self.scale.size.context
        return {name: list(as_documents(texts, self.coder, context, 4 * context)) for name, texts in parts.items()}

    def entropies(self) -> dict[str, float]:
        """The unseen stories' own surprise under the world that wrote them, nats a token, by difficulty."""
        drawn = list(mixed_stories(HELD_OUT_SEED, self.scale.held_out_stories))
        own = {name: -sum(s.log_prob for s in drawn if s.world.difficulty == dial) for name, dial in DIALS.items()}
        return {name: own[name] / sum(batch.tokens for batch in self.held_out[name]) for name in DIALS}

    def _corpus(self, noise: float) -> CurriculumCorpus:
        scale = self.scale
        return make_corpus(CORPUS_SEED, scale.stories, self.coder, scale.size.context, self.reference(noise), noise)

    def tokens(self, arm: Arm) -> int:
        """That a run of this arm reads."""
        share = {"short": self.scale.short, "long": self.scale.long}.get(arm.condition, 1)
        return int(self.scale.tokens * share)

    def train(self, run: Run, follow: Callable[[int], None] = lambda tokens: None) -> list[dict[str, float | str]]:
        """One run, from the seed alone: a record at each moment. `follow` is told the tokens of each step."""
        scale, budget = self.scale, self.tokens(run.arm)
        corpus = self.corpus(scale.noise if run.arm.condition == "noisy" else 0.0)
        plan = plan_steps(corpus, run.arm, budget, scale, np.random.default_rng(run.seed))
        read = np.cumsum([0] + [int(corpus.lengths[chosen].sum()) for chosen in plan])
        flops = [scale.size.train_flops(int(length)) * int(length) for length in corpus.lengths]
        recipe = PacedRecipe(
            len(plan), run.learning_rate, warm_up=len(plan) // 20, shares=tuple((read / budget).tolist())
        )
        model = Transformer(scale.size, torch.Generator().manual_seed(run.seed))
        trainer = Trainer(model, PlannedBatches(corpus.documents, plan), recipe)
        pacing = Pacing(run.arm.pacing, scale.growing * budget, scale.start)
        records, spent, seconds, started = [], 0.0, 0.0, time.perf_counter()
        due = [int(np.searchsorted(read, share * budget)) for share in scale.moments]
        for record in trainer.run():
            spent += sum(flops[document] for document in plan[record.step - 1])
            follow(record.tokens - int(read[record.step - 1]))
            if record.step in due:
                seconds += time.perf_counter() - started  # training alone
                losses = {f"loss_{name}": evaluate(model, batches) for name, batches in self.held_out.items()}
                sizes = [sum(batch.tokens for batch in batches) for batches in self.held_out.values()]
                losses["loss_all"] = float(np.average(list(losses.values()), weights=sizes))
                measured = {"share": scale.moments[due.index(record.step)], "tokens": record.tokens}
                measured |= {"steps": record.step, "flops": f"{spent:.6g}"}
                measured |= {"competence": f"{float(pacing.competence(record.tokens)):.4f}"}
                measured |= {name: f"{loss:.5f}" for name, loss in losses.items()} | {"seconds": f"{seconds:.1f}"}
                records.append(dict(zip(KEY, run.key, strict=True)) | measured)
                started = time.perf_counter()
        return records


def read_runs(path: Path) -> dict[tuple[str, ...], list[dict[str, str]]]:
    """The records of each finished run, by its key; what an interruption cut short is left out."""
    runs: dict[tuple[str, ...], list[dict[str, str]]] = {}
    if path.exists():
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if all(row.get(name) for name in (*KEY, *MEASURED)):
                    runs.setdefault(tuple(row[name] for name in KEY), []).append(row)
    return {key: rows for key, rows in runs.items() if float(rows[-1]["share"]) == 1.0}


def run_all(folder: Path, scale: Scale = FULL) -> None:
    """Makes the runs that `folder` does not hold yet."""
    folder.mkdir(parents=True, exist_ok=True)
    path, laboratory = folder / "runs.csv", Laboratory(scale)
    _write(path, [row for rows in read_runs(path).values() for row in rows])
    compared = len(scale.seeds) * sum(laboratory.tokens(arm) for arm in (*ARMS, *LONG_ARMS))
    with tqdm(unit="tokens", unit_scale=True, smoothing=0.02) as progress:
        for phase, later in (  # what is to be compared is settled by the tuning
            (lambda: tuning_runs(scale), compared),
            (lambda: compared_runs(read_runs(path), scale), 0),
        ):
            todo = [run for run in phase() if run.key not in read_runs(path)]
            progress.total = progress.n + later + sum(laboratory.tokens(run.arm) for run in todo)
            for run in todo:
                progress.set_description(f"{run.purpose} {run.seed}: {run.arm.condition}, {run.arm.name}")
                _append(path, laboratory.train(run, progress.update))
    about = {"date": date.today().isoformat(), "hardware": hardware(), "torch": version("torch")}
    about |= {"scale": asdict(scale), "parameters": scale.size.count_parameters(), "entropies": laboratory.entropies()}
    about["teacher_flops"] = laboratory.corpus(0.0).teacher_flops
    (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    sample = shown_sample(laboratory.corpus(0.0), scale.shown_stories)
    (folder / "sample.json").write_text(json.dumps(sample, ensure_ascii=False) + "\n", "utf-8")


def _write(path: Path, rows: list[dict]) -> None:
    """All at once or not at all."""
    new = path.with_suffix(".new")
    with open(new, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, (*KEY, *MEASURED), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(new, path)


def _append(path: Path, rows: list[dict]) -> None:
    with open(path, "a", newline="", encoding="utf-8") as file:
        csv.DictWriter(file, (*KEY, *MEASURED), lineterminator="\n").writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the records go")
    parser.add_argument("--trial", action="store_true", help="tiny models for a few seconds, to see that all works")
    given = parser.parse_args()
    run_all(given.folder, TRIAL if given.trial else FULL)


if __name__ == "__main__":
    main()
