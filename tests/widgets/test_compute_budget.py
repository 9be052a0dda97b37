"""ComputeBudget in Python and in JavaScript: the same law in both, what is refused, what the fallback says."""

import math
import random
import re

import pytest
from figures import in_node
from traitlets import TraitError

from llmlib.scaling import BESIROGLU, HOFFMANN, LossLaw
from llmlib.widgets import ComputeBudget
from llmlib.widgets.compute_budget import KNOWN_MODELS

OWN = LossLaw(E=0.5, A=30.0, B=200.0, alpha=0.3, beta=0.4)


def in_figure(node, folder, code, data=None):
    return in_node(node, folder, "compute_budget", code, data)


def test_the_page_computes_what_python_does(node, tmp_path):
    rng = random.Random(0)
    cases = []
    for _ in range(400):
        law = {"E": rng.uniform(0, 3), "A": 10 ** rng.uniform(0, 4), "B": 10 ** rng.uniform(0, 4),
               "alpha": rng.uniform(0.15, 0.8), "beta": rng.uniform(0.15, 0.8)}  # fmt: skip
        cases.append([law, rng.uniform(12, 26), rng.randint(0, 40)])
    code = """out = data.map(([law, log, size]) => {
      const { best, yours, enough } = budget(law, log, size);
      return [best.N, best.D, best.loss, yours.N, yours.D, yours.loss, enough, tokensToReach(law, yours.loss, yours.N)];
    });"""
    for (constants, log, size), seen in zip(cases, in_figure(node, tmp_path, code, cases), strict=True):
        law = LossLaw(**constants)
        best = law.best(10**log)
        yours = law.isoflop(best.N * 10 ** ((size - 20) / 10), 10**log)
        expected = [best.N, best.D, best.loss, yours.N, yours.D, yours.loss]
        assert seen[:6] == pytest.approx(expected, rel=1e-9)
        if yours.loss - law.E > 1e-6:  # else the difference has lost its digits
            assert seen[6] == pytest.approx(law.flops_to_reach(yours.loss), rel=1e-5)
            assert seen[7] == pytest.approx(yours.D, rel=1e-4)


def test_a_curve_of_equal_loss_is_of_equal_loss(node, tmp_path):
    constants = {"E": BESIROGLU.E, "A": BESIROGLU.A, "B": BESIROGLU.B, "alpha": BESIROGLU.alpha, "beta": BESIROGLU.beta}
    points = in_figure(node, tmp_path, "out = isoloss(data, 2.2, 1e13);", constants)
    assert len(points) > 50
    for N, D in points:
        assert BESIROGLU.loss(N, D) == pytest.approx(2.2, rel=1e-9)
    assert [N for N, _ in points] == sorted(N for N, _ in points)


def test_days_and_energy(node, tmp_path):
    """989 TFLOP/s at 40%: 1e21 FLOP take 2.53e6 s, which is 29.3 days; at 1 kW, 702 kWh."""
    seen = in_figure(node, tmp_path, "out = costOf(1e21, { flops_per_second: 989e12 }, 40, 1000);")
    assert seen["days"] == pytest.approx(1e21 / (0.4 * 989e12) / 86400)
    assert seen["days"] == pytest.approx(29.26, abs=0.01)
    assert seen["kWh"] == pytest.approx(24 * seen["days"])
    figure = ComputeBudget(log_flops=21.0)
    assert (figure.days, figure.kilowatt_hours) == pytest.approx((seen["days"], seen["kWh"]))
    figure.machine = "a100"
    assert figure.days == pytest.approx(seen["days"] * 989 / 312)
    assert f"{figure.days:.3g} days of one A100 (312 TFLOP/s at its peak), {figure.kilowatt_hours:.3g} kWh" in (
        figure.fallback()
    )


def test_numbers_are_written_for_people(node, tmp_path):
    code = "out = [...[70e9, 134567, 2.5e15].map(inWords), ...[5.76e23, 123, 0, 2e-8].map(scientific), tenTo(-3)]"
    expected = ["70 billion", "135\u2009000", "2.5 × 10¹⁵", "5.76 × 10²³", "123", "0", "2 × 10⁻⁸", "10⁻³"]
    assert in_figure(node, tmp_path, code) == expected
    code = """out = [[40, "GPU"], [1, "GPU"], [4000, "core"], [3e9, "GPU"]].map((given) => deviceDays(...given));"""
    days = ["40 GPU-days", "1 GPU-days, 24 hours on one", "4\u2009000 core-days, 11 years on one",
            "3 billion GPU-days, 8.21 million years on one"]  # fmt: skip
    assert in_figure(node, tmp_path, code) == days
    code = "out = [1e-9, 1e-3, 0.05, 1, 40, 4000].map(duration)"
    assert in_figure(node, tmp_path, code) == ["0.0864 ms", "86.4 s", "72 minutes", "24 hours", "40 days", "11 years"]


def test_properties_are_those_of_the_law_in_use():
    figure = ComputeBudget(own=OWN, runs=[[1e4, 1e6], [2e5, 1e7]], log_flops=11.5 + 1, size=25, constants="own")
    assert figure.law == OWN
    assert figure.best == OWN.best(10**12.5)
    assert pytest.approx(figure.best.N * 10**0.5) == figure.yours.N
    assert figure.yours.flops == pytest.approx(10**12.5)
    assert [figure.laws["own"][name] for name in ("least_N", "most_N")] == [1e4, 2e5]
    figure.constants = "rounded"
    assert figure.law == HOFFMANN


def test_a_core_that_was_measured_runs_at_all_of_its_speed():
    figure = ComputeBudget(own_flops_per_second=2e9, machine="core", log_flops=15.0, percent=10)
    assert figure.days == pytest.approx(1e15 / 2e9 / 86400)
    figure.machine = "h100"
    assert figure.days == pytest.approx(1e15 / 989e11 / 86400)


@pytest.mark.parametrize(
    ("trait", "value", "message"),
    [
        ("log_flops", 27.0, "log_flops is 27.0; give a number from 12 to 26 (log10 of a budget in FLOP)."),
        ("log_flops", math.nan, "log_flops is nan; give a number from 12 to 26"),
        ("size", 41, "size is 41; give a number from 0 to 40 (20 is the best size)."),
        ("constants", "own", "constants is 'own'; choose one of 'besiroglu', 'unrounded', 'rounded'."),
        ("machine", "abacus", "machine is 'abacus'; choose one of 'h100', 'h200', 'a100'."),
        ("percent", 0.0, "percent is 0.0; give a number from 1 to 100"),
        ("watts", -5.0, "watts is -5.0; give a number from 1 to 100000"),
        ("laws", {"x": {"E": 1}}, "The law 'x' cannot be used"),
    ],
)
def test_what_cannot_be_shown_is_refused_and_changes_nothing(trait, value, message):
    figure = ComputeBudget()
    before = figure.state()
    with pytest.raises(TraitError, match=re.escape(message)):
        setattr(figure, trait, value)
    assert figure.state() == before


def test_a_speed_that_is_none_is_refused():
    with pytest.raises(TraitError, match="own_flops_per_second is 0; it has to be a finite number above 0"):
        ComputeBudget(own_flops_per_second=0)


def test_the_fallback_says_what_the_figure_shows():
    fallback = ComputeBudget(log_flops=math.log10(5.76e23), constants="rounded").fallback()
    assert "5.76e+23 FLOP" in fallback
    assert "spent best on 3.22e+10 parameters" in fallback
    assert fallback.count("<tr>") == 1 + 2 + 12
    assert all(f"<td>{source}</td>" in fallback and "arXiv" in source for *_, source in KNOWN_MODELS)
    assert "<td>Grattafiori et al. 2024, arXiv 2407.21783</td>" in fallback
    assert "<td>Chinchilla</td><td>7e+10</td><td>1.4e+12</td><td>20</td><td>5.88e+23</td><td>1.937</td><td>" in fallback
