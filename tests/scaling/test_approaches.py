"""Approaches 1 and 2 on runs that follow a known law: both find its exponent."""

import numpy as np
import pytest

from llmlib.scaling import (
    LossLaw,
    envelope_minima,
    fit_power_law,
    isoflop_minima,
    parabola_minimum,
    subset_exponents,
)

LAW = LossLaw(E=0.5, A=60.0, B=300.0, alpha=0.35, beta=0.40)
SIZES = np.geomspace(1e4, 1e6, 9)


def ladder():
    """Every size at computes 2^k apart, as far as its tokens lie in a range: models of different size meet."""
    runs = [(N, C / 6 / N) for C in 1e10 * 2.0 ** np.arange(16) for N in SIZES]
    N, D = np.array([(n, d) for n, d in runs if 5e4 < d < 5e8]).T
    return N, D, LAW.loss(N, D)


def test_isoflop_parabolas_find_the_exponent():
    minima = isoflop_minima(*ladder())
    assert len(minima) > 6
    for found in minima:
        assert pytest.approx(LAW.best(found.flops).N, rel=0.5) == found.N  # a parabola is symmetric, the law is not
        assert pytest.approx(found.flops / 6 / found.N) == found.D
    line = fit_power_law([found.flops for found in minima], [found.N for found in minima])
    assert line.exponent == pytest.approx(LAW.parameters_exponent, abs=0.05)


def test_the_envelope_finds_the_exponent():
    minima = envelope_minima(*ladder())
    assert {found.N for found in minima} < set(SIZES)
    line = fit_power_law([found.flops for found in minima], [found.N for found in minima])
    assert line.exponent == pytest.approx(LAW.parameters_exponent, abs=0.05)


def test_subsets_scatter_around_the_whole():
    exponents = subset_exponents(isoflop_minima, *ladder(), draws=30)
    assert len(exponents) > 25
    assert min(exponents) < LAW.parameters_exponent + 0.03
    assert max(exponents) > LAW.parameters_exponent - 0.03
    assert exponents == subset_exponents(isoflop_minima, *ladder(), draws=30)


def test_second_seeds_are_averaged_not_counted_as_sizes():
    N, D, L = ladder()
    twice = isoflop_minima(np.tile(N, 2), np.tile(D, 2), np.concatenate([L + 0.01, L - 0.01]))
    for one, two in zip(isoflop_minima(N, D, L), twice, strict=True):
        assert pytest.approx(one.N) == two.N
        assert two.sizes == one.sizes


def test_a_minimum_at_the_edge_is_no_minimum():
    assert parabola_minimum([1e4, 1e5, 1e6], [3, 2, 1.5]) is None
    assert parabola_minimum([1e4, 1e5, 1e6], [1, 2, 1]) is None
    N, D, L = ladder()
    small = N < 6e4
    assert all(1e4 < found.N < 6e4 for found in isoflop_minima(N[small], D[small], L[small], least_sizes=3))


def test_a_power_law_is_a_line_on_log_axes():
    line = fit_power_law([1, 4, 16], [5, 10, 20])
    assert (line.coefficient, line.exponent) == pytest.approx((5, 0.5))
    assert line.at(64) == pytest.approx(40)
    with pytest.raises(ValueError, match="two different x"):
        fit_power_law([3, 3], [1, 2])
    with pytest.raises(ValueError, match="not above 0: leave them out"):
        fit_power_law([1, 2], [1, -2])
    with pytest.raises(ValueError, match="three different sizes; given 2"):
        parabola_minimum([1e4, 1e5], [3, 2])


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda: parabola_minimum([1e4, np.nan, 1e6], [3, 2, 3]), "N is .*; it has to be a finite number above 0"),
        (lambda: parabola_minimum([1e4, -1e5, 1e6], [3, 2, 3]), "N is .*; it has to be a finite number above 0"),
        (lambda: parabola_minimum([1e4, 1e5, 1e6], [3, np.nan, 3]), "L is .*; it has to be a finite number above 0"),
        (lambda: parabola_minimum([1e4, 1e5, 1e6], [3, 2]), r"shapes \(3,\) and \(2,\); give two lists of one length"),
        (lambda: fit_power_law(3, 4), "two different x"),
        (lambda: subset_exponents(isoflop_minima, *ladder(), share=2), "share 2; give at least 1, and a share above 0"),
        (lambda: subset_exponents(isoflop_minima, *ladder(), draws=0), "0 draws of a share 0.8; give at least 1"),
        (lambda: envelope_minima(*ladder(), points=0), "in 0 points; give at least 2"),
        (lambda: isoflop_minima([1e4], [1e6], [2.0]), "There are 1 runs; five constants need"),
    ],
)
def test_what_cannot_be_found_is_refused_in_words(do, message):
    with pytest.raises(ValueError, match=message):
        do()
