"""What the curriculum runs learn from: stories of three difficulties, scored; clean, or with noise among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch

from llmlib.corpus import Story, stories
from llmlib.curriculum import text_lengths, text_rarities
from llmlib.model import ModelConfig, Transformer
from llmlib.tokenizer import Tokenizer
from llmlib.training import DocumentBatches, Recipe, Trainer, token_losses, token_stream

END_OF_TEXT = "<|endoftext|>"
DIALS = {"easy": 0.0, "medium": 0.5, "hard": 1.0}  # the story world's own difficulty, a third of the stories each


UNITS = {"length": "words", "rarity": "nats a word", "perplexity": "of a small model", "depth": "levels of nesting"}
SHOWN_CHARACTERS = 260


@dataclass(frozen=True)
class CurriculumCorpus:
    """Stories as training takes them, and each one's difficulty by every measure."""

    texts: list[str]
    documents: DocumentBatches
    scores: dict[str, np.ndarray]  # by measure, (n,) each, higher is harder
    teacher_flops: float  # for the reference model: its training, and its reading of all stories

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each story, its end included: (n,)."""
        return self.documents.lengths


def mixed_stories(seed: int, n: int) -> Iterator[Story]:
    """n stories, one of each difficulty in turn.

    >>> [story.world.difficulty for story in mixed_stories(seed=0, n=4)]
    [0.0, 0.5, 1.0, 0.0]
    """
    sources = [stories(len(DIALS) * seed + i, difficulty=dial) for i, dial in enumerate(DIALS.values())]
    return (next(sources[i % len(sources)]) for i in range(n))


def with_noise(texts: Sequence[str], share: float, random: Random) -> list[str]:
    """The texts, of which about this share have their words in random order.

    >>> with_noise(["one two three four"], 1.0, Random(1))
    ['one two four three']
    """
    return [
        " ".join(random.sample(w := text.split(" "), len(w))) if random.random() < share else text for text in texts
    ]


def as_documents(texts: Sequence[str], coder: Tokenizer, context: int, tokens: int, seed: int = 0) -> DocumentBatches:
    """Texts as whole documents, `tokens` of them a batch."""
    return DocumentBatches(token_stream(texts, coder), coder.special_tokens[END_OF_TEXT], tokens, context, seed)


def train_reference(texts: Sequence[str], coder: Tokenizer, size: ModelConfig, steps: int) -> tuple[Transformer, float]:
    """The small model whose surprise is a measure of difficulty, and the FLOPs of its training."""
    documents = as_documents(texts, coder, size.context, tokens=size.context)
    model = Transformer(size, torch.Generator().manual_seed(0))
    recipe = Recipe(steps=steps, learning_rate=1e-2, warm_up=steps // 20)
    tokens = [record.tokens for record in Trainer(model, documents, recipe).run()][-1]
    return model, tokens * size.train_flops(int(documents.lengths.mean()))


@torch.no_grad()
def mean_surprises(model: Transformer, documents: DocumentBatches, pool: int = 32) -> np.ndarray:
    """Nats a token of each document under a model, the log of its perplexity: (n,)."""
    surprises = np.empty(len(documents.lengths))
    order = np.argsort(documents.lengths, kind="stable")
    for first in range(0, len(order), pool):
        chosen = order[first : first + pool]
        losses = token_losses(model, documents.batch_of(chosen))  # (B, T), 0 on padding
        surprises[chosen] = losses.double().sum(1).numpy() / documents.lengths[chosen]
    return surprises


def make_corpus(
    seed: int, n: int, coder: Tokenizer, context: int, reference: tuple[Transformer, float], noise: float = 0.0
) -> CurriculumCorpus:
    """n stories of their own for a seed, scored. A story's depth and dial are the world's own knowledge."""
    drawn = list(mixed_stories(seed, n))
    texts = with_noise([story.text for story in drawn], noise, Random(seed))
    documents = as_documents(texts, coder, context, tokens=context)
    model, training_flops = reference
    scores = {
        "length": text_lengths(texts),
        "rarity": text_rarities(texts, mean=True),
        "perplexity": mean_surprises(model, documents),
        "depth": np.array([story.depth for story in drawn]),
        "dial": np.array([story.world.difficulty for story in drawn]),
        "random": np.random.default_rng(seed).random(n),
    }
    reading_flops = sum(model.config.forward_flops(int(length)) * int(length) for length in documents.lengths)
    return CurriculumCorpus(texts, documents, scores, training_flops + reading_flops)


def shown_sample(corpus: CurriculumCorpus, n: int) -> dict:
    """The first n stories with their scores, as the figure Competence takes them; long stories are cut."""

    def cut(text: str) -> str:
        return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS].rsplit(" ", 1)[0] + " …"

    scores = {name: corpus.scores[name][:n] for name in UNITS} | {"perplexity": np.exp(corpus.scores["perplexity"][:n])}
    measures = [
        {"name": name, "unit": unit, "scores": [float(f"{score:.4g}") for score in scores[name]]}
        for name, unit in UNITS.items()
    ]
    return {"texts": [cut(text) for text in corpus.texts[:n]], "measures": measures}
