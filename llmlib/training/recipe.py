"""How to train: the numbers of a run, its schedule, and what the optimiser may decay."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Recipe:
    """How to train. A step's gradient is that of the mean loss over the tokens of `accumulate` batches."""

    steps: int
    learning_rate: float = 3e-3  # at its peak
    warm_up: int = 100  # steps of linear rise before it
    last_learning_rate: float = 0.05  # as a share of the peak, where the cosine ends
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0  # a longer gradient is scaled down to this length
    accumulate: int = 1
    precision: str = "float32"  # or "bfloat16": products in 16 bits, weights and sums in 32

    def __post_init__(self) -> None:
        for name, least in {"steps": 1, "warm_up": 0, "accumulate": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be at least {least}.")
        if not self.learning_rate > 0 or not self.clip_norm > 0:
            raise ValueError(
                f"learning_rate is {self.learning_rate} and clip_norm {self.clip_norm}; both have to be above 0."
            )
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision is {self.precision!r}; choose 'float32' or 'bfloat16'.")

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine down to the last learning rate (Loshchilov & Hutter 2016, equation 5).

        >>> recipe = Recipe(steps=110, learning_rate=1.0, warm_up=10, last_learning_rate=0.0)
        >>> [round(recipe.learning_rate_at(step), 2) for step in (0, 4, 9, 10, 60, 110)]
        [0.1, 0.5, 1.0, 1.0, 0.5, 0.0]
        """
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        progress = min(1.0, (step - self.warm_up) / max(1, self.steps - self.warm_up))
        share = self.last_learning_rate + (1 - self.last_learning_rate) * (1 + math.cos(math.pi * progress)) / 2
        return self.learning_rate * share


def best_precision(device: torch.device | str = "cpu") -> str:
    """The precision in which this device trains fastest: 16 bits where it multiplies them in hardware."""
    if torch.device(device).type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if torch.cpu._is_amx_tile_supported() else "float32"


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict]:
    """What AdamW decays, and what it leaves alone: norms, and the embedding, whose rare rows would only ever shrink."""
    embedding = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    decayed, kept = [], []
    for parameter in model.parameters():
        (decayed if parameter.dim() >= 2 and id(parameter) not in embedding else kept).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
