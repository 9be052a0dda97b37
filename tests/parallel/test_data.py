"""Replicas: they take the steps of one process, and answer as many requests as there are."""

import sys
from pathlib import Path

import pytest

from llmlib.experiments.workers import training
from llmlib.generation import generate
from llmlib.parallel import requests_per_second, run_workers, zero_bytes

sys.path.insert(0, str(Path(__file__).parent))
import replica_checks

TASK = training.Task()


@pytest.fixture(scope="module")
def results():
    return run_workers(replica_checks.everything, 2, TASK, seconds=400)


@pytest.fixture(scope="module")
def alone():
    return training.train_alone(TASK)


@pytest.mark.parametrize("way", ["each", "buckets", "overlapped", "DDP", "ZeRO", "fully_shard"])
def test_training_equals_one_process_for_20_steps(results, alone, way):
    for result in results:
        losses, gradients = result[way].difference(alone)
        assert losses <= 1e-5
        assert gradients <= 1e-5


def test_sums_begin_while_the_backward_pass_still_runs(results):
    for result in results:
        buckets, early = result["overlap"]
        assert buckets > 5
        assert early == buckets  # the last one with the very last gradient


def test_each_process_keeps_half_of_the_moments(results):
    """8 bytes a weight in all, of which the share of one of two; in mixed precision as the paper counts it."""
    parameters = TASK.config.count_parameters()
    assert [result["ZeRO bytes"] for result in results] == [4 * parameters] * 2
    assert zero_bytes(1.0, 4, 0) == 16
    assert zero_bytes(1.0, 4, 1) == 4 + 12 / 4
    with pytest.raises(ValueError, match="stage is 4; ZeRO has the stages 1, 2 and 3"):
        zero_bytes(1.0, 4, 4)


def test_replicas_share_the_requests(results):
    for result in results:
        one, two = result["served"][1], result["served"][2]
        assert [served.answer for served in one] == ["slept 0.02"] * 6
        assert {served.replica for served in one} == {0}
        assert {served.replica for served in two} == {0, 1}
        assert requests_per_second(two) > 1.4 * requests_per_second(one)  # they sleep, which takes no processor
    assert results[0]["uneven"] == results[1]["uneven"]
    first, *others = results[0]["uneven"]
    assert {served.replica for served in others} == {1 - first.replica}  # a long request holds nobody up


def test_replicas_write_what_one_model_writes(results):
    expected = [text.tokens for text in generate(TASK.model(), [[1, 2], [3]], 4)]
    assert [served.answer for served in results[0]["texts"]] == expected


def test_what_cannot_be_done_is_refused_in_a_sentence(results):
    said = results[0]["refusals"]
    assert said[0].startswith("A gradient came a second time before `finish`; call it after each backward pass")
    assert said[1].startswith("bucket_bytes is 0; a bucket has to hold something")
    assert said[2] == "replicas is 3; with 2 processes it is a whole number from 1 to that."
    assert said[3] == "how is 'quickly'; choose one of each, buckets, overlapped."
