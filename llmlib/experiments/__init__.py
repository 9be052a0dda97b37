"""The long runs that the chapters plot, and their records: `results/NAME.json`, written by the script of that name."""

from llmlib.experiments.results import (
    curriculum_about,
    curriculum_records,
    curriculum_sample,
    decoding_numbers,
    story_model_numbers,
    story_model_run,
)

__all__ = [
    "curriculum_about",
    "curriculum_records",
    "curriculum_sample",
    "decoding_numbers",
    "story_model_numbers",
    "story_model_run",
]
