"""Which runs the curriculum experiment makes: the arms, their scale, and the queue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np

from llmlib.experiments.curriculum_corpus import DIALS
from llmlib.model import ModelConfig


@dataclass(frozen=True)
class Arm:
    """A way to train: in which condition, on which difficulty, in which order, how paced."""

    condition: str  # clean or noisy; short and long have fewer and more tokens
    measure: str = "none"
    pacing: str = "all"
    hard_first: bool = False
    softness: float = 0.0
    stories: int = 2  # a step

    @property
    def name(self) -> str:
        """>>> Arm("clean", "length", "root", hard_first=True).name
        'length, root, hard first'
        """
        parts = ["uniform"] if self.pacing == "all" else [self.measure, self.pacing]
        parts += ["hard first" * self.hard_first, "soft" * (self.softness > 0), "one a step" * (self.stories == 1)]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Run:
    """An arm with its learning rate and seed; `purpose` is "tune" or "test"."""

    purpose: str
    seed: int
    arm: Arm
    learning_rate: float

    @property
    def key(self) -> tuple[str, ...]:
        """By which a record knows its run, as text."""
        parts = (self.purpose, self.seed, *asdict(self.arm).values(), f"{self.learning_rate:g}")
        return tuple(str(part) for part in parts)


KEY = ("purpose", "seed", *(field.name for field in fields(Arm)), "learning_rate")
MEASURED = (
    "share",
    "tokens",
    "steps",
    "flops",
    "competence",
    *(f"loss_{part}" for part in DIALS),
    "loss_all",
    "seconds",
)


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    size: ModelConfig
    reference: ModelConfig
    reference_steps: int
    stories: int  # in the corpus
    tokenizer_stories: int
    held_out_stories: int  # of all difficulties together
    tokens: int  # that a run reads
    learning_rates: tuple[float, ...]
    tuning_seeds: tuple[int, ...]
    seeds: tuple[int, ...]
    moments: tuple[float, ...] = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0)  # shares of the tokens
    steps_a_pool: int = 8  # among whose stories like lengths are put together, so that little is padded
    growing: float = 0.5  # T, as a share of the tokens
    start: float = 0.01  # c0
    noise: float = 0.3  # share of the stories, in the noisy condition
    shown_stories: int = 240  # in the figure Competence
    short: float = 0.4  # share of the tokens, in the short condition
    long: float = 3.0  # and in the long one


FULL = Scale(
    size=ModelConfig(vocab_size=512, context=1024, width=32, layers=1, heads=2),
    reference=ModelConfig(vocab_size=512, context=1024, width=16, layers=1, heads=1),
    reference_steps=300,
    stories=3_000,
    tokenizer_stories=2_000,
    held_out_stories=90,
    tokens=320_000,
    learning_rates=(2.5e-3, 5e-3, 1e-2, 2e-2),
    tuning_seeds=(90, 91),
    seeds=(0, 1, 2, 3, 4),
)
TRIAL = Scale(
    size=ModelConfig(vocab_size=300, context=1024, width=8, layers=1, heads=1),
    reference=ModelConfig(vocab_size=300, context=1024, width=8, layers=1, heads=1),
    reference_steps=3,
    stories=60,
    tokenizer_stories=30,
    held_out_stories=6,
    tokens=12_000,
    learning_rates=(1e-2, 2e-2),
    tuning_seeds=(90,),
    seeds=(0,),
    moments=(0.5, 1.0),
)

MEASURES = ("length", "rarity", "perplexity", "depth")
ARMS = (  # first those that the chapter cannot do without, so that the end of each seed is the least missed
    Arm("clean"),
    *(Arm("clean", measure, "root") for measure in (*MEASURES, "random")),
    Arm("clean", "length", "root", hard_first=True),
    Arm("short"),
    *(Arm("short", measure, "root") for measure in ("length", "rarity", "perplexity", "random")),
    Arm("short", "length", "root", hard_first=True),
    Arm("noisy"),
    *(Arm("noisy", measure, "root") for measure in ("length", "rarity", "perplexity", "random")),
    Arm("noisy", "perplexity", "root", hard_first=True),
    *(Arm("clean", measure, "linear") for measure in MEASURES),
    Arm("clean", "length", "step"),
    Arm("clean", "length", "root", softness=0.1),
)
LONG_ARMS = (
    Arm("clean", stories=1),
    *(Arm("clean", "length", pacing, stories=1) for pacing in ("root", "linear")),
    Arm("long"),
    *(Arm("long", measure, "root") for measure in ("length", "perplexity", "random")),
    Arm("long", "length", "root", hard_first=True),
    Arm("long", "length", "linear"),
    Arm("long", stories=1),
)
TUNED = (  # without a curriculum and with one, over the same grid
    *(Arm(condition) for condition in ("clean", "short", "long", "noisy")),
    *(Arm(condition, "length", "root") for condition in ("clean", "short", "long")),
    Arm("clean", stories=1),
)


def tuned(runs: Mapping[tuple[str, ...], Sequence[Mapping]], arm: Arm, scale: Scale) -> float:
    """The learning rate of the grid with the lowest last loss, on average over the tuning seeds."""

    def loss(rate: float) -> float:
        keys = [Run("tune", seed, arm, rate).key for seed in seeds_of(arm, scale)]
        return float(np.mean([float(runs[key][-1]["loss_all"]) for key in keys]))

    return min(scale.learning_rates, key=loss)


def seeds_of(arm: Arm, scale: Scale) -> tuple[int, ...]:
    """On which an arm is tuned: a long one on the first alone."""
    return scale.tuning_seeds[: 1 if arm.condition == "long" else None]


def tuning_runs(scale: Scale) -> list[Run]:
    """Every arm that is tuned, with every rate of the grid."""
    return [
        Run("tune", seed, arm, rate) for arm in TUNED for seed in seeds_of(arm, scale) for rate in scale.learning_rates
    ]


def compared_runs(runs: Mapping[tuple[str, ...], Sequence[Mapping]], scale: Scale) -> Iterator[Run]:
    """Seed after seed all arms, then seed after seed the long ones, so that what is finished is balanced.

    All arms of a condition have the rate that is best there without a curriculum, so that they differ in the curriculum
    alone; the curriculum that was tuned is run at its own best rate, too, where that is another. All steps of one story
    have the rate that is best for them in the clean condition.
    """
    best = {arm: tuned(runs, arm, scale) for arm in TUNED}
    for arms in (ARMS, LONG_ARMS):
        for seed in scale.seeds:
            for arm in arms:
                alone = Arm("clean" if arm.stories == 1 else arm.condition, stories=arm.stories)
                for rate in sorted({best[alone], best.get(arm, best[alone])}):
                    yield Run("test", seed, arm, rate)
