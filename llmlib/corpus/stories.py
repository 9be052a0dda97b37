"""The story world: short stories for a model to learn from, whose every probability is known.

The world is written in three data files: `words.toml` (what there is), `characters.toml` (who lives there) and
`plots.toml` (how stories go). `StoryWorld` reads them as a probabilistic grammar (see `grammar.py`) and so can draw
any amount of stories, tell each one's exact log-probability from its text alone, and say how much a perfect model of
these stories must lose: the entropy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import count
from numbers import Integral
from random import Random

from llmlib.corpus.cast import ATTRIBUTES, Character, characters, lexicons, read_data
from llmlib.corpus.grammar import Grammar, Nest, Pick, Say, Text
from llmlib.corpus.parsing import Parse, Parser, Recall
from llmlib.corpus.sources import SEPARATOR
from llmlib.corpus.templates import Compiler, Role

WORD = re.compile(r"[A-Za-z']+(?:-[A-Za-z]+)*")


class NotAStory(ValueError):
    """The text is no story of this world; the message says where it stops being one."""


@dataclass(frozen=True)
class Fact:
    """What a model has to remember: this character's value of this attribute. `rate` is its exact mentions a story."""

    rank: int
    character: str
    attribute: str
    value: str
    rate: float


@dataclass(frozen=True)
class FactSpan:
    """Where a story states a fact: characters [start, end). `first`: it stands nowhere earlier in the story."""

    start: int
    end: int
    fact: Fact
    first: bool


@dataclass(frozen=True)
class Story:
    """A text, its log-probability in nats, and the choices that derive it; the rest is worked out when asked for."""

    text: str
    log_prob: float
    choices: tuple[int, ...] = field(repr=False)
    world: StoryWorld = field(repr=False, compare=False)

    @cached_property
    def steps(self) -> list:
        """The nodes passed through, each with the entry that it drew or looked up and what it wrote."""
        return self.world.grammar.replay(self.choices)[1]

    @property
    def length(self) -> int:
        """Words."""
        return len(WORD.findall(self.text))

    @cached_property
    def depth(self) -> int:
        """How deep clauses and tales stand inside one another; 0 for a plain story."""
        return max((node.level for node, _, _ in self.steps if type(node) is Nest), default=0)

    @cached_property
    def rarity(self) -> float:
        """The mean surprise of the words drawn, in nats a word: high where a story uses rare ones."""
        surprises = [-self.world.word_log_p(node, entry) for node, entry, _ in self.steps if type(node) is Pick]
        return sum(surprises) / len(surprises)

    @cached_property
    def roles(self) -> dict[str, str]:
        """Who and what the story is about: the word that each role remembers."""
        words = {}
        for node, entry, _ in self.steps:
            if type(node) is Pick and node.role:
                words[node.role] = self.world.lexicons[node.lexicon].words[entry]
        return words

    @cached_property
    def facts(self) -> list[FactSpan]:
        """Every place that is settled by the character table, in order."""
        spans, at, told = [], 0, set()
        for node, entry, piece in self.steps:
            if type(node) is Say and (attribute := node.form.partition(":")[0]) in ATTRIBUTES:
                fact = self.world.fact(entry, attribute)
                spans.append(FactSpan(at, at + len(piece), fact, fact not in told))
                told.add(fact)
            at += len(piece)
        return spans


@dataclass(frozen=True)
class Report:
    """What is right and wrong about a text. `facts`, `references`: those met as far as the text could be followed.

    `grammatical`: a story in form, whatever it remembers. `facts_ok`, `references_ok`: no fact against the character
    table; every name, thing and pronoun that looks back agrees with what it looks back to. `ends`: the last sentences
    are an ending.
    """

    grammatical: bool
    facts: tuple[Recall, ...]
    references: tuple[Recall, ...]
    ends: bool
    message: str

    @property
    def facts_ok(self) -> bool:
        return all(recall.ok for recall in self.facts)

    @property
    def references_ok(self) -> bool:
        return all(recall.ok for recall in self.references)

    @property
    def valid(self) -> bool:
        """A story of the world in every respect."""
        return self.grammatical and self.facts_ok and self.references_ok


class StoryWorld:
    """The world at one `difficulty` from 0 to 1: harder stories are longer, nest deeper, and use rarer words.

    The default, 0.5, is the mixture that the whole book trains on; there, characters are met with probability in
    proportion to 1/rank.

    >>> world = StoryWorld()
    >>> story = next(world.stories(seed=1))
    >>> world.parse(story.text).log_prob == story.log_prob
    True
    >>> 90 < world.entropy() < 120  # nats a story
    True

    Raises ValueError for a difficulty outside [0, 1].
    """

    def __init__(self, difficulty: float = 0.5):
        if not 0 <= difficulty <= 1:
            raise ValueError(f"The difficulty is a number from 0 (easy) to 1 (hard); given {difficulty!r}.")
        self.difficulty = difficulty
        plots = read_data("plots.toml")
        self.lexicons = lexicons(exponent=1.4 - 0.8 * difficulty)
        self.roles = {
            name: Role(role) if isinstance(role, str) else Role(role["lexicon"], tuple(role["differs"]))
            for name, role in plots["roles"].items()
        }
        self.rules = {
            name: text.strip().split("\n") for part in ("phrases", "sentences") for name, text in plots[part].items()
        }
        self.sentences = frozenset(plots["sentences"])
        self._compiler = Compiler(self.rules, self.lexicons, self.roles, self.sentences, difficulty)
        self.grammar: Grammar = self._compiler.grammar("story")
        self._parser = Parser(self.grammar)
        self._word_log_p = {name: self._compiler.dist(name).log_p for name in self.lexicons}

    # Writing ------------------------------------------------------------------------------------------------

    def sample(self, random: Random) -> Story:
        """One story. Only `random.random()` is called, whose numbers are the same in every version of Python."""
        made = self.grammar.sample(random.random)
        return Story(made.text, made.log_prob, made.choices, self)

    def stories(self, seed: int, n: int | None = None) -> Iterator[Story]:
        """n stories, or without end if n is None: the same for the same seed, independent for another.

        Raises ValueError for a seed that is not a whole number from 0 on.
        """
        if not isinstance(seed, Integral) or seed < 0:  # Random(-1) repeats Random(1), and Random(None) never repeats
            raise ValueError(f"The seed is a whole number, 0 or more, so that it can be repeated; given {seed!r}.")
        return self._stories(Random(int(seed)), n)

    def _stories(self, random: Random, n: int | None) -> Iterator[Story]:
        for _ in range(n) if n is not None else count():
            yield self.sample(random)

    # What is known exactly ----------------------------------------------------------------------------------

    def entropy(self) -> float:
        """Nats a story, exactly: the least that any model can lose. E per token = entropy / mean tokens a story."""
        return self.grammar.entropy()

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """Every word, in lower case, that some story holds."""
        words: set[str] = set()
        for node in self.grammar.visits():
            pieces = [node.text] if type(node) is Text else node.words if type(node) in (Say, Pick) else []
            words.update(word.lower() for piece in pieces for word in WORD.findall(piece))
        return frozenset(words)

    @property
    def characters(self) -> tuple[Character, ...]:
        return characters()

    @cached_property
    def facts(self) -> tuple[Fact, ...]:
        """All facts that stories state, most often stated first; `rate` is the exact mean of mentions a story."""
        rates: dict[tuple[int, str], float] = {}
        for node, visits in self.grammar.visits().items():
            if type(node) is Say and (attribute := node.form.partition(":")[0]) in ATTRIBUTES:
                for i, p in enumerate(self.grammar.marginal(node.role)):
                    rates[i, attribute] = rates.get((i, attribute), 0.0) + visits * p
        ranked = sorted(rates.items(), key=lambda item: (-item[1], item[0]))
        return tuple(
            Fact(rank, characters()[i].name, attribute, characters()[i].attributes[attribute], rate)
            for rank, ((i, attribute), rate) in enumerate(ranked, 1)
        )

    @cached_property
    def _facts_by_key(self) -> dict[tuple[str, str], Fact]:
        return {(fact.character, fact.attribute): fact for fact in self.facts}

    def fact(self, character: int, attribute: str) -> Fact:
        """The fact about the character with this index (rank - 1)."""
        return self._facts_by_key[characters()[character].name, attribute]

    def word_log_p(self, node: Pick, entry: int) -> float:
        """Nats: how common a drawn word is in its lexicon."""
        return self._word_log_p[node.lexicon][entry]

    # Reading ------------------------------------------------------------------------------------------------

    def parse(self, text: str) -> Story:
        """The story with this text, its log-probability and its choices, recovered from the text alone.

        Raises NotAStory with a sentence that says where the text stops being a story.
        """
        result = self._parser.parse(text)
        if not result.found:
            raise NotAStory(self._message(text, result))
        (made,) = result.found  # exactly one: see `ambiguity.find_ambiguity`
        return Story(made.text, made.log_prob, made.choices, self)

    def check(self, text: str) -> Report:
        """What is right and wrong about a text: its form, its facts, its references back, its ending."""
        result = self._parser.parse(text, relaxed=True)
        recalls = result.recalls[0] if result.recalls else []
        for other in result.recalls[1:]:
            recalls = min(recalls, other, key=lambda each: sum(not recall.ok for recall in each))
        facts = tuple(r for r in recalls if type(r.node) is Say and r.node.form.partition(":")[0] in ATTRIBUTES)
        references = tuple(r for r in recalls if r not in facts)
        message = "" if result.found else self._message(text, result)
        return Report(bool(result.found), facts, references, bool(result.found) or self._ends(text), message)

    @cached_property
    def _endings(self) -> Parser:
        return Parser(self._compiler.grammar("ending"))

    def _ends(self, text: str) -> bool:
        """Whether the text's last sentences are an ending, whoever it is about."""
        starts = [m.start() for m in re.finditer(r"(?<=[.!?\"]) ", text)][-4:]
        return any(self._endings.parse(text[start:], relaxed=True).found for start in reversed(starts))

    def _message(self, text: str, result: Parse) -> str:
        if not text:
            return "The text is empty: a story has at least a beginning and an ending."
        options = ", ".join(repr(option) for option in result.expected[:3] if option)
        if result.unfinished or result.furthest == len(text):
            return f"The text ends at character {len(text)} before the story does; it could go on with {options}."
        before, after = text[max(0, result.furthest - 30) : result.furthest], text[result.furthest :][:20]
        if not options:
            return (
                f"At character {result.furthest} the story has ended (...{before!r}), but the text goes on: {after!r}."
            )
        more = f" or {len(result.expected) - 3} others" if len(result.expected) > 3 else ""
        return (
            f"At character {result.furthest}, after {before!r}, no story goes on with {after!r}; "
            f"expected {options}{more}."
        )


@lru_cache(maxsize=8)
def _world(difficulty: float) -> StoryWorld:
    return StoryWorld(difficulty)


def stories(seed: int, n: int | None = None, difficulty: float = 0.5) -> Iterator[Story]:
    """n stories of the world (without end if n is None), always the same for the same seed.

    >>> [len(list(stories(seed=0, n=n))) for n in (0, 3)]
    [0, 3]
    """
    return _world(difficulty).stories(seed, n)


def story_text(n_bytes: int, seed: int, difficulty: float = 0.5) -> str:
    r"""About n_bytes of stories (the first to reach n_bytes is the last), joined by a blank line ("\n\n").

    >>> text = story_text(5000, seed=0)
    >>> 5000 <= len(text) < 8000, text.isascii()
    (True, True)
    """
    texts, size = [], 0
    for story in stories(seed, difficulty=difficulty):
        if size >= n_bytes:
            break
        texts.append(story.text)
        size += len(story.text) + len(SEPARATOR)
    return SEPARATOR.join(texts)
