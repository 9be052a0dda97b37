"""Texts and tokenizers for the tests of llmlib.tokenizer."""

import pydoc_data.topics
import random
import unicodedata
from collections.abc import Callable

import pytest
import tiktoken
import tokenizers

from llmlib.tokenizer import GPT2_PATTERN, Tokenizer, save

# Each library carries a Unicode of its own, of different years: what one takes for a letter is unassigned in another.
# Compared are the characters that this Python's Unicode knows (14 in Python 3.11, 16 in 3.14), the oldest of all.

# All of Unicode's White_Space, and what looks like it and is not: separators, zero-width signs, the byte order mark.
SPACES = [*" \t\n\v\f\r\x85\xa0\u1680\u2000\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000"]
NEARLY_SPACES = [*"\x00\x1b\x1c\x1d\x1e\x1f\x7f\u180e\u200b\u200c\u200d\u2060\ufeff"]
CODE = [
    "def f(x):\n    return x\n",
    "for (i=0;",
    "\t\t}",
    "!=",
    "->",
    "//",
    "x_1",
    "0x1F",
    "1e-9",
    "__",
    "  # ",
    "'s",
    "'LL",
]
EMOJI = ["😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇨🇭", "☺️", "1️⃣"]
WORDS = [
    "the",
    " a",
    "It's",
    "we'll",
    " I'd",
    "don't",
    "'re",
    "''",
    "...",
    "Straße",
    "naïve",
    "e\u0301",
    "½",
    "x²",
    "Ⅻ",
]


def scripts() -> list[list[str]]:
    """All characters that this Python's Unicode knows, in blocks of 128 (surrogates and private ones left out)."""
    blocks = []
    for start in range(0, 0x32000, 128):
        block = [c for c in map(chr, range(start, start + 128)) if unicodedata.category(c) not in ("Cn", "Cs", "Co")]
        if block:
            blocks.append(block)
    return blocks


SCRIPTS = scripts()


def generate_text(rng: random.Random) -> str:
    """A short text: a few stretches, each of one kind (a script, spaces, code, emoji, English, bytes at random)."""
    stretches = []
    for _ in range(rng.randint(1, 6)):
        kind = rng.randrange(8)
        length = rng.choice((1, 1, 2, 3, 5, 12))
        if kind == 0:
            stretches.append(rng.randbytes(length).decode("utf-8", errors="replace"))
        elif kind == 1:
            stretches.append("".join(chr(rng.randrange(128)) for _ in range(length)))
        else:
            pool = (
                rng.choice(SCRIPTS),
                rng.choice(SCRIPTS),
                SPACES,
                SPACES + NEARLY_SPACES + ["a", "1"],
                WORDS,
                CODE + EMOJI,
            )
            stretches.append("".join(rng.choices(pool[kind - 2], k=length)))
        if rng.random() < 0.4:
            stretches.append(rng.choice((" ", "  ", "\n", "\n    ", "\t ", " \n")))
    return "".join(c for c in "".join(stretches) if unicodedata.category(c) != "Cn")


def training_text() -> str:
    """English and code from Python's manual, and words of each script, so that merges span all kinds of characters."""
    rng = random.Random(5)
    manual = "\n".join(pydoc_data.topics.topics.values())[:400_000]
    letters = [[c for c in block if c.isalpha()] for block in SCRIPTS]
    words = [" " * (i % 2) + "".join(rng.choices(block, k=4)) for block in letters if block for i in range(4)]
    return manual + "".join(rng.choices(words, k=20_000)) + "".join(rng.choices(SPACES + EMOJI + CODE, k=5_000))


@pytest.fixture(scope="session")
def generate() -> Callable[[random.Random], str]:
    return generate_text


@pytest.fixture(scope="session")
def trained() -> Tokenizer:
    return Tokenizer.train(training_text(), 4096, special_tokens=["<|endoftext|>"])


@pytest.fixture(scope="session")
def peers(trained, tmp_path_factory) -> tuple[tokenizers.Tokenizer, tiktoken.Encoding]:
    """The same merges in `tokenizers` (through our tokenizer.json) and in `tiktoken` (through its ranks)."""
    path = tmp_path_factory.mktemp("peers") / "tokenizer.json"
    save(trained, path)
    ranks = tiktoken.Encoding(
        "peer", pat_str=GPT2_PATTERN, mergeable_ranks=trained.vocab, special_tokens=trained.special_tokens
    )
    return tokenizers.Tokenizer.from_file(str(path)), ranks
