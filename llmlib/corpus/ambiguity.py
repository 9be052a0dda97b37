"""A proof that a grammar is unambiguous: that no text has two derivations.

Forget the memory, and let every slot write any of its words: the texts only become more, and so do the derivations of
each. What is left is a finite automaton over words and punctuation marks. It is ambiguous if and only if two
different walks through it spell the same text, and walks that have parted can be followed in step: put a marker on
each, and move both along the same word. The search below visits every pair of places that two such walks can reach.
If the walks never come together again (in one place, or both at the end), then no text has two derivations in the
relaxed grammar, hence none in the strict one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmlib.corpus.grammar import Choice, Grammar, Nest, Node, Pick, Say, Text

TOKEN = re.compile(r"[A-Za-z]+|[^A-Za-z]")
END = 0


class _Edges:
    """What can come next: single words, each with the places after it, and sets of words with one place after them."""

    __slots__ = ("sets", "words")

    def __init__(self) -> None:
        self.words: dict[str, list[int]] = {}
        self.sets: list[tuple[frozenset[str], int]] = []

    def shared(self, other: _Edges) -> Iterator[tuple[str, int, int]]:
        """A word on which both can move on, and where to; every two edges that share a word, once."""
        few, many = (self, other) if len(self.words) <= len(other.words) else (other, self)
        for word, places in few.words.items():
            for after in many.words.get(word, ()):
                for place in places:
                    yield word, place, after
        for one, another in ((self, other), (other, self)):
            for words, after in one.sets:
                if len(words) <= len(another.words):
                    common = [word for word in words if word in another.words]
                else:
                    common = [word for word in another.words if word in words]
                for word in common:
                    for place in another.words[word]:
                        yield word, place, after
        for words, place in self.sets:
            for others, after in other.sets:
                if not words.isdisjoint(others):
                    yield min(words & others), place, after

    def forks(self) -> Iterator[tuple[str, int, int]]:
        """As `shared` with itself, but only two different edges."""
        for word, places in self.words.items():
            for i, place in enumerate(places):
                for after in places[:i]:
                    yield word, place, after
                for words, after in self.sets:
                    if word in words:
                        yield word, place, after
        for i, (words, place) in enumerate(self.sets):
            for others, after in self.sets[:i]:
                if not words.isdisjoint(others):
                    yield min(words & others), place, after


class _Automaton:
    """Places are numbers; a place is a first item and the place after it. Items: words, branches of a trie, nodes."""

    def __init__(self) -> None:
        self.items: list[tuple] = [(None, END)]
        self.numbers: dict[tuple, int] = {}
        self.tries: dict[int, dict] = {}
        self.leaves: dict[int, frozenset[str]] = {}
        self.known: dict[int, _Edges] = {}

    def place(self, item: object, then: int) -> int:
        """The number of the place where `item` comes next and then what `then` stands for."""
        key = (item if isinstance(item, str) else id(item), then)
        if key not in self.numbers:
            self.numbers[key] = len(self.items)
            self.items.append((item, then))
        return self.numbers[key]

    def spell(self, words: list[str], then: int) -> int:
        """The place before these words in a row."""
        for word in reversed(words):
            then = self.place(word, then)
        return then

    def trie(self, words: list[str]) -> dict:
        """All words of a slot as one tree of tokens, so that one spelling is one way through it; "" ends a word."""
        if id(words) not in self.tries:
            root: dict = {}
            for word in dict.fromkeys(words):
                at = root
                for token in TOKEN.findall(word):
                    at = at.setdefault(token, {})
                at[""] = {}
            self.tries[id(words)] = root
        return self.tries[id(words)]

    def edges(self, start: int) -> _Edges:
        """What can come next at a place; one edge for each way to go on."""
        if start in self.known:
            return self.known[start]
        edges, todo = _Edges(), [start]
        while todo:
            at = todo.pop()
            item, then = self.items[at]
            if at == END:
                edges.words.setdefault("", []).append(END)
            elif isinstance(item, str):
                edges.words.setdefault(item, []).append(then)
            elif isinstance(item, dict):
                if id(item) not in self.leaves:
                    self.leaves[id(item)] = frozenset(token for token in item if token and list(item[token]) == [""])
                leaves = self.leaves[id(item)]
                if leaves:
                    edges.sets.append((leaves, then))
                for token, branch in item.items():
                    if token == "":
                        todo.append(then)
                    elif token not in leaves:
                        edges.words.setdefault(token, []).append(self.place(branch, then))
            elif isinstance(item, Text):
                todo.append(self.spell(TOKEN.findall(item.text), then))
            elif isinstance(item, Choice):
                for stack in item.stacks:
                    place = then
                    for node in stack:
                        place = self.place(node, place)
                    todo.append(place)
            elif isinstance(item, Nest):
                todo.append(then)
            else:
                todo.append(self.place(self.trie(item.words), then))
        self.known[start] = edges
        return edges


def find_ambiguity(grammar: Grammar) -> str | None:
    """None if every text has one derivation; else the end of a text that has two ("... " stands for what came before).

    >>> from llmlib.corpus.grammar import Categorical, Pick
    >>> size = Choice("size", Categorical([1, 1]), ((), (Text("toy "),)))
    >>> find_ambiguity(Grammar((Text("A "), size, Pick("", "", ["boat", "toy boat"], {}, {}), Text(".")), {}))
    '... toy boat'
    >>> find_ambiguity(Grammar((Text("A "), size, Pick("", "", ["boat", "car"], {}, {}), Text(".")), {}))
    """
    automaton = _Automaton()
    start = END
    for node in reversed(grammar.plan):
        start = automaton.place(node, start)
    alone, seen = [start], {start}
    pairs: list[tuple[int, int]] = []
    before: dict[tuple[int, int], tuple[tuple[int, int] | None, str]] = {}

    def part(one: int, other: int, word: str, came_from: tuple[int, int] | None) -> str | None:
        if one == other:
            spelt, at = [word], came_from
            while at is not None:
                at, word = before[at]
                spelt.append(word)
            return "... " + "".join(reversed(spelt))
        pair = (one, other) if one <= other else (other, one)
        if pair not in before:
            before[pair] = (came_from, word)
            pairs.append(pair)
        return None

    while alone:
        edges = automaton.edges(alone.pop())
        for then in [
            *(place for places in edges.words.values() for place in places),
            *(place for _, place in edges.sets),
        ]:
            if then not in seen:
                seen.add(then)
                alone.append(then)
        for word, one, other in edges.forks():
            if found := part(one, other, word, None):
                return found
    while pairs:
        pair = pairs.pop()
        for word, one, other in automaton.edges(pair[0]).shared(automaton.edges(pair[1])):
            if found := part(one, other, word, pair):
                return found
    return None


def check_memory(grammar: Grammar) -> None:
    """Raise ValueError if some story looks back to a role not yet introduced, or introduces one twice.

    >>> check_memory(Grammar((Text("The "), Say("pet", "", ["cat"])), {}))
    Traceback (most recent call last):
    ValueError: The role 'pet' is looked at, in some story, before it is introduced.
    """
    known: dict[tuple, tuple[frozenset, frozenset]] = {}

    def walk(plan: tuple[Node, ...], surely: frozenset, maybe: frozenset) -> tuple[frozenset, frozenset]:
        for node in plan:
            if type(node) is Choice:
                key = (node, surely, maybe)
                if key not in known:
                    ends = [walk(each, surely, maybe) for each in node.plans]
                    known[key] = frozenset.intersection(*(e[0] for e in ends)), frozenset.union(*(e[1] for e in ends))
                surely, maybe = known[key]
            looks = [node.role] if type(node) is Say else [*node.differs, node.given] if type(node) is Pick else []
            for role in filter(None, looks):
                if role not in surely:
                    raise ValueError(f"The role {role!r} is looked at, in some story, before it is introduced.")
            if type(node) is Pick and node.role:
                if node.role in maybe:
                    raise ValueError(f"The role {node.role!r} is introduced twice in some story.")
                surely, maybe = surely | {node.role}, maybe | {node.role}
        return surely, maybe

    walk(grammar.plan, frozenset(), frozenset())
