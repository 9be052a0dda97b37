"""PipelineBubble in Python and in JavaScript: the same orders and times in both, and what is refused."""

import random
import re

import pytest
from figures import in_node
from traitlets import TraitError

from llmlib.parallel.schedules import SCHEDULES, Action, Span, interleaved, one_f_one_b, timeline
from llmlib.widgets import PipelineBubble


def run(node, folder, code, data=None):
    return in_node(node, folder, "pipeline_schedules", code, data)


def order_and_refusal(schedule, p, m, v):
    """Python's order, or the sentence with which it refuses."""
    try:
        return interleaved(p, m, v) if schedule == "interleaved" else SCHEDULES[schedule](p, m), ""
    except ValueError as error:
        return None, str(error)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_javascript_and_python_agree_on_the_whole_grid(node, tmp_path, schedule):
    """Step, ideal time, bubble, the curve's share and activations, with times and chunks by lot, at all sizes of the
    figure; of those with p m > 256, which take longest, at each third."""
    dice = random.Random(schedule)
    cases = [
        [p, m, dice.randint(2, 4), dice.randrange(0, 17) / 4, dice.randrange(0, 41) / 20]
        for p in range(1, 17)
        for m in range(1, 65)
        if p * m <= 256 or (p + m) % 3 == 0
    ]
    code = """out = data[1].map(([p, m, v, ratio, communication]) => {
      const times = { v, ratio, communication };
      try {
        const { step, ideal, fraction, ratio: over, peaks } = scheduled(data[0], p, m, times);
        return [step, ideal, fraction, over, idleShare(data[0], p, m, times), peaks];
      } catch (error) { return error.message; } });"""
    refused = 0
    for (p, m, v, ratio, communication), got in zip(cases, run(node, tmp_path, code, [schedule, cases]), strict=True):
        order, refusal = order_and_refusal(schedule, p, m, v)
        if refusal or isinstance(got, str):
            refused += 1
            assert got == refusal
            continue
        line = timeline(order, 1, ratio / 2, ratio / 2, communication)
        share = line.bubble_fraction
        assert got[:5] == pytest.approx([line.step_time, line.ideal_time, share, line.bubble_ratio, share], abs=1e-9)
        assert got[5] == line.peak_activations
    assert (refused > 50) == (schedule == "interleaved")


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_javascript_and_python_agree_in_every_action(node, tmp_path, schedule):
    sizes = [(p, m) for p in range(1, 7) for m in range(1, 13)] + [(7, 21), (8, 64), (11, 5), (13, 26), (16, 48)]
    cases = [[p, m, 2 + (p + m) % 3, 0.25 * (m % 9), 0.25 * (p % 3)] for p, m in sizes]
    code = """out = data[1].map(([p, m, v, ratio, communication]) => {
      if (data[0] === "interleaved" && cannotInterleave(p, m)) return null;
      const { spans } = scheduled(data[0], p, m, { v, ratio, communication });
      return spans.map((row) => row.map((a) => [a.kind, a.batch, a.chunk, a.start, a.end])); });"""
    for (p, m, v, ratio, communication), got in zip(cases, run(node, tmp_path, code, [schedule, cases]), strict=True):
        order, refusal = order_and_refusal(schedule, p, m, v)
        assert (got is None) == bool(refusal)
        if got is not None:
            spans = timeline(order, 1, ratio / 2, ratio / 2, communication).spans
            assert [[[*s.action, s.start, s.end] for s in row] for row in spans] == got, (p, m)


def test_a_record_in_units_of_its_own_forward_pass(node, tmp_path):
    record = [[s.stage, *s.action, 5 + 0.25 * s.start, 5 + 0.25 * s.end] for row in timeline(one_f_one_b(3, 4)).spans
              for s in row]  # fmt: skip
    random.Random(0).shuffle(record)
    code = (
        "const line = measuredTimeline(data); out = [line.step, line.ideal, line.peaks, line.forward, line.fraction];"
    )
    step, ideal, peaks, forward, fraction = run(node, tmp_path, code, record)
    assert [step, ideal, forward, fraction] == pytest.approx([18, 12, 0.25, 1 / 3])
    assert peaks == [3, 2, 1]


def test_laid_over_a_record():
    spans = timeline(one_f_one_b(3, 4), 0.5, 0.25, 0.5).spans
    figure = PipelineBubble.over({"slept": spans, "later": spans[:1]}, "1f1b", made="by hand, today")
    assert (figure.stages, figure.micro_batches, figure.ratio, figure.schedule) == (3, 4, 1.5, "1f1b")
    assert (figure.measured, {name: len(record) for name, record in figure.records.items()}) == (
        "slept",
        {"slept": 24, "later": 8},
    )
    assert figure.records["slept"][0] == [0, "F", 0, 0, 0.0, 0.5]
    assert "beneath it, times recorded by hand, today." in figure.caption
    assert "The record &#x27;slept&#x27;, of 24 actions, is drawn beneath it" in figure.fallback()
    assert PipelineBubble.over({"slept": spans, "later": spans[:1]}, "1f1b", "later").stages == 1
    figure.measured = ""
    with pytest.raises(TraitError, match=r"measured is 'computed'; choose one of '', 'slept', 'later'."):
        figure.measured = "computed"
    with pytest.raises(TraitError, match=r"measured is 'no'; choose one of 'slept'."):
        PipelineBubble.over({"slept": spans}, "1f1b", "no")
    with pytest.raises(TraitError, match="The record has no forward action that takes time"):
        PipelineBubble.over({"slept": [[Span(0, Action("B", 0), 0, 1)]]}, "gpipe")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"stages": 0}, "stages is 0; choose a number from 1 to 16."),
        ({"micro_batches": 65}, "micro_batches is 65; choose a number from 1 to 64."),
        ({"ratio": float("nan")}, "ratio is nan; choose a number from 0 to 4."),
        ({"communication": -0.5}, "communication is -0.5; choose a number from 0 to 2."),
        ({"chunks": 1}, "chunks is 1; choose a number from 2 to 4."),
        ({"schedule": "pipedream"}, "schedule is 'pipedream'; choose one of 'forward', 'gpipe', '1f1b', 'interleaved'"),
        ({"schedule": ""}, "schedule is ''; choose one of"),
        ({"cursor": [0, 1]}, "cursor is [0, 1]; it has to be [chart, stage, number]"),
        ({"measured": "slept"}, "measured is 'slept'; choose one of ''."),
        ({"records": {"": [[0, "F", 0, 0, 0, 1]]}}, "A record is named ''; give a name of 1 to 40 characters."),
        ({"records": {"a": []}}, "The record 'a' is not a list of 1 to 8192 actions"),
        ({"records": {"a": [[0, "F", 0, 0, 1.0]]}}, "Action 0 of the record 'a' is [0, 'F', 0, 0, 1.0]; it has to be"),
        ({"records": {"a": [[0, "X", 0, 0, 0, 1]]}}, "Action 0 of the record 'a' is [0, 'X', 0, 0, 0, 1]; it has to"),
        ({"records": {"a": [[0, "F", 0, 0, 2, 1]]}}, "the start not after the end."),
        ({"records": {"a": [[0, "F", 0, 0, 0, float("inf")]]}}, "Action 0 of the record 'a' is"),
        ({"records": {"a": [[1, "F", 0, 0, 0, 1]]}}, "The record 'a' has stages without a forward action"),
        ({"records": {"a": [[0, "F", 0, 0, 1, 1]]}}, "The record 'a' has forward actions that take no time"),
        ({"records": {"a": [[0, "F", 0, 0, 0, 1]] * 8193}}, "The record 'a' is not a list of 1 to 8192 actions"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_refused_in_one_sentence(state, message):
    with pytest.raises(TraitError, match=re.escape(message)):
        PipelineBubble(**state)


def test_fallback_says_what_is_shown():
    words = PipelineBubble(schedule="1f1b", other="gpipe").fallback()
    assert "1F1B with 4 stages and 8 micro-batches takes 33 forward passes of a stage instead of 24" in words
    assert "idle for 0.27 of all device time, or 0.38 of the ideal time" in words
    assert "<td>F0 B0 F1 B1 F2 B2 F3 B3 F4 B4 F5 B5 F6 B6 F7 B7</td><td>1</td>" in words
    assert "Take 8 or 10" in PipelineBubble(schedule="interleaved", micro_batches=9).fallback()
