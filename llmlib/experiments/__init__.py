"""The long runs that the chapters plot, and their records in `results`, each written by the script of its name."""

from llmlib.experiments.results import (
    curriculum_about,
    curriculum_records,
    curriculum_sample,
    decoding_numbers,
    draft_model_numbers,
    kv_heads_record,
    scaling_runs,
    story_model_numbers,
    story_model_run,
)

__all__ = [
    "curriculum_about",
    "curriculum_records",
    "curriculum_sample",
    "decoding_numbers",
    "draft_model_numbers",
    "kv_heads_record",
    "scaling_runs",
    "story_model_numbers",
    "story_model_run",
]
