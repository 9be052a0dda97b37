"""Who does what, and when, in a pipeline: the orders of four schedules, and the time that an order takes.

A model's layers are cut into p stages, one on each device, and a batch into m micro-batches. An order says for each
stage what it does, one action after another; `timeline` gives the times, from nothing but the order and what depends on
what. Nothing here runs a model, and nothing needs torch.

With v chunks a stage holds v pieces of the model: chunk c of stage s is piece c p + s, and a micro-batch goes round the
devices v times.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple


class Action(NamedTuple):
    """One piece of work: F forward, B backward, W gradients of the weights; and for which micro-batch and chunk.

    B is the whole backward pass, except in an order that has W: there B computes the gradient of the input only.

    >>> str(Action("F", 3)), str(Action("B", 0, 1))
    ('F3', 'B0.1')
    """

    kind: str
    micro_batch: int
    chunk: int = 0

    def __str__(self) -> str:
        return f"{self.kind}{self.micro_batch}" + (f".{self.chunk}" if self.chunk else "")


Order = list[list[Action]]  # an order of actions for each stage


def forward_only(stages: int, micro_batches: int) -> Order:
    """Inference: each stage passes every micro-batch on, and nothing comes back.

    >>> print(order_text(forward_only(2, 3)))
    0: F0 F1 F2
    1: F0 F1 F2
    """
    p, m = _checked(stages, micro_batches)
    return [[Action("F", i) for i in range(m)] for _ in range(p)]


def gpipe(stages: int, micro_batches: int) -> Order:
    """All micro-batches forward, then all backward (Huang et al., 2018).

    >>> print(order_text(gpipe(2, 3)))
    0: F0 F1 F2 B0 B1 B2
    1: F0 F1 F2 B0 B1 B2
    """
    p, m = _checked(stages, micro_batches)
    return [[Action(kind, i) for kind in "FB" for i in range(m)] for _ in range(p)]


def one_f_one_b(stages: int, micro_batches: int) -> Order:
    """1F1B: as many forward as there are stages to come, then one backward for each forward (Narayanan et al., 2021).

    >>> print(order_text(one_f_one_b(3, 4)))
    0: F0 F1 F2 B0 F3 B1 B2 B3
    1: F0 F1 B0 F2 B1 F3 B2 B3
    2: F0 B0 F1 B1 F2 B2 F3 B3
    """
    p, m = _checked(stages, micro_batches)
    return [_alternating(min(m, p - 1 - s), [(i, 0) for i in range(m)], [(i, 0) for i in range(m)]) for s in range(p)]


def interleaved(stages: int, micro_batches: int, chunks: int = 2) -> Order:
    """1F1B with several chunks of layers on each stage (Narayanan et al., 2021, section 2.2), as torch orders it.

    Micro-batches go in rounds of p, or of a few more where m is not a multiple of p; a round passes through all chunks
    before the next begins.

    >>> print(order_text(interleaved(2, 2, chunks=2)))
    0: F0 F1 F0.1 F1.1 B0.1 B1.1 B0 B1
    1: F0 F1 F0.1 B0.1 F1.1 B1.1 B0 B1

    Raises ValueError where the micro-batches cannot be cut into rounds of equal size.
    """
    p, m = _checked(stages, micro_batches)
    v = _whole("chunks", chunks)
    rounds = max(1, m // p)
    if m % rounds:
        fitting = [n for n in range(max(1, m - p), m + p + 1) if n % max(1, n // p) == 0]
        below, above = max(n for n in fitting if n < m), min(n for n in fitting if n > m)
        raise ValueError(
            f"{m} micro-batches cannot be interleaved on {p} stages: they do not make {rounds} rounds of equal size. "
            f"Take {below} or {above}; every multiple of {p} will do."
        )
    size = m // rounds
    there = [(r * size + i, c) for r in range(rounds) for c in range(v) for i in range(size)]
    back = [(r * size + i, c) for r in range(rounds) for c in reversed(range(v)) for i in range(size)]
    warm_up = [min(v * m, (v - 1) * size + 2 * (p - 1 - s)) for s in range(p)]
    return [_alternating(warm_up[s], there, back) for s in range(p)]


def zb_h1(stages: int, micro_batches: int) -> Order:
    """ZB-H1 (Qi et al., 2023): 1F1B with the weights' gradients cut off, which later stages put off into the bubble.

    The idle time of the paper's table 2, (p-1)(T_F + T_B - T_W), is what comes out for m >= p and T_W <= T_F; beyond,
    T_F stands in the place of T_W.

    >>> print(order_text(zb_h1(3, 3)))
    0: F0 F1 F2 B0 W0 B1 W1 B2 W2
    1: F0 F1 B0 F2 B1 W0 B2 W1 W2
    2: F0 B0 F1 B1 F2 B2 W0 W1 W2
    """
    p, m = _checked(stages, micro_batches)
    order = []
    for s, actions in enumerate(one_f_one_b(p, m)):
        # Stage s puts s weight gradients off: with its p - s micro-batches under way, that makes p, as on stage 0.
        mixed, put_off = [], s
        for action in actions:
            mixed.append(action)
            if action.kind == "B" and action.micro_batch >= put_off:
                mixed.append(Action("W", action.micro_batch - put_off))
        order.append(mixed + [Action("W", i) for i in range(max(0, m - put_off), m)])
    return order


SCHEDULES: dict[str, Callable[..., Order]] = {
    "forward": forward_only, "gpipe": gpipe, "1f1b": one_f_one_b, "interleaved": interleaved, "zb-h1": zb_h1
}  # fmt: skip


def peak_activations(order: Order) -> list[float]:
    """For each stage: the most micro-batches whose activations it keeps at once; a chunk of v counts 1/v.

    They are kept from the forward action to the end of the last action that needs them, B or W; without a backward
    pass, to the end of the forward action.

    >>> peak_activations(gpipe(4, 8)), peak_activations(one_f_one_b(4, 8))
    ([8.0, 8.0, 8.0, 8.0], [4.0, 3.0, 2.0, 1.0])
    """
    v = _chunks(order)
    peaks = []
    for actions in order:
        last_use = {(a.micro_batch, a.chunk): a for a in actions}
        kept = peak = 0
        for action in actions:
            kept += action.kind == "F"
            peak = max(peak, kept)
            kept -= last_use[action.micro_batch, action.chunk] == action
        peaks.append(peak / v)
    return peaks


def needed_by(stage: int, action: Action, stages: int, chunks: int = 1) -> Iterator[tuple[int, Action]]:
    """What has to be done before an action may begin, besides the stage's own order: (stage, action) pairs.

    >>> list(needed_by(2, Action("B", 5), stages=4))
    [(2, Action(kind='F', micro_batch=5, chunk=0)), (3, Action(kind='B', micro_batch=5, chunk=0))]
    """
    (kind, i, c), p, v = action, stages, chunks
    if kind == "F":
        if (stage, c) != (0, 0):
            yield (stage - 1, Action("F", i, c)) if stage else (p - 1, Action("F", i, c - 1))
    elif kind == "B":
        yield stage, Action("F", i, c)
        if (stage, c) != (p - 1, v - 1):
            yield (stage + 1, Action("B", i, c)) if stage < p - 1 else (0, Action("B", i, c + 1))
    else:
        yield stage, Action("B", i, c)


class Span(NamedTuple):
    """One action of one stage with its times, in the unit of whoever measured or predicted them."""

    stage: int
    action: Action
    start: float
    end: float


class Timeline(NamedTuple):
    """What each stage did when, and what follows from it. `spans` has a list for each stage, in its order."""

    spans: list[list[Span]]
    peak_activations: list[float]  # a stage's, in micro-batches; see the function of this name

    @property
    def step_time(self) -> float:
        """From the first start to the last end."""
        return max(s[-1].end for s in self.spans) - min(s[0].start for s in self.spans)

    @property
    def busy_time(self) -> list[float]:
        """For each stage: the time in which it computes."""
        return [sum(span.end - span.start for span in spans) for spans in self.spans]

    @property
    def ideal_time(self) -> float:
        """The step time if no stage ever stood idle and all had the same work."""
        return sum(self.busy_time) / len(self.spans)

    @property
    def bubble_fraction(self) -> float:
        """The idle share of all device time: (p-1)/(m+p-1) for GPipe with equal stages (Huang et al., 2018)."""
        return 1 - self.ideal_time / self.step_time

    @property
    def bubble_ratio(self) -> float:
        """Idle time over ideal time: (p-1)/m for GPipe with equal stages (Narayanan et al., 2021)."""
        return self.step_time / self.ideal_time - 1


def timeline(
    order: Order, forward: float = 1.0, backward: float = 1.0, weight: float = 1.0, communication: float = 0.0
) -> Timeline:
    """The times of an order in which every stage begins each action as soon as it can.

    `forward`, `backward` and `weight` are the times T_F, T_B, T_W of a whole stage on one micro-batch (backward: to the
    input only; a chunk of v takes 1/v of each). In an order without W, a B takes T_B + T_W. `communication` is the time
    after which a result arrives at another stage; meanwhile, the sender goes on working.

    >>> line = timeline(gpipe(4, 8))
    >>> line.step_time, round(line.bubble_fraction, 3), round(line.bubble_ratio, 3)
    (33.0, 0.273, 0.375)
    >>> [round(timeline(one_f_one_b(4, m)).bubble_ratio, 3) for m in (4, 8, 32)]
    [0.75, 0.375, 0.094]

    Raises ValueError for a time that is negative or no number, and for an order in which two actions wait for each
    other or that needs an action it does not have.
    """
    for name, value in [
        ("forward", forward),
        ("backward", backward),
        ("weight", weight),
        ("communication", communication),
    ]:
        if not (0 <= value < float("inf")):
            raise ValueError(f"{name} is {value!r}; a time has to be a finite number of at least 0.")
    if forward + backward + weight == 0:
        raise ValueError("forward, backward and weight are all 0; give at least one of them a time.")
    v = _chunks(order)
    split = any(action.kind == "W" for actions in order for action in actions)
    takes = {"F": forward / v, "B": (backward if split else backward + weight) / v, "W": weight / v}
    ends: dict[tuple[int, Action], float] = {}
    spans: list[list[Span]] = [[] for _ in order]
    free = [0.0] * len(order)
    moved = True
    while moved:
        moved = False
        for stage, actions in enumerate(order):
            done = spans[stage]
            while len(done) < len(actions):
                action = actions[len(done)]
                needs = list(needed_by(stage, action, len(order), v))
                if not all(need in ends for need in needs):
                    break
                ready = (ends[need] + communication * (need[0] != stage) for need in needs)
                start = max(free[stage], *ready) if needs else free[stage]
                free[stage] = ends[stage, action] = start + takes[action.kind]
                done.append(Span(stage, action, start, free[stage]))
                moved = True
    for stage, actions in enumerate(order):
        if len(spans[stage]) < len(actions):
            action = actions[len(spans[stage])]
            other, need = next(need for need in needed_by(stage, action, len(order), v) if need not in ends)
            raise ValueError(
                f"The order stands still: on stage {stage}, {action} waits for {need} on stage {other}, which never "
                f"comes. Put {need} into the order of stage {other}, before whatever waits for {action}."
            )
    return Timeline(spans, peak_activations(order))


def order_text(order: Order) -> str:
    """An order in words, a line for each stage: F2 is micro-batch 2 forward, F2.1 the same in chunk 1.

    >>> order_text(gpipe(1, 2))
    '0: F0 F1 B0 B1'
    """
    return "\n".join(f"{s}: {' '.join(map(str, actions))}" for s, actions in enumerate(order))


def _alternating(warm_up: int, there: list[tuple[int, int]], back: list[tuple[int, int]]) -> list[Action]:
    """`warm_up` forward, then forward and backward in turn, then the backward actions that are left."""
    forward = [Action("F", *place) for place in there]
    backward = [Action("B", *place) for place in back]
    turns = len(forward) - warm_up
    pairs = [action for pair in zip(forward[warm_up:], backward[:turns], strict=True) for action in pair]
    return forward[:warm_up] + pairs + backward[turns:]


def _chunks(order: Order) -> int:
    return 1 + max((action.chunk for actions in order for action in actions), default=0)


def _checked(stages: int, micro_batches: int) -> tuple[int, int]:
    return _whole("stages", stages), _whole("micro_batches", micro_batches)


def _whole(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}; it has to be a whole number of at least 1.")
    return value
