"""The figure SamplingExplorer: what may be said next, what each setting keeps of it, and what is drawn."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import traitlets

from llmlib.widgets.base import table_html
from llmlib.widgets.checks import short_prompt
from llmlib.widgets.page_model import ModelWidget, needs_model

if TYPE_CHECKING:  # else when they are needed: a chapter that shows other figures does not wait for torch
    from torch import Tensor

MAX_PROMPT, MAX_WRITTEN = 300, 400
LISTED = 12  # tokens with a bar of their own
NAMED = 100  # the most probable tokens of a record, whose texts it brings along


class SamplingExplorer(ModelWidget):
    """See what temperature, top-k, top-p, min-p and a repetition penalty leave of a prediction, and draw from it.

    `texts` are recorded predictions, as `sampling_record` makes them:

        {"prompt": "Once upon", "ids": [2047, ...], "logits": [V numbers], "tokens": {"17": " fox", ...}}

    `ids` are all that the model has read, `logits` what it says of the next token, `tokens` the texts of those ids and
    of the most probable tokens.

    The reader's side: `text` counts from 0; `prompt` is a beginning of the reader's own, and `written` the ids of what
    was written after it: the page runs the book's model to show them, and Python reads them with torch. `temperature`,
    `top_k` (0: off), `top_p` (1: off), `min_p` (0: off) and `penalty` (1: off) are those of `llmlib.decoding.Sampling`;
    `draws` is how many tokens are drawn for the histogram, with `seed`, which also decides what is written.

    >>> import torch
    >>> record = sampling_record([0], torch.tensor([0.0, 1.0, 3.0]), ["<end>", " owl", " fox"])
    >>> figure = SamplingExplorer([record], top_k=2)
    >>> [round(p, 2) for p in figure.probabilities.tolist()]
    [0.0, 0.12, 0.88]

    Raises traitlets.TraitError, with what is allowed, for a record or a value that the figure cannot show.
    """

    _module = "sampling_explorer"

    texts = traitlets.List(help="Recorded predictions; see the class.").tag(sync=True)
    text = traitlets.Int(0, help="Which of the texts is shown, from 0.").tag(sync=True)
    prompt = traitlets.Unicode("", help="A beginning of the reader's own, or nothing.").tag(sync=True)
    written = traitlets.List(help="Ids of the tokens written after the prompt.").tag(sync=True)
    temperature = traitlets.Float(1.0, help="Logits are divided by it; 0 is greedy.").tag(sync=True)
    top_k = traitlets.Int(0, help="Tokens to keep; 0 keeps all.").tag(sync=True)
    top_p = traitlets.Float(1.0, help="Probability to keep; 1 keeps all.").tag(sync=True)
    min_p = traitlets.Float(0.0, help="Least share of the largest probability; 0 keeps all.").tag(sync=True)
    penalty = traitlets.Float(1.0, help="Repetition penalty; 1 changes nothing.").tag(sync=True)
    draws = traitlets.Int(0, help="Tokens drawn for the histogram.").tag(sync=True)
    seed = traitlets.Int(0, help="Of the draws and of what is written.").tag(sync=True)

    def __init__(self, texts: Sequence[Mapping[str, Any]], **state: Any) -> None:
        state.setdefault(
            "caption",
            "The next token's distribution by the book's own model, and what is left of it after each setting, in the "
            "order in which they are applied.",
        )
        super().__init__(texts=list(texts) if isinstance(texts, Sequence) else texts, **state)

    @property
    def probabilities(self) -> Tensor:
        """What is drawn from after the text that is shown, (V,), by `llmlib.decoding.Sampling`.

        For a prompt or tokens of the reader's own, the model in `folder` is asked: OSError or ValueError says why it
        cannot be.
        """
        return self._drawn_from(self._shown())

    def _shown(self) -> dict[str, Any]:
        """The record that is shown, or one of the reader's own text, made now."""
        record = self.texts[self.text]
        own = "" if self.prompt == record["prompt"] else self.prompt
        if own == "" and not self.written:
            return record
        coder, start, expect = self.in_torch()
        ids = [*(start(own) if own else record["ids"]), *self.written]
        written = "".join(coder.decode([token]) for token in self.written)
        return sampling_record(
            ids, expect(ids), lambda token: coder.decode([token]), (own or record["prompt"]) + written
        )

    def _drawn_from(self, record: dict[str, Any]) -> Tensor:
        import torch

        from llmlib.decoding import Sampling

        sampling = Sampling(
            self.temperature, self.top_k or None, self.top_p, self.min_p, self.penalty if self.penalty != 1 else None
        )
        logits = torch.tensor([record["logits"]], dtype=torch.float64)
        return sampling.probabilities(logits, torch.tensor([record["ids"]]))[0]

    @traitlets.validate("texts")
    def _check_texts(self, proposal: dict) -> list[dict[str, Any]]:
        if not proposal["value"]:
            raise traitlets.TraitError("There is no text to show; give at least one record, see sampling_record.")
        return [_checked_record(record, f"texts[{i}]") for i, record in enumerate(proposal["value"])]

    @traitlets.validate("prompt")
    def _check_prompt(self, proposal: dict) -> str:
        return short_prompt(proposal["value"], MAX_PROMPT)

    @traitlets.validate("written")
    def _check_written(self, proposal: dict) -> list[int]:
        ids = proposal["value"]
        if len(ids) > MAX_WRITTEN or any(isinstance(i, bool) or not isinstance(i, int) or i < 0 for i in ids):
            raise traitlets.TraitError(f"written has to be at most {MAX_WRITTEN} ids, whole numbers of at least 0.")
        return list(ids)

    @traitlets.validate("text", "top_k", "draws", "seed")
    def _check_whole(self, proposal: dict) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        most = {"text": len(self.texts) - 1, "top_k": 100_000, "draws": 100_000, "seed": 2**31 - 1}[name]
        if not 0 <= value <= most:
            raise traitlets.TraitError(f"{name} is {value}; it is a whole number from 0 to {most}.")
        return value

    @traitlets.validate("temperature", "top_p", "min_p", "penalty")
    def _check_number(self, proposal: dict) -> float:
        name, value = proposal["trait"].name, proposal["value"]
        least, most = {"temperature": (0, 100), "top_p": (0.01, 1), "min_p": (0, 1), "penalty": (0.1, 10)}[name]
        if not least <= value <= most:
            raise traitlets.TraitError(f"{name} is {value}; it lies between {least} and {most}.")
        return value

    def fallback(self) -> str:
        try:
            record, lacking = self._shown(), ""
        except (OSError, ValueError, ImportError) as problem:
            record, lacking = self.texts[self.text], needs_model(self.prompt or "What was written", problem)
        settings = [f"temperature {self.temperature:g}"]
        settings += [f"top-k {self.top_k}"] if self.top_k else []
        settings += [f"top-p {self.top_p:g}"] if self.top_p < 1 else []
        settings += [f"min-p {self.min_p:g}"] if self.min_p > 0 else []
        settings += [f"repetition penalty {self.penalty:g}"] if self.penalty != 1 else []
        most = max(record["logits"])
        total = sum(math.exp(z - most) for z in record["logits"])
        before = [math.exp(z - most) / total for z in record["logits"]]
        after = self._drawn_from(record).tolist()
        order = sorted(range(len(before)), key=lambda i: -before[i])[:LISTED]
        words = (
            f"<p>What the model expects after <q>{html.escape(record['prompt'])}</q>, and what is drawn from with "
            f"{', '.join(settings)}: {sum(p > 0 for p in after)} of {len(after)} tokens are kept.</p>"
        )
        rows = [[record["tokens"].get(str(i), f"token {i}"), f"{before[i]:.2f}", f"{after[i]:.2f}"] for i in order]
        return lacking + words + table_html(["token", "probability", "drawn with"], rows)


def sampling_record(
    ids: Sequence[int], logits: Tensor, names: Sequence[str] | Callable[[int], str], prompt: str | None = None
) -> dict[str, Any]:
    """A prediction for SamplingExplorer: what was read, ids (S,), the logits of what follows, (V,), and tokens' texts.

    Logits are kept to two digits after the point; `prompt` is the text that is shown, else that of the ids.
    """
    name = names if callable(names) else names.__getitem__
    best = logits.topk(min(NAMED, len(logits))).indices.tolist()
    return {
        "prompt": "".join(map(name, ids)) if prompt is None else prompt,
        "ids": list(ids),
        "logits": [round(z, 2) for z in logits.tolist()],
        "tokens": {str(i): name(i) for i in sorted({*ids, *best})},
    }


def _checked_record(record: Any, where: str) -> dict[str, Any]:
    names = ("prompt", "ids", "logits", "tokens")
    if not isinstance(record, Mapping) or set(record) != set(names):
        raise traitlets.TraitError(f"{where} has to be a dictionary of {', '.join(names)}; sampling_record makes one.")
    logits, ids = record["logits"], record["ids"]
    sound = isinstance(logits, Sequence) and len(logits) >= 2
    if not sound or not all(isinstance(z, int | float) and math.isfinite(z) for z in logits):
        raise traitlets.TraitError(f"{where}['logits'] has to list at least two finite numbers, one for each token.")
    unknown = [i for i in ids if not isinstance(i, int) or not 0 <= i < len(logits)]
    if unknown:
        raise traitlets.TraitError(
            f"{where}['ids'] holds {unknown[0]!r}; there are logits of the ids from 0 to {len(logits) - 1}."
        )
    return dict(record)
