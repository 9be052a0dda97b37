"""Tensor parallelism, against the same layers and the same model uncut, on two processes."""

import sys
from pathlib import Path

import pytest

from llmlib.experiments.workers import matrices, training
from llmlib.parallel import run_workers

sys.path.insert(0, str(Path(__file__).parent))
import tensor_checks
import torch

TASK = training.Task()


@pytest.fixture(scope="module")
def results():
    """Of both processes; layers, vocabulary, the whole model and writing are checked in it."""
    return run_workers(tensor_checks.everything, 2, TASK, seconds=240)


def test_a_layer_costs_two_all_reduces_forward_and_two_backward(results):
    """Besides them: 1 for the embedding and 2 for the loss forward, 1 at the output layer backward."""
    for result in results:
        assert result["communication"] == [[2 * L + 3, 2 * L + 1, 2 * L + 1] for L in (1, 2, 3)]


@pytest.fixture(scope="module")
def alone():
    return training.train_alone(TASK)


@pytest.mark.parametrize("way", ["by hand", "DTensor"])
def test_training_equals_one_process_for_20_steps(results, alone, way):
    assert len(alone.losses) == 20
    assert alone.losses[-1] < alone.losses[0] - 0.1  # it learns
    for result in results:
        losses, gradients = result[way].difference(alone)
        assert losses <= 1e-5
        assert gradients <= 1e-5


def test_odd_sizes_and_unlike_models_are_refused_in_a_sentence(results):
    said = results[0]["refusals"]
    assert said[:4] == [
        "3 heads cannot be shared equally by 2 processes; take 1 or 3, or change the number of heads.",
        "1 kv_heads cannot be shared equally by 2 processes; take 1, or change the number of kv_heads.",
        "33 hidden units cannot be shared equally by 2 processes; take 1 or 3 or 11, or change the number of "
        "hidden units.",
        "33 tokens of the vocabulary cannot be shared equally by 2 processes; take 1 or 3 or 11, or change the "
        "number of tokens of the vocabulary.",
    ]
    assert said[4].startswith("3 columns cannot be shared equally by 2 processes")
    assert said[5].startswith("5 rows cannot be shared equally by 2 processes")
    assert said[6].startswith("The processes hold models with different weights")
    assert len(said) == 7


def test_a_product_cut_by_columns_and_by_rows_is_the_product():
    """The worked numbers of the chapter: X W on two processes, W = [W1 | W2], and W cut into rows."""
    x, w = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0, 2.0, 1.0], [0.0, 1.0, 1.0, 3.0]])
    first, second = run_workers(matrices.both_ways, 2, x, w)
    for result in (first, second):
        assert torch.equal(result["columns"]["result"], x @ w)
        assert torch.equal(result["rows"]["result"], x @ w)
    assert torch.equal(first["columns"]["holds"], w[:, :2])
    assert torch.equal(second["columns"]["computes"], torch.tensor([[4.0, 7.0], [10.0, 15.0]]))
    assert torch.equal(second["rows"]["holds"], w[1:])
    assert torch.equal(second["rows"]["reads"], x[:, 1:])
    assert torch.equal(first["rows"]["computes"] + second["rows"]["computes"], x @ w)
