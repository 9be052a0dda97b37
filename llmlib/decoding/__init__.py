"""From logits to tokens: what may be chosen, one token at a time, several texts side by side, or ahead of the model.

Nothing here knows what a model is: logits come in as tensors, or from a step function.
"""

from llmlib.decoding.beams import BeamStep, Hypothesis, beam_search, wu_penalty
from llmlib.decoding.choosing import (
    NO_TOKEN,
    Choose,
    Sampling,
    greedy,
    min_p,
    repetition_penalty,
    sample,
    temperature,
    top_k,
    top_p,
)
from llmlib.decoding.measures import distinct_share, repeated_share
from llmlib.decoding.speculative import accept_draft, expected_tokens

__all__ = [
    "NO_TOKEN",
    "BeamStep",
    "Choose",
    "Hypothesis",
    "Sampling",
    "accept_draft",
    "beam_search",
    "distinct_share",
    "expected_tokens",
    "greedy",
    "min_p",
    "repeated_share",
    "repetition_penalty",
    "sample",
    "temperature",
    "top_k",
    "top_p",
    "wu_penalty",
]
