"""Curriculum learning: how difficult a text is, how fast the window of easy ones grows, and what is drawn when."""

from llmlib.curriculum.difficulty import (
    difficulty_cdf,
    shuffled_ties,
    text_lengths,
    text_rarities,
    word_surprises,
)
from llmlib.curriculum.pacing import PACINGS, Pacing, linear_competence, power_competence, step_competence
from llmlib.curriculum.sampling import CurriculumSampler
from llmlib.curriculum.weights import checked_distribution, curriculum_distribution, window_weights

__all__ = [
    "PACINGS",
    "CurriculumSampler",
    "Pacing",
    "checked_distribution",
    "curriculum_distribution",
    "difficulty_cdf",
    "linear_competence",
    "power_competence",
    "shuffled_ties",
    "step_competence",
    "text_lengths",
    "text_rarities",
    "window_weights",
    "word_surprises",
]
