"""The figure Competence: a curriculum's clock, the window that it opens in a corpus, and what is drawn from it."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import traitlets

from llmlib.curriculum import PACINGS, Pacing, difficulty_cdf, window_weights
from llmlib.widgets.base import BookWidget, table_html

MAX_STORIES, MAX_TEXT = 500, 1000  # stories of a sample, characters of a text: the page carries them all
RANGES = {
    "start": (0.01, 1.0, "the share of the corpus that is open at first"),
    "duration": (1, 100, "per cent of the run until all is open"),
    "softness": (0.0, 0.5, "0 for a hard window"),
    "time": (0, 100, "per cent of the run"),
    "seed": (0, 9999, "another one draws other stories"),
}


class Competence(BookWidget):
    """Choose a difficulty and a pacing, move c0 and T, and follow the window through a run.

    `sample` is a corpus of at most 500 texts with their scores by any measures, higher for harder, as plain data:

        {"texts": ["A story.", ...],
         "measures": [{"name": "length", "unit": "words", "scores": [2, ...]}, ...]}

    The reader's side: `measure` is the name of one; `pacing` is "linear", "root", "step" or "all"; `hard_first` turns
    the order round; `start` is c0, `duration` T and `time` t, both in per cent of a run that draws as many texts as the
    sample holds; `softness` is that of the window; `seed` decides what is drawn.

    >>> sample = dict(texts=["A.", "B.", "C.", "D."], measures=[dict(name="length", unit="words", scores=[4, 3, 2, 1])])
    >>> figure = Competence(sample, pacing="linear", start=0.25, duration=100, time=34)
    >>> figure.competence, figure.weights
    (0.505, [0.0, 0.0, 1.0, 1.0])

    Raises traitlets.TraitError, with what is allowed, for a sample or a value that the figure cannot show.
    """

    _module = "competence"

    sample = traitlets.Dict(help="The texts and their scores; see the class.").tag(sync=True)
    measure = traitlets.Unicode("", help="The name of the measure of difficulty.").tag(sync=True)
    pacing = traitlets.Unicode("root", help="The schedule: linear, root, step or all.").tag(sync=True)
    hard_first = traitlets.Bool(False, help="Whether the order is turned round.").tag(sync=True)
    start = traitlets.Float(0.1, help="c0, the share of the corpus that is open at first.").tag(sync=True)
    duration = traitlets.Int(50, help="T, per cent of the run until all is open.").tag(sync=True)
    softness = traitlets.Float(0.0, help="s: beyond the window, a weight falls by e for every s of d.").tag(sync=True)
    time = traitlets.Int(0, help="t, per cent of the run.").tag(sync=True)
    seed = traitlets.Int(0, help="Decides which texts are drawn.").tag(sync=True)

    def __init__(self, sample: Mapping[str, Any], **state: Any) -> None:
        state.setdefault(
            "caption",
            "A curriculum's schedule, and the window that it opens in a sample of the stories. The run draws as many "
            "stories as the sample holds.",
        )
        sample = _checked_sample(sample)
        super().__init__(sample=sample, **{"measure": sample["measures"][0]["name"], **state})
        self.observe(self._keep_measure, ["sample"])

    @property
    def scores(self) -> list[float]:
        """The chosen measure's scores, one for each text."""
        return next(each["scores"] for each in self.sample["measures"] if each["name"] == self.measure)

    @property
    def difficulties(self) -> np.ndarray:
        """d in (0, 1], one for each text."""
        scores = np.array(self.scores)
        return difficulty_cdf(-scores if self.hard_first else scores)

    @property
    def competence(self) -> float:
        """c(t) now."""
        return round(float(Pacing(self.pacing, self.duration, self.start).competence(self.time)), 12)

    @property
    def weights(self) -> list[float]:
        """W(x, t) now, one for each text; the easiest are always open."""
        d = self.difficulties
        return window_weights(d, max(self.competence, d.min()), self.softness).tolist()

    @traitlets.validate("sample")
    def _check_sample(self, proposal: dict) -> dict[str, Any]:
        return _checked_sample(proposal["value"])

    @traitlets.validate("measure")
    def _check_measure(self, proposal: dict) -> str:
        names = [each["name"] for each in self.sample["measures"]]
        if proposal["value"] not in names:
            raise traitlets.TraitError(
                f"measure is {proposal['value']!r}; the sample is scored by {', '.join(names)}: choose one of them."
            )
        return proposal["value"]

    @traitlets.validate("pacing")
    def _check_pacing(self, proposal: dict) -> str:
        if proposal["value"] not in PACINGS:
            raise traitlets.TraitError(f"pacing is {proposal['value']!r}; choose one of {', '.join(PACINGS)}.")
        return proposal["value"]

    @traitlets.validate(*RANGES)
    def _check_range(self, proposal: dict) -> float:
        name, value = proposal["trait"].name, proposal["value"]
        least, most, meaning = RANGES[name]
        if not least <= value <= most:
            raise traitlets.TraitError(f"{name} is {value}; it goes from {least} to {most}: {meaning}.")
        return value

    def _keep_measure(self, change: object) -> None:
        names = [each["name"] for each in self.sample["measures"]]
        if self.measure not in names:
            self.measure = names[0]

    def fallback(self) -> str:
        unit = next(each["unit"] for each in self.sample["measures"] if each["name"] == self.measure)
        order = "hardest" if self.hard_first else "easiest"
        words = (
            f"<p>{len(self.sample['texts'])} stories, {order} first by {html.escape(self.measure)}. The table says what"
            f" share c(t) of them is open after each tenth of a run, with {self.pacing} pacing from c0 = "
            f"{self.start:.2f}, all after T = {self.duration} % of the run.</p>"
        )
        scores, d = np.array(self.scores), self.difficulties
        rows = []
        for time in range(0, 101, 10):
            c = float(Pacing(self.pacing, self.duration, self.start).competence(time))
            open_ones = scores[d <= max(c, d.min())]
            rows.append([f"{time} %", f"{c:.2f}", len(open_ones), f"{open_ones.min():g} to {open_ones.max():g}"])
        head = ["t", "c(t)", "stories open", f"their {self.measure} ({unit})"]
        return words + table_html(head, rows)


def _checked_sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("texts", "measures"):
        if not isinstance(sample.get(name), list | tuple) or not sample[name]:
            raise traitlets.TraitError(f"sample[{name!r}] has to be a list with at least one entry.")
    texts = sample["texts"]
    if len(texts) > MAX_STORIES:
        raise traitlets.TraitError(f"The sample has {len(texts)} texts; give at most {MAX_STORIES}.")
    for i, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip() or len(text) > MAX_TEXT:
            raise traitlets.TraitError(
                f"sample['texts'][{i}] has to be a text of 1 to {MAX_TEXT} characters; cut a longer one."
            )
    measures = [
        _checked_measure(each, f"sample['measures'][{i}]", len(texts)) for i, each in enumerate(sample["measures"])
    ]
    names = [each["name"] for each in measures]
    if len(set(names)) < len(names):
        raise traitlets.TraitError(f"Two measures are called {max(names, key=names.count)!r}; give each its own name.")
    return {"texts": list(texts), "measures": measures}


def _checked_measure(measure: Any, where: str, n: int) -> dict[str, Any]:
    if not isinstance(measure, Mapping) or not {"name", "unit", "scores"} <= set(measure):
        raise traitlets.TraitError(f"{where} has to be a dictionary of name, unit, scores.")
    for key in ("name", "unit"):
        if not isinstance(measure[key], str) or not measure[key]:
            raise traitlets.TraitError(f"{where}[{key!r}] is {measure[key]!r}; it has to be a text.")
    scores = list(measure["scores"])
    if len(scores) != n:
        raise traitlets.TraitError(f"{where} has {len(scores)} scores for {n} texts; give one for each.")
    for i, score in enumerate(scores):
        if not isinstance(score, Real) or isinstance(score, bool) or not math.isfinite(score):
            raise traitlets.TraitError(f"{where}['scores'][{i}] is {score!r}; it has to be a finite number.")
    return {"name": measure["name"], "unit": measure["unit"], "scores": [_plain(score) for score in scores]}


def _plain(score: Real) -> int | float:
    return int(score) if float(score).is_integer() else float(score)
