"""The figure PipelineBubble: the schedule of a pipeline as a Gantt chart, and what stands idle in it."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import traitlets

from llmlib.parallel.schedules import SCHEDULES, Timeline, interleaved, order_text, timeline
from llmlib.widgets.base import BookWidget, table_html
from llmlib.widgets.checks import one_of

NAMES = {"forward": "Forward only (inference)", "gpipe": "GPipe", "1f1b": "1F1B",
         "interleaved": "Interleaved 1F1B", "zb-h1": "ZB-H1 (zero bubble)"}  # fmt: skip
LIMITS = {"stages": (1, 16), "micro_batches": (1, 64), "ratio": (0, 4), "communication": (0, 2), "chunks": (2, 4),
          "step": (0, 9999)}  # fmt: skip
TO_THE_END = LIMITS["step"][1]
MAX_MEASURED = 8192  # actions
LONGEST_NAME = 40  # characters of a record's name
SHOWN = 90  # characters of a stage's order in the fallback


class PipelineBubble(BookWidget):
    """Who does what, and when, in a pipeline of `stages` stages and `micro_batches` micro-batches; and what is idle.

    `schedule` is one of 'forward', 'gpipe', '1f1b', 'interleaved', 'zb-h1'; `other` another one to compare it with, or
    ''. Times are in units of T_F, the forward pass of a stage on one micro-batch: `ratio` is the whole backward pass,
    (T_B + T_W) / T_F, half of which is T_W; `communication` the time until a result arrives at the next stage. `chunks`
    belongs to 'interleaved'. `step` is how much time is shown, in T_F, `cursor` the action pointed at: [] or [chart,
    stage, number of the action].

    `records` holds recorded actions, by names to choose from: [stage, kind, micro_batch, chunk, start, end], with times
    in seconds. `measured` is the one chosen, or ''; where it is of the sizes and of a schedule that are shown, it
    is drawn beneath the prediction, in units of its own mean forward pass. `PipelineBubble.over` makes such a figure.

    >>> figure = PipelineBubble(stages=4, micro_batches=8, schedule="1f1b")
    >>> line = figure.timeline("1f1b")
    >>> line.step_time, round(line.bubble_fraction, 3), round(line.bubble_ratio, 3), line.peak_activations
    (33.0, 0.273, 0.375, [4.0, 3.0, 2.0, 1.0])

    Raises traitlets.TraitError, with what is allowed, for a value that the figure cannot show.
    """

    _module = "pipeline_bubble"

    stages = traitlets.Int(4, help="Stages p, from 1 to 16.").tag(sync=True)
    micro_batches = traitlets.Int(8, help="Micro-batches m, from 1 to 64.").tag(sync=True)
    schedule = traitlets.Unicode("gpipe", help="The schedule that is shown.").tag(sync=True)
    other = traitlets.Unicode("", help="A second schedule, drawn beneath, or nothing.").tag(sync=True)
    ratio = traitlets.Float(2.0, help="Time of the whole backward pass over that of the forward pass, 0 to 4.").tag(
        sync=True
    )
    communication = traitlets.Float(0.0, help="Time of a handoff over that of a forward pass, 0 to 2.").tag(sync=True)
    chunks = traitlets.Int(2, help="Chunks of layers on each stage, v, for 'interleaved': 2 to 4.").tag(sync=True)
    step = traitlets.Int(TO_THE_END, help="Time shown, in forward passes; beyond the end, all of it.").tag(sync=True)
    cursor = traitlets.List(traitlets.Int(), help="The action pointed at: [chart, stage, number], or [].").tag(
        sync=True
    )
    records = traitlets.Dict(
        help="Name -> recorded actions: [stage, kind, micro_batch, chunk, start, end], in seconds."
    ).tag(sync=True)
    measured = traitlets.Unicode("", help="The record drawn beneath, or nothing.").tag(sync=True)

    def __init__(self, *, made: str = "", **state: Any) -> None:
        what = "computed here, from the order of each schedule and from what each action needs"
        if state.get("records"):
            what += f"; beneath it, times recorded {made}".rstrip()
        state.setdefault("caption", f"A pipeline's work over time, a row for each stage: {what}.")
        super().__init__(**state)

    @classmethod
    def over(
        cls, records: Mapping[str, Sequence[Iterable[Any]]], schedule: str, measured: str | None = None, **state: Any
    ) -> "PipelineBubble":
        """Lay a record over the prediction, which takes its sizes and its ratio of times; the reader can choose others.

        A record holds for each stage what it did: things with kind, micro_batch, chunk, start and end, or spans.
        `measured` is the one shown first: the first, unless given. `made` says where and when, for the caption.
        """
        known = {
            name: [_recorded(stage, each) for stage, events in enumerate(record) for each in events]
            for name, record in records.items()
        }
        measured = one_of("measured", next(iter(known), "") if measured is None else measured, known)
        actions = known[measured]
        took = dict.fromkeys("FBW", 0.0)
        for _, kind, *_, start, end in actions:
            took[kind] += end - start
        if not took["F"]:
            raise traitlets.TraitError(
                "The record has no forward action that takes time; give all that the stages did."
            )
        low, high = LIMITS["ratio"]
        ratio = round(4 * (took["B"] + took["W"]) / took["F"]) / 4  # as finely as the figure's slider
        state.setdefault("ratio", min(max(ratio, low), high))
        stages, m = (1 + max(action[place] for action in actions) for place in (0, 2))
        sizes = {"stages": stages, "micro_batches": m, "schedule": schedule}
        return cls(records=known, measured=measured, **sizes, **state)

    def timeline(self, schedule: str) -> Timeline:
        """The predicted times of one of the schedules at the figure's sizes. Raises ValueError where it has none."""
        sizes = (self.stages, self.micro_batches)
        order = interleaved(*sizes, self.chunks) if schedule == "interleaved" else SCHEDULES[schedule](*sizes)
        return timeline(order, 1.0, self.ratio / 2, self.ratio / 2, self.communication)

    @traitlets.validate("stages", "micro_batches", "ratio", "communication", "chunks", "step")
    def _check_number(self, proposal: dict) -> float:
        name, value = proposal["trait"].name, proposal["value"]
        low, high = LIMITS[name]
        if not low <= value <= high:
            raise traitlets.TraitError(f"{name} is {value}; choose a number from {low} to {high}.")
        return value

    @traitlets.validate("schedule", "other")
    def _check_schedule(self, proposal: dict) -> str:
        name, value = proposal["trait"].name, proposal["value"]
        return one_of(name, value, [*SCHEDULES, *([""] if name == "other" else [])])

    @traitlets.validate("cursor")
    def _check_cursor(self, proposal: dict) -> list[int]:
        value = proposal["value"]
        if len(value) not in (0, 3) or any(part < 0 for part in value):
            raise traitlets.TraitError(
                f"cursor is {value}; it has to be [chart, stage, number], each from 0, or [] for none."
            )
        return value

    @traitlets.validate("measured")
    def _check_measured(self, proposal: dict) -> str:
        return one_of("measured", proposal["value"], ["", *self.records])

    @traitlets.validate("records")
    def _check_records(self, proposal: dict) -> dict[str, list[list[Any]]]:
        return {name: _checked_record(name, actions) for name, actions in proposal["value"].items()}

    def fallback(self) -> str:
        words, rows = [], []
        for name in dict.fromkeys(filter(None, [self.schedule, self.other])):
            try:
                line = self.timeline(name)
            except ValueError as error:
                words.append(html.escape(str(error)))
                continue
            words.append(
                f"{NAMES[name]} with {self.stages} stages and {self.micro_batches} micro-batches takes "
                f"{line.step_time:.3g} forward passes of a stage instead of {line.ideal_time:.3g}: the stages stand "
                f"idle for {line.bubble_fraction:.2f} of all device time, or {line.bubble_ratio:.2f} of the ideal time."
            )
            order = [[span.action for span in spans] for spans in line.spans]
            for stage, text in enumerate(order_text(order).splitlines()):
                shown = text.split(": ")[1]
                shown = shown if len(shown) <= SHOWN else shown[:SHOWN].rsplit(" ", 1)[0] + " …"
                rows.append([NAMES[name], stage, shown, f"{line.peak_activations[stage]:.3g}"])
        if self.measured in self.records:
            words.append(
                f"The record {html.escape(repr(self.measured))}, of {len(self.records[self.measured])} actions, is "
                "drawn beneath it if it is of these sizes and of this schedule."
            )
        head = ["schedule", "stage", "in this order", "activations kept at most, in micro-batches"]
        return f"<p>{' '.join(words)}</p>" + (table_html(head, rows) if rows else "")


def _recorded(stage: int, event: Any) -> list[Any]:
    action = getattr(event, "action", event)
    return [stage, action.kind, action.micro_batch, action.chunk, event.start, event.end]


def _checked_record(name: Any, record: Any) -> list[list[Any]]:
    """A record as lists, or a TraitError with what is wrong with it."""
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
        raise traitlets.TraitError(f"A record is named {name!r}; give a name of 1 to {LONGEST_NAME} characters.")
    if not isinstance(record, list | tuple) or not 0 < len(record) <= MAX_MEASURED:
        raise traitlets.TraitError(
            f"The record {name!r} is not a list of 1 to {MAX_MEASURED} actions, which is what the figure draws."
        )
    actions = [_checked_action(name, i, action) for i, action in enumerate(record)]
    if set(range(1 + max(a[0] for a in actions))) != {a[0] for a in actions if a[1] == "F"}:
        raise traitlets.TraitError(
            f"The record {name!r} has stages without a forward action: number the stages from 0, and give all their "
            "actions."
        )
    if sum(a[5] - a[4] for a in actions if a[1] == "F") == 0:
        raise traitlets.TraitError(f"The record {name!r} has forward actions that take no time: record seconds.")
    return actions


def _checked_action(name: str, number: int, action: Any) -> list[Any]:
    """A recorded action as a list, or a TraitError with what is wrong with it."""
    sound = isinstance(action, list | tuple) and len(action) == 6
    if sound:
        stage, kind, micro_batch, chunk, start, end = action
        sound = kind in ("F", "B", "W") and all(
            isinstance(n, int) and not isinstance(n, bool) and 0 <= n < most
            for n, most in [(stage, 16), (micro_batch, 4096), (chunk, 16)]
        )
        sound = sound and all(isinstance(t, int | float) and math.isfinite(t) for t in (start, end)) and start <= end
    if not sound:
        raise traitlets.TraitError(
            f"Action {number} of the record {name!r} is {action!r}; it has to be "
            f"[stage, kind, micro_batch, chunk, start, end]: a stage "
            f"from 0 to 15, 'F', 'B' or 'W', and two times in seconds, the start not after the end."
        )
    return list(action)
