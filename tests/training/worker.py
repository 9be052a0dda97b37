"""One of several processes that train together: python worker.py RANK SIZE FOLDER; and `train`, for one alone."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from llmlib.model import ModelConfig, Transformer
from llmlib.training import IGNORED, Batch, Recipe, Trainer

STEPS = 20


def batches():
    """Of 1 to 5 rows: one process of two gets fewer than the other, or none; the last row is mostly padding."""
    random, result = torch.Generator().manual_seed(0), []
    for n in range(STEPS):
        ids = torch.randint(17, (n % 5 + 1, 7), generator=random)
        batch = Batch(ids[:, :-1], ids[:, 1:].clone())
        batch.targets[-1, 2:] = IGNORED
        result.append(batch)
    return result


def train(group=None):
    """Losses, gradient norms and weights of a small run."""
    model = Transformer(ModelConfig(17, 8, 16, 2, 2), torch.Generator().manual_seed(1))
    trainer = Trainer(model, batches(), Recipe(STEPS, learning_rate=1e-2, warm_up=5), group=group)
    records = list(trainer.run())
    numbers = torch.tensor([[r.loss, r.gradient_norm, r.tokens] for r in records])
    return {"numbers": numbers} | {name: weight.detach() for name, weight in model.named_parameters()}


if __name__ == "__main__":
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=size)
    # head.weight is the embedding's tensor, and named_parameters names it once
    save_file({name: tensor.contiguous() for name, tensor in train(dist.group.WORLD).items()}, folder / f"{rank}.st")
    dist.destroy_process_group()
