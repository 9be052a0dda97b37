"""Each step with a gradient written by hand beside the plain formula and autograd, forward and backward."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.nn import functional
from torch.testing import assert_close

from llmlib import fused
from llmlib.fused import output_loss, rms_norm, rotate, turn
from llmlib.model import rotation_table


def drawn(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_()


def plain_norm(x, scale):
    return x / (x.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * scale


def plain_rotate(qkv, table, H, K):
    """Pairs as complex numbers, multiplied by e^(i angle): another way to the same turn."""
    q, k, v = qkv.split([H, K, K], dim=2)
    factor = torch.complex(*table.to(qkv.dtype)).unsqueeze(-2)

    def turned(x):
        pairs = torch.complex(*x.chunk(2, dim=-1)) * factor
        return torch.cat([pairs.real, pairs.imag], dim=-1)

    return turned(q), turned(k), v


def plain_loss(x, weight, targets):
    return -(x @ weight.t()).log_softmax(dim=-1)[torch.arange(len(x)), targets].sum()


def assert_same_step(step, plain, inputs, atol):
    """Results and gradients of two formulas, for a gradient of the result that is not all ones; and without grad."""
    ours, theirs = ([y] if isinstance(y, torch.Tensor) else y for y in (step(*inputs), plain(*inputs)))
    dy = [torch.randn(y.shape, generator=torch.Generator().manual_seed(9)).to(y) for y in ours]
    for pair in zip(ours, theirs, strict=True):
        assert_close(*pair, atol=atol, rtol=1e-5)
    for pair in zip(torch.autograd.grad(ours, inputs, dy), torch.autograd.grad(theirs, inputs, dy), strict=True):
        assert_close(*pair, atol=atol, rtol=1e-5)
    with torch.no_grad():
        without = step(*inputs)
    for pair in zip([without] if isinstance(without, torch.Tensor) else without, ours, strict=True):
        assert_close(*pair, atol=atol, rtol=1e-5)


# float32 rounds by 6e-8; sums below have up to a few hundred terms of order one: 2e-5 is some hundred roundings


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 5), max_size=3), st.integers(1, 70), st.floats(1e-3, 1e3))
def test_norm(shape, width, size):
    x = (drawn(*shape, 1, width).detach() * size).requires_grad_()
    assert_same_step(
        lambda x, s: rms_norm(x, s, 1e-5), plain_norm, (x, drawn(width, seed=1)), atol=2e-5 * (1 + 1 / size)
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.booleans())
def test_rotation(B, T, K, group, half, each_row):
    H, table = K * group, rotation_table(10, 2 * half, 100.0)
    positions = torch.randint(10, (B, T), generator=torch.Generator().manual_seed(2)) if each_row else torch.arange(T)
    table = table[:, positions]
    qkv = drawn(B, T, H + 2 * K, 2 * half)
    assert_same_step(lambda x: rotate(x, table, H, K), lambda x: plain_rotate(x, table, H, K), (qkv,), atol=2e-6)


def test_a_rotation_keeps_lengths_and_turns_back():
    x, (cos, sin) = drawn(7, 6), rotation_table(7, 6, 100.0)
    turned = turn(x, cos, sin)
    assert_close(turned.norm(dim=1), x.norm(dim=1), atol=1e-6, rtol=1e-6)  # a few roundings
    assert_close(turn(turned, cos, -sin), x, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 127, 128, 129, 300])
@pytest.mark.parametrize(("width", "vocab_size"), [(1, 2), (16, 50)])
def test_output_loss(rows, width, vocab_size):
    x, weight = drawn(rows, width), drawn(vocab_size, width, seed=1)
    targets = torch.randint(vocab_size, (rows,), generator=torch.Generator().manual_seed(2))
    ours, plain = (lambda *inputs, step=step: step(*inputs, targets) for step in (output_loss, plain_loss))
    assert_same_step(ours, plain, (x, weight), atol=2e-5 * (1 + rows / 10))


def test_output_loss_of_huge_logits_is_finite():
    """exp of 1000 is no number in 32 bits; the loss is the distance to the greatest logit."""
    x, weight = torch.tensor([[1000.0]], requires_grad=True), torch.tensor([[1.0], [-1.0]], requires_grad=True)
    loss = output_loss(x, weight, torch.tensor([1]))
    loss.backward()
    assert loss.item() == 2000
    assert x.grad.item() == 2  # p - y = (1, -1), and so the weights' difference
    assert weight.grad.tolist() == [[1000.0], [-1000.0]]


def test_no_rows_cost_nothing():
    x, weight = drawn(0, 4), drawn(5, 4)
    loss = output_loss(x, weight, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert not weight.grad.any()
    assert rms_norm(drawn(2, 0, 4), torch.ones(4), 1e-5).shape == (2, 0, 4)
    assert [part.shape[1] for part in rotate(drawn(2, 0, 6, 4), rotation_table(0, 4, 1e4), 2, 2)] == [0, 0, 0]


def test_gradients_equal_finite_differences(monkeypatch):
    monkeypatch.setattr(fused._OutputLoss, "ROWS", 2)  # so that five rows are more than one part, and the last is short
    wide = {"dtype": torch.float64}
    assert gradcheck(lambda x, s: rms_norm(x, s, 1e-3), (drawn(2, 3, 5, **wide), drawn(5, **wide)))
    table = rotation_table(3, 4, 10.0)
    assert gradcheck(lambda x: rotate(x, table, 2, 1), (drawn(2, 3, 4, 4, **wide),))
    targets = torch.tensor([0, 5, 5, 2, 1])
    assert gradcheck(lambda x, w: output_loss(x, w, targets), (drawn(5, 3, **wide), drawn(6, 3, seed=1, **wide)))


def test_in_mixed_precision_the_loss_is_summed_in_32_bits():
    x, weight, targets = drawn(40, 8), drawn(30, 8, seed=1), torch.arange(30).repeat(2)[:40]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = output_loss(x, weight, targets)
    mixed.backward()
    assert mixed.dtype == x.grad.dtype == torch.float32
    exact = functional.cross_entropy(x @ weight.t(), targets, reduction="sum")
    # a logit is off by 2^-9 of its size, about 3, at random: 40 of them by less than 40 * 3 / 512
    assert abs(mixed.item() - exact.item()) < 40 * 3 / 512


def test_in_16_bits_a_rotation_gives_16_bits():
    parts = rotate(drawn(1, 3, 4, 4).bfloat16(), rotation_table(3, 4, 1e4), 2, 1)
    assert {part.dtype for part in parts} == {torch.bfloat16}
