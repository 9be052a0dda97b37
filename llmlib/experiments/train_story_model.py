"""Train the book's own model on the story world.

    python -m llmlib.experiments.train_story_model runs/story
    torchrun --standalone --nproc-per-node 2 -m llmlib.experiments.train_story_model runs/story --distributed
    python -m llmlib.experiments.train_story_model runs/further --after runs/story

The third command goes on from the model that the first or the second made, on new stories: the book's model is the
result. The folder receives the model (`config.json`, `model.safetensors`, `tokenizer.json`), a record of every step
(`records.csv`), the weights at some moments on the way (`moments/`), and what a run resumes from: the same command goes
on after an interruption. Stories are drawn as they are needed, and none is seen twice.
"""

from __future__ import annotations

import argparse
import csv
import os
from dataclasses import asdict, dataclass, fields, replace
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
TRAINING_SEED, FURTHER_SEED, HELD_OUT_SEED, WEIGHTS_SEED = 1, 8, 2, 0


@dataclass(frozen=True)
class Plan:
    """A model and how it is trained on stories."""

    size: ModelConfig
    recipe: Recipe
    stories: int  # to draw from: more than the steps use, so that none is seen twice
    tokens_a_step: int  # with padding; about a tenth less without
    moments: tuple[int, ...]  # steps after which the weights are kept
    tokenizer_stories: int
    held_out_stories: int  # for the loss that is watched on the way
    story_seed: int = TRAINING_SEED


STORY = Plan(
    size=ModelConfig(vocab_size=2048, context=384, width=128, layers=5, heads=4, kv_heads=2),
    recipe=Recipe(steps=9_000, learning_rate=4e-3, warm_up=200, betas=(0.9, 0.98)),
    stories=358_250,
    tokens_a_step=4096,
    moments=(0, 10, 30, 100, 200, 400, 800, 1600, 3200, 6400, 9_000),
    tokenizer_stories=20_000,
    held_out_stories=300,
)
FURTHER = replace(  # from the model that STORY made, with fresh moments of the optimiser and a lower peak
    STORY,
    recipe=Recipe(steps=6_000, learning_rate=2e-3, last_learning_rate=0.01, warm_up=100, betas=(0.9, 0.98)),
    stories=240_000,
    moments=(6_000,),
    story_seed=FURTHER_SEED,
)
TRIAL = Plan(
    size=ModelConfig(vocab_size=512, context=512, width=32, layers=2, heads=2),
    recipe=Recipe(steps=20, learning_rate=1e-2, warm_up=5),
    stories=800,
    tokens_a_step=1024,
    moments=(0, 20),
    tokenizer_stories=200,
    held_out_stories=10,
)


def make_tokenizer(plan: Plan = STORY) -> Tokenizer:
    """The plan's tokenizer, trained on the first stories that the model will see."""
    texts = (story.text for story in stories(TRAINING_SEED, plan.tokenizer_stories))
    return Tokenizer.train(texts, plan.size.vocab_size, special_tokens=[END_OF_TEXT])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the model and its records go")
    parser.add_argument("--trial", action="store_true", help="a tiny model for a few seconds, to see that all works")
    parser.add_argument("--after", type=Path, help="go on from the finished model in this folder, on new stories")
    parser.add_argument("--distributed", action="store_true", help="one of torchrun's processes, each with its share")
    parser.add_argument("--compile", action="store_true", help="compile the model first: for long runs on a GPU")
    given = parser.parse_args()
    plan = TRIAL if given.trial else FURTHER if given.after else STORY
    train(given.folder, plan, given.distributed, given.compile, given.after)


def train(
    folder: Path, plan: Plan = STORY, distributed: bool = False, compile: bool = False, after: Path | None = None
) -> None:
    """Trains as planned and fills `folder`; goes on where an earlier call stopped.

    It begins with the weights of the model in the folder `after`, or without one with random weights.
    """
    cuda = torch.cuda.is_available()
    group = None
    if distributed:
        dist.init_process_group("nccl" if cuda else "gloo")
        group = dist.group.WORLD
    rank = dist.get_rank() if distributed else 0
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")

    steps, coder = plan.recipe.steps, make_tokenizer(plan)
    drawn = tqdm(stories(plan.story_seed, plan.stories), "drawing", plan.stories, unit="stories", disable=rank > 0)
    stream = token_stream((story.text for story in drawn), coder)
    held_out = token_stream((story.text for story in stories(HELD_OUT_SEED, plan.held_out_stories)), coder)

    end = coder.special_tokens[END_OF_TEXT]
    batches = DocumentBatches(stream, end, plan.tokens_a_step, plan.size.context)
    held_out_batches = list(DocumentBatches(held_out, end, 4 * plan.tokens_a_step, plan.size.context))
    if after is None:
        model = Transformer(plan.size, torch.Generator().manual_seed(WEIGHTS_SEED)).to(device)
    else:
        model = checkpoints.load_model(after).to(device)
    recipe = replace(plan.recipe, precision=best_precision(device))
    trainer = Trainer(model, batches, recipe, held_out_batches, evaluate_every=max(1, steps // 40), group=group)
    if compile:
        trainer.loss_sum = torch.compile(trainer.loss_sum, dynamic=True)
    state, log = folder / "training.safetensors", folder / "records.csv"
    if state.exists():
        checkpoints.resume_training(trainer, state)
    if rank == 0:
        _follow(trainer, folder, plan, state, log)
        checkpoints.save(model, folder, coder, torch.float16)
    else:
        for _ in trainer.run():
            pass
    if distributed:
        dist.destroy_process_group()


def _follow(trainer: Trainer, folder: Path, plan: Plan, state: Path, log: Path) -> None:
    """Runs the training, shows how far it has come, and keeps what it learns, also when it is interrupted."""
    records, held_out = [], float("nan")
    folder.mkdir(parents=True, exist_ok=True)
    _forget_after(log, trainer.step)
    if trainer.step == 0 and 0 in plan.moments:
        checkpoints.save(trainer.model, folder / "moments" / "0", dtype=torch.float16)
    progress = tqdm(trainer.run(), "training", plan.recipe.steps, initial=trainer.step, unit="steps")
    try:
        for record in progress:
            records.append(record)
            held_out = held_out if record.held_out_loss is None else record.held_out_loss
            progress.set_postfix(loss=f"{record.loss:.3f}", held_out=f"{held_out:.3f}", refresh=False)
            if record.step in plan.moments:
                checkpoints.save(trainer.model, folder / "moments" / str(record.step), dtype=torch.float16)
            if record.step % 250 == 0:
                _append(log, records)
                checkpoints.save_training(trainer, state)
                records.clear()
    finally:
        _append(log, records)
        checkpoints.save_training(trainer, state)


def _forget_after(log: Path, step: int) -> None:
    """Drops records of steps that were taken after the state was saved: they are about to be taken again."""
    if log.exists():
        lines = log.read_text().splitlines(keepends=True)
        log.write_text("".join(line for line in lines if not line[0].isdigit() or int(line.split(",")[0]) <= step))


def _append(path: Path, records: list[StepRecord]) -> None:
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(StepRecord)])
        if new:
            writer.writeheader()
        writer.writerows(asdict(record) for record in records)


if __name__ == "__main__":
    main()
