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


def p_value(drawn, wanted):
    """The p-value of counts under probabilities, those expected fewer than five times taken together."""
    expected = wanted * drawn.sum()
    rare = expected < 5
    seen = np.append(drawn[~rare], drawn[rare].sum())
    hoped = np.append(expected[~rare], expected[rare].sum())
    assert drawn[wanted == 0].sum() == 0
    if hoped[-1] < 5:  # too few even together: join the next
        seen, hoped = np.append(seen[:-2], seen[-2:].sum()), np.append(hoped[:-2], hoped[-2:].sum())
    return chisquare(seen, hoped).pvalue if len(seen) > 1 else 1.0


@pytest.mark.parametrize("scores", [np.random.default_rng(0).random(40), np.random.default_rng(0).integers(0, 12, 40)])
@pytest.mark.parametrize("softness", [0.004, 0.02, 0.3, 5.0])
@pytest.mark.parametrize("c", [0.0, 0.01, 0.05, 0.06, 0.07, 0.321, 0.5, 0.975, 0.999, 1.0])
def test_soft_draws_follow_the_weights(scores, softness, c):
    """Also where c n is no whole number, where it opens nothing, and where scores tie."""
    sampler = CurriculumSampler(scores)
    wanted = curriculum_distribution(window_weights(sampler.difficulties(), c, softness))
    drawn = np.bincount(sampler.draw(c, 40_000, np.random.default_rng(1), softness), minlength=40)
    assert p_value(drawn, wanted) > 1e-4


def test_soft_draws_at_many_competences_and_softnesses():
    """One sampler, asked in turn: each draw has its own distribution."""
    sampler = CurriculumSampler(np.random.default_rng(0).integers(0, 12, 40))
    c = np.tile([0.03, 0.31, 0.77], 20_000)
    for softness in (0.05, 0.2, 0.05):
        drawn = sampler.draw(c, len(c), np.random.default_rng(2), softness)
        for own in c[:3]:
            wanted = curriculum_distribution(window_weights(sampler.difficulties(), own, softness))
            assert p_value(np.bincount(drawn[c == own], minlength=40), wanted) > 1e-4


@given(SCORES, COMPETENCES, st.sampled_from([1e-9, 1e-3, 0.5, 1e9]))
def test_soft_draws_stay_in_the_corpus(scores, c, softness):
    """However steep or flat the window: no warning, no text that does not exist."""
    with np.errstate(all="raise", under="ignore"):
        drawn = CurriculumSampler(scores).draw(c, 50, np.random.default_rng(0), softness)
    assert drawn.max() < len(scores)


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
    tied = CurriculumSampler(np.arange(n) // 10)
    assert tied.nbytes == 4 * n + 4 * n // 10
    tied.draw(0.5, 1, np.random.default_rng(0), softness=0.1)
    assert tied.nbytes == 4 * n + 4 * n // 10 + 8 * (n // 10 + 1)


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
