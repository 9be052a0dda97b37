"""The figure Autoregression: a model writes one token after the other, step by step, and can be overruled."""

import html
import json
from collections.abc import Sequence
from typing import Any

import traitlets

from llmlib import tokenizer as tokenizers
from llmlib.tokenizer import Tokenizer
from llmlib.widgets.base import table_html
from llmlib.widgets.checks import one_of, place_in
from llmlib.widgets.page_model import ModelWidget

STAGES = ("tokenize", "forward", "logits", "softmax", "choose", "append")
RULES = ("most probable", "drawn")
MAX_PROMPT, MAX_ROUNDS, MAX_BRANCHES = 400, 60, 12  # characters, new tokens of a branch, branches


class Autoregression(ModelWidget):
    """Step through the loop by which a model writes: tokenize, forward, logits, softmax, choose, append, and again.

    `recording` is what `llmlib.inspection.record_writing` gives: it is shown until the model runs in the page, which it
    does as soon as the reader asks for anything else. The model that runs is the one in `folder`, the book's own unless
    set, and has to be the one that was recorded.

    The reader's side: the `prompt`; `branches`, each the ids that were chosen after it, of which number `branch` is
    shown; the `step`, of which 0 tokenizes and every new token takes five; the `layer` and the `head` that are looked
    into; the `rule` by which the next token is chosen, "most probable" or "drawn" with the `seed`. All can be set;
    another prompt begins anew. `tokens` are the text at this step, and `overrule(" word")` makes the model say
    something else.

    Raises traitlets.TraitError, with what is allowed, for what cannot be shown.
    """

    _module = "autoregression"

    recording = traitlets.Dict(help="A recorded run; see llmlib.inspection.record_writing.").tag(sync=True)
    prompt = traitlets.Unicode(help="The text that the model goes on from.").tag(sync=True)
    branches = traitlets.List([[]], help="Ids chosen after the prompt, a list for each branch.").tag(sync=True)
    branch = traitlets.Int(0, help="Which branch is shown, from 0.").tag(sync=True)
    step = traitlets.Int(0, help="0: tokenize; then forward, logits, softmax, choose, append, and again.").tag(
        sync=True
    )
    layer = traitlets.Int(0, help="The layer that is looked into, from 0.").tag(sync=True)
    head = traitlets.Int(0, help="The layer's query head that is looked into, from 0.").tag(sync=True)
    rule = traitlets.Unicode(RULES[0], help='How a token is chosen: "most probable" or "drawn".').tag(sync=True)
    seed = traitlets.Int(0, help="Tells one series of draws from another.").tag(sync=True)

    _coder: Tokenizer | None = None

    def __init__(self, recording: dict[str, Any], **state: Any) -> None:
        state.setdefault(
            "caption",
            "The book's own model writes, one token after the other. Until it is loaded, the figure shows a run that "
            "was recorded with the same weights; then everything is computed in this page.",
        )
        recording = _checked_recording(recording)
        state.setdefault("prompt", recording["prompt"])
        super().__init__(recording=recording, **state)
        self.observe(self._begin_anew, ["prompt"])
        self.observe(self._stay_in_branches, ["branches"])

    @property
    def coder(self) -> Tokenizer:
        """The tokenizer of the model that runs."""
        if self._coder is None:
            self._coder = tokenizers.load(self.folder / "tokenizer.json")
        return self._coder

    @property
    def round(self) -> int:
        """Which new token is being made, from 0."""
        return max(0, (self.step - 1) // 5)

    @property
    def stage(self) -> str:
        """What this step does: one of STAGES."""
        return STAGES[0] if self.step == 0 else STAGES[1 + (self.step - 1) % 5]

    @property
    def ids(self) -> list[int]:
        """The text at this step: the beginning of a text, the prompt, and what has been appended to it."""
        start = self.recording["ids"][:1]
        return [*start, *self.coder.encode(self.prompt), *self.branches[self.branch][: self.step // 5]]

    @property
    def tokens(self) -> list[str]:
        """The same as texts."""
        return [self.coder.decode([id_]) for id_ in self.ids]

    def overrule(self, text: str) -> None:
        """Let the model have said `text` in this round: a branch of its own, and the others are kept.

        >>> from llmlib.widgets.autoregression import Autoregression, example_recording
        >>> figure = Autoregression(example_recording(), step=4)
        >>> figure.branches = [figure.coder.encode(" a fox")]
        >>> figure.overrule(" two")
        >>> len(figure.branches), figure.branch
        (2, 1)
        """
        ids = self.coder.encode(text)
        if not ids:
            raise ValueError("The text is empty; say at least one token, such as ' fox'.")
        wanted = [*self.branches[self.branch][: self.round], *ids]
        with self.hold_sync():
            self.branches = [*self.branches, wanted][-MAX_BRANCHES:]
            self.branch = len(self.branches) - 1

    @traitlets.validate("recording")
    def _check_recording(self, proposal: dict) -> dict[str, Any]:
        return _checked_recording(proposal["value"])

    @traitlets.validate("prompt")
    def _check_prompt(self, proposal: dict) -> str:
        prompt = proposal["value"]
        if len(prompt) > MAX_PROMPT:
            raise traitlets.TraitError(f"The prompt has {len(prompt)} characters; up to {MAX_PROMPT} can be shown.")
        if any("\ud800" <= character <= "\udfff" for character in prompt):
            raise traitlets.TraitError("The prompt holds a lone surrogate, half of a character: leave it out.")
        context = json.loads((self.folder / "config.json").read_text("utf-8"))["max_position_embeddings"]
        count = 1 + len(self.coder.encode(prompt))
        if count + MAX_ROUNDS > context:
            raise traitlets.TraitError(
                f"The prompt has {count} tokens; with {MAX_ROUNDS} new ones they have to fit a context of {context}: "
                "shorten it."
            )
        return prompt

    @traitlets.validate("branches")
    def _check_branches(self, proposal: dict) -> list[list[int]]:
        branches, V = proposal["value"], self.recording["vocab_size"]
        if not 1 <= len(branches) <= MAX_BRANCHES:
            raise traitlets.TraitError(f"There are {len(branches)} branches; from 1 to {MAX_BRANCHES} can be kept.")
        for branch in branches:
            if not isinstance(branch, list | tuple) or not all(type(id_) is int and 0 <= id_ < V for id_ in branch):
                raise traitlets.TraitError(
                    f"A branch is {branch!r:.60}; it has to be a list of token ids from 0 to {V - 1}."
                )
            if len(branch) > MAX_ROUNDS:
                raise traitlets.TraitError(f"A branch has {len(branch)} tokens; up to {MAX_ROUNDS} can be shown.")
        return [list(branch) for branch in branches]

    @traitlets.validate("branch")
    def _check_branch(self, proposal: dict) -> int:
        return place_in("branch", proposal["value"], len(self.branches))

    @traitlets.validate("step")
    def _check_step(self, proposal: dict) -> int:
        return place_in("step", proposal["value"], 5 * MAX_ROUNDS + 1)

    @traitlets.validate("layer")
    def _check_layer(self, proposal: dict) -> int:
        return place_in("layer", proposal["value"], len(self.recording["rounds"][0]["layers"]))

    @traitlets.validate("head")
    def _check_head(self, proposal: dict) -> int:
        return place_in("head", proposal["value"], len(self.recording["rounds"][0]["layers"][0]["attention"]))

    @traitlets.validate("rule")
    def _check_rule(self, proposal: dict) -> str:
        return one_of("rule", proposal["value"], RULES)

    @traitlets.validate("seed")
    def _check_seed(self, proposal: dict) -> int:
        return place_in("seed", proposal["value"], 10_000)

    def notify_change(self, change: Any) -> None:
        with self.hold_sync():  # another prompt, and that nothing is written after it, in one message to the views
            super().notify_change(change)

    def _begin_anew(self, change: object) -> None:
        self.branches, self.branch, self.step = [[]], 0, 0

    def _stay_in_branches(self, change: object) -> None:
        self.branch = min(self.branch, len(self.branches) - 1)

    def fallback(self) -> str:
        record = self.recording
        best = [chosen["top"][0] for chosen in record["rounds"]]
        written = html.escape("".join(text for _, text, _, _ in best))
        words = (
            f"<p>A model goes on from <q>{html.escape(record['prompt'])}</q>, one token after the other. Each time it "
            f"reads the {len(record['tokens'])} tokens there are, and those it has added; gives each of its "
            f"{record['vocab_size']} tokens a logit; turns these into probabilities with a softmax; and the most "
            f"probable token is appended. So it writes <q>{written}</q>. The queries, keys, values and activations "
            "on the way are in no record: they are shown where the model runs.</p>"
        )
        rows = [
            [len(record["tokens"]) + n, *[f"{_visible(text)} ({p:.2f})" for _, text, _, p in chosen["top"][:3]]]
            for n, chosen in enumerate(record["rounds"])
        ]
        return words + table_html(["tokens read", "most probable", "second", "third"], rows)


def example_recording() -> dict[str, Any]:
    """The smallest recording that the figure takes, of one round, for examples and tests.

    >>> example_recording()["tokens"]
    ['<|endoftext|>', 'Once']
    """
    stream = {"most": 1.0, "values": [99, -50]}
    layer = {"attention": [[400, 600]], "stream": stream, "attended": 1.0, "fed": 0.5, "says": [" a", 0.5]}
    top = [[257, " a", 2.0, 0.6], [258, " the", 1.0, 0.3]]
    rounds = [{"embedding": stream, "layers": [layer], "top": top}]
    tokens = ["<|endoftext|>", "Once"]
    return {"prompt": "Once", "ids": [2047, 1057], "tokens": tokens, "vocab_size": 2048, "rounds": rounds}


def _checked_recording(recording: Any) -> dict[str, Any]:
    advice = "give what llmlib.inspection.record_writing returns."
    wanted = {"prompt": str, "ids": list, "tokens": list, "vocab_size": int, "rounds": list}
    for name, kind in wanted.items():
        if not isinstance(recording, dict) or not isinstance(recording.get(name), kind):
            raise traitlets.TraitError(f"recording has no sound {name!r}; {advice}")
    if not recording["rounds"] or len(recording["ids"]) != len(recording["tokens"]):
        raise traitlets.TraitError(f"recording has no rounds, or not one token for each id; {advice}")
    for n, entry in enumerate(recording["rounds"]):
        if not isinstance(entry, dict) or not {"embedding", "layers", "top"} <= set(entry) or not entry["layers"]:
            raise traitlets.TraitError(f"recording['rounds'][{n}] lacks embedding, layers or top; {advice}")
        heads = {len(row) for layer in entry["layers"] for row in layer["attention"]}
        if heads != {len(recording["ids"]) + n}:
            raise traitlets.TraitError(f"recording['rounds'][{n}] attends to {heads} tokens; {advice}")
    return recording


def _visible(token: str) -> str:
    return token.replace("\n", "↵").replace(" ", "·")


__all__: Sequence[str] = ["RULES", "STAGES", "Autoregression", "example_recording"]
