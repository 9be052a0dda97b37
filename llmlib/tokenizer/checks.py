"""What a reader hands in, checked once, at the door, with a sentence that says what to do."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from llmlib.tokenizer.normalization import Normalizer

_SURROGATE = re.compile("[\ud800-\udfff]")


def check_special_tokens(special_tokens: Collection[str], name: str = "special_tokens") -> list[str]:
    """The special tokens as a list; raises ValueError if one is empty or there twice, or if they are a bare string."""
    if isinstance(special_tokens, str):
        raise ValueError(f"{name} is the string {special_tokens!r}; give a list of strings.")
    tokens = list(special_tokens)
    if "" in tokens or len(set(tokens)) < len(tokens):
        raise ValueError(f"{name} is {tokens!r}; each must be different and not empty.")
    return tokens


def check_text(text: object) -> None:
    """Raise TypeError unless this is a str."""
    if not isinstance(text, str):
        raise TypeError(f"The text is a {type(text).__name__}; give a str (decode bytes first: data.decode('utf-8')).")


def describe_surrogate(text: str) -> str:
    """A sentence that tells where a text's first lone surrogate is."""
    place = _SURROGATE.search(text)
    return (
        f"The text has the lone surrogate U+{ord(place[0]):04X} at position {place.start():,}: half of a character, "
        "which UTF-8 cannot hold. Read the file with errors='replace', or take it out."
    )


def clean_texts(texts: Iterable[str], normalizer: Normalizer | None) -> Iterator[str]:
    """Yield each text, normalized; raises TypeError for what is not a str, ValueError for a lone surrogate."""
    for text in texts:
        check_text(text)
        if not text.isascii() and _SURROGATE.search(text):
            raise ValueError(describe_surrogate(text))
        yield text if normalizer is None else normalizer(text)
