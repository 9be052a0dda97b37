"""Train the book's own model on the story world.

    python -m llmlib.experiments.train_story_model runs/story
    torchrun --standalone --nproc-per-node 2 -m llmlib.experiments.train_story_model runs/story --distributed

The folder receives the model (`config.json`, `model.safetensors`, `tokenizer.json`), a record of every step
(`records.csv`), the weights at the moments of MOMENTS (`moments/`), and what a run resumes from: call the command again
to go on after an interruption. Stories are drawn as they are needed, and none is seen twice.
"""

from __future__ import annotations

import argparse
import csv
import os
from dataclasses import asdict, fields, replace
from pathlib import Path

import torch
import torch.distributed as dist
from tqdm import tqdm

from llmlib import checkpoints
from llmlib.corpus import stories
from llmlib.model import ModelConfig, Transformer
from llmlib.tokenizer import Tokenizer
from llmlib.training import DocumentBatches, Recipe, StepRecord, Trainer, best_precision, token_stream

END_OF_TEXT = "<|endoftext|>"
SIZE = ModelConfig(vocab_size=2048, context=384, width=128, layers=5, heads=4, kv_heads=2)
RECIPE = Recipe(steps=12_800, learning_rate=4e-3, warm_up=200, betas=(0.9, 0.98))
TOKENS_A_STEP = 4096  # with padding; 3.7 thousand without
TRAINING_SEED, HELD_OUT_SEED, WEIGHTS_SEED = 1, 2, 0
STORIES_FOR_TOKENIZER, HELD_OUT_STORIES = 20_000, 300
TOKENS_A_STORY = 155  # at least, on average: decides how many stories to draw
MOMENTS = (0, 10, 30, 100, 200, 400, 800, 1600, 3200, 6400, 12_800)


def make_tokenizer() -> Tokenizer:
    """The book's tokenizer for stories."""
    texts = (story.text for story in stories(TRAINING_SEED, STORIES_FOR_TOKENIZER))
    return Tokenizer.train(texts, SIZE.vocab_size, special_tokens=[END_OF_TEXT])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the model and its records go")
    parser.add_argument("--steps", type=int, default=RECIPE.steps)
    parser.add_argument("--distributed", action="store_true", help="one of torchrun's processes, each with its share")
    parser.add_argument("--compile", action="store_true", help="compile the model first: for long runs on a GPU")
    train(**vars(parser.parse_args()))


def train(folder: Path, steps: int, distributed: bool, compile: bool) -> None:
    cuda = torch.cuda.is_available()
    group = None
    if distributed:
        dist.init_process_group("nccl" if cuda else "gloo")
        group = dist.group.WORLD
    rank = dist.get_rank() if distributed else 0
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")

    coder = make_tokenizer()
    n_stories = steps * TOKENS_A_STEP // TOKENS_A_STORY + STORIES_FOR_TOKENIZER
    drawn = tqdm(stories(TRAINING_SEED, n_stories), "drawing stories", n_stories, unit="stories", disable=rank > 0)
    stream = token_stream((story.text for story in drawn), coder)
    held_out = token_stream((story.text for story in stories(HELD_OUT_SEED, HELD_OUT_STORIES)), coder)

    end = coder.special_tokens[END_OF_TEXT]
    batches = DocumentBatches(stream, end, TOKENS_A_STEP, SIZE.context)
    held_out_batches = list(DocumentBatches(held_out, end, 4 * TOKENS_A_STEP, SIZE.context))
    model = Transformer(SIZE, torch.Generator().manual_seed(WEIGHTS_SEED)).to(device)
    recipe = replace(RECIPE, steps=steps, precision=best_precision(device))
    trainer = Trainer(model, batches, recipe, held_out_batches, evaluate_every=steps // 40, group=group)
    if compile:
        trainer.loss_sum = torch.compile(trainer.loss_sum, dynamic=True)
    state = folder / "training.safetensors"
    if state.exists():
        checkpoints.resume_training(trainer, state)

    records = []
    progress = tqdm(trainer.run(), "training", steps, initial=trainer.step, unit="steps", disable=rank > 0)
    if rank == 0 and trainer.step == 0:
        checkpoints.save(model, folder / "moments" / "0", dtype=torch.float16)
    for record in progress:
        if rank > 0:
            continue
        records.append(record)
        if record.step % 20 == 0:
            progress.set_postfix(loss=f"{record.loss:.3f}", held_out=f"{_last_held_out(records):.3f}", refresh=False)
        if record.step in MOMENTS:
            checkpoints.save(model, folder / "moments" / str(record.step), dtype=torch.float16)
        if record.step % 250 == 0 or record.step == steps:
            checkpoints.save_training(trainer, state)
            _append(folder / "records.csv", records)
            records.clear()
    if rank == 0:
        checkpoints.save(model, folder, coder, torch.float16)
    if distributed:
        dist.destroy_process_group()


def _last_held_out(records: list[StepRecord]) -> float:
    return next((r.held_out_loss for r in reversed(records) if r.held_out_loss is not None), float("nan"))


def _append(path: Path, records: list[StepRecord]) -> None:
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(StepRecord)])
        if new:
            writer.writeheader()
        writer.writerows(asdict(record) for record in records)


if __name__ == "__main__":
    main()
