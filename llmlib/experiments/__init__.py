"""The long runs that the chapters plot, and their records in `results`, each written by the script of its name."""

from llmlib.experiments.results import decoding_numbers, scaling_runs, story_model_numbers, story_model_run

__all__ = ["decoding_numbers", "scaling_runs", "story_model_numbers", "story_model_run"]
