"""The figure TrainingReplay: a training run that can be wound back, and a game of guessing the next word."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import traitlets

from llmlib.widgets.base import BookWidget, table_html
from llmlib.widgets.checks import place_in
from llmlib.widgets.records import WrongRecord, compact_run

MAX_GUESS = 80  # characters


class TrainingReplay(BookWidget):
    """Wind a training run forth and back: losses, what the model expects after a prompt, a story, the reader's guesses.

    `run` is plain data, any number of moments and prompts; numbers are kept to four digits, other keys are left out:

        {"vocab_size": V, "entropy": exact nats per token, or None where nobody knows it,
         "curve": {"step": [...], "tokens": [...], "loss": [...], "gradient_norm": [...],
                   "held_out": [[step, loss], ...]},
         "prompts": [{"tokens": ["Once", " upon", ...]}, ...],
         "moments": [{"step": 0, "tokens": 0, "loss": ..., "held_out": ..., "gradient_norm": ..., "sample": "a story",
                      "predictions": [for each prompt [for each of its T positions
                          {"top": [[token, probability], ... best first], "actual": probability}]]}, ...]}

    Losses and the entropy are in nats per token; `loss`, `held_out` and `gradient_norm` of a moment may be None where
    nothing was measured. Position p of a prompt is the prediction after its tokens 0 to p; `actual` is the probability
    of token p + 1, and None at the last position.

    The reader's side: `moment` and `prompt` count from 0, `position` p as above, `guess` is what the reader typed,
    `revealed` says whether the prediction is shown, and `guesses` holds the first guess at each place, [prompt,
    position, guess], as far as it was revealed. Setting `run` to another one, such as a run of your own, starts anew.

    >>> top = [[" upon", 0.5], [" a", 0.25]]
    >>> predictions = [[{"top": top, "actual": 0.5}, {"top": top, "actual": None}]]
    >>> moment = dict(step=0, tokens=0, loss=None, held_out=1.5, gradient_norm=None, sample="", predictions=predictions)
    >>> curve = dict(step=[1, 2], tokens=[8, 16], loss=[2.0, 1.5], gradient_norm=[1.0, 0.5], held_out=[[2, 1.5]])
    >>> run = dict(vocab_size=8, entropy=1.0, curve=curve, prompts=[{"tokens": ["Once", " upon"]}], moments=[moment])
    >>> figure = TrainingReplay(run)
    >>> round(surprise(figure.prediction["actual"]), 3), tail(figure.prediction["top"])
    (0.693, 0.25)

    Raises traitlets.TraitError, with what is allowed, for a run or a value that the figure cannot show.
    """

    _module = "training_replay"

    run = traitlets.Dict(help="The recorded run; see the class.").tag(sync=True)
    moment = traitlets.Int(0, help="Which of the run's moments is shown, from 0.").tag(sync=True)
    prompt = traitlets.Int(0, help="Which of the run's prompts is shown, from 0.").tag(sync=True)
    position = traitlets.Int(0, help="The last token of the prompt that is shown; the one after it is guessed.").tag(
        sync=True
    )
    guess = traitlets.Unicode("", help="The reader's guess for the token after `position`.").tag(sync=True)
    revealed = traitlets.Bool(False, help="Whether the prediction and the true token are shown.").tag(sync=True)
    guesses = traitlets.List(help="First guesses that were revealed: [prompt, position, guess].").tag(sync=True)
    log_steps = traitlets.Bool(True, help="Whether the axis of training steps is logarithmic.").tag(sync=True)

    def __init__(self, run: Mapping[str, Any], **state: Any) -> None:
        state.setdefault(
            "caption",
            "One training run, wound back and forth: its loss between a uniform guess, ln V, and the entropy that no "
            "model can beat; what the model expects after a prompt; and a text that it writes. Recorded while it was "
            "trained.",
        )
        super().__init__(run=run, **state)
        self.observe(self._start_anew, ["run"])
        self.observe(self._stay_in_prompt, ["prompt"])

    @property
    def prediction(self) -> dict[str, Any]:
        """What the model of this moment expects at this position: {"top": [[token, probability], …], "actual": …}."""
        return self.run["moments"][self.moment]["predictions"][self.prompt][self.position]

    @property
    def tokens(self) -> list[str]:
        """The tokens of the chosen prompt."""
        return self.run["prompts"][self.prompt]["tokens"]

    @traitlets.validate("run")
    def _check_run(self, proposal: dict) -> dict[str, Any]:
        try:
            return compact_run(proposal["value"])
        except WrongRecord as error:
            raise traitlets.TraitError(str(error)) from None

    @traitlets.validate("moment")
    def _check_moment(self, proposal: dict) -> int:
        return place_in("moment", proposal["value"], len(self.run["moments"]), "this run has {} moments")

    @traitlets.validate("prompt")
    def _check_prompt(self, proposal: dict) -> int:
        return place_in("prompt", proposal["value"], len(self.run["prompts"]), "this run has {} prompts")

    @traitlets.validate("position")
    def _check_position(self, proposal: dict) -> int:
        tokens = self.run["prompts"][min(self.prompt, len(self.run["prompts"]) - 1)]["tokens"]
        return place_in("position", proposal["value"], len(tokens), "this prompt has {} tokens")

    @traitlets.validate("guess")
    def _check_guess(self, proposal: dict) -> str:
        return _checked_guess(proposal["value"])

    @traitlets.validate("guesses")
    def _check_guesses(self, proposal: dict) -> list[list[Any]]:
        lengths = [len(prompt["tokens"]) for prompt in self.run["prompts"]]
        for entry in proposal["value"]:
            if not (isinstance(entry, list | tuple) and [type(part) for part in entry] == [int, int, str]):
                raise traitlets.TraitError(f"A guess is {entry!r}; it has to be [prompt, position, guess].")
            if not (0 <= entry[0] < len(lengths) and 0 <= entry[1] < lengths[entry[0]] - 1):
                raise traitlets.TraitError(f"A guess is {entry!r}; no token follows such a place, so leave it out.")
            _checked_guess(entry[2])
        places = [(prompt, position) for prompt, position, _ in proposal["value"]]
        if len(set(places)) < len(places):
            raise traitlets.TraitError(
                "Two guesses are for one place; the first guess counts, so leave the others out."
            )
        return [list(entry) for entry in proposal["value"]]

    def notify_change(self, change: Any) -> None:
        with self.hold_sync():  # another run, and the moment that it is shown at, in one message to the views
            super().notify_change(change)

    def _start_anew(self, change: object) -> None:
        """After another run: a moment, a prompt and a position that exist, and no guesses."""
        self.guess, self.revealed, self.guesses = "", False, []
        self.moment = min(self.moment, len(self.run["moments"]) - 1)
        self.prompt = min(self.prompt, len(self.run["prompts"]) - 1)
        self.position = min(self.position, len(self.tokens) - 1)

    def _stay_in_prompt(self, change: object) -> None:
        self.position = min(self.position, len(self.tokens) - 1)

    def fallback(self) -> str:
        run, moments = self.run, self.run["moments"]
        least = (
            "" if run["entropy"] is None else f", and no model can beat the text's own entropy, {run['entropy']:.2f}"
        )
        shown = html.escape("".join(self.tokens[: self.position + 1]))
        following = html.escape("".join(self.tokens[self.position + 1 : self.position + 2]))
        surprised = f", and how much the token <q>{following}</q>, which follows, surprises it" if following else ""
        words = (
            f"<p>A training run at {len(moments)} moments. The loss, in nats per token, begins near that of a uniform "
            f"guess, ln V = {math.log(run['vocab_size']):.2f} for V = {run['vocab_size']} tokens{least}. The table "
            f"says what the model expects after <q>{shown}</q>{surprised}.</p>"
        )
        head = [
            "step",
            "tokens seen",
            "training loss",
            "held-out loss",
            "gradient norm",
            "first choice",
            "surprise, nats",
        ]
        sample = html.escape(moments[-1]["sample"])
        story = f"<p>At step {moments[-1]['step']} it writes: <q>{sample}</q></p>" if sample else ""
        return words + table_html(head, map(self._fallback_row, moments)) + story

    def _fallback_row(self, moment: dict[str, Any]) -> list[object]:
        prediction = moment["predictions"][self.prompt][self.position]
        (best, probability), actual = prediction["top"][0], prediction["actual"]
        measured = [_number(moment[name]) for name in ("loss", "held_out", "gradient_norm")]
        surprised = "" if actual is None else _number(surprise(actual))
        return [moment["step"], moment["tokens"], *measured, f"{_visible(best)} ({probability:.2f})", surprised]


def surprise(probability: float) -> float:
    """Nats: -ln of a probability; infinite for 0.

    >>> surprise(0.5) == math.log(2), surprise(0)
    (True, inf)
    """
    return -math.log(probability) if probability > 0 else math.inf


def tail(top: Sequence[Sequence[Any]]) -> float:
    """The probability of everything that is not listed; at least 0, since the listed ones are rounded.

    >>> tail([["a", 0.5], ["b", 0.25]])
    0.25
    """
    return max(0.0, 1.0 - sum(probability for _, probability in top))


def _checked_guess(guess: str) -> str:
    if len(guess) > MAX_GUESS:
        raise traitlets.TraitError(f"The guess has {len(guess)} characters; one word of up to {MAX_GUESS} is enough.")
    if any("\ud800" <= character <= "\udfff" for character in guess):
        raise traitlets.TraitError("The guess holds a lone surrogate, half of a character: leave it out.")
    return guess


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _visible(token: str) -> str:
    return token.replace("\n", "↵").replace(" ", "·")
