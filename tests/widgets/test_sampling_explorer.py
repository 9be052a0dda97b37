"""SamplingExplorer in Python and in JavaScript: what is refused, and the same steps from logits to tokens in both."""

import json
import math
import re

import figures
import pytest
import torch
from scipy.stats import chisquare
from traitlets import TraitError

from llmlib.decoding import Sampling
from llmlib.widgets import SamplingExplorer, sampling_record

RECORD = {"prompt": "", "ids": [], "logits": [1.0, 0.0], "tokens": {}}
NAMES = ["<end>", " owl", " fox", " sang"]


def explorer(**state) -> SamplingExplorer:
    return SamplingExplorer([sampling_record([0, 1], torch.tensor([0.0, 1.0, 2.0, -1.0]), NAMES)], **state)


def test_it_draws_from_what_sampling_leaves_and_the_fallback_says_so():
    figure = explorer(top_k=2, penalty=2.0)  # the owl's logit is halved: 2 and 0.5 are left
    odds = math.exp(1.5)
    assert figure.probabilities.tolist() == pytest.approx([0, 1 / (1 + odds), odds / (1 + odds), 0])
    fallback = figure.fallback()
    assert "temperature 1, top-k 2, repetition penalty 2: 2 of 4 tokens are kept" in fallback
    assert f"<td> fox</td><td>0.64</td><td>{odds / (1 + odds):.2f}</td>" in fallback


@pytest.mark.parametrize(
    ("trait", "value", "message"),
    [
        ("texts", [], "There is no text to show"),
        ("texts", [{"prompt": ""}], "texts[0] has to be a dictionary of prompt, ids, logits, tokens"),
        ("texts", [RECORD | {"logits": [1.0, math.nan]}], "at least two finite numbers"),
        ("texts", [RECORD | {"ids": [2]}], "texts[0]['ids'] holds 2; there are log"),
        ("text", 1, "text is 1; it is a whole number from 0 to 0."),
        ("temperature", -0.1, "temperature is -0.1; it lies between 0 and 100."),
        ("temperature", math.nan, "temperature is nan"),
        ("top_k", -1, "top_k is -1"),
        ("top_p", 0.0, "top_p is 0.0; it lies between 0.01 and 1."),
        ("min_p", 1.5, "min_p is 1.5"),
        ("penalty", 0.0, "penalty is 0.0"),
        ("draws", -1, "draws is -1"),
        ("written", [1, -2], "written has to be at most 400 ids"),
        ("prompt", "x" * 301, "The prompt has 301 characters"),
    ],
)
def test_what_cannot_be_shown_is_refused_and_changes_nothing(trait, value, message):
    figure = explorer()
    before = figure.state()
    with pytest.raises(TraitError, match=re.escape(message)):
        setattr(figure, trait, value)
    assert figure.state() == before


def test_the_twin_holds_no_markup_of_the_data():
    record = sampling_record([0], torch.tensor([0.0, 1.0]), ["</script><b>", "<img>"], "<i>")
    twin = SamplingExplorer([record]).twin()
    assert twin.count("</script>") == 1
    assert not any(tag in twin for tag in ("<b>", "<img>", "<i>"))


# ------------------------------------------------------------------------------------------- JavaScript against Python


def in_node(node, folder, code, data=None):
    return figures.in_node(node, folder, "sampling_explorer", code, data)


def generated(n: int) -> list[dict]:
    """Logits, flat and peaked, of few tokens and many, with settings of every kind, several at once and none."""
    random = torch.Generator().manual_seed(11)

    def pick(values):
        return values[int(torch.randint(len(values), (), generator=random))]

    cases = []
    for i in range(n):
        V = pick([2, 3, 10, 100, 500])
        logits = pick([0.1, 1.0, 3.0, 10.0]) * torch.randn(V, generator=random, dtype=torch.float64)
        ids = torch.randint(V, (pick([1, 5, 30]),), generator=random).tolist()
        on = torch.rand(5, generator=random) < (0.5 if i % 10 else 0)
        cases.append({"logits": logits.tolist(), "ids": ids,
                      "temperature": pick([0, 1e-40, 0.01, 0.3, 0.7, 1.5, 3.0, 1e40]) if on[0] else 1,
                      "top_k": pick([1, 2, 5, 40, 1000]) if on[1] else 0,
                      "top_p": pick([0.01, 0.3, 0.5, 0.9, 0.95, 0.999]) if on[2] else 1,
                      "min_p": pick([0.01, 0.1, 0.5, 0.99]) if on[3] else 0,
                      "penalty": pick([0.5, 1.1, 1.3, 2.0]) if on[4] else 1})  # fmt: skip
        if cases[-1]["temperature"] == 1e40:
            cases[-1]["top_p"] = 1  # among equals, which ones make up the nucleus is left open
    return cases


def test_the_steps_in_their_order_are_those_of_python(node, tmp_path):
    cases = generated(500)
    code = """out = data.map(({ logits, ids, ...settings }) => stagesOf(logits, ids, settings)
      .map(({ name, p, kept, entropy }) => [name, Array.from(p), kept, entropy]));"""
    seen = in_node(node, tmp_path, code, cases)
    names = set()
    for case, stages in zip(cases, seen, strict=True):
        logits, ids = torch.tensor([case["logits"]], dtype=torch.float64), torch.tensor([case["ids"]])
        taken = {"temperature": 1.0, "top_k": None, "top_p": None, "min_p": None, "repetition_penalty": None}
        assert stages[0][0] == "model"
        for name, p, kept, entropy in stages:
            if name not in ("model", "greedy"):
                key = {"penalty": "repetition_penalty"}.get(name, name.replace("-", "_"))
                taken[key] = case["penalty" if name == "penalty" else key]
            left = Sampling(**taken).logits(logits, ids)
            expected = left.softmax(dim=-1)[0]
            if name == "greedy":
                expected = Sampling(**taken).probabilities(logits, ids)[0]
            assert p == pytest.approx(expected.tolist(), abs=1e-12)
            assert [each > 0 for each in p] == (expected > 0).tolist()
            assert kept == (1 if name == "greedy" else int((left > -math.inf).sum()))
            assert entropy == pytest.approx(-torch.xlogy(expected, expected).sum().item(), abs=1e-9)
            names.add(name)
        final = Sampling(**{**taken, "temperature": case["temperature"]}).probabilities(logits, ids)[0]
        assert stages[-1][1] == pytest.approx(final.float().tolist(), abs=1e-6)
    assert names == {"model", "penalty", "temperature", "top-k", "top-p", "min-p", "greedy"}


def test_the_figure_draws_from_what_python_says(node, tmp_path):
    figure = explorer(temperature=0.7, top_p=0.9, min_p=0.05, penalty=1.2)
    code = """const model = { get: (name) => data[name] };
    out = Array.from(stagesOf(data.texts[0].logits, data.texts[0].ids, settingsOf(model)).at(-1).p);"""
    assert in_node(node, tmp_path, code, figure.state()) == pytest.approx(figure.probabilities.tolist(), abs=1e-6)


def test_any_value_of_an_address_is_a_setting(node, tmp_path):
    code = """out = data.map((value) => settingsOf({ get: () => value }));"""
    for settings in in_node(node, tmp_path, code, [None, "x", -5, 1e9, [2], {}]):
        assert 0 <= settings["temperature"] <= 100
        assert 0.01 <= settings["top_p"] <= 1
        assert 0 <= settings["min_p"] <= 1
        assert 0.1 <= settings["penalty"] <= 10
        assert settings["top_k"] >= 0


def test_draws_follow_the_probabilities_and_a_seed_repeats_them(node, tmp_path):
    p = torch.tensor([0.0, 1.0, 2.0, -1.0, -math.inf]).softmax(dim=0).tolist()
    code = """const p = Float64Array.from(data);
    out = [1, 2, 3, 1].map((seed) => Array.from(drawCounts(p, 20000, randomFrom(seed))));
    out.push(Array.from({ length: 20000 }, (_, i) => drawIndex(p, luckAt(i % 7, i))));
    out.push(greatestGap(out[0], p, 20000));"""
    *counts, again, written, gap = in_node(node, tmp_path, code, p)
    assert again == counts[0] != counts[1]
    counts.append([written.count(i) for i in range(5)])
    for seen in counts:
        assert seen[4] == 0
        assert chisquare(seen[:4], [20_000 * each / sum(p) for each in p[:4]]).pvalue > 1e-3
    shares = [abs(seen / 20_000 - each) for seen, each in zip(counts[0], p, strict=True)]
    assert gap["gap"] == pytest.approx(max(shares))
    assert gap["token"] == shares.index(max(shares))
    assert gap["deviation"] == pytest.approx(math.sqrt(p[gap["token"]] * (1 - p[gap["token"]]) / 20_000))


def test_each_token_is_cut_by_the_first_step_that_rules_it_out(node, tmp_path):
    code = "out = cutBy(stagesOf([3, 2, 1, 0, -9], [0], { top_k: 4, top_p: 0.95, min_p: 0.2 }));"
    # p of the four: 0.64, 0.24, 0.09, 0.03; top-p needs three for 0.95; 0.09 is less than 0.2 of 0.64
    assert in_node(node, tmp_path, code) == ["", "", "min-p", "top-p", "top-k"]


def test_a_record_of_the_books_size_is_small():
    random = torch.Generator().manual_seed(0)
    record = sampling_record(list(range(40)), 4 * torch.randn(2048, generator=random), lambda i: f" word{i}")
    assert len(json.dumps(SamplingExplorer([record]).state())) < 20_000
