"""AttentionView in Python and in JavaScript: weights in and out, what is refused, sentences of the reader's own."""

import gzip
import json
import math
import random
import re
import subprocess
import sys

import numpy as np
import pytest
from figures import in_node
from traitlets import TraitError

from llmlib.widgets import AttentionView
from llmlib.widgets.attention_view import habits


def make_weights(seed: int, L=2, H=3, T=5) -> np.ndarray:
    """Causal attention of random scores: (L, H, T, T)."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, (L, H, T, T)) + np.where(np.tri(T, dtype=bool), 0, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def view(seed=0, T=5, **state) -> AttentionView:
    return AttentionView.of([f" t{i}" for i in range(T)], make_weights(seed, T=T), **state)


def test_the_weights_come_back_to_three_digits():
    given = make_weights(1, T=9)
    figure = view(1, T=9)
    for figure.layer in range(2):
        for figure.head in range(3):
            for figure.query in range(9):
                row = figure.row()
                assert row == pytest.approx(
                    given[figure.layer, figure.head, figure.query, : figure.query + 1], abs=5e-4
                )


def test_lists_arrays_tensors_and_packed_weights_are_one():
    torch = pytest.importorskip("torch")
    weights, tokens = make_weights(2), [" a"] * 5
    figures = [
        AttentionView.of(tokens, given)
        for given in (
            weights,
            weights.tolist(),
            torch.tensor(weights),
            list(weights),
            [list(layer) for layer in weights],
        )
    ]
    packed = AttentionView(figures[0].texts)
    assert all(figure.texts == packed.texts for figure in figures)
    json.dumps(packed.state())


def test_the_figure_does_not_need_torch():
    code = (
        "import sys; from llmlib.widgets import AttentionView; AttentionView.of(['a'], [[[[1.0]]]]);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


W = [[[[1, 0], [0.5, 0.5]]]]


def two(*rows) -> list[dict]:
    return [{"tokens": ["a", "b"], "weights": [[list(rows)]]}]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "texts has to be a list"),
        ([{"tokens": ["a"]}], 'texts[0] has to be {"tokens": …, "weights": …}.'),
        ([{"tokens": [1, 2], "weights": W}], "texts[0]['tokens'] have to be texts, not ids"),
        ([{"tokens": ["a"] * 41, "weights": W}], "texts[0] has 41 tokens; from 1 to 40 can be shown"),
        ([{"tokens": ["a"] * 3, "weights": W}], "shape (1, 1, 2, 2); for 3 tokens they have to be (L, H, 3, 3)."),
        (two([0.5, 0.5], [0.5, 0.5]), "token 0 would look at token 1, which comes later"),
        (two([1, 0], [0.5, 0.3]), "row 1, sums to 0.800; a distribution sums to 1"),
        (two([1, 0], [1.5, -0.5]), "[1][0] is 1.5; a weight lies between 0 and 1."),
        (two([1, 0], [math.nan, 1]), "[1][0] is nan"),
        ([{"tokens": ["a", "b"], "weights": [[[1000, 500, 400]]]}], "row 1, sums to 0.900"),
        ([{"tokens": ["a", "b"], "weights": [[[1000, 500, 500], [1000, 500]]]}], "another size than the heads before"),
        ([{"tokens": "ab", "weights": W}, {"tokens": "ab", "weights": W * 2}], "[(1, 1), (2, 1)]; these have to agree"),
    ],
)  # fmt: skip
def test_weights_that_are_no_causal_attention_are_refused(texts, message):
    with pytest.raises(TraitError, match=re.escape(message)):
        AttentionView(texts)


@pytest.mark.parametrize(
    ("trait", "value", "message"),
    [
        ("layer", 2, "layer is 2; the model has 2 layers, so choose one from 0 to 1."),
        ("head", -1, "head is -1; a layer has 3 heads, so choose one from 0 to 2."),
        ("query", 5, "query is 5; this text has 5 tokens, so choose one from 0 to 4."),
        ("text", 1, "text is 1; there are 1 texts"),
        ("sentence", "hello", "A sentence needs a model: set compute"),
    ],
)
def test_what_cannot_be_shown_is_refused_and_changes_nothing(trait, value, message):
    figure = view(layer=1, head=2)
    before = figure.state()
    with pytest.raises(TraitError, match=re.escape(message)):
        setattr(figure, trait, value)
    assert figure.state() == before


def test_a_shorter_text_keeps_a_query_that_exists():
    texts = [{"tokens": ["a"] * T, "weights": make_weights(T, T=T)} for T in (7, 3)]
    figure = AttentionView(texts)
    assert figure.query == 6, "the last token sees all others"
    figure.text = 1
    assert figure.query == 2
    figure.texts = [{"tokens": ["a"], "weights": make_weights(0, 1, 1, 1)}]
    assert [figure.text, figure.layer, figure.head, figure.query] == [0, 0, 0, 0]


def test_a_sentence_is_computed_and_becomes_the_last_text():
    def compute(text):
        if "!" in text:
            raise ValueError("No exclamation marks, please.")
        return text.split(), make_weights(len(text), T=len(text.split()))

    figure = view(compute=compute)
    assert figure.live
    figure.sentence = "one two three"
    assert [len(text["tokens"]) for text in figure.texts] == [5, 3]
    assert (figure.text, figure.query, figure.problem) == (1, 2, "")
    assert figure.row() == pytest.approx(make_weights(13, T=3)[0, 0, 2], abs=5e-4)
    figure.sentence = "four words it has"
    assert [len(text["tokens"]) for text in figure.texts] == [5, 4], "the reader's sentence is replaced"
    before = figure.texts
    figure.sentence = "stop!"
    assert figure.problem == "No exclamation marks, please."
    figure.sentence = "word " * 41
    assert "has 41 tokens; from 1 to 40 can be shown" in figure.problem
    assert figure.texts == before
    figure.sentence = "fine again"
    assert (figure.problem, figure.text) == ("", 1)


def test_only_a_live_figure_offers_to_compute():
    figure = view(compute=lambda text: ([text], make_weights(0, T=1)))
    state = json.loads(re.search(r'<script type="application/json">(.*?)</script>', figure.twin(), re.S)[1])
    assert state["live"] is False, "a page without a kernel cannot compute"
    assert figure.live is True
    figure.compute = None
    assert figure.live is False
    with pytest.raises(TypeError, match="compute is 3"):
        figure.compute = 3
    with pytest.raises(TraitError, match="set compute"):
        view(sentence="x")


def test_the_state_of_a_real_size_is_small():
    texts = [{"tokens": [f" w{i}" for i in range(24)], "weights": make_weights(seed, 6, 3, 24)} for seed in range(4)]
    state = json.dumps(AttentionView(texts).state(), separators=(",", ":"))
    assert len(gzip.compress(state.encode())) <= 50_000


def test_the_fallback_says_what_the_figure_shows():
    tokens = ["<b>", " sat", " down"]
    figure = AttentionView.of(tokens, [[[[1, 0, 0], [0.5, 0.5, 0], [0.125, 0.625, 0.25]]]])
    fallback = figure.fallback()
    assert "<q> down</q> looks most at <q> sat</q> (0.62), <q> down</q> (0.25), <q>&lt;b&gt;</q> (0.12)" in fallback
    assert "<td>0.25</td><td>0.62</td><td>0.12</td>" in fallback
    assert "<b>" not in figure.twin()


def test_habits_of_heads_whose_habits_are_known():
    T = 6
    of = lambda rows: AttentionView.of(["a"] * T, [[rows]]).texts[0]["weights"][0][0]  # noqa: E731
    itself = of(np.eye(T))
    before = of(np.vstack([np.eye(T)[0], np.eye(T)[:-1]]))
    first = of(np.tile(np.eye(T)[0], (T, 1)))
    even = of(np.tri(T) / np.arange(1, T + 1)[:, None])
    assert habits(itself) == {"itself": 1, "before": 0, "first": 0}
    assert habits(before) == {"itself": 0, "before": 1, "first": 0}
    assert habits(first) == {"itself": 0, "before": 0, "first": 1}
    mean = sum(1 / n for n in range(3, T + 1)) / (T - 2)
    assert habits(even) == pytest.approx({"itself": mean, "before": mean, "first": mean}, abs=5e-4)
    assert habits([1000, 500, 500]) is None


# ------------------------------------------------------------------------------------------- JavaScript against Python


def in_figure(node, folder, code, data=None):
    return in_node(node, folder, "attention_view", code, data)


def test_javascript_unpacks_the_triangle_as_python_packed_it(node, tmp_path):
    given = [make_weights(T, 1, 1, T)[0, 0] for T in range(1, 41)]
    flats = [AttentionView.of(["a"] * len(w), [[w]]).texts[0]["weights"][0][0] for w in given]
    code = """out = data.map((flat) => { const T = tokensOf(flat); return [
      Array.from({ length: T }, (_, q) => Array.from({ length: T }, (_, k) => weightAt(flat, q, k))),
      Array.from({ length: T }, (_, q) => weightsOf(flat, q)), habits(flat),
      Array.from({ length: T }, (_, q) => ranked(flat, q))]; });"""
    for weights, flat, (matrix, rows, habit, order) in zip(
        given, flats, in_figure(node, tmp_path, code, flats), strict=True
    ):
        assert np.abs(np.array(matrix) - weights).max() <= 5e-4 + 1e-12
        assert [len(row) for row in rows] == list(range(1, len(weights) + 1))
        assert rows == [row[: q + 1] for q, row in enumerate(matrix)]
        assert habit == (None if habits(flat) is None else pytest.approx(habits(flat), abs=1e-12))
        for row, found in zip(rows, order, strict=True):
            assert [(entry["key"], entry["weight"]) for entry in found] == sorted(
                enumerate(row), key=lambda e: (-e[1], e[0])
            )


def test_a_small_picture_of_a_head_covers_each_cell_once_in_its_shade(node, tmp_path):
    rng = random.Random(4)
    flats = [
        AttentionView.of(["a"] * T, make_weights(T, 1, 1, T)).texts[0]["weights"][0][0]
        for T in rng.sample(range(1, 41), 12)
    ]
    seen = in_figure(
        node, tmp_path, "out = data.map((flat) => [shades(flat), flat.map((w) => strength(w / 1000))]);", flats
    )
    for flat, (paths, strengths) in zip(flats, seen, strict=True):
        cells = {}
        for path in paths:
            for x, y, wide in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\3z", path["d"]):
                for k in range(int(x), int(x) + int(wide)):
                    assert (int(y), k) not in cells
                    cells[int(y), k] = path["level"]
            assert re.sub(r"M\d+ \d+h(\d+)v1h-\1z", "", path["d"]) == ""
        places = [(q, k) for q in range(40) for k in range(q + 1)][: len(flat)]
        for place, strength in zip(places, strengths, strict=True):
            assert abs(cells.get(place, 0) - strength) <= 0.1 + 1e-9, "five shades: half a shade away at most"
