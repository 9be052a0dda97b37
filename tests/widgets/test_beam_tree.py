"""BeamTree in Python and in JavaScript: what a record has to be, what is refused, and the same search in both."""

import copy
import math
import re
from functools import partial

import pytest
import torch
from figures import in_node
from traitlets import TraitError

from llmlib.decoding import beam_search, wu_penalty
from llmlib.widgets import BeamTree, beam_record

# What follows nothing, an a, a b; greedy goes to a, a (0.6 * 0.55 = 0.33), the best text is b, b (0.4 * 0.95 = 0.38).
TABLE = torch.tensor([[0.6, 0.4], [0.55, 0.45], [0.05, 0.95]]).log()


def small(**state) -> BeamTree:
    record = beam_record(lambda ids: TABLE[ids[-1] + 1 if ids else 0], ["a", "b"], "Say: ", width=2, length=3)
    return BeamTree([record], **{"length": 2, **state})


def test_width_two_finds_by_hand_what_greedy_misses():
    one, two = small(width=1).hypotheses, small(width=2).hypotheses
    assert (one[0].tokens, two[0].tokens) == ([0, 0], [1, 1])
    assert math.exp(one[0].log_probability) == pytest.approx(0.33, abs=1e-4)
    assert math.exp(two[0].log_probability) == pytest.approx(0.38, abs=1e-4)


@pytest.mark.parametrize("seed", range(12))
def test_a_record_suffices_for_every_search_up_to_its_width(seed):
    """Against the search over the whole vocabulary of a random model that remembers two tokens."""
    random = torch.Generator().manual_seed(seed)
    V, end = 9, 4 if seed % 2 else None
    logits = 3 * torch.randn(V + 1, V + 1, V, generator=random)

    def row(ids):
        return logits[ids[-2] if len(ids) > 1 else V, ids[-1] if ids else V]

    record = beam_record(row, [f"t{i}" for i in range(V)], "p", width=3, length=4, end=end)
    assert all(len(pairs) == 6 for pairs in record["next"].values())  # of 9
    for width in (1, 2, 3):
        for alpha, penalty in ((0.0, "power"), (1.0, "power"), (2.0, "wu")):
            paths = [[]]

            def step(parents, tokens, paths=paths):
                paths[:] = [[*paths[p], t] for p, t in zip(parents.tolist(), tokens.tolist(), strict=True)]
                return torch.stack([row(path) for path in paths])

            scale = wu_penalty(alpha) if penalty == "wu" else alpha
            full = beam_search(row([]), step, width, 4, () if end is None else end, scale)[0]
            found = BeamTree([record], width=width, length=4, alpha=alpha, penalty=penalty).hypotheses[0]
            assert found.tokens == full.tokens
            assert found.score == pytest.approx(full.score, abs=2e-3)  # four digits of each log-probability


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["prompt"], ..., "texts[0] has to be a dictionary of prompt, end, width, length, tokens, next"),
        (["width"], 9, "texts[0]['width'] is 9; it is a whole number from 1 to 8."),
        (["next", ""], ..., "texts[0]['next'] has no ''"),
        (["next", "0"], [[0, 0.5]], "each at most 0"),
        (["next", "0"], [[0, math.nan]], "each at most 0"),
        (["next", "0"], [[0, -2.0], [1, -1.0]], "put the most probable token first"),
        (["next", "0"], [[7, -0.1]], "has the token 7, which texts[0]['tokens'] does not name"),
        (["next", "0"], [[0, -1.0]], "lists 1 tokens; a search of width 2 may need 4"),
    ],
)
def test_a_record_that_cannot_be_shown_is_refused(path, value, message):
    record = copy.deepcopy(small().texts[0])
    place = record
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(TraitError, match=re.escape(message)):
        BeamTree([record])


@pytest.mark.parametrize(
    ("trait", "value", "message"),
    [
        ("texts", [], "There is no text to show"),
        ("text", 1, "text is 1; it is a whole number from 0 to 0."),
        ("width", 0, "width is 0; it is a whole number from 1 to 8."),
        ("length", 13, "length is 13; it is a whole number from 1 to 12."),
        ("step", -1, "step is -1"),
        ("alpha", math.nan, "alpha is nan; it lies between 0"),
        ("alpha", 3.5, "alpha is 3.5"),
        ("penalty", "log", "penalty is 'log'; choose 'power' or 'wu'."),
        ("prompt", "x" * 301, "The prompt has 301 characters"),
    ],
)
def test_what_cannot_be_shown_is_refused_and_changes_nothing(trait, value, message):
    figure = small()
    before = figure.state()
    with pytest.raises(TraitError, match=re.escape(message)):
        setattr(figure, trait, value)
    assert figure.state() == before


def test_the_fallback_says_what_is_found_and_holds_no_markup():
    record = beam_record(lambda ids: TABLE[ids[-1] + 1 if ids else 0], ["<b>", "b"], "<i>", width=2, length=2)
    twin = BeamTree([record], alpha=0.0).twin()
    assert "<td>bb</td><td>2</td><td>-0.97</td><td>-0.97</td><td>cut at the length</td>" in twin  # ln 0.38
    assert "<b>" not in twin
    assert "<i>" not in twin


# ------------------------------------------------------------------------------------------- JavaScript against Python


def in_figure(node, folder, code, data=None, module="beam_tree"):
    return in_node(node, folder, module, code, data)


def generated(n: int) -> list[dict]:
    """Random tables, (step, last token, next token): flat, peaked, with tokens ruled out, with and without an end.

    They depend on the step, else texts with the same transitions in another order would tie.
    """
    random = torch.Generator().manual_seed(5)

    def pick(least, most):
        return int(torch.randint(least, most + 1, (), generator=random))

    cases = []
    for i in range(n):
        V = pick(1, 8)
        logits = (0.3, 1.5, 6.0)[i % 3] * torch.randn(7, V + 1, V, generator=random, dtype=torch.float64)
        if V > 2 and i % 5 == 0:
            logits[..., pick(0, V - 1)] = -math.inf
        case = {"logits": logits, "width": pick(1, 8), "length": pick(1, 7), "alpha": (0.0, 0.5, 1.0, 2.0)[pick(0, 3)]}
        cases.append(case | {"end": pick(0, V - 1) if i % 4 else None, "penalty": ("power", "wu")[pick(0, 1)]})
    return cases


SEARCH = """out = data.map(({ table, width, length, end, alpha, penalty }) => {
  const logits = table.map((rows) => rows.map((row) => row.map((z) => (z === null ? -Infinity : z))));
  const lookup = (tokens) => mostProbable(logits[tokens.length][tokens.length > 0 ? tokens.at(-1) + 1 : 0], 8);
  const { steps, found } = beamSearch(lookup, { width, length, end, penalty: lengthPenalty(penalty, alpha) });
  return { steps, best: found[0], greedy: greedyPath(lookup, { length, end }).path };
});"""


def _without_infinity(cube):
    return [[[None if z == -math.inf else z for z in row] for row in rows] for rows in cube]


def _table_step(logits, steps, parents, tokens):
    return logits[len(steps), tokens + 1]


def test_the_search_is_that_of_python(node, tmp_path):
    cases = generated(400)
    data = [{**case, "logits": None, "table": _without_infinity(case["logits"].tolist())} for case in cases]
    seen = in_figure(node, tmp_path, SEARCH, data)
    early = ended = 0
    for case, found in zip(cases, seen, strict=True):
        logits, steps = case["logits"], []
        scale = wu_penalty(case["alpha"]) if case["penalty"] == "wu" else case["alpha"]
        end = () if case["end"] is None else case["end"]
        best = beam_search(
            logits[0, 0],
            partial(_table_step, logits, steps),
            case["width"],
            case["length"],
            end,
            scale,
            on_step=steps.append,
        )[0]
        assert len(found["steps"]) == len(steps)
        kept = [0]  # the places of those that went on
        for here, there in zip(found["steps"], steps, strict=True):
            possible = [i for i, p in enumerate(there.log_probabilities) if p > -math.inf]
            assert [c["token"] for c in here] == [there.tokens[i] for i in possible]
            assert [c["fate"] for c in here] == [there.fates[i] for i in possible]
            assert [c["parent"] for c in here] == [kept[there.parents[i]] for i in possible]
            expected = [there.log_probabilities[i] for i in possible]
            assert [c["sum"] for c in here] == pytest.approx(expected, abs=1e-4)  # Python's log-softmax is in float32
            kept = [place for place, c in enumerate(here) if c["fate"] == "kept"]
            ended += sum(c["fate"] == "finished" for c in here)
        assert found["best"]["tokens"] == best.tokens
        assert found["best"]["score"] == pytest.approx(best.score, abs=1e-4)
        assert found["best"]["finished"] == best.finished
        early += len(steps) < case["length"]
        one = [int(logits[0, 0].argmax())]
        while len(one) < case["length"] and one[-1] != case["end"]:
            one.append(int(logits[len(one), one[-1] + 1].argmax()))
        assert [c["token"] for c in found["greedy"]] == one
    assert early > 40, "hardly a search stopped early"
    assert ended > 200, "hardly a text ended"


def test_a_search_waits_for_what_it_does_not_know(node, tmp_path):
    code = """const known = { "": [[0, -0.5], [1, -1]], "0": [[0, -0.1], [1, -3]] };
    const penalty = lengthPenalty("power", 0);
    out = beamSearch((tokens) => known[tokens.join(" ")], { width: 2, length: 3, penalty });"""
    found = in_figure(node, tmp_path, code)
    assert (len(found["steps"]), found["missing"]) == (1, [[1]])


def test_the_figure_is_drawn_from_the_same_search_as_the_fallback(node, tmp_path):
    figure = small(width=2, alpha=0.0)
    code = """const [record] = data.texts;
    const lookup = (tokens) => record.next[tokens.join(" ")];
    const search = beamSearch(lookup, { ...data, end: record.end, penalty: lengthPenalty(data.penalty, data.alpha) });
    out = [search.found, [1, 2].map((step) => standing(search, step, () => 1))];"""
    found, standings = in_figure(node, tmp_path, code, figure.state())
    assert [text["tokens"] for text in found] == [each.tokens for each in figure.hypotheses]
    assert [text["tokens"] for text in standings[0]] == [[0], [1]]
    assert [text["tokens"] for text in standings[1]] == [[1, 1], [0, 0]]
    assert {text["state"] for text in standings[1]} == {"going on"}
