"""Pipelines: every order gives the gradients of one process, and what was measured is what was predicted."""

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from llmlib.experiments.workers import pipelines, training
from llmlib.generation import generate
from llmlib.parallel import pieces, run_workers, schedules
from llmlib.parallel.pipeline import clock

sys.path.insert(0, str(Path(__file__).parent))
import pipeline_checks
import torch

TASK = training.Task()
REQUESTS = [torch.tensor([[1, 2, 3], [7, 7, 9]]), torch.tensor([[4]]), torch.tensor([[5, 6]])]
NEW_TOKENS = 6


@pytest.fixture(scope="module")
def results():
    return run_workers(pipeline_checks.everything, 4, TASK, REQUESTS, NEW_TOKENS, seconds=300)


@pytest.fixture(scope="module")
def alone():
    return training.train_alone(TASK)


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "zb-h1", "interleaved", "uneven"])
def test_training_equals_one_process_for_20_steps(results, alone, schedule):
    """With tied weights, whose gradient has to come together from the first stage and the last."""
    for run, _ in (result[schedule] for result in results):
        losses, gradients = run.difference(alone)
        assert losses <= 1e-5
        assert gradients <= 1e-5


@pytest.mark.parametrize("way", ["data and tensor", "data and pipeline", "pipeline and tensor", "tensor"])
def test_two_kinds_at_once_and_one_model_cut_in_four_equal_one_process_for_20_steps(results, alone, way):
    for result in results:
        losses, gradients = result[way].difference(alone)
        assert losses <= 1e-5
        assert gradients <= 1e-5


def test_torchs_own_pipeline_gives_the_same(results):
    """Untied, as it asks for."""
    alone = training.train_alone(replace(TASK, config=pipeline_checks.UNTIED))
    for schedule in ("GPipe", "1F1B"):
        for result in results:
            losses, gradients = result["torch"][schedule].difference(alone)
            assert losses <= 1e-5
            assert gradients <= 1e-5


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("gpipe", schedules.gpipe(4, 8)),
        ("1f1b", schedules.one_f_one_b(4, 8)),
        ("zb-h1", schedules.zb_h1(4, 8)),
        ("interleaved", schedules.interleaved(2, 4, 2)),
    ],
)
def test_a_measured_timeline_keeps_the_order_its_dependencies_and_its_activations(results, name, order):
    """What an action needs has ended before it starts, by the clock that all stages read."""
    _, line = results[0][name]
    assert line.peak_activations == schedules.peak_activations(order)
    chunks = 2 if name == "interleaved" else 1
    ends = {(span.stage, span.action): span.end for spans in line.spans for span in spans}
    for stage, spans in enumerate(line.spans):
        assert [span.action for span in spans] == order[stage]
        for before, after in pairwise(spans):
            assert before.start <= before.end <= after.start
        for span in spans:
            for need in schedules.needed_by(stage, span.action, len(order), chunks):
                assert ends[need] <= span.start
    assert 0 < line.bubble_fraction < 1


def test_answers_of_a_pipeline_are_those_of_the_whole_model(results):
    model = pipeline_checks.lively_model(TASK)
    expected = [[text.tokens for text in generate(model, ids.tolist(), max_tokens=NEW_TOKENS)] for ids in REQUESTS]
    assert all(len(set(tokens)) > 2 for texts in expected for tokens in texts)  # positions and caches matter
    for result in results:
        answers, line = result["answers"]
        assert [answer.tolist() for answer in answers] == expected
        assert all(len(spans) == NEW_TOKENS * len(REQUESTS) for spans in line.spans)


def test_a_prompt_read_in_parts_is_answered_as_if_read_at_once(results):
    model = pipeline_checks.lively_model(TASK)
    expected = [
        [text.tokens for text in generate(model, ids.tolist(), max_tokens=NEW_TOKENS)] for ids in pipeline_checks.LONG
    ]
    for result in results:
        for (answers, line), parts in zip(result["in parts"], (1, 4, 9), strict=True):
            assert [answer.tolist() for answer in answers] == expected
            assert all(len(spans) == 2 * (parts + NEW_TOKENS - 1) for spans in line.spans)


def test_what_cannot_be_cut_is_refused_in_a_sentence(results):
    said = results[0]["refusals"]
    assert said[0].startswith("4 layers cannot be cut into 8 pieces, for a piece has at least one; take fewer stages")
    assert said[1].startswith("The order has 3 stages of 1 chunks, and there are 4 processes that hold 1 each")
    assert said[2].startswith("A batch of 7 rows cannot be cut into 8 micro-batches")
    assert said[3].startswith("There is no request")
    assert said[4] == "A prompt of 3 tokens and 15 new ones do not fit a context of 16."
    assert said[5].startswith("A group of requests is whole numbers, (b, T)")
    assert said[6].startswith("max_tokens is 0")
    assert said[7] == "A prompt of 3 tokens cannot be cut into 4 parts, for a part has at least one token."
    for layers, parts in ((0, 1), (4, 0), (True, 1), (4, 1.5)):
        with pytest.raises(ValueError, match="has to be a whole number of at least 1"):
            pieces.split_layers(layers, parts)


@pytest.mark.alone
def test_measured_bubbles_are_those_predicted():
    """Stages that sleep 30 ms forward, to the input and to the weights; a bubble within 10 percentage points."""
    orders = {
        "gpipe": schedules.gpipe(4, 8),
        "1f1b": schedules.one_f_one_b(4, 8),
        "interleaved": schedules.interleaved(4, 8, 2),
        "zb-h1": schedules.zb_h1(4, 8),
    }
    measured = run_workers(pipelines.slept, 4, orders, (0.03, 0.03, 0.03), seconds=100)[0]
    for name, order in orders.items():
        predicted = schedules.timeline(order, 0.03, 0.03, 0.03)
        assert abs(measured[name].bubble_fraction - predicted.bubble_fraction) < 0.1, name
        assert measured[name].peak_activations == predicted.peak_activations
    fractions = [measured[name].bubble_fraction for name in ("gpipe", "interleaved", "zb-h1")]
    assert fractions[1] < fractions[0]
    assert fractions[2] < fractions[0]


def test_a_gpu_is_waited_for_before_the_clock_is_read(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    for kind in ("cpu", "cuda"):
        assert clock(torch.device(kind)) > 0
    assert waited == [torch.device("cuda")]
