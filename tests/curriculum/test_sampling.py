"""Draws from the open window: against its definition, the weights W(x, t), and counts of what was drawn."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from llmlib.curriculum import (
    CurriculumSampler,
    Pacing,
    checked_distribution,
    curriculum_distribution,
    difficulty_cdf,
    window_weights,
)

SCORES = st.lists(st.integers(0, 6), min_size=1, max_size=30)
COMPETENCES = st.floats(0, 1)


@given(SCORES, COMPETENCES)
def test_what_is_open_is_what_the_definition_says(scores, c):
    """d(x) <= c(t), and the easiest where that would be nothing."""
    d = difficulty_cdf(scores)
    wanted = set(np.flatnonzero(d <= c)) or set(np.flatnonzero(d == d.min()))
    sampler = CurriculumSampler(scores)
    assert set(sampler.order[: sampler.count_open(c)].tolist()) == wanted
    assert sampler.difficulties().tolist() == d.tolist()
    assert set(sampler.draw(c, 200, np.random.default_rng(0)).tolist()) <= wanted


@given(st.integers(1, 200))
def test_each_text_opens_exactly_at_its_difficulty(n):
    """i / n is rounded in binary: the comparison must not lose a text by it."""
    sampler = CurriculumSampler(np.arange(n)[::-1])
    assert [sampler.count_open(d) for d in np.sort(difficulty_cdf(np.arange(n)))] == list(range(1, n + 1))


def test_draws_are_uniform_in_the_window():
    sampler = CurriculumSampler(np.random.default_rng(0).random(40))
    drawn = np.bincount(sampler.draw(0.5, 20_000, np.random.default_rng(1)), minlength=40)
    open_ones = drawn[sampler.order[:20]]
    assert drawn.sum() == open_ones.sum()
    assert chisquare(open_ones).pvalue > 1e-3


@pytest.mark.parametrize("softness", [0.02, 0.3, 5.0])
@pytest.mark.parametrize("c", [0.05, 0.5, 0.975, 1.0])
def test_soft_draws_follow_the_weights(softness, c):
    sampler = CurriculumSampler(np.random.default_rng(0).random(40))
    wanted = curriculum_distribution(window_weights(sampler.difficulties(), c, softness))
    drawn = np.bincount(sampler.draw(c, 40_000, np.random.default_rng(1), softness), minlength=40)
    likely = wanted * 40_000 > 5
    assert chisquare(drawn[likely], wanted[likely] / wanted[likely].sum() * drawn[likely].sum()).pvalue > 1e-3
    assert drawn[~likely].sum() <= 3 * 40_000 * wanted[~likely].sum() + 5


def test_a_competence_for_each_draw():
    sampler = CurriculumSampler(np.arange(1000))
    c = Pacing("linear", 100, 0.1).competence(np.arange(100))
    for softness in (0.0, 1e-4):
        drawn = sampler.draw(c, 100, np.random.default_rng(0), softness)
        assert (drawn <= 1000 * c + 10).all()
        assert drawn[50:].max() > 400


def test_memory_is_four_bytes_a_text_and_four_more_where_scores_tie():
    n = 1000
    assert CurriculumSampler(np.random.default_rng(0).random(n)).nbytes == 4 * n
    assert CurriculumSampler(np.arange(n) // 10).nbytes == 4 * n + 4 * n // 10


@given(SCORES, COMPETENCES, st.sampled_from([0.0, 0.01, 0.5]))
def test_every_window_gives_a_distribution(scores, c, softness):
    d = difficulty_cdf(scores)
    weights = window_weights(d, c, softness)
    if weights.sum() > 0:
        assert curriculum_distribution(weights).sum() == pytest.approx(1)
    else:
        assert c < d.min()


def test_a_curriculum_in_the_sense_of_bengio():
    """Weights never fall in time, the entropy of the distribution never falls, and in the end all weigh the same."""
    d = difficulty_cdf(np.random.default_rng(0).random(50))
    for softness in (0.0, 0.1):
        windows = [window_weights(d, c, softness) for c in Pacing("root", 1, 0.05).competence(np.linspace(0, 1, 40))]
        assert (np.diff(windows, axis=0) >= 0).all()
        entropies = [-sum(p * np.log(p) for p in curriculum_distribution(w) if p) for w in windows]
        assert (np.diff(entropies) >= -1e-12).all()
        assert (windows[-1] == 1).all()


def test_the_hard_window_is_the_limit_of_soft_ones():
    d = np.linspace(0.1, 1, 10)
    assert window_weights(d, 0.5, 1e-9) == pytest.approx(window_weights(d, 0.5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CurriculumSampler([1, 2]).count_open(1.2), "The competence is 1.2; it has to be from 0 to 1."),
        (lambda: CurriculumSampler([]), "given shape (0,)"),
        (lambda: CurriculumSampler([1]).draw(1, 1, np.random.default_rng(), -1), "The softness is -1"),
        (lambda: window_weights([0.5], 2), "The competence is 2"),
        (lambda: window_weights([30.0], 1), "Turn scores into difficulties with difficulty_cdf."),
        (lambda: window_weights([0.5], 1, float("nan")), "The softness is nan"),
        (lambda: curriculum_distribution([0, 0]), "All weights are 0, so nothing can be drawn"),
        (lambda: curriculum_distribution([1, -1]), "A weight is negative"),
        (lambda: checked_distribution([0.5, 0.6]), "The probabilities sum to 1.100000, not to 1"),
        (lambda: checked_distribution([1.5, -0.5]), "A probability is -0.5; it has to be 0 or above."),
    ],
)
def test_what_cannot_be_drawn_from_is_refused_in_a_sentence(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
