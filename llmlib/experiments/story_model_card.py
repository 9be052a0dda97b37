"""The story model's card, in Markdown: `story_model_card.md` with what was measured in its places."""

from __future__ import annotations

from pathlib import Path


def card(numbers: dict) -> str:
    """The model card, in Markdown: `story_model_card.md` with the numbers in their places."""
    judged = numbers["samples"]
    n = next(iter(judged.values()))["stories"]
    head = f"| over {n:,} samples | " + " | ".join(f"temperature {t}" for t in judged) + " |"
    names = [name for name in next(iter(judged.values())) if name != "stories"]
    rows = [f"| {name} | " + " | ".join(f"{100 * j[name]:.1f} %" for j in judged.values()) + " |" for name in names]
    first = numbers.get("went on from")
    runs = [first, numbers] if first else [numbers]
    return (
        (Path(__file__).parent / "story_model_card.md")
        .read_text("utf-8")
        .format(
            numbers=numbers,
            held=numbers["held out"],
            config=numbers["config"],
            story_seeds=" and ".join(str(run["seeds"]["stories"]) for run in runs),
            tokens_a_parameter=numbers["tokens"] / numbers["parameters"],
            runs="\n".join(_run_rows(run) for run in runs),
            rounding=_rounding(numbers),
            remarks=" ".join(run["remark"] for run in runs if run["remark"]),
            table="\n".join([head, "| --- " * (1 + len(judged)) + "|", *rows]),
            ten_stories="\n".join(f"{i}. {text or '(not ended)'}" for i, text in enumerate(numbers["ten stories"])),
            commands="\n".join(_commands(run, run is not runs[0]) for run in runs),
        )
    )


def _rounding(numbers: dict) -> str:
    """The card's sentence on the weights' 16 bits; empty where the run's own weights were not there to compare."""
    if "rounding" not in numbers:
        return ""
    cost, size = numbers["rounding"], numbers["parameters"]
    return (
        f"\nThe {size:,} weights are shipped in 16 bits (float16, {2 * size / 1e6:.2f} MB), rounded from 32. "
        f"On the same {cost['stories']:,} stories, rounding changes the loss by "
        f"{1e6 * cost['difference']:+.1f} ± {1e6 * cost['standard error']:.1f} millionths of a nat per token (paired, "
        "one standard error). A page reads these 16 bits and computes with them in 32: there, nothing more is lost.\n"
    )


def _run_rows(run: dict) -> str:
    """The card's rows on one run, whose optimiser began anew."""
    recipe, hours, processes = run["recipe"], run["hours"], run["processes"]
    before = run["steps"] - recipe["steps"]
    made_by = f"{processes} processes" if processes > 1 else "one process"
    return "\n".join(
        [
            f"| steps {before + 1:,} to {run['steps']:,} | AdamW, peak learning rate {recipe['learning_rate']}, "
            f"{recipe['warm_up']} steps of warm-up, cosine to {recipe['last_learning_rate']:.0%} of it, betas "
            f"{tuple(recipe['betas'])}, weight decay {recipe['weight_decay']}, gradients clipped at "
            f"{recipe['clip_norm']} |",
            f"| hardware | {made_by} on {run['hardware']}, {hours:.1f} hours, other work beside it; "
            f"torch {run['torch']}; {run['date']} |",
        ]
    )


def _commands(run: dict, further: bool) -> str:
    """The lines that make one run again."""
    many = run["processes"] > 1
    launcher = f"torchrun --standalone --nproc-per-node {run['processes']} -m" if many else "python -m"
    folder, flags = ("runs/further", " --after runs/story") if further else ("runs/story", "")
    flags += " --distributed" if many else ""
    return (
        f"{launcher} llmlib.experiments.train_story_model {folder}{flags}\n"
        f"python -m llmlib.experiments.describe_story_model {folder}{' --further' if further else ''}"
    )
