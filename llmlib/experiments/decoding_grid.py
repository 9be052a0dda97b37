"""Quality against diversity: stories that the book's model writes under many settings, judged by the grammar.

    python -m llmlib.experiments.decoding_grid

Writes `results/decoding_grid.json`, in about ten minutes on one core. Each setting writes STORIES stories with each
of SEEDS; the parser says how many are stories in form (`grammatical`) and right in every respect (`valid`), and
`distinct` is the share of different runs of four words among the first WORDS words of a seed's stories. The world's own
stories are measured in the same way.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path

import torch
from tqdm import tqdm

from llmlib import checkpoints
from llmlib.corpus import StoryWorld, stories
from llmlib.decoding import Sampling, distinct_share
from llmlib.experiments.describe_story_model import hardware
from llmlib.experiments.train_story_model import END_OF_TEXT
from llmlib.generation import generate
from llmlib.model import Transformer
from llmlib.tokenizer import Tokenizer

SEEDS, STORIES, WORDS = (0, 1, 2), 100, 8_000
SETTINGS = (
    *(Sampling(temperature=tau) for tau in (0.3, 0.5, 0.7, 0.85, 1.0, 1.15, 1.3)),
    *(Sampling(top_p=p) for p in (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)),
    *(Sampling(top_k=k) for k in (2, 5, 10, 30)),
    *(Sampling(min_p=p) for p in (0.02, 0.05, 0.1, 0.2, 0.4)),
    *(Sampling(1.5, **step) for step in ({}, {"top_p": 0.9}, {"min_p": 0.1})),
)
CROSS = tuple(  # with the settings above, four temperatures times top-p 0.8, 0.9 and 1
    Sampling(tau, top_p=p) for tau, p in ((0.5, 0.8), (0.5, 0.9), (0.85, 0.8), (0.85, 0.9), (1.5, 0.8))
)
RECORD = Path(__file__).resolve().parent / "results" / "decoding_grid.json"


def written_stories(model: Transformer, coder: Tokenizer, choose: Sampling, n: int, seed: int) -> list[str]:
    """n texts that begin where a story begins; one that does not end stops where the context does."""
    end, generator = coder.special_tokens[END_OF_TEXT], torch.Generator().manual_seed(seed)
    texts = generate(model, [[end]] * n, model.config.context, choose, stop={end}, generator=generator)
    return [coder.decode(text.tokens) for text in texts]


def quality_and_diversity(texts: Sequence[str], world: StoryWorld, words: int = WORDS) -> dict[str, float]:
    """What the parser says of some texts, and how different they are: shares, see the module."""
    reports = [world.check(text) for text in texts]
    kept, left = [], words
    for text in texts:
        kept.append(text.split()[:left])
        left -= len(kept[-1])
    return {
        "grammatical": sum(report.grammatical for report in reports) / len(texts),
        "valid": sum(report.valid for report in reports) / len(texts),
        "distinct": round(distinct_share(kept), 5),
        "words counted": words - left,
    }


def measure_settings(
    settings: Sequence[Sampling] = SETTINGS + CROSS, n: int = STORIES, seeds: Sequence[int] = SEEDS
) -> dict:
    """All of it, as it is recorded."""
    model, coder = checkpoints.load(checkpoints.STORY_MODEL)
    world, start, rows = StoryWorld(), time.perf_counter(), []
    writers: list[tuple[dict, Callable[[int], list[str]]]] = [
        (asdict(each), lambda seed, each=each: written_stories(model, coder, each, n, seed)) for each in settings
    ]
    writers.append(({"world": True}, lambda seed: [story.text for story in stories(1000 + seed, n)]))
    for setting, write in tqdm(writers, "settings"):
        rows += [setting | {"seed": seed} | quality_and_diversity(write(seed), world) for seed in seeds]
    return {
        "script": "llmlib.experiments.decoding_grid",
        "date": date.today().isoformat(),
        "hardware": f"1 of {hardware()}, torch {torch.__version__}",
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "stories a seed": n,
        "words": WORDS,
        "rows": rows,
    }


if __name__ == "__main__":
    RECORD.write_text(json.dumps(measure_settings(), indent=1) + "\n", encoding="utf-8")
