"""Schedules of a pipeline: closed forms, what depends on what, and the orders of torch's own."""

import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed.pipelining import schedules as theirs

from llmlib.parallel.schedules import (
    SCHEDULES,
    Action,
    forward_only,
    gpipe,
    interleaved,
    needed_by,
    one_f_one_b,
    order_text,
    peak_activations,
    timeline,
    zb_h1,
)

SIZES = [(p, m) for p in range(1, 9) for m in range(1, 17)]
sizes = st.integers(1, 32)
times = st.floats(0.01, 8)


def order_of(name, p, m, v):
    if name != "interleaved":
        return SCHEDULES[name](p, m)
    return interleaved(p, m if m % max(1, m // p) == 0 else m // p * p, v)


@given(st.sampled_from(sorted(SCHEDULES)), sizes, sizes, st.integers(1, 4), times, times, times, st.floats(0, 3))
@settings(max_examples=40, deadline=None)
def test_every_action_once_and_none_before_what_it_needs(name, p, m, v, forward, backward, weight, communication):
    order = order_of(name, p, m, v)
    n = 1 + max(a.micro_batch for a in order[0])
    kinds = {"forward": "F", "zb-h1": "FBW"}.get(name, "FB")
    every = {Action(k, i, c) for k in kinds for i in range(n) for c in range(v if name == "interleaved" else 1)}
    assert all(len(actions) == len(every) and set(actions) == every for actions in order)

    line = timeline(order, forward, backward, weight, communication)
    assert [[span.action for span in spans] for spans in line.spans] == order
    chunks = 1 + max(a.chunk for a in order[0])
    end = {(span.stage, span.action): span.end for spans in line.spans for span in spans}
    for stage, spans in enumerate(line.spans):
        free = 0.0
        for span in spans:
            needs = [
                end[need] + communication * (need[0] != stage) for need in needed_by(stage, span.action, p, chunks)
            ]
            assert span.start == max([free, *needs])  # not before it can, and not later
            free = span.end
    work = n * (forward + (0 if name == "forward" else backward + weight))
    assert line.busy_time == pytest.approx([work] * p)
    assert line.step_time >= line.ideal_time * (1 - 1e-12)
    assert line.bubble_ratio == pytest.approx(line.bubble_fraction / (1 - line.bubble_fraction), abs=1e-9)


@pytest.mark.parametrize(("forward", "backward", "weight"), [(1, 1, 1), (1, 3, 2)])
def test_closed_forms_of_the_bubble(forward, backward, weight):
    """Huang et al. 2018, section 2.3: (p-1)/(m+p-1) of the total; Narayanan et al. 2021, section 2.2: (p-1)/m and
    (p-1)/(v m) of the ideal; Qi et al. 2023, table 2: (p-1)(T_F+T_B-T_W) idle for m >= p and T_W <= T_F."""
    each = forward + backward + weight
    for p, m in SIZES:
        for order in (gpipe(p, m), one_f_one_b(p, m), forward_only(p, m)):
            line = timeline(order, forward, backward, weight)
            assert line.bubble_fraction == pytest.approx((p - 1) / (m + p - 1))
            assert line.bubble_ratio == pytest.approx((p - 1) / m)
        if m % p == 0:
            for v in (1, 2, 3):
                line = timeline(interleaved(p, m, v), forward, backward, weight)
                assert line.bubble_ratio == pytest.approx((p - 1) / (v * m))
        if m >= p:
            idle = timeline(zb_h1(p, m), forward, backward, weight).step_time - m * each
            assert idle == pytest.approx((p - 1) * (forward + backward - min(weight, forward)))


def test_the_textbook_case_by_both_definitions():
    line = timeline(gpipe(4, 8), forward=1, backward=1, weight=1)
    assert (line.step_time, line.ideal_time) == (33, 24)
    assert (line.bubble_fraction, line.bubble_ratio) == (pytest.approx(3 / 11), 3 / 8)


def test_peak_activations():
    """GPipe keeps all m; 1F1B as many as there are stages from here on; ZB-H1 never more than p, as its table 2 says;
    interleaved 1F1B on stage 0 p (1 + (p-1)/(p v)) (Narayanan et al. 2021, section 2.2: warm-up plus one)."""
    for p, m in SIZES:
        assert peak_activations(gpipe(p, m)) == [m] * p
        assert peak_activations(one_f_one_b(p, m)) == [min(m, p - s) for s in range(p)]
        assert peak_activations(zb_h1(p, m)) == [min(m, p)] * p
        assert peak_activations(forward_only(p, m)) == [1] * p
        if m % p == 0:
            for v in (2, 3):
                assert peak_activations(interleaved(p, m, v))[0] == pytest.approx(min(m, p * (1 + (p - 1) / (p * v))))


class Recorder:
    """A stage of torch's pipelining that does nothing but note what it is told to do."""

    def __init__(self, stage, p):
        self.stage_index, self.num_stages, self.is_last, self.is_first = stage, p, stage == p - 1, stage == 0
        self.device, self.has_backward, self.did = "cpu", True, []

    def forward_one_chunk(self, i, *args, **kwargs):
        self.did.append(Action("F", i))

    def backward_one_chunk(self, i, *args, **kwargs):
        self.did.append(Action("B", i))

    def __getattr__(self, name):  # what sends and receives has nothing to send
        return lambda *args, **kwargs: []


@pytest.mark.parametrize(("ours", "torch_class"), [(gpipe, "ScheduleGPipe"), (one_f_one_b, "Schedule1F1B")])
def test_orders_are_those_that_torch_executes(ours, torch_class):
    for p, m, s in [(*size, s) for size in SIZES for s in range(size[0])]:
        schedule = object.__new__(getattr(theirs, torch_class))
        stage = Recorder(s, p)
        vars(schedule).update(
            _stage=stage, _n_microbatches=m, _num_stages=p, _has_backward=True, scale_grads=False, _loss_fn=None,
            _initialize_stage=lambda *_: None, _maybe_compute_loss=lambda *_: None, _maybe_get_loss=lambda *_: None,
            _update_losses=lambda *_: None, _check_inputs=lambda *_, m=m: ([()] * m, [{}] * m),
        )  # fmt: skip
        schedule._step_microbatches()
        assert stage.did == ours(p, m)[s], (p, m, s)


@pytest.fixture
def torch_order(monkeypatch):
    """torch's own order for a pipeline with several chunks, or its own error, from stages that are only numbers."""
    monkeypatch.setattr(theirs, "_check_torch_compile_compatibility", lambda *args: None)

    def init(self, stages, n_microbatches, **kwargs):
        self._n_microbatches = n_microbatches
        self._prepare_schedule_with_comms = lambda *args: None
        self._add_bubbles_to_actions = lambda n: self.pipeline_order  # places to wait in, which are no actions

    monkeypatch.setattr(theirs._PipelineScheduleRuntime, "__init__", init)
    kinds = {"FORWARD": "F", "FULL_BACKWARD": "B", "BACKWARD_INPUT": "B", "BACKWARD_WEIGHT": "W"}

    def order(name, p, m, v):
        stages = [SimpleNamespace(group_size=p, group_rank=0, stage_index=c * p) for c in range(v)]
        made = theirs.get_schedule_class(name)(stages, m).pipeline_order
        return [
            [
                Action(kinds[a.computation_type.name], a.microbatch_index, a.stage_index // p)
                for a in made[s]
                if a is not None
            ]
            for s in range(p)
        ]

    return order


def test_interleaved_orders_are_torchs_and_both_refuse_the_same(torch_order):
    refused = 0
    for v, (p, m) in [(v, size) for v in (1, 2, 3) for size in SIZES]:
        try:
            order = torch_order("Interleaved1F1B", p, m, v)
        except ValueError:
            refused += 1
            with pytest.raises(ValueError, match="cannot be interleaved"):
                interleaved(p, m, v)
        else:
            assert interleaved(p, m, v) == order, (p, m, v)
    assert refused > 20


def test_zb_h1_is_torchs_zero_bubble_with_one_chunk(torch_order):
    for p, m in SIZES:
        if m % max(1, m // p) == 0:  # else torch refuses
            assert zb_h1(p, m) == torch_order("InterleavedZeroBubble", p, m, 1), (p, m)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gpipe(0, 4), "stages is 0; it has to be a whole number of at least 1."),
        (lambda: one_f_one_b(4, 0), "micro_batches is 0; it has to be a whole number of at least 1."),
        (lambda: zb_h1(2.0, 4), "stages is 2.0; it has to be a whole number of at least 1."),
        (lambda: forward_only(True, 4), "stages is True; it has to be a whole number"),
        (lambda: interleaved(2, 4, chunks=0), "chunks is 0; it has to be a whole number of at least 1."),
        (lambda: interleaved(4, 9), "9 micro-batches cannot be interleaved on 4 stages: they do not make 2 rounds of"
         " equal size. Take 8 or 10; every multiple of 4 will do."),
        (lambda: timeline(gpipe(2, 2), forward=-1), "forward is -1; a time has to be a finite number of at least 0."),
        (lambda: timeline(gpipe(2, 2), communication=float("nan")), "communication is nan; a time has to be"),
        (lambda: timeline(gpipe(2, 2), 0, 0, 0), "forward, backward and weight are all 0; give at least one"),
        (lambda: timeline([[Action("F", 0)], [Action("F", 1), Action("F", 0)]]),
         "The order stands still: on stage 1, F1 waits for F1 on stage 0, which never comes."),
    ],
)  # fmt: skip
def test_what_cannot_be_scheduled_is_refused_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        call()


def test_two_stages_that_wait_for_each_other_are_named():
    order = [[Action("F", 0), Action("B", 0)], [Action("B", 0), Action("F", 0)]]
    with pytest.raises(ValueError, match="on stage 0, B0 waits for B0 on stage 1"):
        timeline(order)


def test_an_order_in_words():
    assert order_text(interleaved(1, 1, 2)) == "0: F0 F0.1 B0.1 B0"


def test_needs_no_torch():
    code = "import sys, llmlib.parallel.schedules; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
