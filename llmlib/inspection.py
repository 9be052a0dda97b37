"""What a model looks at, and what it expects next: the numbers behind the figures that open it up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from llmlib.model import Transformer
from llmlib.tokenizer import Tokenizer


@torch.no_grad()
def attention_weights(model: Transformer, ids: Tensor) -> Tensor:
    """How much each position attends to each: (T,) -> (L, H, T, T), every row a distribution over itself and the past.

    The scores are those of Vaswani et al. 2017 (arXiv 1706.03762), equation 1, spelled out; the model's own fast path
    never forms them.
    """
    T, x = ids.numel(), model.embedding(ids.view(1, -1))  # (1, T, C)
    future = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(1)
    weights = []
    for layer in model.layers:
        q, k, _ = layer.attention.project(layer.attention_norm(x), model.rotation[:, :T])
        k = k.repeat_interleave(q.size(1) // k.size(1), dim=1)  # (1, H, T, D)
        scores = q @ k.transpose(2, 3) / math.sqrt(q.size(3))  # (1, H, T, T)
        weights.append(scores.masked_fill(future, -math.inf).softmax(dim=-1)[0])
        x = layer(x, model.rotation[:, :T], None, None)
    return torch.stack(weights)


@dataclass(frozen=True)
class Expectation:
    """What a model expects at one place of a text: the most probable tokens, and the one that really comes next."""

    top: list[tuple[int, float]]  # ids and probabilities, the most probable first
    actual: int | None  # None after the last token
    probability: float | None  # of the actual token; its surprise is -ln of this

    @property
    def surprise(self) -> float | None:
        """Nats."""
        return None if self.probability is None else -math.log(max(self.probability, 1e-45))


@torch.no_grad()
def expectations(model: Transformer, ids: Tensor, k: int = 8) -> list[Expectation]:
    """After each token, what comes next according to the model: (T,) -> T expectations."""
    probabilities = model(ids.view(1, -1))[0].float().softmax(dim=-1)  # (T, V)
    best = probabilities.topk(min(k, probabilities.size(1)))
    following = ids[1:].tolist()
    result = []
    for place in range(ids.numel()):
        top = list(zip(best.indices[place].tolist(), best.values[place].tolist(), strict=True))
        actual = following[place] if place < len(following) else None
        result.append(Expectation(top, actual, None if actual is None else probabilities[place, actual].item()))
    return result


def token_texts(coder: Tokenizer, ids: list[int]) -> list[str]:
    """Each id's own text; a token that is no whole character shows as the replacement character."""
    return [coder.decode([id_]) for id_ in ids]
