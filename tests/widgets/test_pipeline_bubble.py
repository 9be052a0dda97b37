"""PipelineBubble in Python and in JavaScript: the same orders and times in both, and what is refused."""

import random
import re

import pytest
from figures import in_node
from traitlets import TraitError

from llmlib.parallel.schedules import SCHEDULES, Action, Span, interleaved, one_f_one_b, timeline
from llmlib.widgets import PipelineBubble

GRID = [(p, m) for p in range(1, 17) for m in range(1, 65)]


def run(node, folder, code, data=None):
    return in_node(node, folder, "pipeline_schedules", code, data)


def test_javascript_and_python_agree_on_the_whole_grid(node, tmp_path):
    """Every p and m; the schedule, the times and the chunks by lot: step time, ideal time, bubble and activations."""
    dice = random.Random(6)
    cases = [
        [
            dice.choice(sorted(SCHEDULES)),
            p,
            m,
            dice.randint(2, 4),
            dice.randrange(0, 17) / 4,
            dice.randrange(0, 41) / 20,
        ]
        for p, m in GRID
    ]
    code = """out = data.map(([schedule, p, m, v, ratio, communication]) => {
      try {
        const { step, ideal, fraction, ratio: over, peaks } = scheduled(schedule, p, m, { v, ratio, communication });
        return [step, ideal, fraction, over, peaks];
      } catch (error) { return error.message; } });"""
    refused = 0
    for (schedule, p, m, v, ratio, communication), got in zip(cases, run(node, tmp_path, code, cases), strict=True):
        if isinstance(got, str):
            refused += 1
            with pytest.raises(ValueError, match=f"^{re.escape(got)}$"):
                interleaved(p, m, v)
            assert schedule == "interleaved"
            continue
        order = interleaved(p, m, v) if schedule == "interleaved" else SCHEDULES[schedule](p, m)
        line = timeline(order, 1, ratio / 2, ratio / 2, communication)
        assert got[:4] == pytest.approx(
            [line.step_time, line.ideal_time, line.bubble_fraction, line.bubble_ratio], rel=1e-9, abs=1e-9
        )
        assert got[4] == line.peak_activations
    assert 20 < refused < 200


def test_javascript_and_python_agree_in_every_action(node, tmp_path):
    dice = random.Random(7)
    sizes = [(1, 1), (1, 9), (2, 2), (3, 7), (4, 8), (5, 3), (6, 12), (8, 16)]
    cases = [[name, p, m, dice.randint(2, 4), 1.5, 0.25] for name in SCHEDULES for p, m in sizes]
    code = """out = data.map(([schedule, p, m, v, ratio, communication]) => {
      if (schedule === "interleaved" && cannotInterleave(p, m)) return null;
      const { spans } = scheduled(schedule, p, m, { v, ratio, communication });
      return spans.map((row) => row.map((a) => [a.kind, a.batch, a.chunk, a.start, a.end])); });"""
    for (schedule, p, m, v, ratio, communication), got in zip(cases, run(node, tmp_path, code, cases), strict=True):
        if got is None:
            with pytest.raises(ValueError, match="cannot be interleaved"):
                interleaved(p, m, v)
            continue
        order = interleaved(p, m, v) if schedule == "interleaved" else SCHEDULES[schedule](p, m)
        spans = timeline(order, 1, ratio / 2, ratio / 2, communication).spans
        assert [[[*s.action, s.start, s.end] for s in row] for row in spans] == got


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
    figure = PipelineBubble.over(spans, "1f1b")
    assert (figure.stages, figure.micro_batches, figure.ratio, len(figure.measured)) == (3, 4, 1.5, 24)
    assert figure.measured[0] == [0, "F", 0, 0, 0.0, 0.5]
    with pytest.raises(TraitError, match="The record has no forward action that takes time"):
        PipelineBubble.over([[Span(0, Action("B", 0), 0, 1)]], "gpipe")


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
        ({"measured": [[0, "F", 0, 0, 1.0]]}, "measured[0] is [0, 'F', 0, 0, 1.0]; it has to be [stage, kind,"),
        ({"measured": [[0, "X", 0, 0, 0, 1]]}, "measured[0] is [0, 'X', 0, 0, 0, 1]; it has to be"),
        ({"measured": [[0, "F", 0, 0, 2, 1]]}, "the start not after the end."),
        ({"measured": [[0, "F", 0, 0, 0, float("inf")]]}, "measured[0] is"),
        ({"measured": [[1, "F", 0, 0, 0, 1]]}, "measured has stages without a forward action"),
        ({"measured": [[0, "F", 0, 0, 1, 1]]}, "measured has forward actions that take no time"),
        ({"measured": [[0, "F", 0, 0, 0, 1]] * 8193}, "measured holds 8193 actions; the figure draws up to 8192"),
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
