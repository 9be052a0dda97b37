"""Competence over time: against the published formulas, the derivation, and what every schedule has to do."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlib.curriculum import PACINGS, Pacing, linear_competence, power_competence, step_competence

STARTS = st.floats(0.01, 0.99)
DURATIONS = st.floats(0.1, 1e6)


@given(st.floats(0, 2), DURATIONS, STARTS, st.floats(0.5, 5))
def test_as_published(share, T, c0, p):
    """Platanios et al. 2019 as their code has it, written out."""
    t = share * T
    assert linear_competence(t, T, c0) == pytest.approx(min(1, t * (1 - c0) / T + c0))
    assert power_competence(t, T, c0, p) == pytest.approx(min(1, (t * (1 - c0**p) / T + c0**p) ** (1 / p)))


@pytest.mark.parametrize("kind", PACINGS)
@given(T=DURATIONS, c0=STARTS)
def test_rises_from_the_start_to_all_and_stays_there(kind, T, c0):
    times = np.linspace(0, 2 * T, 101)
    c = Pacing(kind, T, c0).competence(times)
    assert c[0] == (1 if kind == "all" else pytest.approx(c0))
    assert (np.diff(c) >= 0).all()
    assert (c[times >= T] == 1).all()
    assert (c > 0).all()


def test_root_pacing_gives_each_added_text_the_same_time():
    """dc/dt is in proportion to 1 / c, so c dc/dt is the same everywhere; linear pacing keeps dc/dt."""
    t = np.linspace(0.01, 0.99, 500)
    root, linear = power_competence(t, 1.0, 0.1), linear_competence(t, 1.0, 0.1)
    middle = (root[1:] + root[:-1]) / 2
    assert middle * np.diff(root) / np.diff(t) == pytest.approx((1 - 0.1**2) / 2, rel=1e-9)
    assert np.diff(linear) / np.diff(t) == pytest.approx(0.9)


def test_expected_draws_of_the_texts_that_enter():
    """What root pacing equalises, integrated: draws that a text gets while one more per cent enters."""
    for p, equal in [(2.0, True), (1.0, False)]:
        levels = np.linspace(0.1, 0.99, 90)  # competences, a hundredth apart
        entered = (levels**p - 0.1**p) / (1 - 0.1**p)  # when: the inverse of the formula
        draws = np.diff(entered) / levels[:-1]  # of each open text: time over how many share it
        assert (draws.max() / draws.min() < 1.06) == equal


def test_steps_are_of_equal_size_and_length():
    c = step_competence(np.arange(0, 100), 100, 0.2, stages=4)
    assert np.unique(c.round(9)).tolist() == [0.2, 0.4, 0.6, 0.8]
    assert [int((c.round(9) == level).sum()) for level in (0.2, 0.4, 0.6, 0.8)] == [25] * 4
    assert step_competence(100, 100, 0.2, 4) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Pacing("cubic"), "There is no pacing 'cubic'; choose one of linear, root, step, all."),
        (lambda: Pacing("root", duration=0), "The duration T is 0; it has to be above 0"),
        (lambda: Pacing("all", duration=float("nan")), "The duration T is nan; it has to be above 0"),
        (lambda: Pacing("linear", start=0), "The first competence c0 is 0; it has to be above 0 and at most 1."),
        (lambda: Pacing("step", stages=0), "There are 0 stages before all is open"),
        (lambda: Pacing("root").competence(-1), "Time t is -1.0; it starts at 0."),
        (lambda: power_competence(0, 1, 0.1, power=0), "The power p is 0; it has to be above 0"),
    ],
)
def test_what_is_no_schedule_is_refused_in_a_sentence(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
