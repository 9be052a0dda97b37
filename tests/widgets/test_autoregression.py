"""Autoregression in Python, and its algorithm in JavaScript: the same recording; steps, branches and draws by hand."""

import json

import pytest
import test_runtime_js as runtime_js
import torch
import traitlets

from llmlib.inspection import record_writing
from llmlib.widgets import Autoregression
from llmlib.widgets.autoregression import MAX_BRANCHES, MAX_ROUNDS, STAGES, example_recording
from llmlib.widgets.page_model import STORY_MODEL

PROMPT = "Once upon a time, there was"


@pytest.fixture(scope="module")
def recording(story_model):
    return record_writing(*story_model, PROMPT, n=4)


def near(theirs: object, ours: object, place: str = "") -> None:
    """Compare two recordings: names and whole numbers exactly, a rounded share to one unit, others to four digits."""
    assert isinstance(theirs, type(ours)) or isinstance(ours, int | float), place
    if isinstance(ours, dict):
        for key in ours:
            near(theirs[key], ours[key], f"{place}.{key}")
    elif isinstance(ours, list):
        assert len(theirs) == len(ours), place
        for i, value in enumerate(ours):
            near(theirs[i], value, f"{place}[{i}]")
    elif isinstance(ours, str):
        assert theirs == ours, place
    else:
        whole = type(ours) is int
        assert theirs == pytest.approx(ours, abs=1 if whole and "top" not in place else 1e-4, rel=6e-4), place


def test_javascript_observes_what_python_records(node, tmp_path, recording):
    code = """const model = open(job.folder);
    const coder = tokenizerFrom(JSON.parse(readFileSync(`${job.folder}/tokenizer.json`)));
    const ids = [coder.end, ...coder.encode(job.prompt)];
    const rounds = [];
    for (let round = 0; round < 4; round += 1) {
      const { embedding, layers, top } = observation(model.inspect(ids), coder.text);
      rounds.push({ embedding, layers, top });
      ids.push(top[0][0]);
    }
    answer(rounds);"""
    job = {"folder": str(STORY_MODEL), "prompt": PROMPT}
    theirs = runtime_js.run(node, tmp_path, code, job, "autoregression")
    near(theirs, recording["rounds"])


STEPS = """const told = [];
for (let step = 0; step <= 11; step += 1) {
  const { round, stage } = placeOf(step);
  told.push([round, STAGES[stage], stepOf(round, stage), writtenAt(step)]);
}
answer(told);"""


def run(node, folder, code, job=None):
    return runtime_js.run(node, folder, code, job, "rounds")


def test_steps_by_hand_and_as_python_counts_them(node, tmp_path):
    told = run(node, tmp_path, STEPS)
    names = [name for _, name, _, _ in told]
    assert names == ["Tokenize", *["Forward", "Logits", "Softmax", "Choose", "Append"] * 2, "Forward"]
    assert [back for _, _, back, _ in told] == list(range(12))
    assert [written for *_, written in told] == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2]
    figure = Autoregression(example_recording())
    for step, (made, name, _, written) in enumerate(told):
        figure.step = step
        assert (figure.round, figure.stage) == (made, name.lower())
        assert len(figure.ids) == 2  # nothing is chosen
        assert step // 5 == written


def test_overruling_by_hand(node, tmp_path):
    code = """answer(job.map(([branches, branch, round, ids]) => overrule(branches, branch, round, ids)));"""
    cases = [
        ([[]], 0, 0, [7]),  # the first token of all
        ([[1, 2, 3]], 0, 1, [2]),  # it said so already
        ([[1, 2, 3]], 0, 1, [9]),  # a new branch
        ([[1, 2, 3], [1, 9, 4]], 0, 1, [9]),  # an old one
        ([[1, 2]], 0, 2, [5, 6]),  # it has not gone further
        ([[i] for i in range(MAX_BRANCHES)], 0, 0, [99]),  # too many: the oldest goes
        ([[1] * MAX_ROUNDS], 0, MAX_ROUNDS - 1, [2, 3]),  # as long as may be
    ]
    found = run(node, tmp_path, code, cases)
    expected = [
        ([[7]], 0), ([[1, 2, 3]], 0), ([[1, 2, 3], [1, 9]], 1), ([[1, 2, 3], [1, 9, 4]], 1), ([[1, 2, 5, 6]], 0),
        ([[i] for i in range(1, MAX_BRANCHES)] + [[99]], MAX_BRANCHES - 1),
        ([[1] * MAX_ROUNDS, [1] * (MAX_ROUNDS - 1) + [2]], 1),
    ]  # fmt: skip
    assert [(entry["branches"], entry["branch"]) for entry in found] == expected


def test_draws_follow_the_probabilities(node, tmp_path):
    """10,000 draws with different seeds: chi-squared with 4 degrees of freedom, and the same seed draws the same."""
    code = """const p = [...softmaxOf(Float32Array.from(job.logits))];
    const counts = Array(p.length).fill(0);
    for (let seed = 0; seed < 10000; seed += 1) counts[drawIndex(p, lot(seed, job.ids))] += 1;
    const first = lot(5, [1, 2]);
    const same = first === lot(5, [1, 2]) && first !== lot(6, [1, 2]) && first !== lot(5, [2, 1]);
    const ends = [[[0.5, 0.5], 0], [[0.5, 0.5], 0.5], [[0, 1, 0], 0.9999999999999999], [[0.3, 0.3], 0.99]];
    answer({ p, counts, same, ends: ends.map(([shares, u]) => drawIndex(shares, u)) });"""
    logits = [2.0, 1.0, 0.0, -1.0, -2.0]
    for ids in ([2047, 5], [1], list(range(40))):
        found = run(node, tmp_path, code, {"logits": logits, "ids": ids})
        assert found["p"] == pytest.approx(torch.tensor(logits).softmax(0).tolist(), rel=1e-6)
        expected = [10_000 * p for p in found["p"]]
        assert sum((n - e) ** 2 / e for n, e in zip(found["counts"], expected, strict=True)) < 18.5  # p = 0.001
        assert found["same"]
        assert found["ends"] == [0, 1, 1, 1]


def test_an_address_may_say_anything(node, tmp_path):
    cases = [None, 5, "x", [], [5], [[1.5]], [[-1]], [["a"]], [[1], "b"], [[1, 2], [3]]]
    assert run(node, tmp_path, "answer(job.map(soundBranches));", cases) == [[[]]] * 8 + [[[1]], [[1, 2], [3]]]


def test_state_is_read_and_set_in_python(recording):
    figure = Autoregression(recording, step=10)
    a, fox = (figure.coder.encode(text) for text in (" a", " fox"))
    figure.branches = [[*a, *fox]]
    assert figure.tokens[-3:] == [" was", " a", " fox"]
    assert (figure.round, figure.stage) == (1, "append")
    figure.overrule(" hen")
    assert figure.branches[1] == [*a, *figure.coder.encode(" hen")]
    assert figure.branch == 1
    figure.prompt = "One day"
    assert (figure.branches, figure.branch, figure.step, figure.tokens[1:]) == ([[]], 0, 0, ["One", " day"])
    assert STAGES.index(figure.stage) == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"prompt": "a" * 401}, "The prompt has 401 characters; up to 400 can be shown."),
        ({"prompt": "\ud800"}, "The prompt holds a lone surrogate"),
        (
            {"prompt": "語" * 200},
            "The prompt has 601 tokens; with 60 new ones they have to fit a context of 384: shorten",
        ),
        ({"branches": []}, "There are 0 branches; from 1 to 12 can be kept."),
        ({"branches": [[2048]]}, "A branch is [2048]; it has to be a list of token ids from 0 to 2047."),
        ({"branches": [[True]]}, "A branch is [True]"),
        ({"branches": [[1] * 61]}, "A branch has 61 tokens; up to 60 can be shown."),
        ({"branch": 1}, "branch is 1; choose one from 0 to 0."),
        ({"step": 301}, "step is 301; choose one from 0 to 300."),
        ({"layer": 5}, "layer is 5; choose one from 0 to 4."),
        ({"head": 4}, "head is 4; choose one from 0 to 3."),
        ({"rule": "best"}, "rule is 'best'; choose one of 'most probable', 'drawn'."),
        ({"seed": -1}, "seed is -1; choose one from 0 to 9999."),
        ({"recording": {}}, "recording has no sound 'prompt'; give what llmlib.inspection.record_writing returns."),
    ],
)
def test_what_cannot_be_shown_is_refused(recording, change, sentence):
    figure = Autoregression(recording)
    ((name, value),) = change.items()
    with pytest.raises(traitlets.TraitError) as refused:
        setattr(figure, name, value)
    assert str(refused.value).startswith(sentence)


def test_a_broken_recording_is_refused(recording):
    for broken, words in [
        ({**recording, "rounds": []}, "has no rounds"),
        ({**recording, "rounds": [{"top": []}]}, "lacks embedding"),
        ({**recording, "rounds": recording["rounds"][1:]}, "attends to"),
    ]:
        with pytest.raises(traitlets.TraitError, match=words):
            Autoregression(broken)
    with pytest.raises(ValueError, match="The text is empty"):
        Autoregression(recording).overrule("")


def test_the_twin_says_it_in_words_and_holds_no_weights(recording):
    twin = Autoregression(recording).twin()
    assert "so it writes" in twin.lower()
    assert "·a (1.00)" in twin
    assert len(twin) < 60_000
    assert json.loads(twin.split('application/json">')[1].split("</script>")[0])["prompt"] == PROMPT
