"""What a model loses on stories that it has not seen: beside the world's own price, and for 16 bits a weight."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from tqdm import tqdm

from llmlib.corpus import Story
from llmlib.experiments.train_story_model import END_OF_TEXT
from llmlib.model import Transformer
from llmlib.tokenizer import Tokenizer
from llmlib.training import Batch, token_losses


@torch.no_grad()
def story_losses(model: Transformer, coder: Tokenizer, tests: Sequence[Story]) -> list[tuple[float, float, int]]:
    """Of each story that fits the context: the model's loss and the story's own price in nats, and its tokens.

    About one story in two thousand is too long.
    """
    end, rows = coder.special_tokens[END_OF_TEXT], []
    for story in tqdm(tests, "held-out stories"):
        ids = torch.tensor([end, *coder.encode(story.text), end])
        if len(ids) - 1 <= model.config.context:
            nats = token_losses(model, Batch(ids[None, :-1], ids[None, 1:])).double().sum().item()
            rows.append((nats, -story.log_prob, len(ids) - 1))
    return rows


def held_out_losses(model: Transformer, coder: Tokenizer, tests: Sequence[Story]) -> dict[str, float]:
    """Loss on stories that the model has not seen, against what those very stories must cost: nats per token.

    The excess is an unbiased estimate of the KL divergence from the world to the model; its error is that of the mean
    over stories.
    """
    rows = story_losses(model, coder, tests)
    tokens = sum(n for _, _, n in rows)
    excess, error = _per_token([nats - floor for nats, floor, _ in rows], tokens)
    return {
        "stories": len(rows),
        "tokens": tokens,
        "loss": sum(nats for nats, _, _ in rows) / tokens,
        "floor of these stories": sum(floor for _, floor, _ in rows) / tokens,
        "excess": excess,
        "standard error of the excess": error,
    }


def loss_of_rounding(
    exact: Transformer, rounded: Transformer, coder: Tokenizer, tests: Sequence[Story]
) -> dict[str, float]:
    """How much more the rounded model loses, in nats per token, story by story: a paired difference and its error."""
    before, after = story_losses(exact, coder, tests), story_losses(rounded, coder, tests)
    tokens = sum(n for _, _, n in before)
    difference, error = _per_token([b[0] - a[0] for a, b in zip(before, after, strict=True)], tokens)
    return {
        "stories": len(before),
        "tokens": tokens,
        "exact loss": sum(nats for nats, _, _ in before) / tokens,
        "difference": difference,
        "standard error": error,
    }


def _per_token(values: Sequence[float], tokens: int) -> tuple[float, float]:
    """The sum of one value per story over the tokens of all, and its standard error over stories."""
    n, mean = len(values), sum(values) / len(values)
    error = math.sqrt(sum((x - mean) ** 2 for x in values) / (n - 1) / n)
    return mean * n / tokens, error * n / tokens
