"""Train a small model that drafts for the book's own: one layer, a twelfth of its parameters, the same tokenizer.

    python -m llmlib.experiments.train_draft_model runs/draft

The folder receives what `train_story_model` writes, a run resumes from it, and the finished model goes to
`llmlib/draft_model`, without a tokenizer, since a draft has that of the model it drafts for. How it was made stands in
`results/draft_model.json`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import date
from pathlib import Path

import torch

from llmlib import checkpoints
from llmlib.corpus import stories
from llmlib.experiments.describe_story_model import RESULTS, TEST_SEED, hardware, read_records
from llmlib.experiments.held_out import held_out_losses
from llmlib.experiments.train_story_model import WEIGHTS_SEED, Plan, train
from llmlib.model import ModelConfig
from llmlib.training import Recipe

DRAFT = Plan(
    size=ModelConfig(
        vocab_size=2048, context=384, width=40, layers=1, heads=2, kv_heads=1, head_width=20, feed_forward_width=96
    ),
    recipe=Recipe(steps=1_600, learning_rate=1e-2, warm_up=50, betas=(0.9, 0.98)),
    stories=24_000,
    tokens_a_step=2048,
    moments=(),
    tokenizer_stories=20_000,
    held_out_stories=20,
)


def ship(
    folder: Path, plan: Plan = DRAFT, tests: int = 200, results: Path = RESULTS, shipped: Path | None = None
) -> dict:
    """Measures the model that was trained in `folder`, stores it in 16 bits, and returns and records its numbers."""
    shipped = checkpoints.DRAFT_MODEL if shipped is None else shipped
    model, coder = checkpoints.load(folder)
    records = read_records(folder / "records.csv")
    numbers = {
        "script": "llmlib.experiments.train_draft_model",
        "date": date.today().isoformat(),
        "hardware": f"1 of {hardware()}, torch {torch.__version__}",
        "config": asdict(plan.size),
        "parameters": plan.size.count_parameters(),
        "recipe": asdict(plan.recipe),
        "seeds": {"stories": plan.story_seed, "weights": WEIGHTS_SEED, "test stories": TEST_SEED},
        "steps": int(records[-1]["step"]),
        "tokens": int(records[-1]["tokens"]),
        "held out": held_out_losses(model, coder, list(stories(TEST_SEED, tests))),
    }
    checkpoints.save(model, shipped, dtype=torch.float16)
    (results / "draft_model.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    return numbers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the model and its records go")
    given = parser.parse_args()
    train(given.folder, DRAFT)
    ship(given.folder)


if __name__ == "__main__":
    main()
