"""Templates: the notation in which the story world is written, and its translation into the nodes of a grammar.

A rule is a list of alternatives, one a line. An alternative may begin with its weight, `3 |`, or with two, `4/1 |`:
the weight at difficulty 0 and at difficulty 1, with a straight line between them. A lone `-` is the empty
alternative. Slots in braces:

    {rule}           go on with this rule
    {+thing}         introduce the role `thing`: draw a word from its lexicon, write it, remember it
    {thing}          say again what `thing` remembers
    {adverb}         draw a word from the lexicon `adverb`, and forget it
    {use@thing}      draw from the lexicon `use`, only among words of the same kind as `thing`
    {+thing:a}       a form: a (article), s (plural), ed (past), ing, cap (capital), at (kind and "the": by the sea);
    {hero:food}      for a role with attributes, an attribute, and again forms: {hero:trait:a}

Names ending in `#` are written out for levels 1 to `LEVELS`, with `#` replaced by the level and `#+` by the next; an
alternative that reaches beyond the last level is dropped there.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from llmlib.corpus.english import inflect
from llmlib.corpus.grammar import Categorical, Choice, Grammar, Nest, Node, Pick, Say, Text

LEVELS = 3
SLOT = re.compile(r"\{([^{}]*)\}")
WEIGHT = re.compile(r"([\d.]+)(?:/([\d.]+))? \| ?")


@dataclass
class Lexicon:
    """Words in order of frequency, each of a kind ("" if the lexicon has none), and attributes of each word."""

    name: str
    words: list[str]
    kinds: list[str]
    weights: list[float]
    attributes: Mapping[str, list[str]] = field(default_factory=dict)
    _columns: dict[str, list[str]] = field(default_factory=dict)

    def column(self, form: str) -> list[str]:
        """One form of every word, such as "a", "s", "trait:a"; the same list each time.

        >>> Lexicon("pet", ["owl", "cat"], ["", ""], [1, 1]).column("a")
        ['an owl', 'a cat']
        """
        if form not in self._columns:
            first, *rest = form.split(":") if form else [""]
            if first in self.attributes:
                base, forms = self.attributes[first], rest
            elif first == "at":
                base, forms = [f"{kind} the {word}" for kind, word in zip(self.kinds, self.words, strict=True)], rest
            else:
                base, forms = self.words, [first, *rest] if first else []
            self._columns[form] = [inflect(word, forms) for word in base]
        return self._columns[form]


@dataclass(frozen=True)
class Role:
    """A name under which a drawn word is remembered: from which lexicon, and from which other roles it differs."""

    lexicon: str
    differs: tuple[str, ...] = ()


def levels(rules: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Write out the rules whose names end in `#`, once for each level.

    >>> levels({"box#": ["a box", "a box with {box#+} in it"]})["box2"], len(levels({"box#": ["-"]}))
    (['a box', 'a box with {box3} in it'], 3)
    """
    written: dict[str, list[str]] = {}
    for name, lines in rules.items():
        if not name.endswith("#"):
            written[name] = lines
            continue
        for level in range(1, LEVELS + 1):
            kept = [line for line in lines if "#+" not in line or level < LEVELS]
            written[name[:-1] + str(level)] = [
                line.replace("#+", str(level + 1)).replace("#", str(level)) for line in kept
            ]
    return written


class Compiler:
    """Translate rules into a grammar at one difficulty (0 to 1). `sentences` are the rules that begin with a space."""

    def __init__(
        self,
        rules: Mapping[str, list[str]],
        lexicons: Mapping[str, Lexicon],
        roles: Mapping[str, Role],
        sentences: Container[str] = (),
        difficulty: float = 0.5,
    ):
        self.rules, self.lexicons, self.roles = levels(rules), lexicons, roles
        self.sentences, self.difficulty = levels({name: [] for name in sentences}), difficulty
        self._dists = {name: Categorical(lexicon.weights) for name, lexicon in lexicons.items()}
        self._rules: dict[str, tuple[Node, ...]] = {}

    def dist(self, lexicon: str) -> Categorical:
        """The distribution over all words of a lexicon."""
        return self._dists[lexicon]

    def grammar(self, start: str = "story") -> Grammar:
        """The grammar of everything that `start` can write.

        >>> rules = {"story": ["3 | Hello, {pet}!", "Good night, {pet}."]}
        >>> Compiler(rules, {"pet": Lexicon("pet", ["cat"], [""], [1])}, {}).grammar().expect(len)
        12.25
        """
        roles = {name: (self._dists[role.lexicon], role.differs) for name, role in self.roles.items()}
        return Grammar(self.rule(start), roles)

    def rule(self, name: str) -> tuple[Node, ...]:
        """The nodes of one rule; made once, then shared by all who use it."""
        if name not in self._rules:
            weights, plans = [], []
            for line in self.rules[name]:
                found = WEIGHT.match(line)
                easy, hard = (float(found[1]), float(found[2] or found[1])) if found else (1.0, 1.0)
                weight = (1 - self.difficulty) * easy + self.difficulty * hard
                if weight > 0:
                    weights.append(weight)
                    plans.append(self.template(line[found.end() :] if found else line, name))
            if name[-1].isdigit():
                plans = [(Nest(int(name[-1])), *plan) for plan in plans]
            self._rules[name] = plans[0] if len(plans) == 1 else (Choice(name, Categorical(weights), tuple(plans)),)
        return self._rules[name]

    def template(self, line: str, name: str) -> tuple[Node, ...]:
        """The nodes of one alternative."""
        if line == "-":
            return ()
        opens = SLOT.match(line)
        if name in self.sentences and not (opens and opens[1] in self.sentences):
            line = " " + line
        nodes: list[Node] = []
        pieces = SLOT.split(line)
        for i, piece in enumerate(pieces):
            if i % 2 == 0:
                if piece:
                    nodes.append(Text(piece))
                continue
            before, after = pieces[i - 1], pieces[i + 1]
            touches = before[-1:].isalpha() or after[:1].isalpha() or (not before and i > 1)
            if touches and piece not in self.sentences:
                raise ValueError(f"In rule {name!r}, the slot {{{piece}}} touches a letter or a slot in {line!r}.")
            nodes.extend(self.rule(piece) if piece in self.rules else (self.slot(piece, line),))
        return tuple(nodes)

    def slot(self, slot: str, line: str) -> Node:
        """The node of a slot that is no rule."""
        name, _, form = slot.partition(":")
        name, _, given = name.partition("@")
        introduces = name.startswith("+")
        name = name.lstrip("+")
        if name in self.roles and not introduces:
            return Say(name, form, self.lexicons[self.roles[name].lexicon].column(form))
        role = self.roles[name] if introduces and name in self.roles else Role(name)
        if role.lexicon not in self.lexicons or (introduces and (name not in self.roles or given)):
            raise ValueError(f"There is no rule, role or lexicon for the slot {{{slot}}} in {line!r}.")
        lexicon = self.lexicons[role.lexicon]
        words = lexicon.column(form)
        if len(set(zip(lexicon.kinds, words, strict=True)) if given else set(words)) < len(words):
            raise ValueError(
                f"The lexicon {lexicon.name!r} has a word twice in the form {form!r}: it could be meant twice."
            )
        if not given:
            dists, fitting = {"": self._dists[role.lexicon]}, {"": list(range(len(lexicon.words)))}
            return Pick(name if introduces else "", role.lexicon, words, dists, fitting, role.differs)
        fitting = {kind: [i for i, k in enumerate(lexicon.kinds) if k == kind] for kind in dict.fromkeys(lexicon.kinds)}
        key = f"{lexicon.name}@"
        if key not in self._dists:
            self._dists[key] = {k: Categorical([lexicon.weights[i] for i in fit]) for k, fit in fitting.items()}
        of = self.lexicons[self.roles[given].lexicon]
        if missing := set(of.kinds) - set(fitting):
            raise ValueError(f"The lexicon {lexicon.name!r} has no word for the kinds {sorted(missing)} of {given!r}.")
        return Pick("", lexicon.name, words, self._dists[key], fitting, (), given, of.kinds)
