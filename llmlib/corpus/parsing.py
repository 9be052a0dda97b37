"""Parsing: from a text alone back to the choices that wrote it, and so to its log-probability.

The parser walks the grammar as a writer does, but instead of drawing it tries: at each choice, every alternative that
agrees with the text. It is exhaustive: it comes back with *every* derivation, so "exactly one" is something that it
can find out.

A *relaxed* parse lets every backward look (`Say`) write any word that the slot could ever hold, and notes whether it
is the right one. So a text with the right form but a wrong memory is told apart from a text that is no story at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from llmlib.corpus.grammar import Choice, Derivation, Grammar, Nest, Pick, Say, Text


@dataclass(frozen=True)
class Recall:
    """A place where a text looks back: what it says at [start, end), and what it should say."""

    node: Say | Pick
    start: int
    end: int
    said: str
    right: str | None  # None where anything else would have been right

    @property
    def ok(self) -> bool:
        return self.said == self.right


@dataclass
class Parse:
    """All derivations of a text (`found`); without one, how far it could be followed and what was expected there."""

    found: list[Derivation] = field(default_factory=list)
    recalls: list[list[Recall]] = field(
        default_factory=list
    )  # of a relaxed parse: for each one found, else for the furthest
    furthest: int = 0
    expected: list[str] = field(default_factory=list)
    unfinished: bool = False


class Parser:
    """Finds the derivations of texts under one grammar.

    >>> pet = Pick("pet", "pets", ["cat", "dog"], {}, {"": [0, 1]})
    >>> from llmlib.corpus.grammar import Categorical
    >>> pet.dists[""] = Categorical([1, 1])
    >>> parser = Parser(Grammar((Text("My "), pet, Text(" is a good "), Say("pet", "", pet.words), Text(".")), {}))
    >>> parser.parse("My dog is a good dog.").found[0].choices, parser.parse("My dog is a good cat.").expected
    ((1,), ['dog'])
    >>> [recall.said for recall in parser.parse("My dog is a good cat.", relaxed=True).recalls[0] if not recall.ok]
    ['cat']
    """

    def __init__(self, grammar: Grammar):
        self.grammar = grammar
        self._heads: dict[Choice, list[tuple[int, str | None]]] = {}
        self._tables: dict[tuple[int, int], tuple[dict[str, int], list[int]]] = {}

    def parse(self, text: str, relaxed: bool = False) -> Parse:
        """Every derivation of the whole text. Without one, where and why the parser had to stop."""
        result = self._run(text, relaxed, explain=False)
        return result if result.found else self._run(text, relaxed, explain=True)

    def heads(self, node: Choice) -> list[tuple[int, str | None]]:
        """For each alternative of a choice, the fixed text with which it begins, if it begins with one."""
        if node not in self._heads:
            firsts = [next((n for n in plan if type(n) is not Nest), None) for plan in node.plans]
            self._heads[node] = [(i, n.text if type(n) is Text else None) for i, n in enumerate(firsts)]
        return self._heads[node]

    def table(self, words: list[str], entries: list[int] | None) -> tuple[dict[str, int], list[int]]:
        """Which word stands for which index into `entries` (or into all words), and the lengths of the words."""
        key = (id(words), id(entries))
        if key not in self._tables:
            forms = words if entries is None else [words[entry] for entry in entries]
            index = {word: i for i, word in reversed(list(enumerate(forms)))}
            self._tables[key] = index, sorted({len(word) for word in index})
        return self._tables[key]

    def _run(self, text: str, relaxed: bool, explain: bool) -> Parse:
        result, size = Parse(), len(text)
        failures: list[tuple] = []  # (position, what was expected there, notes)

        # A task is a continuation (node, rest) with the state in which it is reached. Choices, notes: linked lists.
        rest = None
        for node in reversed(self.grammar.plan):
            rest = (node, rest)
        tasks: list[tuple] = [(rest, 0, {}, 0.0, None, None)]
        while tasks:
            rest, pos, memory, log_prob, trail, notes = tasks.pop()
            while rest is not None:
                node, rest = rest
                kind = type(node)
                if kind is Text:
                    if not text.startswith(node.text, pos):
                        if explain:
                            failures.append((pos, (node.text,), notes))
                        break
                    pos += len(node.text)
                elif kind is Say:
                    right = node.words[memory[node.role]] if node.role in memory else None
                    if right is not None and text.startswith(right, pos) and not relaxed:
                        pos += len(right)
                        continue
                    if not relaxed:
                        if explain:
                            failures.append((pos, (right,), notes))
                        break
                    index, lengths = self.table(node.words, None)
                    said = [word for n in lengths if pos + n <= size and (word := text[pos : pos + n]) in index]
                    for word in said:
                        recall = Recall(node, pos, pos + len(word), word, word if right is None else right)
                        tasks.append((rest, pos + len(word), memory, log_prob, trail, (recall, notes)))
                    if explain:
                        failures.append((pos, (right,) if right else index, notes))
                    break
                elif kind is Choice:
                    heads = self.heads(node)
                    agree = [i for i, head in heads if head is None or text.startswith(head, pos)]
                    if explain:
                        failures.append((pos, [head for _, head in heads if head is not None], notes))
                    if not agree:
                        break
                    for i in agree[1:]:
                        after = rest
                        for item in node.stacks[i]:
                            after = (item, after)
                        tasks.append((after, pos, memory, log_prob + node.dist.log_p[i], (i, trail), notes))
                    i = agree[0]
                    for item in node.stacks[i]:
                        rest = (item, rest)
                    log_prob += node.dist.log_p[i]
                    trail = (i, trail)
                elif kind is Pick:
                    fit = "" if not node.given else node.kinds[memory[node.given]] if node.given in memory else None
                    index, lengths = self.table(node.words, node.fitting.get(fit))
                    agree = [
                        (word, i)
                        for n in lengths
                        if pos + n <= size and (i := index.get(word := text[pos : pos + n])) is not None
                    ]
                    if relaxed and node.given and fit is not None:  # also words that fit another kind
                        others, lengths = self.table(node.words, None)
                        for n in lengths:
                            if pos + n <= size and (word := text[pos : pos + n]) in others and word not in index:
                                recall = Recall(node, pos, pos + n, word, None)
                                tasks.append((rest, pos + n, memory, log_prob, trail, (recall, notes)))
                    excluded = [memory[role] for role in node.differs if role in memory] if node.differs else ()
                    for word, i in agree:
                        end, note = pos + len(word), notes
                        if relaxed:
                            if node.differs:
                                note = (Recall(node, pos, end, word, None if i in excluded else word), notes)
                        elif i in excluded:
                            continue
                        now = {**memory, node.role: node.fitting[fit][i]} if node.role else memory
                        chance = (
                            0.0 if fit is None else node.dists[fit].log_prob(i, excluded if i not in excluded else ())
                        )
                        tasks.append((rest, end, now, log_prob + chance, (i, trail), note))
                    if explain:
                        failures.append((pos, index, notes))
                    break
            else:
                if pos == size:
                    result.found.append(Derivation(text, log_prob, tuple(_unlink(trail))))
                    result.recalls.append(_unlink(notes))
                elif explain:
                    failures.append((pos, ("",), notes))
        if explain and not result.found:
            self._explain(text, failures, result)
        return result

    @staticmethod
    def _explain(text: str, failures: list[tuple], result: Parse) -> None:
        """Keep the failures that came furthest; a failure inside a fixed text counts from its last word that agrees."""
        reached = max(pos for pos, _, _ in failures)
        agreed = []
        for pos, words, notes in failures:
            for word in words:
                if pos + len(word) < reached:
                    continue
                n = 0
                while n < len(word) and text[pos + n : pos + n + 1] == word[n]:
                    n += 1
                ended = pos + n == len(text) and n < len(word)
                if not ended:  # back to the start of the word
                    while 0 < n < len(word) and word[n - 1].isalpha() and text[pos + n - 1 : pos + n + 1].isalpha():
                        n -= 1
                agreed.append((pos + n, word[n:], notes, ended))
        result.furthest = max(item[0] for item in agreed)
        there = [item for item in agreed if item[0] == result.furthest]
        result.expected = list(dict.fromkeys(expected for _, expected, _, _ in there))
        result.unfinished = any(item[3] for item in there)
        paths = [_unlink(notes) for notes in {id(notes): notes for _, _, notes, _ in there}.values()]
        result.recalls = [min(paths, key=lambda recalls: sum(not recall.ok for recall in recalls))]  # in good faith


def _unlink(trail: tuple | None) -> list:
    """A linked list (newest, older) as a list, oldest first."""
    items = []
    while trail is not None:
        item, trail = trail
        items.append(item)
    return items[::-1]
