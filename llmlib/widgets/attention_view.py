"""The figure AttentionView: where each head of each layer looks, in a sentence."""

import html
from collections.abc import Callable, Sequence
from typing import Any, Self

import traitlets

from llmlib.widgets.base import BookWidget, table_html
from llmlib.widgets.checks import place_in

MAX_TOKENS = 40
PER_MILLE = 1000
MAX_SENTENCE = 400  # characters

Compute = Callable[[str], tuple[Sequence[str], Any]]


class AttentionView(BookWidget):
    """Look into a model's attention: a sentence, a layer, a head, and from one token, the query, to all before it.

    `texts` holds {"tokens": [T texts], "weights": [L][H][T][T]}: row q of a head is a distribution over the tokens 0 to
    q, zero after them. Nested lists, numpy arrays and tensors will do. The weights are kept as whole numbers, per
    mille, the rows of the lower triangle one after another: weight (q, k) of layer l, head h is
    `texts[n]["weights"][l][h][q * (q + 1) // 2 + k]`.

    The reader's side: `text`, `layer`, `head` and `query` count from 0. In a notebook, with `compute` set to a function
    from a text to (tokens, weights), the reader can type a `sentence`; it becomes the last of `texts`.

    >>> figure = AttentionView.of(["a", "b"], [[[[1, 0], [0.25, 0.75]]]])
    >>> figure.query, figure.texts[0]["weights"], figure.row()
    (1, [[[1000, 250, 750]]], [0.25, 0.75])

    Raises traitlets.TraitError, with what is allowed, for what cannot be shown.
    """

    _module = "attention_view"

    texts = traitlets.List(help="The prepared texts; see the class. Weights in per mille.").tag(sync=True)
    text = traitlets.Int(0, help="Which text is shown, from 0.").tag(sync=True)
    layer = traitlets.Int(0, help="The layer, from 0, which is the one nearest to the input.").tag(sync=True)
    head = traitlets.Int(0, help="The head, from 0.").tag(sync=True)
    query = traitlets.Int(0, help="The token that looks, from 0.").tag(sync=True)
    sentence = traitlets.Unicode("", help="What the reader typed, to be looked into.").tag(sync=True)
    live = traitlets.Bool(False, help="Whether a sentence can be computed: set `compute` instead.").tag(sync=True)
    problem = traitlets.Unicode("", help="Why the sentence could not be computed, or nothing.").tag(sync=True)

    _compute: Compute | None = None
    _own = False  # whether the last text is the reader's sentence

    def __init__(self, texts: Sequence[dict[str, Any]], *, compute: Compute | None = None, **state: Any) -> None:
        for name in ("live", "problem", "sentence"):
            if name in state:
                raise traitlets.TraitError(f"{name} cannot be given at the start; set compute, then sentence.")
        state.setdefault(
            "caption",
            "Attention in one head: each row is a token that looks, the query; each column a token that is looked at, "
            "the key. A row sums to 1; what comes later is masked. Computed with the model; weights to three decimals.",
        )
        super().__init__(texts=texts, **state)
        if "query" not in state:
            self.query = self.n_tokens - 1
        self.compute = compute
        self.observe(self._stay_in_text, ["text"])
        self.observe(self._start_anew, ["texts"])
        self.observe(self._look_into, ["sentence"])

    @classmethod
    def of(cls, tokens: Sequence[str], weights: Any, **state: Any) -> Self:
        """A figure of one text: T tokens and weights (L, H, T, T), as nested lists, an array or a tensor."""
        return cls([{"tokens": tokens, "weights": weights}], **state)

    @property
    def compute(self) -> Compute | None:
        """A function from a text to (tokens, weights); while there is one, the reader can type a sentence."""
        return self._compute

    @compute.setter
    def compute(self, function: Compute | None) -> None:
        if function is not None and not callable(function):
            raise TypeError(f"compute is {function!r}; give it a function from a text to (tokens, weights), or None.")
        self._compute = function
        self.live = function is not None

    @property
    def n_tokens(self) -> int:
        """How many tokens the chosen text has."""
        return len(self.texts[self.text]["tokens"])

    def row(self) -> list[float]:
        """The weights from the query to the tokens 0 to query, in the chosen layer and head."""
        start = self.query * (self.query + 1) // 2
        flat = self.texts[self.text]["weights"][self.layer][self.head]
        return [weight / PER_MILLE for weight in flat[start : start + self.query + 1]]

    def twin(self) -> str:
        """The figure for a page without a kernel: it cannot compute new sentences, and does not offer to."""
        live, self._trait_values["live"] = self.live, False
        try:
            return super().twin()
        finally:
            self._trait_values["live"] = live

    @traitlets.validate("texts")
    def _check_texts(self, proposal: dict) -> list[dict[str, Any]]:
        return _checked_texts(proposal["value"])

    @traitlets.validate("text")
    def _check_text(self, proposal: dict) -> int:
        return place_in("text", proposal["value"], len(self.texts), "there are {} texts")

    @traitlets.validate("layer")
    def _check_layer(self, proposal: dict) -> int:
        return place_in("layer", proposal["value"], len(self.texts[0]["weights"]), "the model has {} layers")

    @traitlets.validate("head")
    def _check_head(self, proposal: dict) -> int:
        return place_in("head", proposal["value"], len(self.texts[0]["weights"][0]), "a layer has {} heads")

    @traitlets.validate("query")
    def _check_query(self, proposal: dict) -> int:
        text = self.texts[min(self.text, len(self.texts) - 1)]
        return place_in("query", proposal["value"], len(text["tokens"]), "this text has {} tokens")

    @traitlets.validate("sentence")
    def _check_sentence(self, proposal: dict) -> str:
        sentence = proposal["value"]
        if sentence and self._compute is None:
            raise traitlets.TraitError(
                "A sentence needs a model: set compute, a function from a text to (tokens, weights)."
            )
        if len(sentence) > MAX_SENTENCE:
            raise traitlets.TraitError(
                f"The sentence has {len(sentence)} characters; up to {MAX_SENTENCE} can be shown."
            )
        return sentence

    def notify_change(self, change: Any) -> None:
        with self.hold_sync():  # other texts, and the query that is shown of them, in one message to the views
            super().notify_change(change)

    def _look_into(self, change: object) -> None:
        """Compute the reader's sentence, and show it as the last text; what goes wrong is said in `problem`."""
        if self._compute is None or self.sentence == "":
            return
        try:
            tokens, weights = self._compute(self.sentence)
            prepared = self.texts[:-1] if self._own else self.texts
            self._adding = True
            self.texts = [*prepared, {"tokens": tokens, "weights": weights}]
            self._own = True
            self.text = len(self.texts) - 1
            self.query = self.n_tokens - 1
            self.problem = ""
        except Exception as error:  # the reader's function may fail in any way, and a view cannot show a traceback
            self.problem = str(error) or type(error).__name__
        finally:
            self._adding = False

    _adding = False

    def _start_anew(self, change: object) -> None:
        """After other texts: a text, a layer, a head and a query that exist."""
        if not self._adding:
            self._own = False
        self.text = min(self.text, len(self.texts) - 1)
        self.layer = min(self.layer, len(self.texts[0]["weights"]) - 1)
        self.head = min(self.head, len(self.texts[0]["weights"][0]) - 1)
        self._stay_in_text(change)

    def _stay_in_text(self, change: object) -> None:
        self.query = min(self.query, self.n_tokens - 1)

    def fallback(self) -> str:
        tokens, weights = self.texts[self.text]["tokens"], self.texts[self.text]["weights"]
        best = sorted(range(self.query + 1), key=lambda k: -self.row()[k])[:3]
        looks = ", ".join(f"<q>{html.escape(tokens[k])}</q> ({self.row()[k]:.2f})" for k in best)
        words = (
            f"<p>Attention of a model with {len(weights)} layers of {len(weights[0])} heads, in the text "
            f"<q>{html.escape(''.join(tokens))}</q>. In layer {self.layer}, head {self.head}, the token "
            f"<q>{html.escape(tokens[self.query])}</q> looks most at {looks}; it cannot look at what comes after it. "
            "The table says what each head does on average, from the third token on: how much of its weight lies on "
            "the token itself, on the one before it, and on the first.</p>"
        )
        rows = [
            [layer, head, *(f"{share:.2f}" for share in (habits(flat) or {}).values())]
            for layer, heads in enumerate(weights)
            for head, flat in enumerate(heads)
        ]
        return words + table_html(["layer", "head", "on itself", "on the token before", "on the first"], rows)


def habits(flat: Sequence[int]) -> dict[str, float] | None:
    """Mean weight that the queries from the third on put on themselves, the token before, and the first.

    Nothing before the third token can tell these three apart, and a shorter text gives None.

    >>> habits([1000, 500, 500, 200, 300, 500])
    {'itself': 0.5, 'before': 0.3, 'first': 0.2}
    """
    T = int(((8 * len(flat) + 1) ** 0.5 - 1) / 2 + 0.5)
    if T < 3:
        return None
    starts = [q * (q + 1) // 2 for q in range(2, T)]
    places = {
        "itself": [start + q for q, start in enumerate(starts, 2)],
        "before": [start + q - 1 for q, start in enumerate(starts, 2)],
        "first": starts,
    }
    return {name: sum(flat[i] for i in where) / PER_MILLE / len(starts) for name, where in places.items()}


def _checked_texts(texts: Any) -> list[dict[str, Any]]:
    if not isinstance(texts, list) or not texts:
        raise traitlets.TraitError('texts has to be a list of {"tokens": …, "weights": …}, at least one.')
    checked = []
    for n, entry in enumerate(texts):
        where = f"texts[{n}]"
        if not isinstance(entry, dict) or not {"tokens", "weights"} <= set(entry):
            raise traitlets.TraitError(f'{where} has to be {{"tokens": …, "weights": …}}.')
        tokens = list(entry["tokens"])
        if not all(isinstance(token, str) for token in tokens):
            raise traitlets.TraitError(f"{where}['tokens'] have to be texts, not ids: decode each of them.")
        if not 1 <= len(tokens) <= MAX_TOKENS:
            raise traitlets.TraitError(
                f"{where} has {len(tokens)} tokens; from 1 to {MAX_TOKENS} can be shown: take a shorter text."
            )
        tokens = [token.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for token in tokens]
        checked.append({"tokens": tokens, "weights": _checked_weights(entry["weights"], len(tokens), where)})
    shapes = [(len(entry["weights"]), len(entry["weights"][0])) for entry in checked]
    if len(set(shapes)) > 1:
        raise traitlets.TraitError(
            f"The texts have (layers, heads) {shapes}; these have to agree: use one model for all."
        )
    return checked


def _checked_weights(weights: Any, T: int, where: str) -> list[list[list[int]]]:
    given = weights.tolist() if hasattr(weights, "tolist") else weights
    shape = []
    level = given
    while isinstance(level, list | tuple) and level:
        shape.append(len(level))
        level = level[0].tolist() if hasattr(level[0], "tolist") else level[0]
    packed = len(shape) == 3 and shape[2] == T * (T + 1) // 2
    if not packed and (len(shape) != 4 or shape[2:] != [T, T]):
        raise traitlets.TraitError(
            f"{where}['weights'] have shape {tuple(shape)}; for {T} tokens they have to be (L, H, {T}, {T})."
        )
    heads = [
        [list(head) if packed else _pack(head, T, f"{where}['weights'][{i}][{j}]") for j, head in enumerate(layer)]
        for i, layer in enumerate(given)
    ]
    for i, layer in enumerate(heads):
        for j, flat in enumerate(layer):
            here = f"{where}['weights'][{i}][{j}]"
            if len(layer) != shape[1] or len(flat) != T * (T + 1) // 2:
                raise traitlets.TraitError(
                    f"{here} has another size than the heads before it; all heads need one size."
                )
            _check_rows(flat, T, here)
    return heads


def _pack(head: Any, T: int, where: str) -> list[int]:
    """A head's (T, T) weights -> the lower triangle's rows, one after another, in per mille."""
    rows = [list(row.tolist() if hasattr(row, "tolist") else row) for row in head]
    if [len(row) for row in rows] != [T] * T:
        raise traitlets.TraitError(f"{where} has another size than the heads before it; all heads need one size.")
    flat = []
    for q, row in enumerate(rows):
        for k, weight in enumerate(row):
            if not isinstance(weight, int | float) or not -1e-3 <= weight <= 1.01:  # also where it is not a number
                raise traitlets.TraitError(f"{where}[{q}][{k}] is {weight!r}; a weight lies between 0 and 1.")
            if k > q and weight > 1e-3:
                raise traitlets.TraitError(
                    f"{where}[{q}][{k}] is {weight:.3g}: token {q} would look at token {k}, which comes later. The "
                    "figure shows causal attention only: apply the mask before the softmax."
                )
        flat += [round(PER_MILLE * weight) for weight in row[: q + 1]]
    return flat


def _check_rows(flat: list[int], T: int, where: str) -> None:
    for q in range(T):
        row = flat[q * (q + 1) // 2 : (q + 1) * (q + 2) // 2]
        if not all(type(weight) is int and 0 <= weight <= PER_MILLE for weight in row):
            raise traitlets.TraitError(
                f"{where}, row {q}, is {row}; weights in per mille are whole numbers from 0 to 1000."
            )
        if abs(sum(row) - PER_MILLE) > 10 + (q + 1) / 2:  # 1% for weights in bf16, and each one's rounding
            raise traitlets.TraitError(
                f"{where}, row {q}, sums to {sum(row) / PER_MILLE:.3f}; a distribution sums to 1."
            )
