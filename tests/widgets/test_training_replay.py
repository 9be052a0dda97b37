"""TrainingReplay in Python and in JavaScript: what a run has to be, what is refused, and the same numbers in both."""

import copy
import gzip
import json
import math
import random
import re
from itertools import pairwise

import numpy as np
import pytest
from figures import in_node
from traitlets import TraitError

from llmlib.widgets import TrainingReplay
from llmlib.widgets.training_replay import surprise, tail

PROMPTS = ["Once| upon| a| dr|agon|.", "Tom| has| a| kite|\n|."]


def make_run(seed=0, n_moments=4, prompts=PROMPTS, V=64, entropy=1.25, k=5, n_records=20) -> dict:
    """A run of any shape: random distributions over V tokens, the true one more and more probable."""
    rng = random.Random(seed)
    texts = [prompt.split("|") for prompt in prompts]
    steps = sorted(rng.sample(range(1000), n_moments))
    moments = []
    for m, step in enumerate(steps):
        predictions = []
        for tokens in texts:
            places = []
            for t in range(len(tokens)):
                truth = tokens[t + 1] if t + 1 < len(tokens) else " end"
                weights = {f" {chr(97 + 7 * i % 26)}{i}": rng.random() ** 4 for i in range(V - 1)} | {
                    truth: rng.random() * (m + 1) ** 2
                }
                total = sum(weights.values())
                top = sorted(([token, w / total] for token, w in weights.items()), key=lambda pair: -pair[1])
                places.append({"top": top[:k], "actual": None if truth == " end" else weights[truth] / total})
            predictions.append(places)
        moments.append({"step": step, "tokens": step * 128, "loss": 5.123456789 - m / 2, "held_out": 5.1 - m / 2,
                        "gradient_norm": 2 / (m + 1), "sample": f"Story {m}.", "predictions": predictions})  # fmt: skip
    records = sorted(rng.sample(range(1, 1000), n_records))
    curve = {"step": records, "tokens": [128 * step for step in records], "loss": [5 - step / 500 for step in records],
             "gradient_norm": [2.0 for _ in records], "held_out": [[steps[-1], 3.5]]}  # fmt: skip
    return {"vocab_size": V, "entropy": entropy, "curve": curve, "prompts": [{"tokens": t} for t in texts],
            "moments": moments}  # fmt: skip


def edited(path: list, value: object) -> dict:
    """A sound run with one value replaced, or removed where the value is `...`."""
    run = copy.deepcopy(make_run())
    place = run
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return run


def test_traits_name_a_place_and_its_prediction():
    figure = TrainingReplay(make_run(), moment=2, prompt=1, position=3)
    assert figure.tokens == ["Tom", " has", " a", " kite", "\n", "."]
    assert figure.prediction == figure.run["moments"][2]["predictions"][1][3]
    figure.prompt = 0
    assert figure.position == 3
    figure.position = 5
    assert figure.prediction["actual"] is None


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["moments"], [], "run['moments'] has to be a list with at least one entry."),
        (["curve"], ..., "run has no 'curve'; add it."),
        (["vocab_size"], 1, "run['vocab_size'] is 1; it has to be a whole number of at least 2."),
        (["entropy"], math.nan, "run['entropy'] is nan; it has to be a finite number"),
        (["moments", 1, "loss"], math.inf, "run['moments'][1]['loss'] is inf; it has to be a finite number"),
        (["moments", 0, "step"], 1000, "The steps of run['moments'] have to increase"),
        (["moments", 0, "sample"], None, "run['moments'][0]['sample'] is a NoneType; it has to be a text"),
        (["moments", 0, "predictions"], [], "run['moments'][0]['predictions'] has 0 entries for 2 prompts"),
        (["moments", 0, "predictions", 1], [], "run['moments'][0]['predictions'][1] has 0 entries; prompt 1 has 6 tok"),
        (["moments", 0, "predictions", 1, 0, "top"], [["a", 0.2], ["b", 0.3]], "sort it, most probable first"),
        (["moments", 0, "predictions", 1, 0, "top"], [["a", 0.9], ["b", 0.3]], "its sum is at most 1"),
        (["moments", 0, "predictions", 1, 0, "top"], [[7, 0.9]], "is [7, 0.9]; it has to be [token, probability]."),
        (["moments", 0, "predictions", 1, 0, "actual"], 1.5, "is 1.5; a probability lies between 0 and 1."),
        (["moments", 0, "predictions", 1, 0, "actual"], None, "give the probability of the token that follows"),
        (["moments", 0, "predictions", 1, 5, "actual"], 0.5, "['predictions'][1][5]['actual'] is 0.5"),
        (["curve", "loss"], [1.0], "The columns of run['curve'] have {'step': 20, 'tokens': 20, 'loss': 1,"),
        (["curve", "held_out"], [[1]], "run['curve']['held_out'][0] is [1]; it has to be [step, loss]."),
        (["prompts", 0, "tokens"], [1, 2], "run['prompts'][0]['tokens'][0] is 1; it has to be a token's text."),
        (["prompts"], "abc", "run['prompts'] has to be a list"),
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_shown_is_refused_in_one_sentence(path, value, message):
    with pytest.raises(TraitError, match=re.escape(message)):
        TrainingReplay(edited(path, value))


@pytest.mark.parametrize(
    ("trait", "value", "message"),
    [
        ("moment", 4, "moment is 4; this run has 4 moments, so choose one from 0 to 3."),
        ("prompt", -1, "prompt is -1; this run has 2 prompts, so choose one from 0 to 1."),
        ("position", 6, "position is 6; this prompt has 6 tokens, so choose one from 0 to 5."),
        ("guess", "x" * 81, "The guess has 81 characters"),
        ("guess", "\ud800", "lone surrogate"),
        ("guesses", [[0, 5, "a"]], "no token follows such a place"),
        ("guesses", [[0, "a"]], "it has to be [prompt, position, guess]"),
        ("guesses", [[0, 1, "a"], [0, 1, "b"]], "Two guesses are for one place"),
        ("run", {}, "run has no 'vocab_size'; add it."),
    ],
)
def test_what_cannot_be_shown_is_refused_and_changes_nothing(trait, value, message):
    figure = TrainingReplay(make_run(), moment=1)
    before = figure.state()
    with pytest.raises(TraitError, match=re.escape(message)):
        setattr(figure, trait, value)
    assert figure.state() == before


def test_another_run_starts_anew_at_a_place_that_exists():
    figure = TrainingReplay(make_run(), moment=3, prompt=1, position=4, guess="x", revealed=True, guesses=[[1, 4, "x"]])
    figure.run = make_run(1, n_moments=2, prompts=["Own| text"], entropy=None)
    state = figure.state()
    assert [state[name] for name in ("moment", "prompt", "position", "guess", "revealed", "guesses")] == [
        1, 0, 1, "", False, [],
    ]  # fmt: skip
    assert "entropy" not in figure.fallback(), "nobody knows it for the reader's own text"


def test_numbers_of_any_kind_become_short_and_plain():
    run = make_run()
    run["moments"][0]["loss"] = np.float32(4.123456)
    run["moments"][0]["predictions"][0][0]["top"][0][1] = np.float64(0.987654)
    run["moments"][0]["predictions"][0][0]["top"][1:] = []
    run["curve"]["loss"] = np.array(run["curve"]["loss"])
    run["seed"] = "left out"
    kept = TrainingReplay(run).run
    json.dumps(kept, allow_nan=False)
    assert kept["moments"][0]["loss"] == 4.123
    assert kept["moments"][0]["predictions"][0][0]["top"][0][1] == 0.988
    assert "seed" not in kept
    assert TrainingReplay(kept).run == kept, "what is short already stays"


def test_a_long_curve_is_thinned_evenly_and_keeps_its_end():
    run = make_run()
    steps = list(range(1, 12_346))
    run["curve"] = {"step": steps, "tokens": steps, "loss": steps, "gradient_norm": steps, "held_out": []}
    kept = TrainingReplay(run).run["curve"]["step"]
    assert len(kept) <= 1000
    assert kept[-1] == 12_345
    assert len({after - before for before, after in pairwise(kept)}) == 1


def test_the_state_of_a_real_size_is_small():
    words = [f" word{i}" for i in range(23)]
    run = make_run(
        n_moments=11, prompts=["|".join(["A", *words[p:], *words[:p]]) for p in range(4)], k=8, n_records=300
    )
    text = json.dumps(TrainingReplay(run).state(), ensure_ascii=False)
    assert len(gzip.compress(text.encode())) <= 40_000


def test_the_twin_and_the_fallback_hold_no_markup_of_the_data():
    run = make_run(prompts=["<img src=x onerror=alert(1)>|</script>|<!--"])
    run["moments"][-1]["sample"] = "<img src=y onerror=alert(2)></q><script>"
    twin = TrainingReplay(run, guess="<img src=z>", position=1).twin()
    assert twin.count("</script>") == 1
    assert "<img" not in twin
    assert "<!--" not in twin


def test_the_fallback_says_what_the_figure_shows():
    run = make_run()
    figure = TrainingReplay(run, position=3)
    fallback = figure.fallback()
    assert "ln V = 4.16 for V = 64 tokens" in fallback
    assert "entropy, 1.25" in fallback
    assert "<q>Once upon a dr</q>" in fallback
    assert fallback.count("<tr>") == 1 + 4
    last = run["moments"][-1]["predictions"][0][3]["actual"]
    assert f"<td>{-math.log(last):.2f}</td>" in fallback
    assert "Story 3." in fallback


# ------------------------------------------------------------------------------------------- JavaScript against Python


def in_figure(node, folder, code, data=None, module="training_replay"):
    return in_node(node, folder, module, code, data)


def test_surprise_and_tail_are_those_of_python(node, tmp_path):
    rng = random.Random(3)
    tops = []
    for _ in range(300):
        weights = sorted((rng.random() ** rng.choice([1, 5, 20]) for _ in range(rng.randint(1, 9))), reverse=True)
        total = sum(weights) * rng.choice([1, 1.5, 0.995])
        tops.append([[f"t{i}", w / total] for i, w in enumerate(weights)])
    code = "out = data.map((top) => [top.map(([, p]) => [surprise(p), bits(surprise(p))]), tail(top)]);"
    for top, (surprises, left) in zip(tops, in_figure(node, tmp_path, code, tops), strict=True):
        assert left == pytest.approx(tail(top), abs=1e-15)  # another order of summation
        for (_, p), (nats, in_bits) in zip(top, surprises, strict=True):
            assert nats == pytest.approx(surprise(p), rel=1e-14)
            assert in_bits == pytest.approx(-math.log2(p), rel=1e-12, abs=1e-15)


def test_rows_of_a_distribution_sum_to_one_and_hold_the_truth_once(node, tmp_path):
    runs = [TrainingReplay(make_run(seed, k=k)).run for seed in range(8) for k in (1, 5, 8)]
    code = """out = data.flatMap((run) => run.moments.flatMap(({ predictions }) => predictions.flatMap((places, p) =>
      places.map((place, t) => {
        const { rows, tail } = predictionRows(place, run.prompts[p].tokens[t + 1]);
        const true_ = rows.filter(({ truth }) => truth).map(({ p }) => p);
        return [rows.reduce((sum, { p }) => sum + p, tail), true_, place.actual, rows.length, place.top.length];
      }))));"""
    seen = in_figure(node, tmp_path, code, runs)
    assert len(seen) == 24 * 4 * 12
    extra = 0
    for total, true, actual, n, listed in seen:
        assert total == pytest.approx(1, abs=0.01)  # three digits of each probability
        assert len(true) == (0 if actual is None else 1)
        assert actual is None or true[0] == pytest.approx(actual, rel=0.01)
        extra += n - listed
    assert extra > 100, "the truth was always in the list: nothing is shown of the other case"


def test_two_tokens_of_one_text_are_told_apart_by_their_probability(node, tmp_path):
    prediction = {"top": [["\ufffd", 0.5], ["\ufffd", 0.3]], "actual": 0.3}
    code = "out = predictionRows(data, '\\ufffd').rows.map(({ truth }) => truth);"
    assert in_figure(node, tmp_path, code, prediction) == [False, True]


RIGHT = [("time", ["a", " time"], 0), (" time", ["a", " time"], 0), ("Time ", ["a", " time"], 0),
         ("\n", ["a", "\n"], 0), ("dragon", ["a", " dr", "agon", "."], 0), ("dr", ["a", " dr", "agon"], 0),
         (".", ["a", ".", "b"], 0), ("É", ["a", " e\u0301"], 0)]  # fmt: skip
WRONG = [("tim", ["a", " time"], 0), ("", ["a", " time"], 0), ("", ["a", "\n"], 0), (" ", ["a", "\n"], 0),
         ("dragon.", ["a", " dr", "agon", "."], 0), ("dragons", ["a", " dr", "agon"], 0), (".b", ["a", ".", "b"], 0),
         ("a", ["a"], 0)]  # fmt: skip


def test_what_counts_as_right(node, tmp_path):
    seen = in_figure(node, tmp_path, "out = data.map((guess) => isRight(...guess));", RIGHT + WRONG)
    assert [case for case, right in zip(RIGHT + WRONG, seen, strict=True) if right] == RIGHT


def test_the_tally_is_what_one_counts_by_hand(node, tmp_path):
    run = TrainingReplay(make_run(5, n_moments=3)).run
    guesses = [[0, 0, " upon"], [0, 2, "dragon"], [1, 1, "no"], [1, 3, "\n"]]
    seen = in_figure(node, tmp_path, "out = data[0].moments.map((_, m) => tally(data[0], data[1], m));", [run, guesses])
    for moment, counted in zip(run["moments"], seen, strict=True):
        places = [(moment["predictions"][p][t], run["prompts"][p]["tokens"][t + 1]) for p, t, _ in guesses]
        assert (counted["n"], counted["reader"]) == (4, 3)
        assert counted["model"] == sum(place["top"][0][0] == truth for place, truth in places)
        assert counted["nats"] == pytest.approx(sum(-math.log(place["actual"]) for place, _ in places) / 4)
    # The model has 0, 1, 2 of 2 right at three moments; the reader has 1: they are level from the second one on.
    top = {True: [["b", 0.5]], False: [["z", 0.5]]}
    right = [(False, False), (False, True), (True, True)]
    run = {
        "prompts": [{"tokens": ["a", "b", "b", "c"]}],
        "moments": [{"predictions": [[{"top": top[r], "actual": 0.5} for r in pair]]} for pair in right],
    }
    guesses = [[[0, 0, first], [0, 1, second]] for first, second in ("bx", "bb", "xx")]
    assert in_figure(node, tmp_path, "out = data[1].map((g) => levelFrom(data[0], g));", [run, guesses]) == [1, 2, 0]


def test_what_the_model_gives_a_guess_or_at_most(node, tmp_path):
    prediction = {"top": [[" red", 0.5], [" The", 0.2], [" the", 0.125]], "actual": 0.03125}
    code = "out = data[0].map((guess) => shareOfGuess(guess, data[1], ['a', ' kite', 's'], 0));"
    shares = in_figure(node, tmp_path, code, [["red", "kites", " the", "THE", "blue"], prediction])
    assert shares == [
        {"p": 0.5, "bound": False},
        {"p": 0.03125, "bound": False},  # the true token begins the word
        {"p": 0.125, "bound": False},  # the very text before any other
        {"p": 0.2, "bound": False},
        {"p": 0.125, "bound": True},  # not listed: no more than the last that is, or than what is left
    ]


def test_choices_hold_the_truth_and_do_not_give_it_away(node, tmp_path):
    run = TrainingReplay(make_run(2)).run
    code = "out = data.prompts.map(({ tokens }, p) => tokens.map((_, t) => choices(data, p, t)));"
    places = set()
    for prompt, found in zip(run["prompts"], in_figure(node, tmp_path, code, run), strict=True):
        for truth, words in zip(prompt["tokens"][1:], found, strict=False):
            assert len(words) == len(set(words)) == 6 or len(words) == 5
            assert words == sorted(words, key=lambda word: (word.strip().lower(), word))
            places.add(words.index(truth))
    assert len(places) > 2, "the true one always stands at one place"


def test_axes_hold_all_that_is_drawn(node, tmp_path):
    rng = random.Random(8)
    cases = []
    for _ in range(200):
        values = [rng.uniform(0, 12) for _ in range(rng.randint(1, 9))]
        low, high = sorted(rng.uniform(1, 1e6) for _ in range(2))
        cases.append(
            {"values": values, "low": low, "high": high, "at": rng.uniform(low, high), "log": rng.random() < 0.5}
        )
    code = """out = data.map(({ values, low: min, high: max, at, log }) =>
      [lossAxis(values), scale({ min, max, log }, 30, 300)(at)]);"""
    for case, (axis, pixel) in zip(cases, in_figure(node, tmp_path, code, cases), strict=True):
        assert 0 <= axis["min"] <= min(case["values"])
        assert axis["max"] >= max(case["values"])
        f = math.log if case["log"] else float
        share = (f(case["at"]) - f(case["low"])) / (f(case["high"]) - f(case["low"]))
        assert pixel == pytest.approx(30 + 270 * share, rel=1e-9)


def test_any_value_of_an_address_is_a_place(node, tmp_path):
    cases = [(2, 2), (99, 3), (-1, 0), ("1", 1), (None, 0), ("x", 0), (1.4, 1), ([2, 3], 0), ({}, 0), (1e999, 3)]
    code = "out = [...data, Infinity].map((value) => place(value, 4));"
    seen = in_figure(node, tmp_path, code, [value for value, _ in cases[:-1]])
    assert seen == [place for _, place in cases]
