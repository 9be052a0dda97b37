"""A proof that a grammar is unambiguous: that no text has two derivations.

Forget the memory, and let every slot write any of its words: the texts only become more, and so do the derivations of each. What is
left is a finite automaton over words and punctuation marks. It is ambiguous if and only if two different walks through it spell
the same text, and walks that have parted can be followed in step: put a marker on each, and move both along the same word. The
search below visits every pair of places that two such walks can reach. If the walks never come together again (in one place, or both
at the end), then no text has two derivations in the relaxed grammar, hence none in the strict one.
"""

from __future__ import annotations

import re

from llmlib.corpus.grammar import Choice, Grammar, Nest, Node, Pick, Say, Text

TOKEN = re.compile(r"[A-Za-z]+|[^A-Za-z]")
END = 0


class _Automaton:
    """Places are numbers; a place is a first item and the place after it. Items: a word, a branch of a trie, or a node."""

    def __init__(self) -> None:
        self.items: list[tuple] = [(None, None)]
        self.numbers: dict[tuple, int] = {}
        self.tries: dict[int, dict] = {}
        self.edges_of: dict[int, list[tuple[frozenset[str], int]]] = {END: [(frozenset([""]), END)]}
        self.labels: dict[object, frozenset[str]] = {}

    def place(self, item: object, then: int) -> int:
        key = (item if isinstance(item, str) else id(item), then)
        if key not in self.numbers:
            self.numbers[key] = len(self.items)
            self.items.append((item, then))
        return self.numbers[key]

    def spell(self, words: list[str], then: int) -> int:
        for word in reversed(words):
            then = self.place(word, then)
        return then

    def trie(self, words: list[str]) -> dict:
        if id(words) not in self.tries:
            root: dict = {}
            for word in dict.fromkeys(words):
                at = root
                for token in TOKEN.findall(word):
                    at = at.setdefault(token, {})
                at[""] = {}
            self.tries[id(words)] = root
        return self.tries[id(words)]

    def edges(self, start: int) -> list[tuple[frozenset[str], int]]:
        """The words that can come next, each with the place after it; one entry for each way to go on."""
        if start in self.edges_of:
            return self.edges_of[start]
        edges, todo = [], [start]
        while todo:
            at = todo.pop()
            item, then = self.items[at]
            if at == END:
                edges.append((self.label(""), END))
            elif isinstance(item, str):
                edges.append((self.label(item), then))
            elif isinstance(item, dict):
                leaves = frozenset(token for token, branch in item.items() if token and list(branch) == [""])
                if leaves:
                    edges.append((self.labels.setdefault(("leaves", id(item)), leaves), then))
                for token, branch in item.items():
                    if token == "":
                        todo.append(then)
                    elif token not in leaves:
                        edges.append((self.label(token), self.place(branch, then)))
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
        self.edges_of[start] = edges
        return edges

    def label(self, token: str) -> frozenset[str]:
        return self.labels.setdefault(token, frozenset([token]))


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
    singles, seen = [start], {start}
    pairs: list[tuple[int, int]] = []
    before: dict[tuple[int, int], tuple[tuple[int, int] | None, str]] = {}
    meets: dict[tuple[int, int], frozenset[str]] = {}

    def meet(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
        key = (id(one), id(other))
        if key not in meets:
            meets[key] = one & other
        return meets[key]

    def part(one: int, other: int, token: str, came_from: tuple[int, int] | None) -> str | None:
        pair = (one, other) if one <= other else (other, one)
        if one == other:
            words, at = [token], came_from
            while at is not None:
                at, word = before[at]
                words.append(word)
            return "... " + "".join(reversed(words))
        if pair not in before:
            before[pair] = (came_from, token)
            pairs.append(pair)
        return None

    while singles:
        edges = automaton.edges(singles.pop())
        for i, (label, then) in enumerate(edges):
            if then not in seen:
                seen.add(then)
                singles.append(then)
            for other_label, other in edges[:i]:
                common = meet(label, other_label)
                if common and (found := part(then, other, min(common), None)):
                    return found
    while pairs:
        pair = pairs.pop()
        for label, then in automaton.edges(pair[0]):
            for other_label, other in automaton.edges(pair[1]):
                common = meet(label, other_label)
                if common and (found := part(then, other, min(common), pair)):
                    return found
    return None


def check_memory(grammar: Grammar) -> None:
    """Raise ValueError if some way through the grammar looks back to a role not yet introduced, or introduces one twice.

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
