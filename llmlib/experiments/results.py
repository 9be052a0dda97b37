"""The records of the long runs, as the chapters use them."""

import json
from importlib.resources import files


def _read(name: str) -> dict:
    return json.loads((files("llmlib") / "experiments" / "results" / name).read_text("utf-8"))


def story_model_numbers() -> dict:
    """What was measured of the book's own model: data, recipe, hardware, date, losses, and its samples' rates."""
    return _read("story_model.json")


def story_model_run() -> dict:
    """The book's own training run, as the figure TrainingReplay takes it."""
    numbers = story_model_numbers()
    return {
        "vocab_size": numbers["config"]["vocab_size"],
        "entropy": numbers["entropy per token"],
        "curve": numbers["curve"] | {"held_out": numbers["held-out curve"]},
    } | _read("story_model_moments.json")


def decoding_numbers() -> dict:
    """Quality and diversity of stories written under many settings, with hardware and date: see `decoding_grid`."""
    return _read("decoding_grid.json")


def kv_heads_record() -> dict:
    """Held-out losses of models that differ in their heads of keys and values: see `compare_kv_heads`."""
    return _read("kv_heads.json")
