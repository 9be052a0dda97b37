"""Measure the book's own model, write its card, and ship it: run after `train_story_model`.

    python -m llmlib.experiments.describe_story_model runs/story
    python -m llmlib.experiments.describe_story_model runs/further --further

The second command is for a run that went on from the model that the first one described. Copies the model into
`llmlib/story_model` with its card (README.md), and writes what the chapters plot into `llmlib/experiments/results`:
`story_model.json` (the run's curve and every measured number) and `story_model_moments.json` (what the model expected,
and wrote, at moments along its training).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import torch
from tqdm import tqdm

from llmlib import checkpoints
from llmlib.checkpoints import files
from llmlib.corpus import StoryWorld, stories
from llmlib.decoding import Sampling
from llmlib.experiments.held_out import held_out_losses, loss_of_rounding
from llmlib.experiments.story_model_card import card
from llmlib.experiments.train_story_model import END_OF_TEXT, FURTHER, STORY, TRAINING_SEED, WEIGHTS_SEED, Plan
from llmlib.generation import generate
from llmlib.inspection import expectations, token_texts
from llmlib.model import Transformer
from llmlib.tokenizer import Tokenizer
from llmlib.training import token_stream

PACKAGE = Path(__file__).resolve().parents[1]
RESULTS = PACKAGE / "experiments" / "results"
SHIPPED = PACKAGE / "story_model"
TEST_SEED, TEST_STORIES = 3, 2_000  # stories that neither training nor its monitor has seen
SAMPLES, SAMPLES_AT_ONCE = 1_000, 250
WAYS = {
    "1.0": Sampling(),
    "0.8": Sampling(0.8),
    "0.5": Sampling(0.5),
    "1.0, top-p 0.9": Sampling(top_p=0.9),
}  # by temperature, as the card names them
PROMPTS_SEED, PROMPTS, PROMPT_TOKENS = 4, 3, 26
MOMENT_TOKENS, MOMENT_STORIES = 120, 100


def write_stories(
    model: Transformer, coder: Tokenizer, n: int, seed: int, choose: Sampling = WAYS["1.0"]
) -> list[str | None]:
    """n stories by the model; None for one that had not ended where the context did."""
    end, generator = coder.special_tokens[END_OF_TEXT], torch.Generator().manual_seed(seed)
    texts = generate(model, [[end]] * n, model.config.context, choose, stop={end}, generator=generator)
    return [coder.decode(text.tokens) if text.reason == "stop" else None for text in texts]


def judge(texts: Sequence[str | None], world: StoryWorld) -> dict[str, float]:
    """Shares of the texts that are right in each respect, by the grammar's own parser."""
    reports = [world.check(text or "") for text in texts]
    facts = [recall.ok for report in reports for recall in report.facts]
    references = [recall.ok for report in reports for recall in report.references]
    return {
        "stories": len(texts),
        "grammatical": sum(report.grammatical for report in reports) / len(texts),
        "right in every respect": sum(report.valid for report in reports) / len(texts),
        "ended": sum(text is not None for text in texts) / len(texts),
        "ended as a story ends": sum(report.ends for report in reports) / len(texts),
        "attributes right": sum(facts) / max(1, len(facts)),
        "references right": sum(references) / max(1, len(references)),
        "different": len({text for text in texts if text}) / len(texts),
    }


def entropy_per_token(world: StoryWorld, coder: Tokenizer, n: int = 20_000) -> float:
    """The world's exact entropy, nats a story, over the mean number of tokens of n stories (the end counts as one)."""
    end_too = token_stream((story.text for story in stories(TRAINING_SEED, n)), coder)
    return world.entropy() / ((len(end_too) - 1) / n)


def moment(model: Transformer, coder: Tokenizer, prompts: Sequence[Sequence[int]], seed: int = 0) -> dict:
    """What a model expects along some prompts, and a story it writes: as the figure TrainingReplay shows it."""
    end = coder.special_tokens[END_OF_TEXT]
    generator = torch.Generator().manual_seed(seed)
    (written,) = generate(model, [[end]], MOMENT_TOKENS, Sampling(), stop={end}, generator=generator)
    predictions = []
    for prompt in prompts:
        texts = []
        for place in expectations(model, torch.tensor(prompt), k=6):
            names = token_texts(coder, [id_ for id_, _ in place.top])
            top = [[name, _digits(p)] for name, (_, p) in zip(names, place.top, strict=True)]
            texts.append({"top": top, "actual": None if place.probability is None else _digits(place.probability)})
        predictions.append(texts)
    return {"sample": coder.decode(written.tokens), "predictions": predictions}


def _digits(p: float) -> float:
    return float(f"{p:.3g}")


def replay_prompts(coder: Tokenizer) -> list[list[int]]:
    """The beginnings of some unseen stories, each after END_OF_TEXT."""
    end = coder.special_tokens[END_OF_TEXT]
    return [[end, *coder.encode(story.text)][:PROMPT_TOKENS] for story in stories(PROMPTS_SEED, PROMPTS)]


def read_records(path: Path) -> list[dict[str, float]]:
    with open(path, newline="") as file:
        return [{key: float(value) for key, value in row.items() if value != ""} for row in csv.DictReader(file)]


def thinned(records: list[dict[str, float]], points: int = 160) -> list[dict[str, float]]:
    """About as many records as a plot over a logarithmic axis can show; losses are means over what is left out."""
    before, last = round(records[0]["step"]) - 1, round(records[-1]["step"])
    edges = {round(last ** (i / points)) for i in range(points + 1)}
    result = []
    for start, end in pairwise(sorted({edge for edge in edges if edge > before} | {before, last})):
        group = records[start - before : end - before]
        mean = {key: sum(r[key] for r in group) / len(group) for key in ("loss", "gradient_norm")}
        result.append({"step": int(group[-1]["step"]), "tokens": int(group[-1]["tokens"])} | mean)
    return result


def hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores of {name}"


def describe(
    folder: Path,
    processes: int = 1,
    remark: str = "",
    further: bool = False,
    plan: Plan | None = None,
    samples: int = SAMPLES,
    tests: int = TEST_STORIES,
    results: Path = RESULTS,
    shipped: Path = SHIPPED,
) -> dict:
    """Measures the model that was trained in `folder`, writes records and card, and returns the numbers.

    With `further`, the run went on from the model that `results` describes: that run's records come before its own.
    Raises ValueError where `results` describes a run that itself went on.
    """
    first = _first_run(results) if further else None
    plan = plan or (FURTHER if further else STORY)
    model, coder = checkpoints.load(folder)
    model.eval()
    world, records, unseen = StoryWorld(), read_records(folder / "records.csv"), list(stories(TEST_SEED, tests))
    entropy = entropy_per_token(world, coder)
    held_out = held_out_losses(model, coder, unseen)
    exact = unrounded(folder, model)

    judged = {}
    for name, choose in WAYS.items():
        texts = []
        for seed in tqdm(range(-(-samples // SAMPLES_AT_ONCE)), f"stories at temperature {name}"):
            texts += write_stories(model, coder, min(samples, SAMPLES_AT_ONCE), seed, choose)
        judged[name] = judge(texts, world)
    ten = [write_stories(model, coder, 1, seed)[0] for seed in range(10)]

    prompts = replay_prompts(coder)
    moments = []
    steps_before, tokens_before = (first["steps"], first["tokens"]) if first else (0, 0)
    for path in sorted((folder / "moments").iterdir(), key=lambda path: int(path.name)):
        step = int(path.name)
        record = records[max(step - 1, 0)]
        earlier = checkpoints.load_model(path)
        held = held_out_losses(earlier, coder, unseen[:MOMENT_STORIES])["loss"]
        tokens = int(record["tokens"]) if step else 0
        moments.append(
            {"step": steps_before + step, "tokens": tokens_before + tokens, "loss": round(record["loss"], 4)}
            | {"held_out": round(held, 4)}
            | {"gradient_norm": round(record["gradient_norm"], 4)}
            | moment(earlier, coder, prompts)
        )
    alone = _steps_alone(records)
    for record in records:
        record["step"] += steps_before
        record["tokens"] += tokens_before
    points = thinned(records)
    curve = {
        key: [_digits(r[key]) if key in ("loss", "gradient_norm") else r[key] for r in points] for key in points[0]
    }
    watched = [[int(r["step"]), round(r["held_out_loss"], 4)] for r in records if "held_out_loss" in r]
    numbers = {
        "date": date.today().isoformat(),
        "hardware": hardware(),
        "processes": processes,
        "remark": remark,
        "torch": version("torch"),
        "config": asdict(plan.size),
        "parameters": plan.size.count_parameters(),
        "recipe": asdict(plan.recipe),
        "tokens a step, with padding": plan.tokens_a_step,
        "seeds": {"stories": plan.story_seed, "weights": WEIGHTS_SEED, "test stories": TEST_SEED},
        "steps": int(records[-1]["step"]),
        "tokens": int(records[-1]["tokens"]),
        "hours": sum(r["tokens"] / r["tokens_per_second"] for r in alone) / 3600,
        "entropy per token": entropy,
        "held out": held_out,
        "samples": judged,
        "ten stories": ten,
        "curve": curve,
        "held-out curve": watched,
    }
    if exact is not None:
        numbers["rounding"] = loss_of_rounding(exact, model, coder, unseen)
    if first:
        numbers["went on from"] = first["run"]
        numbers["curve"] = {key: first["curve"][key] + values for key, values in curve.items()}
        numbers["held-out curve"] = first["held-out curve"] + watched
        moments = first["moments"] + moments
    replay = {"prompts": [{"tokens": token_texts(coder, prompt)} for prompt in prompts], "moments": moments}
    results.mkdir(parents=True, exist_ok=True)
    (results / "story_model.json").write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (results / "story_model_moments.json").write_text(json.dumps(replay, ensure_ascii=False) + "\n", "utf-8")
    checkpoints.save(model, shipped, coder, torch.float16)
    (shipped / "README.md").write_text(card(numbers), "utf-8")
    return numbers


def unrounded(folder: Path, model: Transformer) -> Transformer | None:
    """The trained model before it was rounded to 16 bits, from the run's last state.

    None where the folder holds no state, or one whose weights are not those of `model` once they are rounded.
    """
    state = folder / "training.safetensors"
    if not state.exists():
        return None
    weights, exact = files.read(state)[0], Transformer(model.config)
    with torch.no_grad():
        for name, parameter in exact.named_parameters():
            parameter.copy_(weights[f"model.{name}"])
    pairs = zip(exact.parameters(), model.parameters(), strict=True)
    return exact.eval() if all(torch.equal(a.half(), b.half()) for a, b in pairs) else None


def _first_run(results: Path) -> dict:
    """What `results` tells of the run whose model another run went on from."""
    numbers = json.loads((results / "story_model.json").read_text("utf-8"))
    if "went on from" in numbers:
        raise ValueError(
            f"{results} describes a run that itself went on from another; describe the first one again, "
            "without --further, and then this one."
        )
    about = ("date", "hardware", "processes", "remark", "torch", "recipe", "seeds", "steps", "tokens", "hours")
    moments = json.loads((results / "story_model_moments.json").read_text("utf-8"))["moments"]
    kept = {key: numbers[key] for key in ("steps", "tokens", "curve", "held-out curve")}
    return kept | {"run": {key: numbers[key] for key in about}, "moments": moments}


def _steps_alone(records: list[dict[str, float]]) -> list[dict[str, float]]:
    """Each step's own tokens, from the running count."""
    before, steps = 0.0, []
    for record in records:
        steps.append({"tokens": record["tokens"] - before, "tokens_per_second": record["tokens_per_second"]})
        before = record["tokens"]
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what train_story_model wrote")
    parser.add_argument("--processes", type=int, default=1, help="that it was trained with")
    parser.add_argument("--further", action="store_true", help="it went on from the model described last")
    parser.add_argument("--remark", default="", help="a sentence for the card on how this run differs from the plan")
    describe(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
