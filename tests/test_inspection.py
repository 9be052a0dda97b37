"""What a model looks at and expects, beside what the model itself computes."""

import math

import pytest
import torch
from torch.testing import assert_close

from llmlib import checkpoints
from llmlib.generation import generate
from llmlib.inspection import attention_weights, expectations, record_writing, trace_forward
from llmlib.model import ModelConfig, Transformer, attend


def make():
    model = Transformer(ModelConfig(30, 16, 16, 2, 4, kv_heads=2), torch.Generator().manual_seed(0))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8 if weight.dim() == 2 else 1)  # attention that is not all but even
    return model


@torch.no_grad()
def test_weights_times_values_are_what_each_layer_gathers(monkeypatch):
    model, ids, gathered = make(), torch.tensor([3, 1, 4, 1, 5, 9]), []

    def spy(q, k, v, mask):
        gathered.append((v, attend(q, k, v, mask)))
        return gathered[-1][1]

    monkeypatch.setattr("llmlib.model.attend", spy)
    model(ids[None])
    monkeypatch.undo()
    weights = attention_weights(model, ids)
    assert weights.shape == (2, 4, 6, 6)
    assert_close(weights.sum(dim=-1), torch.ones(2, 4, 6))
    assert not weights.triu(1).any()
    for layer, (values, sums) in zip(weights, gathered, strict=True):
        assert_close(layer @ values[0].repeat_interleave(2, dim=0), sums[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("length", [0, 17])
def test_weights_of_no_text_or_of_too_long_a_one_are_refused_in_a_sentence(length):
    with pytest.raises(ValueError, match=f"The text has {length} tokens, and the model's context is 16; give from 1"):
        attention_weights(make(), torch.zeros(length, dtype=torch.long))


@torch.no_grad()
def test_expectations_are_the_model_s_probabilities():
    model, ids = make(), torch.tensor([3, 1, 4, 1])
    probabilities = model(ids[None])[0].softmax(dim=-1)
    found = expectations(model, ids, k=3)
    assert [e.actual for e in found] == [1, 4, 1, None]
    for place, expectation in enumerate(found):
        ranked = sorted(enumerate(probabilities[place].tolist()), key=lambda pair: -pair[1])[:3]
        assert [id_ for id_, _ in expectation.top] == [id_ for id_, _ in ranked]
        assert [p for _, p in expectation.top] == pytest.approx([p for _, p in ranked])
        if expectation.actual is not None:
            surprise = -math.log(probabilities[place, expectation.actual])
            assert expectation.surprise == pytest.approx(surprise, rel=1e-5)
    assert found[-1].surprise is None
    assert len(expectations(model, ids, k=99)[0].top) == 30


def test_a_traced_pass_is_the_models_own():
    model = Transformer(ModelConfig(50, 16, 24, 3, heads=4, kv_heads=2), torch.Generator().manual_seed(2))
    ids = torch.randint(50, (9,), generator=torch.Generator().manual_seed(3))
    trace = trace_forward(model, ids)
    with torch.no_grad():
        torch.testing.assert_close(trace.logits[-1], model(ids.unsqueeze(0))[0, -1])
        torch.testing.assert_close(trace.embedding, model.embedding.weight[ids[-1]])
        torch.testing.assert_close(trace.attention, attention_weights(model, ids)[:, :, -1])
        # a model of its first two layers ends where the trace of all three passes by
        short = Transformer(ModelConfig(50, 16, 24, 2, heads=4, kv_heads=2))
        short.load_state_dict(model.state_dict(), strict=False)
        torch.testing.assert_close(trace.logits[1], short(ids.unsqueeze(0))[0, -1])
    steps = torch.cat([trace.embedding.unsqueeze(0), trace.streams]).diff(dim=0).norm(dim=1)
    assert (steps <= trace.attended + trace.fed + 1e-6).all(), "a layer moves the stream by its two steps"


def test_a_recorded_run_is_what_greedy_generation_writes():
    model, coder = checkpoints.load()
    record = record_writing(model, coder, "Once upon a time, there was", n=5)
    ids = [coder.special_tokens["<|endoftext|>"], *coder.encode("Once upon a time, there was")]
    assert record["ids"] == ids
    written = generate(model, [ids], max_tokens=5)[0].tokens
    assert [entry["top"][0][0] for entry in record["rounds"]] == written
    for entry in record["rounds"]:
        chances = [p for *_, p in entry["top"]]
        assert chances == sorted(chances, reverse=True)
        assert sum(chances) <= 1.001
        assert len(entry["layers"]) == model.config.layers
        for layer in entry["layers"]:
            assert max(map(abs, layer["stream"]["values"])) == 99
            assert all(abs(sum(row) - 1000) <= len(row) / 2 for row in layer["attention"])
