"""The records of the long runs, as the chapters use them."""

import csv
import json
from collections.abc import Iterator
from importlib.resources import files


def _text(name: str) -> str:
    return (files("llmlib") / "experiments" / "results" / name).read_text("utf-8")


def _read(name: str) -> dict:
    return json.loads(_text(name))


def _rows(name: str) -> Iterator[dict[str, str]]:
    return csv.DictReader(_text(name).splitlines())


def scaling_runs() -> list[dict]:
    """Every run of the scaling sweep, a row each, as `scaling_run.SweepRun` names its columns.

    `facts` is a list, nats per fact by octave of the fact's rank: 1, 2-3, 4-7, ...
    """
    words = ("key", "stage", "hardware", "date")
    return [
        {name: value if name in words else _numbers(value) for name, value in row.items()}
        for row in _rows("scaling_sweep.csv")
    ]


def _numbers(text: str) -> int | float | list[float]:
    if " " in text:
        return [float(part) for part in text.split()]
    return int(text) if text.isdigit() else float(text)


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


def draft_model_numbers() -> dict:
    """How the small model that drafts for the book's own was made, and what it loses: see `train_draft_model`."""
    return _read("draft_model.json")


def kv_heads_record() -> dict:
    """Held-out losses of models that differ in their heads of keys and values: see `compare_kv_heads`."""
    return _read("kv_heads.json")


def curriculum_records() -> list[dict]:
    """Every moment of every run of `curriculum_runs`, in the order in which they were made; numbers as numbers."""
    words = ("purpose", "condition", "measure", "pacing")
    counts = ("seed", "stories", "tokens", "steps")
    rows = []
    for row in _rows("curriculum_runs.csv"):
        numbers = {
            name: (int if name in counts else float)(row[name]) for name in row if name not in (*words, "hard_first")
        }
        rows.append({name: row[name] for name in words} | {"hard_first": row["hard_first"] == "True"} | numbers)
    return rows


def curriculum_about() -> dict:
    """How those runs were made: scale, date, hardware, the unseen stories' own entropies, the teacher's FLOPs."""
    return _read("curriculum_about.json")


def curriculum_sample() -> dict:
    """Stories of their corpus with their scores, as the figure Competence takes them."""
    return _read("curriculum_sample.json")
