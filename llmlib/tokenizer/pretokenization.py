r"""Stage 2, pre-tokenization: text in, words out. The words joined are the text again; no merge crosses a word's end.

Fast path: chunks. Much of a text repeats, so it pays to cut it into chunks at C speed first and to split each
*different* chunk only once. A chunk is a run of white space and the run of other characters after it: `\s*\S+`. That
is safe for the patterns named here, because for each of them:

1. A word holds white space only as one leading space, or it is nothing but white space. So where a character that is
   not white space is followed by white space, one word ends and the next begins: each start of a chunk is a start of
   a word.
2. No pattern looks behind, so what stands before a chunk does not change how it is split.
3. A pattern looks ahead only in `\s+(?!\S)`, which is inside a run of white space, and a chunk never ends inside one.

For the same reasons a word that is split again stays one word, so that words and chunks can share one memory.

Patterns of other makers may break the first rule (some let a word take the line ends after it): those are run over
the whole text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import chain

import regex

from llmlib.tokenizer.normalization import WHITE_SPACE

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
WHITE_SPACE_PATTERN = r" ?\S+|\s+(?!\S)|\s+"
PUNCTUATION_PATTERN = r" ?[^\s\p{P}\p{S}]+| ?[\p{P}\p{S}]+|\s+(?!\S)|\s+"
DIGIT_PATTERN = r"\p{N}"
DIGITS_PATTERN = r"\p{N}+"

PATTERNS: dict[str, tuple[str, ...]] = {
    "none": (),
    "white space": (WHITE_SPACE_PATTERN,),
    "punctuation": (PUNCTUATION_PATTERN,),
    "gpt2": (GPT2_PATTERN,),
}

_CHUNKS_ARE_SAFE = {GPT2_PATTERN, WHITE_SPACE_PATTERN, PUNCTUATION_PATTERN}
_LEAVES_WHITE_SPACE_ALONE = {DIGIT_PATTERN, DIGITS_PATTERN}

_CHUNK = re.compile(r"\s*\S+|\s+")
_SEPARATORS = "\x1c\x1d\x1e\x1f"  # white space to `re`, not to Unicode: texts with one of them need a slower expression
_CHUNK_EXACT = re.compile(f"[{WHITE_SPACE}]*[^{WHITE_SPACE}]+|[{WHITE_SPACE}]+")
# Inside [...], these mean sets to the tokenizer libraries and plain characters to Python.
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_SET_OPERATION = re.compile(r"\[\^?\]?[^\]]*?(?:\[(?!:)|&&|--|~~)")

_CUT = re.compile(r"(?<=\w)[ \n]")

BLOCK_CHARACTERS = 1 << 16  # of text at a time: its chunks fit into the processor's cache (measured)


def pre_tokenize(text: str, pattern: str | PreTokenizer = "gpt2") -> list[str]:
    """Split a text into words, by a named pattern or a pre-tokenizer of your own: text -> [word, ...].

    - "gpt2": a word of letters, of digits, or of other signs, each with one space before it if there is one; English
      contractions; runs of white space. The pattern of GPT-2.
    - "white space": whatever stands between white space, with one space before it.
    - "punctuation": as "white space", and punctuation and symbols apart from the rest.
    - "none": the whole text is one word.

    >>> pre_tokenize("It's 10  o'clock!")
    ['It', "'s", ' 10', ' ', ' o', "'", 'clock', '!']
    >>> pre_tokenize("It's 10  o'clock!", "white space")
    ["It's", ' 10', ' ', " o'clock!"]
    >>> pre_tokenize("It's 10  o'clock!", "punctuation")
    ['It', "'", 's', ' 10', ' ', ' o', "'", 'clock', '!']
    >>> pre_tokenize("a1b", PreTokenizer((r"[0-9]",)))
    ['a', '1', 'b']

    Raises ValueError for a name that does not exist.
    """
    return PreTokenizer.named(pattern).split(text)


@dataclass(frozen=True)
class PreTokenizer:
    """The settings of stage 2: regular expressions, each applied to every word that the one before it made.

    What an expression matches becomes a word, and so does what stands between two matches. `prefix_space` (with
    GPT-2's pattern or with none) puts a space before a text that does not begin with one, so that its first word is
    like the others.

    >>> list(PreTokenizer((DIGIT_PATTERN, GPT2_PATTERN)).split("in 1994"))
    ['in', ' ', '1', '9', '9', '4']

    Raises ValueError for an expression that is not valid, for a bare string in the place of the tuple, and for a prefix
    space with other patterns.
    """

    patterns: tuple[str, ...] = (GPT2_PATTERN,)
    prefix_space: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.patterns, str):
            raise ValueError(
                f"patterns is the string {self.patterns!r}; give a tuple of expressions, as in "
                f"PreTokenizer(({self.patterns!r},)), or take a named one: PreTokenizer.named(...)."
            )
        object.__setattr__(self, "patterns", tuple(self.patterns))
        for pattern in self.patterns:
            compile_pattern(pattern)
        if self.prefix_space and self.patterns not in ((), (GPT2_PATTERN,)):
            raise ValueError("prefix_space is for GPT-2's pattern or for none; leave it out with other patterns.")

    @classmethod
    def named(cls, name: str | PreTokenizer) -> PreTokenizer:
        """The pre-tokenizer of a name in `PATTERNS`; one that is ready is handed back.

        >>> PreTokenizer.named("none").patterns
        ()
        """
        if isinstance(name, PreTokenizer):
            return name
        if name not in PATTERNS:
            names = ", ".join(map(repr, PATTERNS))
            raise ValueError(
                f"There is no pre-tokenizer {name!r}; choose {names}, or give PreTokenizer((expression,))."
            )
        return cls(PATTERNS[name])

    def __reduce__(self) -> tuple:
        return type(self), (self.patterns, self.prefix_space)  # what is cached stays behind

    @cached_property
    def chunks_are_safe(self) -> bool:
        """Whether a text may be split chunk by chunk (the argument is at the head of this module)."""
        *before, last = self.patterns or ("",)
        return last in _CHUNKS_ARE_SAFE and _LEAVES_WHITE_SPACE_ALONE.issuperset(before)

    def begin(self, text: str) -> str:
        """A text as it goes into `split`: with the prefix space, if one is asked for and the text lacks it."""
        return " " + text if self.prefix_space and text and not text.startswith(" ") else text

    @cached_property
    def split(self) -> Callable[[str], list[str]]:
        """A function that splits a text into its words."""
        if len(self.patterns) != 1 or not self.chunks_are_safe:
            return lambda text: list(self.iterate(text))
        find = compile_pattern(self.patterns[0]).findall  # these patterns leave no gap: the matches are all words

        def split(text: str) -> list[str]:
            if text.isascii() and text.removeprefix(" ").isalpha():
                return [text]  # one English word, like most chunks; no need to look closer
            return find(text)

        return split

    def iterate(self, text: str) -> Iterator[str]:
        """The words of a text one by one, whatever the patterns."""
        words: Iterator[str] = iter((text,) if text else ())
        for pattern in self.patterns:
            words = chain.from_iterable(map(partial(isolate, compile_pattern(pattern)), words))
        return words

    def chunks(self, text: str) -> Iterator[list[str]]:
        """A text as lists of chunks, a block of it at a time; where chunks are not safe, as lists of words."""
        if self.chunks_are_safe:
            find = (_CHUNK_EXACT if any(c in text for c in _SEPARATORS) else _CHUNK).findall
            start, end = 0, BLOCK_CHARACTERS
            while start < len(text):
                cut = _CUT.search(text, end) if end < len(text) else None
                end = cut.start() if cut else len(text)
                yield find(text, start, end)
                start, end = end, end + BLOCK_CHARACTERS
        elif self.patterns:
            block = []
            for word in self.iterate(text):
                block.append(word)
                if len(block) == BLOCK_CHARACTERS // 8:
                    yield block
                    block = []
            yield block
        elif text:
            yield [text]


def count_words(texts: Iterable[str], pre_tokenizer: PreTokenizer) -> dict[bytes, int]:
    """Count the words of texts: [text, ...] -> {word in UTF-8: count}, in order of first appearance.

    Only different chunks are split into words, so beyond the counting at C speed the cost grows with the unique words.

    >>> count_words(["to be or not", " to be"], PreTokenizer())
    {b'to': 1, b' be': 2, b' or': 1, b' not': 1, b' to': 1}

    Raises UnicodeEncodeError for a lone surrogate.
    """
    chunk_counts: Counter[str] = Counter()
    for text in texts:
        for chunks in pre_tokenizer.chunks(pre_tokenizer.begin(text)):
            chunk_counts.update(chunks)
    if not pre_tokenizer.chunks_are_safe:
        return {word.encode(): count for word, count in chunk_counts.items()}
    word_counts: dict[str, int] = {}
    split, count_of = pre_tokenizer.split, word_counts.get
    for chunk, count in chunk_counts.items():
        for word in split(chunk):
            word_counts[word] = count_of(word, 0) + count
    return {word.encode(): count for word, count in word_counts.items()}


def isolate(expression: regex.Pattern, text: str) -> Iterator[str]:
    """Yield each match and each stretch between matches, in order: the words joined are the text.

    >>> list(isolate(regex.compile("[.]"), "a.b"))
    ['a', '.', 'b']
    """
    end = 0
    for match in expression.finditer(text):
        start, stop = match.span()
        if end < start:
            yield text[end:start]
        if start < stop:
            yield text[start:stop]
        end = stop
    if end < len(text):
        yield text[end:]


@lru_cache(maxsize=64)
def compile_pattern(pattern: str) -> regex.Pattern:
    r"""Compile an expression with Unicode properties (`\p{L}`, which Python's `re` does not know).

    Raises ValueError when it is not valid, or when tokenizer libraries would read it in another way (set operations).
    """
    try:
        if _SET_OPERATION.search(_ESCAPED.sub("x", pattern)):
            raise regex.error("it has a set inside a set, or a set operation")
        return regex.compile(pattern)
    except regex.error as problem:
        raise ValueError(
            f"The pre-tokenizer's expression {pattern!r} cannot be used ({problem}); write it in the syntax of "
            "Python's `regex` package, without set operations."
        ) from None
