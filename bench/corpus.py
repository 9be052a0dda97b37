"""Speed and exact figures of `llmlib.corpus`: python bench/corpus.py [--write]. One core, best of several rounds.

Sampling, parsing and checking take turns on the same stories, so that a busy machine disturbs all alike; the best round
is the least disturbed. `--quick` takes fewer stories; `--write` keeps the figures in bench/results/corpus.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import records

from llmlib.corpus import StoryWorld, find_ambiguity, python_docs, python_source
from llmlib.corpus.stories import WORD


def seconds(work) -> float:
    """Process time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def speeds(world: StoryWorld, n: int, rounds: int) -> dict[str, float]:
    """The best of several rounds of: writing n stories, parsing and checking a part of them."""
    stories = list(world.stories(seed=0, n=n))
    size = sum(len(story.text) for story in stories)
    few = stories[: n // 10]
    best = {"sample": float("inf"), "parse": float("inf"), "check": float("inf"), "facts": float("inf")}
    for _ in range(rounds):
        fresh = list(world.stories(seed=1, n=len(few)))
        for name, work in {
            "sample": lambda: [None for _ in world.stories(seed=0, n=n)],
            "parse": lambda: [world.parse(story.text) for story in few],
            "check": lambda: [world.check(story.text) for story in few],
            "facts": lambda fresh=fresh: [story.facts for story in fresh],
        }.items():
            best[name] = min(best[name], seconds(work))
    return {
        "sampling_mb_per_s": size / best["sample"] / 1e6,
        "sampling_stories_per_s": n / best["sample"],
        "parsing_stories_per_s": len(few) / best["parse"],
        "checking_stories_per_s": len(few) / best["check"],
        "facts_stories_per_s": len(few) / best["facts"],
    }


def exact(difficulty: float, n: int) -> dict[str, float]:
    """What is known exactly of the world at one difficulty, and what n stories look like."""
    world = StoryWorld(difficulty)
    nats, chars = world.entropy(), world.grammar.expect(len)
    words = world.grammar.expect(lambda piece: len(WORD.findall(piece)))
    stories = list(world.stories(seed=0, n=n))
    lengths = sorted(story.length for story in stories)
    return {
        "difficulty": difficulty,
        "nats_per_story": nats,
        "nats_per_word": nats / words,
        "nats_per_char": nats / chars,
        "words_per_story": words,
        "chars_per_story": chars,
        "median_words": lengths[n // 2],
        "words_5_to_95_percent": [lengths[n // 20], lengths[-n // 20]],
        "mean_depth": statistics.mean(story.depth for story in stories),
        "mean_rarity": statistics.mean(story.rarity for story in stories),
        "word_types_seen": len({word.lower() for story in stories for word in WORD.findall(story.text)}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer stories, fewer rounds")
    parser.add_argument("--write", action="store_true", help="keep the figures in bench/results/corpus.json")
    asked = parser.parse_args()
    n, rounds = (1000, 2) if asked.quick else (4000, 5)

    world = StoryWorld()
    figures = {
        "speed": speeds(world, n, rounds),
        "start_up_s": seconds(StoryWorld),
        "entropy_s": seconds(lambda: StoryWorld().entropy()),
        "proof_of_unambiguity_s": seconds(lambda: find_ambiguity(world.grammar)),
        "python_docs_s": seconds(python_docs.__wrapped__),
        "python_docs_mb": len(python_docs().encode()) / 1e6,
        "python_source_mb": len(python_source().encode()) / 1e6,
        "word_types": len(world.vocabulary),
        "alternatives": sum(len(lines) for lines in world.rules.values()),
        "characters": len(world.characters),
        "facts": len(world.facts),
        "worlds": [exact(difficulty, n) for difficulty in (0.0, 0.25, 0.5, 0.75, 1.0)],
    }
    print(json.dumps(figures, indent=1))
    if asked.write:
        records.write("corpus", figures)


if __name__ == "__main__":
    main()
