"""The figure BPEMerges: byte-pair encoding, one merge after another, on any text."""

import html
from functools import lru_cache
from typing import Any

import traitlets

from llmlib.tokenizer import PATTERNS, TIE_BREAKS, PreTokenizer, Tokenizer, count_words, learn_merges
from llmlib.widgets.base import BookWidget, shorten, table_html
from llmlib.widgets.checks import one_of

MAX_CHARACTERS = 20_000
N_BYTES = 256
FALLBACK_ROWS = 20

Pairs = tuple[tuple[int, int], ...]


class BPEMerges(BookWidget):
    """Step through the merges that a text teaches: text in, `merges` and `ids` out.

    Inputs: `text`, `step` (merges made so far), `pre_tokenizer`, `tie_break`. Merge number m (from 0) is a pair of ids
    and makes the id 256 + m; ids 0 to 255 are the bytes. `ids` are the text's symbols after the first `step` merges.
    Python computes both results, with `llmlib.tokenizer`, whenever an input changes, so that they are right without a
    view, too; a view draws from its own computation of the same and never writes them.

    Setting `merges` replays those, on any text (`trained` turns False); `trained = True` learns from the text again.
    Setting `ids` shows the text that they spell, with the merges as they are (`trained` turns False).

    >>> figure = BPEMerges(text="aaabdaaabac", step=2)
    >>> figure.merges, figure.tokens
    ([[97, 97], [256, 97], [257, 98]], [b'aa', b'aaa', b'aaab'])
    >>> figure.ids
    [257, 98, 100, 257, 98, 97, 99]
    >>> figure.ids = [98, 257, 98]
    >>> figure.text
    'baaab'

    Raises traitlets.TraitError, with what is allowed, for a value that the figure cannot show.
    """

    _module = "bpe_merges"

    text = traitlets.Unicode("aaabdaaabac", help="The text that teaches the merges.").tag(sync=True)
    step = traitlets.Int(0, help="Merges made so far.").tag(sync=True)
    pre_tokenizer = traitlets.Unicode("gpt2", help="How words are told apart; merges stay inside a word.").tag(
        sync=True
    )
    tie_break = traitlets.Unicode("greatest", help="Which of equally frequent pairs is merged.").tag(sync=True)
    trained = traitlets.Bool(True, help="True: merges are learned from the text; False: they were given.").tag(
        sync=True
    )
    merges = traitlets.List(traitlets.List(traitlets.Int()), help="Pairs of ids, best first.").tag(sync=True)
    ids = traitlets.List(traitlets.Int(), help="The text's symbols after `step` merges.").tag(sync=True)

    def __init__(self, text: str | None = None, **state: Any) -> None:
        if text is not None:
            state["text"] = text
        if "ids" in state:
            raise traitlets.TraitError("ids are computed from the text and the merges; give those instead.")
        if "merges" in state:
            state["trained"] = False
        state.setdefault(
            "caption",
            "Byte-pair encoding learns its vocabulary from a text: the most frequent pair of neighbouring symbols "
            "becomes a new symbol, again and again. Computed here, from the text above.",
        )
        super().__init__(**state)
        self.observe(self._compute, ["text", "step", "pre_tokenizer", "tie_break", "trained"])
        self.observe(self._take_merges, ["merges"])
        self.observe(self._take_ids, ["ids"])
        self._compute()

    @property
    def tokens(self) -> list[bytes]:
        """The bytes of each merged token, in the order of `merges`."""
        return [left + right for left, right in _pairs_of_bytes(_freeze(self.merges))]

    @traitlets.validate("text")
    def _check_text(self, proposal: dict) -> str:
        return _checked(proposal["value"])

    @traitlets.validate("pre_tokenizer")
    def _check_pre_tokenizer(self, proposal: dict) -> str:
        return one_of("pre_tokenizer", proposal["value"], PATTERNS)

    @traitlets.validate("tie_break")
    def _check_tie_break(self, proposal: dict) -> str:
        return one_of("tie_break", proposal["value"], TIE_BREAKS)

    @traitlets.validate("merges")
    def _check_merges(self, proposal: dict) -> list[list[int]]:
        made: dict[bytes, int] = {bytes([byte]): byte for byte in range(N_BYTES)}
        tokens = list(made)
        for number, pair in enumerate(proposal["value"]):
            if len(pair) != 2 or not all(0 <= i < N_BYTES + number for i in pair):
                raise traitlets.TraitError(
                    f"Merge {number} is {pair}; it has to be two ids that exist by then, "
                    f"from 0 to {N_BYTES + number - 1}."
                )
            token = tokens[pair[0]] + tokens[pair[1]]
            if token in made:
                raise traitlets.TraitError(
                    f"Merge {number} makes {token!r}, which is token {made[token]} already: leave one of the two out."
                )
            made[token] = N_BYTES + number
            tokens.append(token)
        return proposal["value"]

    @traitlets.validate("ids")
    def _check_ids(self, proposal: dict) -> list[int]:
        if not self._computing:
            ids, text = proposal["value"], self._spelled(proposal["value"])
            cut = list(_encode(text, self.pre_tokenizer, _freeze(self.merges[: self.step])))
            if cut != ids:
                raise traitlets.TraitError(
                    f"ids is {shorten(ids)}, which spells {shorten(text)}, but after {self.step} merges that text is "
                    f"{shorten(cut)}; set ids that the merges lead to, or set text."
                )
        return proposal["value"]

    @traitlets.validate("step")
    def _check_step(self, proposal: dict) -> int:
        step, limit = proposal["value"], len(self._merges_now())
        if step < 0 or step > limit:
            raise traitlets.TraitError(
                f"step is {step}; this text has {limit} merges, so choose a step from 0 to {limit}."
            )
        return step

    def _merges_now(self) -> list[list[int]]:
        if not self.trained:
            return self.merges
        return [list(pair) for pair in _learn(self.text, self.pre_tokenizer, self.tie_break)]

    def _compute(self, change: object = None) -> None:
        """Bring merges, step and ids up to date with the inputs, and tell a view in one message."""
        with self.hold_sync():
            merges = self._merges_now()
            self._computing = True
            try:
                self.merges = merges
                self.step = min(self.step, len(merges))
                self.ids = list(_encode(self.text, self.pre_tokenizer, _freeze(merges[: self.step])))
            finally:
                self._computing = False

    def _take_merges(self, change: object) -> None:
        if not self._computing:
            self.trained = False
            self._compute()

    def _take_ids(self, change: dict) -> None:
        if not self._computing:
            with self.hold_sync(), self.hold_trait_notifications():
                self.trained, self.text = False, self._spelled(change["new"])

    def _spelled(self, ids: list[int]) -> str:
        """The text that ids stand for; raises TraitError for an id that is not there yet, or half a character."""
        tokens = [bytes([byte]) for byte in range(N_BYTES)] + self.tokens[: self.step]
        unknown = [i for i in ids if not 0 <= i < len(tokens)]
        if unknown:
            raise traitlets.TraitError(
                f"ids has {unknown[0]}; after {self.step} merges there are ids from 0 to {len(tokens) - 1}."
            )
        try:
            return _checked(b"".join(tokens[i] for i in ids).decode())
        except UnicodeDecodeError as error:
            raise traitlets.TraitError(f"The ids spell no text ({error}); set ids of whole characters.") from None

    _computing = False

    def fallback(self) -> str:
        merges = _freeze(self.merges)
        lengths = [
            len(_encode(self.text, self.pre_tokenizer, merges[:n])) for n in range(min(len(merges), FALLBACK_ROWS) + 1)
        ]
        rows = [
            (n + 1, _visible(left), _visible(right), _visible(left + right), N_BYTES + n, lengths[n + 1])
            for n, (left, right) in enumerate(_pairs_of_bytes(merges)[:FALLBACK_ROWS])
        ]
        shown = self.text if len(self.text) <= 200 else f"{self.text[:200]}…"
        more = f" The table shows the first {FALLBACK_ROWS}." if len(merges) > FALLBACK_ROWS else ""
        words = (
            f"<p>Byte-pair encoding of the text <code>{html.escape(_line(shown))}</code>: it has {lengths[0]} bytes, "
            f"and teaches {len(merges)} merges, each the most frequent pair of neighbouring symbols at that moment."
            f"{more}</p>"
        )
        head = ["merge", "left", "right", "new symbol", "id", "symbols after it"]
        return words + (
            table_html(head, rows) if rows else "<p>No pair of symbols occurs twice, so there is nothing to merge.</p>"
        )


def _checked(text: str) -> str:
    """The text, unless the figure cannot take it: then raises TraitError."""
    if len(text) > MAX_CHARACTERS:
        raise traitlets.TraitError(
            f"The text has {len(text):,} characters; the figure takes up to {MAX_CHARACTERS:,}: give it a part."
        )
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise traitlets.TraitError(
            "The text holds a lone surrogate, half of a character: replace it, for example by "
            "text.encode('utf-8', 'replace').decode()."
        )
    return text


def _freeze(merges: list[list[int]]) -> Pairs:
    return tuple((left, right) for left, right in merges)


def _pairs_of_bytes(merges: Pairs) -> list[tuple[bytes, bytes]]:
    tokens = [bytes([byte]) for byte in range(N_BYTES)]
    pairs = []
    for left, right in merges:
        pairs.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    return pairs


@lru_cache(maxsize=8)
def _learn(text: str, pre_tokenizer: str, tie_break: str) -> Pairs:
    """All merges that a text teaches, as pairs of ids."""
    if text == "":
        return ()
    words = count_words([text], PreTokenizer.named(pre_tokenizer))
    tokenizer = Tokenizer([step[:2] for step in learn_merges(words, len(text.encode()), tie_break=tie_break)])
    return tuple((tokenizer.vocab[left], tokenizer.vocab[right]) for left, right in tokenizer.merges)


@lru_cache(maxsize=64)
def _encode(text: str, pre_tokenizer: str, merges: Pairs) -> tuple[int, ...]:
    return tuple(Tokenizer(_pairs_of_bytes(merges), pre_tokenizer=pre_tokenizer).encode(text))


def _line(text: str) -> str:
    return text.replace("\n", "↵")


def _visible(token: bytes) -> str:
    """A token in one line: white space as signs, what is not UTF-8 in hex.

    >>> _visible(b" a\\n"), _visible(b"\\xf0\\x9f")
    ('·a↵', '⟨F0 9F⟩')
    """
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return f"⟨{token.hex(' ').upper()}⟩"
    return _line(text).replace(" ", "·")
