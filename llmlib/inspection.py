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
    Raises ValueError for no token, or for more than the model's context.
    """
    if not 1 <= ids.numel() <= model.config.context:
        raise ValueError(
            f"The text has {ids.numel()} tokens, and the model's context is {model.config.context}; "
            f"give from 1 to {model.config.context}."
        )
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


@dataclass(frozen=True)
class ForwardTrace:
    """What the last token of a text meets on its way through a model."""

    embedding: Tensor  # (C,), with which it begins
    streams: Tensor  # (L, C), its residual stream after each layer
    attention: Tensor  # (L, H, T), where each head looks
    attended: Tensor  # (L,), the length of what attention added to the stream
    fed: Tensor  # (L,), and of what the feed-forward network added
    logits: (
        Tensor  # (L, V), what each layer's stream would say if it were the last; the last row is what the model says
    )


@torch.no_grad()
def trace_forward(model: Transformer, ids: Tensor) -> ForwardTrace:
    """The way of a text's last token through the model: (T,) -> ForwardTrace.

    That a stream can be read before the last layer, by the last norm and the output layer, is the logit lens
    (nostalgebraist 2020).
    """
    table = model.rotation[:, : ids.numel()]
    x = model.embedding(ids.view(1, -1))  # (1, T, C)
    embedding, streams, attended, fed = x[0, -1], [], [], []
    for layer in model.layers:
        between = x + layer.attention(layer.attention_norm(x), table, None, None)
        attended.append((between - x)[0, -1].norm())
        x = between + layer.feed_forward(layer.feed_forward_norm(between))
        fed.append((x - between)[0, -1].norm())
        streams.append(x[0, -1])
    streams = torch.stack(streams)
    attention = attention_weights(model, ids)[:, :, -1]
    return ForwardTrace(
        embedding, streams, attention, torch.stack(attended), torch.stack(fed), model.head(model.norm(streams))
    )


def record_writing(model: Transformer, coder: Tokenizer, prompt: str, n: int = 6, listed: int = 10) -> dict:
    """What a model does to write n tokens after a prompt, the most probable each time, as data for a figure.

    {"prompt": ..., "ids": [the first special token, then the prompt's], "tokens": [their texts], "vocab_size": V,
    "rounds": [{"embedding": ..., "layers": [...], "top": [[id, text, logit, probability], ...]}, ...]}, the numbers of
    a stream as {"most": the largest, "values": whole numbers from -99 to 99, as shares of it}.
    """
    ids = [*list(coder.special_tokens.values())[:1], *coder.encode(prompt)]
    record = {"prompt": prompt, "ids": list(ids), "tokens": token_texts(coder, ids)}
    rounds = []
    for _ in range(n):
        trace = trace_forward(model, torch.tensor(ids))
        chances = trace.logits.float().softmax(dim=-1)  # (L, V)
        order = trace.logits[-1].argsort(descending=True, stable=True)[:listed].tolist()
        best = chances.argmax(dim=-1).tolist()
        layers = [
            {
                "attention": (1000 * trace.attention[n]).round().int().tolist(),
                "stream": _scaled(trace.streams[n]),
                "attended": _digits(trace.attended[n]),
                "fed": _digits(trace.fed[n]),
                "says": [coder.decode([best[n]]), _digits(chances[n, best[n]])],
            }
            for n in range(len(best))
        ]
        top = [[id_, coder.decode([id_]), _digits(trace.logits[-1, id_]), _digits(chances[-1, id_])] for id_ in order]
        rounds.append({"embedding": _scaled(trace.embedding), "layers": layers, "top": top})
        ids.append(order[0])
    return {**record, "vocab_size": model.config.vocab_size, "rounds": rounds}


def _scaled(numbers: Tensor) -> dict:
    most = float(numbers.abs().max())
    return {"most": _digits(numbers.abs().max()), "values": (99 * numbers / (most or 1)).round().int().tolist()}


def _digits(number: Tensor) -> float:
    return float(f"{float(number):.4g}")
