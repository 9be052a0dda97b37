"""Speed of `llmlib.curriculum`: python bench/curriculum.py [--quick] [--write]. One core, best of several rounds.

Batches are drawn from 10 million documents, with hard and soft windows, beside numpy's own `choice` with the same
weights. `--quick` takes fewer documents; `--write` keeps the figures in bench/results/curriculum.json.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import records
import numpy as np

from llmlib.curriculum import CurriculumSampler, Pacing, curriculum_distribution, window_weights

BATCH = 4096
LIMIT = 1e-6  # seconds a draw


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Processor time of one call, the best of several."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def measure(n: int, rounds: int) -> dict:
    scores = np.random.default_rng(0).random(n)
    dice = np.random.default_rng(1)
    start = time.process_time()
    sampler = CurriculumSampler(scores)
    built = time.process_time() - start
    tied = CurriculumSampler((scores * (n // 2)).astype(np.int32))
    schedule = Pacing("root", 100, 0.01).competence(np.linspace(0, 100, BATCH))
    draws = {
        "a batch at one competence": lambda: sampler.draw(0.37, BATCH, dice),
        "with a soft window": lambda: sampler.draw(0.37, BATCH, dice, softness=0.1),
        "a competence for each draw": lambda: sampler.draw(schedule, BATCH, dice),
        "the same, where scores tie (bisection)": lambda: tied.draw(schedule, BATCH, dice),
        "the same, with a soft window": lambda: tied.draw(schedule, BATCH, dice, softness=0.1),
    }
    rows = [{"what": what, "seconds": seconds(work, 20 * rounds) / BATCH} for what, work in draws.items()]
    weights = curriculum_distribution(window_weights(sampler.difficulties(), 0.37))
    slow = seconds(lambda: dice.choice(n, BATCH, p=weights), max(1, rounds // 3)) / BATCH
    return {
        "documents": n,
        "batch": BATCH,
        "limit": LIMIT,
        "rows": rows,
        "choice_seconds": slow,
        "sorting_seconds": built,
        "bytes": sampler.nbytes,
        "bytes_with_ties": tied.nbytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the documents")
    parser.add_argument("--write", action="store_true", help="keep the figures in bench/results")
    given = parser.parse_args()
    found = measure(100_000 if given.quick else 10_000_000, 3 if given.quick else 10)
    for row in found["rows"]:
        print(f"{row['what']:40} {1e9 * row['seconds']:8.0f} ns a draw")
    print(f"{'numpy.random.Generator.choice':40} {1e9 * found['choice_seconds']:8.0f} ns a draw")
    print(f"sorting {found['sorting_seconds']:.1f} s; {found['bytes'] / found['documents']:.0f} bytes a document, "
          f"{found['bytes_with_ties'] / found['documents']:.1f} with ties")  # fmt: skip
    if given.write:
        records.write("curriculum", found)


if __name__ == "__main__":
    main()
