"""A probabilistic grammar with a memory: sample texts with their exact log-probability; the exact entropy of all texts.

Five kinds of node are enough to write stories:

- `Text` writes fixed characters.
- `Choice` continues with one of several sequences of nodes.
- `Pick` draws a word from a lexicon; where it names a *role*, the word drawn is remembered under that name.
- `Say` writes a form of the word that a role remembers. It chooses nothing: it looks back.
- `Nest` writes nothing: it marks how deep a story stands inside another.

Only `Choice` and `Pick` are random. A *derivation* is the list of what they chose; the probability of a derivation is
the product of the probabilities of its choices. Which nodes are visited is settled by the `Choice`s alone, whose
probabilities never change; the words only fill the slots. This independence of plot and words is what makes the
entropy computable: by the chain rule it is the sum over all nodes of (expected visits) x (entropy of the node's own
choice), see `Grammar.entropy`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import fsum, log, log1p


class Categorical:
    """A distribution over 0..n-1 in proportion to `weights`: draw an index, its log-probability, the entropy in nats.

    >>> coin = Categorical([1, 3])
    >>> coin.p, round(coin.entropy(), 4)
    ([0.25, 0.75], 0.5623)

    `excluded` indices are never drawn; the others are renormalised.

    Raises ValueError if there is no weight, or one that is not positive.
    """

    __slots__ = ("cumulative", "log_p", "p", "plogp")

    def __init__(self, weights: Sequence[float]):
        if not weights or min(weights) <= 0:
            raise ValueError(f"A choice needs positive weights, one for each alternative; given {list(weights)[:5]}.")
        total = fsum(weights)
        self.p = [w / total for w in weights]
        self.log_p = [log(p) for p in self.p]
        self.plogp = fsum(p * lp for p, lp in zip(self.p, self.log_p, strict=True))
        self.cumulative = list(accumulate(self.p))
        self.cumulative[-1] = 1.0  # so that no number below 1 falls behind the last, whatever the rounding

    def draw(self, random: Callable[[], float], excluded: Sequence[int] = ()) -> int:
        """An index, by inverting the cumulative distribution at `random()`; an excluded one is drawn again."""
        while True:
            i = bisect_right(self.cumulative, random())
            if i not in excluded:
                return i

    def log_prob(self, i: int, excluded: Sequence[int] = ()) -> float:
        """Nats (<= 0): the log-probability of index `i` among those not excluded."""
        return self.log_p[i] - log1p(-sum([self.p[j] for j in excluded])) if excluded else self.log_p[i]

    def entropy(self, excluded: Sequence[int] = ()) -> float:
        """Nats. With R the mass that is left: H = log R - (1/R) sum of p log p over what is left."""
        if not excluded:
            return -self.plogp
        left = 1 - fsum(self.p[j] for j in excluded)
        return log(left) - (self.plogp - fsum(self.p[j] * self.log_p[j] for j in excluded)) / left


@dataclass(eq=False, slots=True)
class Text:
    """Writes `text`."""

    text: str


@dataclass(eq=False, slots=True)
class Say:
    """Writes the word that `role` remembers, in one `form`: `words[i]` for the lexicon's entry i."""

    role: str
    form: str
    words: list[str]


@dataclass(eq=False, slots=True)
class Pick:
    """Draws an entry and writes it as `words[entry]`; remembers it under `role` ("" for none).

    `differs` names roles whose entries are excluded. `given` names a role that decides which entries fit: then
    `dists[kind]` is a distribution over `fitting[kind]`, the entries for that kind; otherwise the only key of both is
    "".
    """

    role: str
    lexicon: str
    words: list[str]
    dists: dict[str, Categorical]
    fitting: dict[str, list[int]]
    differs: tuple[str, ...] = ()
    given: str = ""
    kinds: list[str] = field(default_factory=list)  # of the entries of `given`'s lexicon


@dataclass(eq=False, slots=True)
class Choice:
    """Continues with one of `plans`, each a tuple of nodes in order."""

    name: str
    dist: Categorical
    plans: tuple[tuple[Node, ...], ...]
    stacks: tuple[tuple[Node, ...], ...] = ()  # each plan from its end to its start, as a stack is pushed

    def __post_init__(self) -> None:
        self.stacks = tuple(plan[::-1] for plan in self.plans)


@dataclass(eq=False, slots=True)
class Nest:
    """Writes nothing: what follows stands at nesting `level`."""

    level: int


Node = Text | Say | Pick | Choice | Nest


@dataclass(frozen=True)
class Derivation:
    """What was chosen, in order, with the text that it writes and its log-probability in nats."""

    text: str
    log_prob: float
    choices: tuple[int, ...]


class Grammar:
    """A start `plan` (a tuple of nodes), and for each role its (prior distribution, the roles it differs from).

    >>> pet = Pick("pet", "pets", ["cat", "dog"], {"": Categorical([1, 1])}, {"": [0, 1]})
    >>> ran = (Text(" ran, and the "), Say("pet", "", pet.words), Text(" barked."))
    >>> likes = Choice("likes", Categorical([1, 3]), ((Text(" slept."),), ran))
    >>> g = Grammar((Text("The "), pet, likes), {"pet": (pet.dists[""], ())})
    >>> [(d.text, round(d.log_prob, 3)) for d in g.derivations()][:2]
    [('The cat slept.', -2.079), ('The cat ran, and the cat barked.', -0.981)]
    >>> round(g.entropy(), 4), round(g.expect(len), 2)
    (1.2555, 27.5)
    """

    def __init__(self, plan: tuple[Node, ...], roles: dict[str, tuple[Categorical, tuple[str, ...]]]):
        self.plan = plan
        self.roles = roles
        self._memo: dict[object, object] = {}

    def derive(self, select: Callable[[Categorical, Sequence[int]], int], steps: list | None = None) -> Derivation:
        """Walk the grammar once. `select(distribution, excluded)` settles each choice.

        `steps` collects (node, entry, piece).

        `select=lambda d, excluded: d.draw(rng, excluded)` samples; handing back recorded choices replays a
        derivation.
        """
        pieces: list[str] = []
        choices: list[int] = []
        log_prob = 0.0
        memory: dict[str, int] = {}
        stack = list(self.plan[::-1])
        while stack:
            node = stack.pop()
            kind = type(node)
            if kind is Text:
                pieces.append(node.text)
            elif kind is Say:
                pieces.append(node.words[memory[node.role]])
            elif kind is Choice:
                i = select(node.dist, ())
                choices.append(i)
                log_prob += node.dist.log_p[i]
                stack.extend(node.stacks[i])
            elif kind is Pick:
                fit = node.kinds[memory[node.given]] if node.given else ""
                excluded = [memory[role] for role in node.differs] if node.differs else ()
                i = select(node.dists[fit], excluded)
                choices.append(i)
                log_prob += node.dists[fit].log_prob(i, excluded)
                entry = node.fitting[fit][i]
                if node.role:
                    memory[node.role] = entry
                pieces.append(node.words[entry])
            if steps is not None and kind is not Choice:
                said = memory[node.role] if kind is Say else entry if kind is Pick else None
                steps.append((node, said, "" if kind is Nest else pieces[-1]))
        return Derivation("".join(pieces), log_prob, tuple(choices))

    def sample(self, random: Callable[[], float]) -> Derivation:
        """One derivation, drawn with numbers in [0, 1) from `random()`."""
        return self.derive(lambda dist, excluded: dist.draw(random, excluded))

    def replay(self, choices: Sequence[int]) -> tuple[Derivation, list]:
        """The derivation with these choices, and its steps (node, entry, piece)."""
        recorded, steps = iter(choices), []
        return self.derive(lambda dist, excluded: next(recorded), steps), steps

    def derivations(self) -> Iterator[Derivation]:
        """Every derivation, by trying every value of every choice: for small grammars, to check the rest against."""
        prefix: list[int] = []
        while True:
            sizes: list[list[int]] = []

            def select(dist: Categorical, excluded: Sequence[int], sizes: list = sizes, prefix: list = prefix) -> int:
                allowed = [i for i in range(len(dist.p)) if i not in excluded]
                sizes.append(allowed)
                return prefix[len(sizes) - 1] if len(sizes) <= len(prefix) else allowed[0]

            made = self.derive(select)
            yield made
            prefix = list(made.choices)
            while prefix and prefix[-1] == sizes[len(prefix) - 1][-1]:
                prefix.pop()
            if not prefix:
                return
            allowed = sizes[len(prefix) - 1]
            prefix[-1] = allowed[allowed.index(prefix[-1]) + 1]

    # Exact expectations -------------------------------------------------------------------------------------

    def visits(self) -> dict[Node, float]:
        """For each node, how often an average story passes through it, in whichever plans it stands."""
        if "visits" not in self._memo:
            order: list[Node] = []
            seen: set[Node] = set()
            todo: list[tuple[Node, bool]] = [(node, False) for node in self.plan]
            while todo:  # depth first; a node is put down after everything that it leads to
                node, done = todo.pop()
                if done:
                    order.append(node)
                elif node not in seen:
                    seen.add(node)
                    todo.append((node, True))
                    if type(node) is Choice:
                        todo.extend((child, False) for plan in node.plans for child in plan)
            visits = dict.fromkeys(reversed(order), 0.0)
            for node in self.plan:
                visits[node] += 1.0
            for node, count in visits.items():
                if type(node) is Choice:
                    for p, plan in zip(node.dist.p, node.plans, strict=True):
                        for child in plan:
                            visits[child] += count * p
            self._memo["visits"] = visits
        return self._memo["visits"]

    def joint(self, roles: Sequence[str]) -> Iterator[tuple[float, tuple[int, ...]]]:
        """Every (probability, entries) of these roles together; a role comes after those from which it differs."""
        if not roles:
            yield 1.0, ()
            return
        dist, differs = self.roles[roles[-1]]
        for prob, entries in self.joint(roles[:-1]):
            excluded = [entries[roles.index(role)] for role in differs]
            left = 1 - sum(dist.p[j] for j in excluded)
            for i, p in enumerate(dist.p):
                if i not in excluded:
                    yield prob * p / left, (*entries, i)

    def marginal(self, role: str) -> list[float]:
        """The probability of each entry for one role, whatever the others are."""
        if ("marginal", role) not in self._memo:
            dist, differs = self.roles[role]
            total = [0.0] * len(dist.p)
            for prob, entries in self.joint((*differs, role)) if differs else ((p, (i,)) for i, p in enumerate(dist.p)):
                total[entries[-1]] += prob
            self._memo["marginal", role] = total
        return self._memo["marginal", role]

    def kinds(self, node: Pick) -> dict[str, float]:
        """The probability of each kind that decides what fits `node`."""
        if not node.given:
            return {"": 1.0}
        total = dict.fromkeys(node.dists, 0.0)
        for kind, p in zip(node.kinds, self.marginal(node.given), strict=True):
            total[kind] += p
        return total

    def entropy(self) -> float:
        """Nats a story, exactly: the sum over nodes of expected visits x entropy of the node's own choice."""
        return fsum(count * self.node_entropy(node) for node, count in self.visits().items())

    def node_entropy(self, node: Node) -> float:
        """Nats of one node's own choice, averaged over what its roles remember; 0 if it chooses nothing."""
        if type(node) is Choice:
            return node.dist.entropy()
        if type(node) is not Pick:
            return 0.0
        if node.differs:
            key = ("entropy", node.dists[""], node.differs)
            if key not in self._memo:
                joint = self.joint(node.differs)
                self._memo[key] = fsum(p * node.dists[""].entropy(entries) for p, entries in joint)
            return self._memo[key]
        return fsum(p * node.dists[kind].entropy() for kind, p in self.kinds(node).items())

    def expect(self, measure: Callable[[str], float]) -> float:
        """The exact average over stories of a measure that adds up over pieces of text, as `len` does."""
        return fsum(count * self.node_expect(node, measure) for node, count in self.visits().items())

    def node_expect(self, node: Node, measure: Callable[[str], float]) -> float:
        """The average of `measure` over what one node writes."""
        if type(node) is Text:
            return measure(node.text)
        if type(node) is Say or (type(node) is Pick and node.role):
            return fsum(p * measure(word) for p, word in zip(self.marginal(node.role), node.words, strict=True))
        if type(node) is Pick:
            return fsum(
                p * q * measure(node.words[entry])
                for kind, p in self.kinds(node).items()
                for q, entry in zip(node.dists[kind].p, node.fitting[kind], strict=True)
            )
        return 0.0
