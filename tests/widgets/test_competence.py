"""Competence in Python and in JavaScript: what a sample has to be, what is refused, and the same windows in both."""

import copy
import random
import re

import numpy as np
import pytest
from figures import in_node
from scipy.stats import chisquare
from traitlets import TraitError

from llmlib.curriculum import PACINGS, Pacing, curriculum_distribution, difficulty_cdf, window_weights
from llmlib.widgets import Competence


def make_sample(n=12, seed=0) -> dict:
    rng = random.Random(seed)
    return {
        "texts": [f"Story {i}." for i in range(n)],
        "measures": [
            {"name": "length", "unit": "words", "scores": [rng.randint(1, 90) for _ in range(n)]},
            {"name": "depth", "unit": "levels", "scores": [rng.choice([0, 0, 0, 1, 2]) for _ in range(n)]},
        ],
    }


def test_what_is_open_is_what_the_package_says():
    sample = make_sample()
    figure = Competence(sample, measure="depth", pacing="linear", start=0.2, duration=40, time=10, softness=0.25)
    d = difficulty_cdf(sample["measures"][1]["scores"])
    assert figure.competence == pytest.approx(0.4)
    assert figure.weights == pytest.approx(window_weights(d, max(0.4, d.min()), 0.25).tolist())
    figure.hard_first = True
    assert figure.difficulties.tolist() == difficulty_cdf(-np.array(sample["measures"][1]["scores"])).tolist()


def test_another_sample_keeps_the_measure_or_takes_its_first():
    figure = Competence(make_sample(), measure="depth")
    figure.sample = make_sample(5)
    assert figure.measure == "depth"
    figure.sample = {"texts": ["A."], "measures": [{"name": "age", "unit": "years", "scores": [3]}]}
    assert (figure.measure, figure.scores) == ("age", [3])


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["texts"], [], "sample['texts'] has to be a list with at least one entry."),
        (["measures"], None, "sample['measures'] has to be a list with at least one entry."),
        (["texts", 3], " ", "sample['texts'][3] has to be a text of 1 to 1000 characters"),
        (["texts"], ["x"] * 501, "The sample has 501 texts; give at most 500."),
        (["measures", 0], {"name": "x"}, "sample['measures'][0] has to be a dictionary of name, unit, scores."),
        (["measures", 0, "unit"], 3, "sample['measures'][0]['unit'] is 3; it has to be a text."),
        (["measures", 0, "scores"], [1, 2], "sample['measures'][0] has 2 scores for 12 texts; give one for each."),
        (["measures", 0, "scores", 2], float("nan"), "['scores'][2] is nan; it has to be a finite number."),
        (["measures", 1, "scores", 0], "2", "sample['measures'][1]['scores'][0] is '2'; it has to be a finite number."),
        (["measures", 1, "name"], "length", "Two measures are called 'length'; give each its own name."),
    ],
)
def test_a_sample_that_cannot_be_shown_is_refused_in_one_sentence(path, value, message):
    sample = copy.deepcopy(make_sample())
    place = sample
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(TraitError, match=re.escape(message)):
        Competence(sample)


@pytest.mark.parametrize(
    ("trait", "value", "message"),
    [
        ("measure", "age", "measure is 'age'; the sample is scored by length, depth: choose one of them."),
        ("pacing", "cubic", "pacing is 'cubic'; choose one of linear, root, step, all."),
        ("start", 0.0, "start is 0.0; it goes from 0.01 to 1.0: the share of the corpus that is open at first."),
        ("duration", 101, "duration is 101; it goes from 1 to 100: per cent of the run until all is open."),
        ("softness", -0.1, "softness is -0.1; it goes from 0.0 to 0.5: 0 for a hard window."),
        ("time", 101, "time is 101; it goes from 0 to 100"),
        ("seed", -1, "seed is -1; it goes from 0 to 9999"),
        ("sample", {}, "sample['texts'] has to be a list"),
    ],
)
def test_what_cannot_be_shown_is_refused_and_changes_nothing(trait, value, message):
    figure = Competence(make_sample())
    before = figure.state()
    with pytest.raises(TraitError, match=re.escape(message)):
        setattr(figure, trait, value)
    assert figure.state() == before


def test_the_fallback_and_the_twin_hold_no_markup_of_the_data():
    sample = make_sample(3)
    sample["texts"][0] = "<img src=x></script><!--"
    sample["measures"][0]["unit"] = "<b>"
    figure = Competence(sample, start=0.5, pacing="step", duration=40)
    twin = figure.twin()
    assert twin.count("</script>") == 1
    assert "<img" not in twin
    assert "<b>" not in twin
    fallback = figure.fallback()
    assert "3 stories, easiest first by length" in fallback
    assert fallback.count("<tr>") == 1 + 11
    assert "<td>40 %</td><td>1.00</td><td>3</td>" in fallback


# ------------------------------------------------------------------------------------------- JavaScript against Python


def in_figure(node, folder, code, data=None):
    return in_node(node, folder, "competence", code, data)


def test_pacing_is_that_of_python(node, tmp_path):
    rng = random.Random(0)
    cases = [
        (rng.choice(PACINGS), rng.choice([0, rng.random() * 120, T]), T, rng.choice([0.01, 1.0, rng.uniform(0.01, 1)]))
        for T in (rng.randint(1, 100) for _ in range(400))
    ]
    seen = in_figure(node, tmp_path, "out = data.map((each) => competenceAt(...each));", cases)
    for (kind, t, T, c0), c in zip(cases, seen, strict=True):
        assert c == pytest.approx(float(Pacing(kind, T, c0).competence(t)), rel=1e-12), (kind, t, T, c0)


def test_difficulties_and_weights_are_those_of_python(node, tmp_path):
    rng = random.Random(1)
    cases = []
    for i in range(300):
        scores = [rng.choice([rng.randint(-3, 3), rng.uniform(0, 5)]) for _ in range(rng.randint(1, 40))]
        c = rng.choice([rng.random(), 1.0, rng.randint(1, len(scores)) / len(scores)])
        cases.append([scores, i % 2 == 0, c, rng.choice([0, 0, 0.01, 0.3])])
    code = """out = data.map(([scores, hard, c, s]) => {
      const d = difficulties(scores, hard);
      return [d, windowWeights(d, c, s)];
    });"""
    for (scores, hard, c, s), (d, weights) in zip(cases, in_figure(node, tmp_path, code, cases), strict=True):
        wanted = difficulty_cdf(-np.array(scores) if hard else scores)
        assert d == wanted.tolist()
        assert weights == pytest.approx(window_weights(wanted, max(c, wanted.min()), s).tolist(), rel=1e-12, abs=1e-300)


def test_draws_invert_the_running_sum(node, tmp_path):
    rng = random.Random(2)
    cases = []
    for _ in range(300):
        weights = [rng.choice([0.0, rng.random(), 1.0]) for _ in range(rng.randint(1, 30))] + [1.0]
        cases.append([weights, rng.random()])
    for (weights, u), i in zip(
        cases, in_figure(node, tmp_path, "out = data.map((x) => drawAt(...x));", cases), strict=True
    ):
        assert i == np.searchsorted(np.cumsum(curriculum_distribution(weights)), u, side="right")


def test_a_run_draws_by_the_window_and_counts_what_it_saw(node, tmp_path):
    rng = random.Random(3)
    scores = [rng.randint(1, 200) for _ in range(120)]
    code = """const state = { pacing: "root", duration: 60, start: 0.1, softness: 0 };
    const d = difficulties(data);
    out = Array.from({ length: 60 }, (_, seed) => [0, 20, 100].map((until) => follow(d, { ...state, seed }, until)));"""
    runs = in_figure(node, tmp_path, code, scores)
    d, counts = difficulty_cdf(scores), np.zeros(120)
    for at_start, early, late in runs:
        assert sum(at_start["counted"]) == 0
        assert sum(early["counted"]) == 24
        assert sum(late["counted"]) == 120
        assert early["seenAt"] == late["seenAt"]
        assert early["seenAt"][20] == np.count_nonzero(early["counted"]) / 120
        assert late["seenAt"][100] == np.count_nonzero(late["counted"]) / 120
        assert (d[np.flatnonzero(early["counted"])] <= Pacing("root", 60, 0.1).competence(20)).all()
        counts += late["counted"]
    # Expected draws of each story: the sum over draws of W / sum W, at that draw's moment
    expected = sum(
        curriculum_distribution(window_weights(d, max(c, d.min())))
        for c in Pacing("root", 60, 0.1).competence(np.arange(120) * 100 / 120)
    )
    groups = np.argsort(np.argsort(d, kind="stable")) // 10
    by_group = [[values[groups == g].sum() for g in range(12)] for values in (counts, 60 * expected)]
    assert chisquare(*by_group).pvalue > 1e-3


def test_the_histogram_holds_every_story_once(node, tmp_path):
    rng = random.Random(4)
    cases = []
    for kind in range(60):
        scores = [rng.randint(0, 3) if kind % 2 else rng.uniform(1, 9) for _ in range(rng.randint(1, 50))]
        cases.append([scores, [rng.random() for _ in scores]])
    for (scores, weights), bins in zip(
        cases, in_figure(node, tmp_path, "out = data.map((x) => histogram(...x));", cases), strict=True
    ):
        assert sum(b["all"] for b in bins) == len(scores)
        assert sum(b["open"] for b in bins) == pytest.approx(sum(weights))
        for b in bins:
            inside = sum(b["from"] <= score < b["to"] for score in scores)
            assert b["all"] >= inside >= b["all"] - sum(score == max(scores) for score in scores)
