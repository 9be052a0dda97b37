"""The long runs that the chapters plot, and their records: `results/NAME.json`, written by the script of that name."""

from llmlib.experiments.results import decoding_numbers, kv_heads_record, story_model_numbers, story_model_run

__all__ = ["decoding_numbers", "kv_heads_record", "story_model_numbers", "story_model_run"]
