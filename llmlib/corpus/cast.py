"""Who lives in the story world, and its words: read from `characters.toml` and `words.toml`, weighted by Zipf's law."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import zip_longest
from random import Random

from llmlib.corpus.templates import Lexicon

ATTRIBUTES = ("species", "coat", "trait", "home", "food", "hobby", "fear")
PRONOUNS = {"she": ("she", "he"), "him": ("her", "him"), "his": ("her", "his"), "himself": ("herself", "himself")}


@dataclass(frozen=True)
class Character:
    """Someone with a name, a pronoun and one value of each attribute; `rank` 1 is met most often."""

    rank: int
    name: str
    she: bool
    attributes: dict[str, str]


def read_data(name: str) -> dict:
    """One of the world's data files."""
    return tomllib.loads(files("llmlib.corpus").joinpath(name).read_text(encoding="ascii"))


def _words(listed: str) -> list[str]:
    return [" ".join(word.split()) for word in listed.split(",")]


def _deal(values: list[str], n: int, seed: str) -> list[str]:
    """n values, all about equally often, in an order that depends on `seed` alone."""
    draw = Random(seed).random
    dealt: list[str] = []
    while len(dealt) < n:
        dealt.extend(value for _, value in sorted((draw(), value) for value in values))
    return dealt[:n]


@lru_cache(maxsize=1)
def characters() -> tuple[Character, ...]:
    """Everyone who lives in the story world, most often met first.

    >>> mina = characters()[0]
    >>> mina.name, mina.attributes["species"] == characters()[0].attributes["species"], len(characters())
    ('Mina', True, 304)
    """
    data = read_data("characters.toml")
    she, he = (_words(data["names"][key]) for key in ("she", "he"))
    names = [(name, i == 0) for pair in zip_longest(she, he) for i, name in enumerate(pair) if name]
    dealt = {key: _deal(_words(data["attributes"][key]), len(names), f"story world: {key}") for key in ATTRIBUTES}
    return tuple(
        Character(i + 1, name, is_she, {key: dealt[key][i] for key in ATTRIBUTES})
        for i, (name, is_she) in enumerate(names)
    )


def lexicons(exponent: float) -> dict[str, Lexicon]:
    """All lexicons, weighted by Zipf's law: 1 / (rank + shift)^exponent, without shift for characters."""
    made = {}
    for name, lists in read_data("words.toml").items():
        ranked = []  # the lists of all kinds, merged so that each keeps its order and they run out together
        for kind, listed in lists.items():
            words = _words(listed)
            ranked += [((i + 0.5) / len(words), word, kind if len(lists) > 1 else "") for i, word in enumerate(words)]
        ranked.sort(key=lambda item: item[0])
        weights = [(rank + 2.7) ** -exponent for rank in range(1, len(ranked) + 1)]
        made[name] = Lexicon(name, [w for _, w, _ in ranked], [k for _, _, k in ranked], weights)
    cast = characters()
    attributes = {key: [c.attributes[key] for c in cast] for key in ATTRIBUTES}
    attributes |= {form: [pair[0] if c.she else pair[1] for c in cast] for form, pair in PRONOUNS.items()}
    weights = [c.rank**-exponent for c in cast]
    made["character"] = Lexicon("character", [c.name for c in cast], [""] * len(cast), weights, attributes)
    return made
