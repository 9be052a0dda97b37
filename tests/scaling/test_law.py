"""The loss law against published optima, against numerical minimisation, and the counts against the model's own."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from llmlib.model import ModelConfig
from llmlib.scaling import BESIROGLU, HOFFMANN, HOFFMANN_UNROUNDED, DenseShape, LossLaw, six_nd

laws = st.builds(
    LossLaw,
    E=st.floats(0, 3),
    A=st.floats(1, 1e4),
    B=st.floats(1, 1e4),
    alpha=st.floats(0.1, 1),
    beta=st.floats(0.1, 1),
)


@pytest.mark.parametrize(
    ("law", "N", "ratio"), [(HOFFMANN, 32.2e9, 92.7), (HOFFMANN_UNROUNDED, 40.4e9, 58.9), (BESIROGLU, 72.2e9, 18.4)]
)
def test_published_constants_give_the_optima_that_were_worked_out_from_them(law, N, ratio):
    """At Gopher's compute. That rounding moves the optimum so far is why the constants are kept with all digits."""
    best = law.best(5.76e23)
    assert pytest.approx(N, rel=2e-3) == best.N
    assert best.tokens_per_parameter == pytest.approx(ratio, rel=2e-3)
    assert best.flops == pytest.approx(5.76e23)


def test_exponents_of_the_published_laws():
    assert HOFFMANN_UNROUNDED.parameters_exponent == pytest.approx(0.4565, abs=1e-4)
    assert BESIROGLU.parameters_exponent == pytest.approx(0.513, abs=1e-3)
    assert HOFFMANN.parameters_exponent + HOFFMANN.tokens_exponent == 1


@settings(deadline=None)
@given(laws, st.floats(12, 26))
def test_closed_form_is_the_numerical_minimum_and_nothing_near_is_better(law, decades):
    C = 10.0**decades
    best = law.best(C)
    assert six_nd(best.N, best.D) == pytest.approx(C, rel=1e-9)
    around = np.log(best.N) + np.linspace(-3, 3, 601)
    losses = law.isoflop(np.exp(around), C).loss
    assert best.loss <= losses.min() * (1 + 1e-12)
    found = minimize_scalar(
        lambda n: law.isoflop(math.exp(n), C).loss - law.E, (math.log(best.N) - 1, math.log(best.N) + 1.3)
    )
    # near its lowest point the curve is flat, so a minimum to 16 digits places N to about 8
    assert found.fun == pytest.approx(best.loss - law.E, rel=1e-9, abs=1e-14)


@settings(deadline=None)
@given(laws, st.floats(15, 24))
def test_compute_for_a_loss_and_loss_for_a_compute_are_inverse(law, decades):
    C = 10.0**decades
    best = law.best(C)
    if best.loss - law.E > 1e-9 * best.loss:  # else the difference has no digits left
        assert law.flops_to_reach(best.loss) == pytest.approx(C, rel=1e-3)
        assert law.tokens_to_reach(law.loss(best.N, best.D), best.N) == pytest.approx(best.D, rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([HOFFMANN_UNROUNDED, BESIROGLU]), st.floats(18, 24), st.floats(8, 14))
def test_serving_makes_the_best_model_smaller_and_brute_force_agrees(law, decades, served_decades):
    S, compute_best = 10.0**served_decades, law.best(10.0**decades)
    chosen = law.best_with_serving(compute_best.loss, S)

    def whole_cost(N):
        return 6 * N * law.tokens_to_reach(compute_best.loss, N) + 2 * N * S

    assert chosen.loss == pytest.approx(compute_best.loss, rel=1e-6)
    assert chosen.N <= compute_best.N * (1 + 1e-6)
    grid = np.exp(np.linspace(np.log(chosen.N) - 1, np.log(chosen.N) + 1, 401))
    assert whole_cost(chosen.N) <= min(whole_cost(N) for N in grid) * (1 + 1e-9)


def test_without_serving_nothing_changes_and_a_model_may_be_too_small_for_a_loss():
    best = HOFFMANN.best(1e21)
    assert pytest.approx(best.N, rel=1e-4) == HOFFMANN.best_with_serving(best.loss, 0).N
    smallest = (HOFFMANN.A / (best.loss - HOFFMANN.E)) ** (1 / HOFFMANN.alpha)
    assert HOFFMANN.tokens_to_reach(best.loss, 0.99 * smallest) == math.inf
    assert math.isfinite(HOFFMANN.tokens_to_reach(best.loss, 1.01 * smallest))


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda: LossLaw(1.7, 0, 1, 0.3, 0.3), "A is 0; in a loss law it is a number above 0"),
        (lambda: LossLaw(-1, 1, 1, 0.3, 0.3), "E is -1; in a loss law it is a number 0 or more"),
        (lambda: LossLaw(1, 1, 1, math.nan, 0.3), "alpha is nan"),
        (lambda: HOFFMANN.loss(-1, 10), "N is -1; it has to be a finite number above 0"),
        (lambda: HOFFMANN.loss(10, [1, math.inf]), "D is"),
        (lambda: HOFFMANN.best(0), "flops is 0"),
        (lambda: HOFFMANN.flops_to_reach(1.69), "is not above E = 1.69, which no amount of compute"),
        (lambda: HOFFMANN.best_with_serving(2.0, -1), "served_tokens is -1; give a finite number, 0 or more"),
        (lambda: HOFFMANN.best_with_serving(2.0, math.inf), "served_tokens is inf; give a finite number"),
        (lambda: HOFFMANN.best_with_serving(math.nan, 1), "loss nan is not above E"),
        (lambda: HOFFMANN.tokens_to_reach(math.nan, 10), "The loss is nan; give a number"),
        (lambda: six_nd(-1, math.nan), "N is -1; it has to be a finite number above 0"),
        (lambda: six_nd([1, 2], [3, math.nan]), "D is .* it has to be a finite number above 0"),
        (lambda: DenseShape(-10, 4, 1, 1, 1, 4, 8), "vocabulary is -10; it has to be a whole number of at least 1"),
        (lambda: DenseShape(10, 4, 1, 1, 1, 4, math.nan), "feed_forward is nan; it has to be a whole number"),
        (lambda: DenseShape(10, 4, 1, 1, 1, 4, 8).train_flops(math.nan), "nan tokens; it needs at least 1"),
        (lambda: DenseShape(10, 4, 1, 1, 1, 4, 8).train_flops(0), "0 tokens; it needs at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(do, message):
    with pytest.raises(ValueError, match=message):
        do()


@settings(deadline=None)
@given(
    st.integers(1, 4), st.sampled_from([1, 2, 4]), st.integers(1, 4), st.integers(1, 300), st.booleans(),
    st.integers(1, 500),
)  # fmt: skip
def test_counts_are_those_of_the_books_model(kv_heads, share, layers, vocabulary, tied, length):
    heads, D = kv_heads * share, 8
    config = ModelConfig(vocabulary, 512, heads * D, layers, heads, kv_heads, tied=tied)
    shape = DenseShape(vocabulary, heads * D, layers, heads, kv_heads, D, config.feed_forward_width, tied)
    assert shape.parameters == config.count_parameters()
    assert shape.parameters_without_embedding == config.count_parameters(embeddings=False)
    assert shape.train_flops(length) == config.train_flops(length)


def test_numpys_whole_numbers_do_not_overflow():
    assert six_nd(np.int64(70e9), np.int64(1.4e12)) == pytest.approx(5.88e23)
    assert six_nd(np.array([70_000_000_000]), 1_400_000_000_000).tolist() == pytest.approx([5.88e23])
    assert DenseShape(*[np.int32(50_000)] * 7).parameters == DenseShape(*[50_000] * 7).parameters > 2**32


def test_six_nd_is_exact_but_for_attention_and_what_is_looked_up():
    """One weight is one multiplication and one addition forward, and twice that backward: nothing else is in 6N."""
    shape = DenseShape(vocabulary=1000, width=64, layers=2, heads=4, kv_heads=4, head_width=16, feed_forward=128)
    norms = 2 * 2 * 64 + 64
    attention = 3 * 2 * 4 * 64 * (100 + 1) / 2
    assert shape.train_flops(100) == 6 * (shape.parameters - norms) + attention
    untied = DenseShape(1000, 64, 2, 4, 4, 16, 128, tied=False)
    assert untied.train_flops(100) == shape.train_flops(100)  # the second matrix is only looked up
    assert untied.parameters - shape.parameters == 64_000
