"""Train the book's own model on a mesh of processes: replicas of it, each cut over some processes.

Four processes on one machine, as 2 replicas of a model that is cut over 2 processes each:

    torchrun --standalone --nproc-per-node 4 -m llmlib.experiments.train_on_mesh runs/mesh --tensor 2

The same on two machines, with the same command on both, where HOST is the first one's name:

    torchrun --nnodes 2 --nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint HOST:29400 --rdzv-id book \\
        -m llmlib.experiments.train_on_mesh runs/mesh --tensor 2

The first process fills the folder with the model and a record of each step. Whatever the mesh, the steps are those of
one process. Processes of one replica exchange the most, so they are neighbours: on one machine, if it has enough.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from tqdm import tqdm

from llmlib import checkpoints
from llmlib.corpus import stories
from llmlib.experiments.train_story_model import (
    END_OF_TEXT,
    STORY,
    TRAINING_SEED,
    TRIAL,
    WEIGHTS_SEED,
    Plan,
    make_tokenizer,
)
from llmlib.model import Transformer
from llmlib.parallel import (
    OverlappedAverage,
    clip_split_gradients,
    gathered_weights,
    joined,
    shard_transformer,
    split_loss_sum,
)
from llmlib.training import Batches, DocumentBatches, parameter_groups, token_stream


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the model and its records go")
    parser.add_argument("--tensor", type=int, default=2, help="processes over which a model is cut")
    parser.add_argument("--trial", action="store_true", help="a tiny model for a few seconds, to see that all works")
    given = parser.parse_args()
    with joined() as device:
        train_on_mesh(given.folder, TRIAL if given.trial else STORY, given.tensor, device)


def train_on_mesh(folder: Path, plan: Plan, tensor: int, device: torch.device) -> None:
    """Trains as planned, together with all other processes; the first fills `folder`.

    Raises ValueError if the processes cannot be arranged as replicas of `tensor` processes each.
    """
    processes = dist.get_world_size()
    if tensor < 1 or processes % tensor:
        raise ValueError(
            f"{processes} processes cannot be arranged as models cut over {tensor} each; "
            f"start a multiple of {max(tensor, 1)}, or give another --tensor."
        )
    mesh = dist.init_device_mesh(device.type, (processes // tensor, tensor), mesh_dim_names=("data", "tensor"))
    first = dist.get_rank() == 0
    coder = make_tokenizer(plan)
    drawn = tqdm(stories(TRAINING_SEED, plan.stories), "drawing", plan.stories, unit="stories", disable=not first)
    stream = token_stream((story.text for story in drawn), coder)
    batches = DocumentBatches(stream, coder.special_tokens[END_OF_TEXT], plan.tokens_a_step, plan.size.context)
    model = Transformer(plan.size, torch.Generator().manual_seed(WEIGHTS_SEED)).to(device)
    shard_transformer(model, mesh.get_group("tensor"))
    steps = mesh_steps(model, plan, batches, mesh, device)
    losses = list(tqdm(steps, "training", plan.recipe.steps, unit="steps", disable=not first))
    weights = gathered_weights(model)
    if first:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "records.csv", "w", newline="") as file:
            csv.writer(file).writerows([("step", "loss"), *enumerate(losses, start=1)])
        whole = Transformer(plan.size)
        if plan.size.tied:
            weights["head.weight"] = weights["embedding.weight"]
        whole.load_state_dict(weights)
        checkpoints.save(whole, folder, coder, torch.float16)


def mesh_steps(model: Transformer, plan: Plan, batches: Batches, mesh, device: torch.device) -> Iterator[float]:
    """The loss of each step, nats per token: a replica takes its rows, a process its part of the replica's model."""
    recipe, replicas, parts = plan.recipe, mesh.get_group("data"), mesh.get_group("tensor")
    rank, count = dist.get_rank(replicas), dist.get_world_size(replicas)
    groups = parameter_groups(model, recipe.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas)
    average = OverlappedAverage(model.parameters(), group=replicas)
    for step in range(recipe.steps):
        batch = batches[step]
        share, total = batch.rows(rank, count).to(device), torch.zeros((), dtype=torch.float64, device=device)
        optimizer.zero_grad()
        if share.tokens:  # all processes of a replica have the same share
            loss = split_loss_sum(model, share) / batch.tokens
            (loss * count).backward()  # times the number of replicas, since gradients are averaged
            total += loss.detach()
        average.finish()
        clip_split_gradients(model, recipe.clip_norm, parts)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(step)
        optimizer.step()
        dist.all_reduce(total, group=replicas)
        yield total.item()


if __name__ == "__main__":
    main()
