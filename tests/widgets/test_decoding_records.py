"""The recorded predictions of SamplingExplorer and BeamTree are those of the model in the package."""

import math

import pytest

from llmlib.widgets import BeamTree, SamplingExplorer, recorded_predictions
from llmlib.widgets.decoding_records import make_records


def test_the_record_is_what_the_model_says_now():
    recorded, computed = recorded_predictions(), make_records()
    for old, new in zip(recorded["sampling"], computed["sampling"], strict=True):
        assert (old["prompt"], old["ids"]) == (new["prompt"], new["ids"])
        assert old["logits"] == pytest.approx(new["logits"], abs=0.011)  # two digits, and another processor's rounding
    for old, new in zip(recorded["beams"], computed["beams"], strict=True):
        assert old["prompt"] == new["prompt"]
        for key in ("", *old["next"])[:40]:
            pairs, others = old["next"][key], dict(map(tuple, new["next"].get(key, old["next"][key])))
            likely = [[token, value] for token, value in pairs if value > math.log(0.01)]
            assert [value for _, value in likely] == pytest.approx([others[t] for t, _ in likely], abs=1e-2)


def test_both_figures_show_it():
    records = recorded_predictions()
    entropies = []
    for i in range(3):
        p = SamplingExplorer(records["sampling"], text=i).probabilities
        entropies.append(-(p * p.clamp(min=1e-30).log()).sum().item())
    assert entropies[1] < 1 < entropies[0] < 3 < entropies[2]  # peaked, in between, flat
    one, two = (BeamTree(records["beams"], width=width, length=6, alpha=0.0).hypotheses[0] for width in (1, 2))
    assert two.log_probability > one.log_probability + 1  # greedy misses by far what a width of two finds
