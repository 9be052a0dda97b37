"""Train one small model with fewer and fewer heads of keys and values, at one size: what does sharing them cost?

    python -m llmlib.experiments.compare_kv_heads

Eight query heads, and 8 (MHA), 2 (GQA) or 1 (MQA) heads of keys and values. What the smaller projections save goes into
the feed-forward network, so that all have the same number of parameters within 0.1%. Each is trained with several
seeds; runs of one seed see the same stories in the same order. Writes `results/kv_heads.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch
from tqdm import tqdm

from llmlib.corpus import stories
from llmlib.model import ModelConfig, Transformer
from llmlib.tokenizer import Tokenizer
from llmlib.training import DocumentBatches, Recipe, StreamBatches, Trainer, token_stream

END_OF_TEXT = "<|endoftext|>"
TRAINING_SEED, HELD_OUT_SEED = 11, 12
RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Plan:
    """What is trained, how, and how often."""

    kv_heads: tuple[int, ...] = (8, 2, 1)
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    recipe: Recipe = Recipe(steps=280, learning_rate=4e-3, warm_up=40, betas=(0.9, 0.98))  # noqa: RUF009 (frozen)
    vocab_size: int = 512
    width: int = 128
    layers: int = 3
    heads: int = 8
    context: int = 320
    rows: int = 16  # windows a step
    window: int = 128  # tokens
    stories: int = 6_000
    held_out_stories: int = 100

    def size(self, kv_heads: int) -> ModelConfig:
        """The model with that many heads of keys and values, and the feed-forward width that makes up for them."""
        shape = {"vocab_size": self.vocab_size, "context": self.context, "width": self.width, "layers": self.layers}
        full = ModelConfig(**shape, heads=self.heads)
        saved = 2 * (self.heads - kv_heads) * full.head_width * self.width  # of keys and values, a layer
        wider = full.feed_forward_width + round(saved / (3 * self.width))
        return ModelConfig(**shape, heads=self.heads, kv_heads=kv_heads, feed_forward_width=wider)


TRIAL = Plan(kv_heads=(2, 1), seeds=(0,), recipe=Recipe(steps=3), width=16, layers=1, heads=2, stories=40, rows=2,
             vocab_size=300, held_out_stories=4)  # fmt: skip


def compare(plan: Plan, progress: bool = True) -> dict:
    """Trains all, and gives each run's loss on held-out stories, in nats per token, with what it was made by."""
    coder = Tokenizer.train(
        (story.text for story in stories(TRAINING_SEED, plan.stories // 4)),
        plan.vocab_size,
        special_tokens=[END_OF_TEXT],
    )
    stream = token_stream((story.text for story in stories(TRAINING_SEED, plan.stories)), coder)
    held_out = token_stream((story.text for story in stories(HELD_OUT_SEED, plan.held_out_stories)), coder)
    end = coder.special_tokens[END_OF_TEXT]
    unseen = list(DocumentBatches(held_out, end, 8192, plan.context))
    runs, started = [], time.process_time()
    for seed in tqdm(plan.seeds, "seeds", disable=not progress):
        for kv_heads in plan.kv_heads:
            config = plan.size(kv_heads)
            model = Transformer(config, torch.Generator().manual_seed(seed))
            batches = StreamBatches(stream, plan.rows, plan.window, seed)
            trainer = Trainer(model, batches, plan.recipe, unseen, max(1, plan.recipe.steps // 8))
            curve = [(r.step, round(r.held_out_loss, 4)) for r in trainer.run() if r.held_out_loss is not None]
            runs.append({"kv_heads": kv_heads, "seed": seed, "held_out": curve})
    sizes = {str(kv_heads): plan.size(kv_heads) for kv_heads in plan.kv_heads}
    return {
        "script": "python -m llmlib.experiments.compare_kv_heads",
        "date": date.today().isoformat(),
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "torch": version("torch"),
        "processor_seconds": round(time.process_time() - started),
        "plan": asdict(plan),
        "training_tokens": plan.recipe.steps * plan.rows * plan.window,
        "held_out_tokens": sum(batch.tokens for batch in unseen),
        "parameters": {name: size.count_parameters() for name, size in sizes.items()},
        "kv_bytes": {name: size.kv_bytes() for name, size in sizes.items()},  # a token, in float32
        "runs": runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where kv_heads.json goes")
    parser.add_argument("--trial", action="store_true", help="a few seconds, to see that all works")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    record = compare(TRIAL if given.trial else Plan())
    (given.folder / "kv_heads.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
