"""The figure BeamTree: beam search grows a tree of texts, step by step, with greedy's path beside it."""

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

    from llmlib.decoding import Hypothesis

MAX_WIDTH, MAX_LENGTH, MAX_PROMPT = 8, 12, 300
LIVE_WIDTH, LIVE_LENGTH = 6, 12  # of a search after a prompt of the reader's own, as in the page
PENALTIES = ("power", "wu")
DIGITS = 4  # of a log-probability, after the point


class BeamTree(ModelWidget):
    """Watch a beam search: at each step its candidates with their sums of log-probabilities, kept, finished or pruned.

    `texts` are the beginnings that it can be shown for, as `beam_record` makes them:

        {"prompt": "The", "end": id of the end token or None, "width": 3, "length": 4,
         "tokens": {"17": " fox", ...}, "next": {"": [[17, -0.5], ...], "17": [...], "17 4": [...], ...}}

    `next` says, after the ids in its key, what is expected next: [id, log-probability in nats], the most probable
    first, at least twice `width` of them or all there are; `width` and `length` are the largest that it suffices for.

    The reader's side: `text` counts from 0, `prompt` is a beginning of the reader's own, for which the page runs the
    book's model, and Python too; `width`, `length` (tokens at most), `alpha` and `penalty` ("power": length^alpha,
    "wu": ((5 + length) / 6)^alpha) are those of `llmlib.decoding.beam_search`; `step` counts what is shown of its
    steps.

    >>> import torch
    >>> table = torch.tensor([[0.6, 0.4], [0.55, 0.45], [0.05, 0.95]]).log()  # what follows nothing, a 0, a 1
    >>> record = beam_record(lambda ids: table[ids[-1] + 1 if ids else 0], ["a", "b"], "Say: ", width=2, length=2)
    >>> figure = BeamTree([record], width=2, length=2)
    >>> figure.hypotheses[0].tokens
    [1, 1]

    Raises traitlets.TraitError, with what is allowed, for a record or a value that the figure cannot show.
    """

    _module = "beam_tree"

    texts = traitlets.List(help="What is expected after some beginnings; see the class.").tag(sync=True)
    text = traitlets.Int(0, help="Which of the texts is shown, from 0.").tag(sync=True)
    prompt = traitlets.Unicode("", help="A beginning of the reader's own, or nothing.").tag(sync=True)
    width = traitlets.Int(2, help="Texts that go on at each step.").tag(sync=True)
    length = traitlets.Int(4, help="Tokens of the longest text.").tag(sync=True)
    alpha = traitlets.Float(1.0, help="Exponent of the length penalty; 0 compares plain sums.").tag(sync=True)
    penalty = traitlets.Unicode("power", help="The penalty's form: power or wu.").tag(sync=True)
    step = traitlets.Int(0, help="How many steps of the search are shown.").tag(sync=True)

    def __init__(self, texts: Sequence[Mapping[str, Any]], **state: Any) -> None:
        state.setdefault(
            "caption",
            "Beam search keeps the most probable texts at each step; a column holds a step's candidates, the most "
            "probable on top, with the sum of their log-probabilities in nats.",
        )
        first = texts[0] if isinstance(texts, Sequence) and len(texts) and isinstance(texts[0], Mapping) else {}
        for name in ("width", "length"):
            if isinstance(first.get(name), int):
                state.setdefault(name, max(1, min(first[name], 3 if name == "width" else MAX_LENGTH)))
        super().__init__(texts=list(texts) if isinstance(texts, Sequence) else texts, **state)

    @property
    def hypotheses(self) -> list[Hypothesis]:
        """What the search finds after the text that is shown, best first, by `llmlib.decoding.beam_search`.

        After a prompt of the reader's own, the model in `folder` is asked: OSError or ValueError says why it cannot be.
        """
        return self._found(self._shown())

    def _shown(self) -> dict[str, Any]:
        """The record that is shown, or one of the reader's own prompt, made now."""
        record = self.texts[self.text]
        if self.prompt in ("", record["prompt"]):
            return record
        coder, start, expect = self.in_torch()
        first = start(self.prompt)
        return beam_record(
            lambda ids: expect([*first, *ids]), lambda token: coder.decode([token]), self.prompt,
            min(self.width, LIVE_WIDTH), min(self.length, LIVE_LENGTH), end=first[0],
        )  # fmt: skip

    def _found(self, record: dict[str, Any]) -> list[Hypothesis]:
        import torch

        from llmlib.decoding import Hypothesis, beam_search, wu_penalty

        width, length = min(self.width, record["width"]), min(self.length, record["length"])
        ids = sorted({int(id_) for id_ in record["tokens"]})
        rows, rest = _rows(record, ids)
        paths: list[list[int]] = [[]]

        def step(parents: Tensor, tokens: Tensor) -> Tensor:
            new = [[*paths[p], ids[t]] for p, t in zip(parents.tolist(), tokens.tolist(), strict=True)]
            paths[:] = new
            return torch.stack([rows[" ".join(map(str, path))] for path in new])

        end = [ids.index(record["end"])] if record["end"] in ids else ()
        scale = wu_penalty(self.alpha) if self.penalty == "wu" else self.alpha
        found = beam_search(rows[""], step, width, length, end, scale, n_best=min(width, len(ids) + rest))
        return [Hypothesis([ids[t] for t in each.tokens], *list(vars(each).values())[1:]) for each in found]

    @traitlets.validate("texts")
    def _check_texts(self, proposal: dict) -> list[dict[str, Any]]:
        if not proposal["value"]:
            raise traitlets.TraitError("There is no text to show; give at least one record, see beam_record.")
        return [_checked_record(record, f"texts[{i}]") for i, record in enumerate(proposal["value"])]

    @traitlets.validate("text")
    def _check_text(self, proposal: dict) -> int:
        return _whole("text", proposal["value"], 0, len(self.texts) - 1)

    @traitlets.validate("prompt")
    def _check_prompt(self, proposal: dict) -> str:
        return short_prompt(proposal["value"], MAX_PROMPT)

    @traitlets.validate("width")
    def _check_width(self, proposal: dict) -> int:
        return _whole("width", proposal["value"], 1, MAX_WIDTH)

    @traitlets.validate("length")
    def _check_length(self, proposal: dict) -> int:
        return _whole("length", proposal["value"], 1, MAX_LENGTH)

    @traitlets.validate("step")
    def _check_step(self, proposal: dict) -> int:
        return _whole("step", proposal["value"], 0, MAX_LENGTH)

    @traitlets.validate("alpha")
    def _check_alpha(self, proposal: dict) -> float:
        if not 0 <= proposal["value"] <= 3:
            raise traitlets.TraitError(
                f"alpha is {proposal['value']}; it lies between 0 (plain sums) and 3 (long texts above all)."
            )
        return proposal["value"]

    @traitlets.validate("penalty")
    def _check_penalty(self, proposal: dict) -> str:
        if proposal["value"] not in PENALTIES:
            raise traitlets.TraitError(f"penalty is {proposal['value']!r}; choose 'power' or 'wu'.")
        return proposal["value"]

    def fallback(self) -> str:
        try:
            record, lacking = self._shown(), ""
        except (OSError, ValueError, ImportError) as problem:
            record, lacking = self.texts[self.text], needs_model(self.prompt, problem)
        found = self._found(record)
        words = (
            f"<p>A beam search of width {min(self.width, record['width'])} after "
            f"<q>{html.escape(record['prompt'])}</q>. The best texts of at most "
            f"{min(self.length, record['length'])} tokens that it finds, by the sum of their log-probabilities (nats) "
            "over a penalty of their length:</p>"
        )
        rows = [
            ["".join(record["tokens"][str(t)] for t in each.tokens), len(each.tokens), f"{each.log_probability:.2f}",
             f"{each.score:.2f}", "ended" if each.finished else "cut at the length"]
            for each in found
        ]  # fmt: skip
        return lacking + words + table_html(["text", "tokens", "sum", "score", "how it ends"], rows)


def beam_record(
    expect: Callable[[list[int]], Tensor],
    names: Sequence[str] | Callable[[int], str],
    prompt: str,
    width: int,
    length: int,
    end: int | None = None,
) -> dict[str, Any]:
    """What BeamTree needs to show every search up to this width and length after one prompt.

    `expect(ids)` gives the logits (V,) of what follows the prompt and these ids; `names` the text of each token.
    """
    kept: dict[str, list[list[float]]] = {}
    for each in range(1, width + 1):
        texts: list[tuple[float, list[int]]] = [(0.0, [])]
        for n in range(length):
            candidates = []
            for total, ids in texts:
                key = " ".join(map(str, ids))
                if key not in kept:
                    log_p = expect(ids).double().log_softmax(dim=-1)
                    best = log_p.topk(min(2 * width, len(log_p)))
                    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
                    kept[key] = [[token, round(value, DIGITS)] for token, value in pairs if value > -math.inf]
                candidates += [(total + value, [*ids, int(token)]) for token, value in kept[key]]
            candidates.sort(key=lambda candidate: -candidate[0])
            texts = [(total, ids) for total, ids in candidates if ids[-1] != end][:each]
            if n + 1 == length or not texts:
                break
    seen = sorted({int(token) for pairs in kept.values() for token, _ in pairs})
    name = names if callable(names) else names.__getitem__
    return {"prompt": prompt, "end": end, "width": width, "length": length,
            "tokens": {str(token): name(token) for token in seen}, "next": kept}  # fmt: skip


def _rows(record: dict[str, Any], ids: list[int]) -> tuple[dict[str, Tensor], int]:
    """Logits over the tokens that are named, and over enough nameless ones for what the lists leave out.

    None of the nameless is more probable than the last one listed, so that no search of the record's width takes it.
    """
    place = {id_: i for i, id_ in enumerate(ids)}
    import torch

    left = {key: 1 - sum(math.exp(p) for _, p in pairs) for key, pairs in record["next"].items()}
    left = {key: mass if mass > 2e-4 else 0.0 for key, mass in left.items()}  # below, it is rounding
    many = max(math.ceil(left[key] / math.exp(pairs[-1][1])) for key, pairs in record["next"].items())
    rows = {}
    for key, pairs in record["next"].items():
        share = math.log(left[key] / many) if left[key] else -math.inf
        row = torch.full((len(ids) + many,), -math.inf, dtype=torch.float64)
        row[len(ids) :] = share
        for token, value in pairs:
            row[place[token]] = value
        rows[key] = row
    return rows, many


def _checked_record(record: Any, where: str) -> dict[str, Any]:
    names = ("prompt", "end", "width", "length", "tokens", "next")
    if not isinstance(record, Mapping) or set(record) != set(names):
        raise traitlets.TraitError(f"{where} has to be a dictionary of {', '.join(names)}; beam_record makes one.")
    width = _whole(f"{where}['width']", record["width"], 1, MAX_WIDTH)
    _whole(f"{where}['length']", record["length"], 1, MAX_LENGTH)
    if "" not in record["next"]:
        raise traitlets.TraitError(f"{where}['next'] has no '' : what follows the prompt itself; beam_record adds it.")
    for key, pairs in record["next"].items():
        here = f"{where}['next'][{key!r}]"
        values = [value for _, value in pairs]
        if not values or any(not isinstance(v, int | float) or not v <= 0 for v in values):
            raise traitlets.TraitError(f"{here} has to list [token, log-probability], each at most 0 and none missing.")
        if values != sorted(values, reverse=True):
            raise traitlets.TraitError(f"{here} is not sorted; put the most probable token first.")
        unnamed = [token for token, _ in pairs if str(token) not in record["tokens"]]
        if unnamed:
            raise traitlets.TraitError(f"{here} has the token {unnamed[0]}, which {where}['tokens'] does not name.")
        if len(pairs) < 2 * width and sum(math.exp(v) for v in values) < 0.99:
            raise traitlets.TraitError(
                f"{here} lists {len(pairs)} tokens; a search of width {width} may need {2 * width}, so list more."
            )
    return dict(record)


def _whole(name: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise traitlets.TraitError(f"{name} is {value!r}; it is a whole number from {least} to {most}.")
    return value
