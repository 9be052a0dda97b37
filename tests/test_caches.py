"""Caches in blocks, that forget, and of few bits, against the plain cache, the mask, and bounds worked out by hand."""

import contextlib
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.generation import (
    BlockPool,
    KVCache,
    PagedCache,
    QuantizedCache,
    SlidingCache,
    decode_step,
    dequantize,
    prefill,
    quantize,
    window_mask,
)
from llmlib.generation.quantizing import _pack, _unpack
from llmlib.model import ModelConfig, Transformer

EXACT = {"rtol": 0, "atol": 1e-5}  # logits are of order 1, and float32 keeps 7 digits
CONFIG = ModelConfig(vocab_size=40, context=48, width=24, layers=2, heads=4, kv_heads=2, head_width=8, tied=False)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model() -> Transformer:
    """A random model whose attention is far from uniform: its matrices are larger than where training starts."""
    model = Transformer(CONFIG, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    return model


def some_ids(seed: int, *shape: int) -> torch.Tensor:
    return torch.randint(40, shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def read(model, ids, cache, *chunks: int) -> torch.Tensor:
    """Logits after each token, read in chunks of these sizes (the last one again and again)."""
    sizes, start, logits = list(chunks), 0, []
    while start < ids.size(1):
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        logits.append(model(ids[:, start : start + size], cache))
        start += size
    return torch.cat(logits, dim=1)


# Blocks


@pytest.mark.parametrize("block", [1, 3, 4, 16, 64])
@pytest.mark.parametrize("chunks", [(1,), (7, 1), (5, 4), (48,)])
def test_a_cache_in_blocks_is_the_plain_one(model, block, chunks):
    ids, pool = some_ids(0, 1, 20), BlockPool(CONFIG, blocks=40, block=block)
    for _ in range(5):
        pool.take()  # others hold some, and those of a text that is gone are used anew
    gone = PagedCache(pool)
    read(model, some_ids(1, 1, 9), gone, 9)
    gone.release()
    cache = PagedCache(pool)
    torch.testing.assert_close(read(model, ids, cache, *chunks), read(model, ids, KVCache(CONFIG), *chunks), **EXACT)
    assert (cache.length, len(cache.blocks)) == (20, math.ceil(20 / block))
    assert pool.free == 35 - len(cache.blocks)


def test_texts_in_one_pool_do_not_disturb_each_other(model):
    texts, pool = [some_ids(seed, 1, 18) for seed in range(3)], BlockPool(CONFIG, blocks=15, block=4)
    caches = [PagedCache(pool) for _ in texts]
    with torch.no_grad():
        turns = [[model(ids[:, t : t + 1], cache) for ids, cache in zip(texts, caches, strict=True)] for t in range(18)]
    assert pool.free == 0
    for ids, logits in zip(texts, zip(*turns, strict=True), strict=True):
        with torch.no_grad():
            torch.testing.assert_close(torch.cat(logits, dim=1), model(ids), **EXACT)
    caches[1].release()
    assert (pool.free, caches[1].length) == (5, 0)


@pytest.mark.parametrize("shared", [1, 8, 11])
def test_a_forked_text_shares_its_beginning_and_goes_its_own_way(model, shared):
    ids, pool = some_ids(0, 1, shared), BlockPool(CONFIG, blocks=12, block=4)
    first = PagedCache(pool)
    read(model, ids, first, shared)
    before = pool.free
    second = first.fork()
    assert before - pool.free == (shared % 4 > 0)  # full blocks are held twice, and stored once
    assert all(pool.holders[number] == 2 for number in first.blocks[: shared // 4])
    ends = [some_ids(1, 1, 6), some_ids(2, 1, 6)]
    for cache, end in zip((first, second), ends, strict=True):
        with torch.no_grad():
            expected = model(torch.cat([ids, end], dim=1))[:, shared:]
        torch.testing.assert_close(read(model, end, cache, 1), expected, **EXACT)
    first.release()
    with torch.no_grad():
        alone = model(torch.cat([ids, ends[1], ends[0]], dim=1))[:, -6:]
    torch.testing.assert_close(read(model, ends[0], second, 6), alone, **EXACT)
    second.release()
    assert pool.free == 12
    assert pool.holders == [0] * 12


EVENTS = st.tuples(st.sampled_from(["grow", "fork", "release"]), st.integers(0, 99))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.lists(EVENTS, max_size=40))
def test_no_block_is_lost_or_held_by_a_stranger(block, events):
    """After any history: a block is free exactly if nobody holds it, and at most one block a text is not full."""
    config = ModelConfig(vocab_size=2, context=8, width=2, layers=1, heads=1)
    pool = BlockPool(config, blocks=10, block=block)
    texts = [PagedCache(pool)]
    for event, number in events:
        text = texts[number % len(texts)]
        with contextlib.suppress(ValueError):  # the pool is full: then nothing has changed
            if event == "grow":
                text.append(0, torch.zeros(1, 1, 1 + number % 7, 2), torch.zeros(1, 1, 1 + number % 7, 2))
            elif event == "fork":
                texts.append(text.fork())
            else:
                text.release()
        held = [number for text in texts for number in text.blocks]
        assert [held.count(number) for number in range(10)] == pool.holders
        assert pool.free == pool.holders.count(0)
        assert all(0 <= len(text.blocks) * block - text.length < block for text in texts)


# A cache that forgets


@pytest.mark.parametrize(("window", "sinks"), [(1, 0), (5, 0), (5, 1), (3, 4), (48, 0), (20, 30)])
def test_a_sliding_cache_is_the_mask(model, window, sinks):
    ids, cache = some_ids(3, 2, 40), SlidingCache(CONFIG, window, sinks, batch=2)
    with torch.no_grad():
        expected = model(ids, mask=window_mask(40, window, sinks))
    torch.testing.assert_close(read(model, ids, cache, 1), expected, **EXACT)
    assert cache.length == 40
    assert cache.memory.nbytes == 2 * (window + sinks) * CONFIG.kv_bytes()


def test_a_window_over_all_is_full_attention_and_a_smaller_one_is_not(model):
    ids = some_ids(4, 1, 30)
    with torch.no_grad():
        full = model(ids)
        torch.testing.assert_close(model(ids, mask=window_mask(30, 30)), full, **EXACT)
        narrow = model(ids, mask=window_mask(30, 8))
    torch.testing.assert_close(narrow[:, :8], full[:, :8], **EXACT)
    assert (narrow[:, 8:] - full[:, 8:]).abs().max() > 0.1


# Few bits


@pytest.mark.parametrize(("bits", "dim", "seed"), list(itertools.product((2, 4, 8), (-1, -2), range(3))))
def test_a_number_is_off_by_at_most_half_a_step(bits, dim, seed):
    x = 3 * torch.randn(2, 3, 20, 16, generator=torch.Generator().manual_seed(seed)) + 1
    codes, least, size = quantize(x, bits, dim)
    step = (x.amax(dim, keepdim=True) - x.amin(dim, keepdim=True)) / (2**bits - 1)
    # 16 bits keep 11 binary digits: the least is off by 2^-12 of itself, and the step so much, times all its codes
    rounding = 2.0**-11 * (x.abs().amax(dim, keepdim=True) + 2**bits * step)
    assert ((dequantize(codes, least, size) - x).abs() <= step / 2 + rounding).all()
    assert int(codes.max()) == 2**bits - 1


def test_equal_numbers_have_no_step():
    codes, least, size = quantize(torch.full((2, 4), 1.5), 4, -1)
    assert torch.equal(dequantize(codes, least, size), torch.full((2, 4), 1.5))


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([2, 4, 8]), st.integers(0, 10**6), st.integers(1, 5))
def test_packing_loses_nothing(bits, seed, n):
    codes = torch.randint(2**bits, (3, 8 * n), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    packed = _pack(codes, bits)
    assert packed.shape == (3, n * bits)
    assert torch.equal(_unpack(packed, bits), codes)


@pytest.mark.parametrize(("keys", "values"), list(itertools.product(("token", "channel"), repeat=2)))
@pytest.mark.parametrize("bits", [2, 8])
def test_step_by_step_or_in_passes_of_a_group_is_the_same(model, keys, values, bits):
    ids = some_ids(5, 2, 28)
    caches = [QuantizedCache(CONFIG, bits, keys, values, batch=2, group=8) for _ in range(3)]
    steps, groups, halves = (read(model, ids, cache, size) for cache, size in zip(caches, (1, 8, 4), strict=True))
    torch.testing.assert_close(groups, steps, rtol=0, atol=1e-3)  # a tie may be rounded either way
    torch.testing.assert_close(halves, steps, rtol=0, atol=1e-3)
    with torch.no_grad():
        plain = model(ids)
    torch.testing.assert_close(steps[:, :8], plain[:, :8], **EXACT)  # until there is a group, nothing is rounded
    error = (steps[:, 8:] - plain[:, 8:]).abs().mean()
    assert 0 < error < 0.02 * plain.std() if bits == 8 else error > 0.02 * plain.std()


def test_what_is_held_is_what_was_given_within_the_steps():
    """By hand: channel 0 of the keys runs from 0 to 30 over the group, so a step of 4 bits is 2, and it is off by 1."""
    config = ModelConfig(vocab_size=2, context=32, width=8, layers=1, heads=1)
    cache = QuantizedCache(config, bits=4, keys="channel", values="token", group=16)
    keys = torch.zeros(1, 1, 16, 8)
    keys[..., 0] = 2.0 * torch.arange(16)
    keys[0, 0, 3, 0] = 7.0  # between two steps
    cache.append(0, keys, keys)
    new = torch.ones(1, 1, 1, 8)
    held, values = cache.append(0, new, new)
    assert held.shape == (1, 1, 17, 8)
    expected = keys.clone()
    expected[0, 0, 3, 0] = 8.0  # half a step up: rounded to the even code, 4
    torch.testing.assert_close(held[:, :, :16], expected, rtol=0, atol=0.02)
    torch.testing.assert_close(values[0, 0, 15, 0], torch.tensor(30.0), rtol=0, atol=0.02)
    assert torch.equal(held[:, :, 16], new[:, :, 0])


@pytest.mark.parametrize(("bits", "keys"), list(itertools.product((2, 4, 8), ("token", "channel"))))
def test_the_bytes_are_the_formula(bits, keys):
    cache = QuantizedCache(CONFIG, bits, keys, "token", batch=3, group=16)
    L, K, D, S, G = 2, 2, 8, 48, 16
    numbers = 2 * 3 * L * K * S * D
    scales = {"token": 2 * 3 * L * K * S, "channel": 2 * 3 * L * K * (S // G) * D}
    newest = 2 * 3 * L * K * G * D
    assert cache.nbytes == numbers * bits // 8 + 2 * (scales[keys] + scales["token"]) + 4 * newest


def test_fewer_bits_cost_more(model):
    ids = some_ids(6, 4, 48)
    with torch.no_grad():
        plain = model(ids).log_softmax(-1)
    errors = []
    for bits in (8, 4, 2):
        logits = read(model, ids, QuantizedCache(CONFIG, bits, batch=4, group=8), 8)
        errors.append((logits.log_softmax(-1) - plain).abs().mean().item())
    assert errors[0] < errors[1] / 4 < errors[2] / 8


# What is refused


BAD = {
    "blocks is 0": lambda: BlockPool(CONFIG, 0),
    "block is 1.5": lambda: BlockPool(CONFIG, 4, 1.5),
    "holds one text, and was given 2": lambda: PagedCache(BlockPool(CONFIG, 4)).append(
        0, torch.zeros(2, 2, 1, 8), torch.zeros(2, 2, 1, 8)
    ),
    "needs 2 more blocks and 1 are free": lambda: PagedCache(BlockPool(CONFIG, 1, 4)).append(
        0, torch.zeros(1, 2, 5, 8), torch.zeros(1, 2, 5, 8)
    ),
    "All 1 blocks are taken": lambda: [pool.take() for pool in [BlockPool(CONFIG, 1)] for _ in range(2)],
    "Block 0 is free already": lambda: BlockPool(CONFIG, 1).give_back(0),
    "window is 0": lambda: SlidingCache(CONFIG, 0),
    "sinks is -1": lambda: window_mask(4, 2, -1),
    "one token at a time, and was given 3": lambda: SlidingCache(CONFIG, 4).append(
        0, torch.zeros(1, 2, 3, 8), torch.zeros(1, 2, 3, 8)
    ),
    "bits is 3; choose 2, 4 or 8": lambda: QuantizedCache(CONFIG, 3),
    "keys is 'row'; choose 'token' or 'channel'": lambda: QuantizedCache(CONFIG, keys="row"),
    "bits is 0; a code fits into a byte": lambda: quantize(torch.zeros(1, 2), 0, -1),
    "bits is 9; a code": lambda: quantize(torch.zeros(1, 2), 9, -1),
    "group is 0": lambda: QuantizedCache(CONFIG, group=0),
    "2 codes of 2 bits fill no whole": lambda: QuantizedCache(
        ModelConfig(vocab_size=2, context=4, width=2, layers=1, heads=1), 2
    ),
}


@pytest.mark.parametrize("sentence", BAD)
def test_what_means_nothing_is_refused_in_a_sentence(sentence):
    with pytest.raises(ValueError, match=sentence):
        BAD[sentence]()


def test_a_full_pool_leaves_the_text_as_it_was(model):
    cache = PagedCache(BlockPool(CONFIG, blocks=2, block=4))
    ids = some_ids(0, 1, 8)
    logits = read(model, ids, cache, 8)
    with pytest.raises(ValueError, match="needs 1 more blocks and 0 are free"):
        decode_step_on(model, cache)
    assert cache.length == 8
    torch.testing.assert_close(logits[:, -1], prefill(model, ids, KVCache(CONFIG)), **EXACT)


def decode_step_on(model, cache):
    with torch.no_grad():
        return model(torch.tensor([[1]]), cache)


def test_the_plain_cache_agrees_with_the_readers_of_this_file(model):
    cache, ids = KVCache(CONFIG), some_ids(0, 1, 5)
    expected = read(model, ids, KVCache(CONFIG), 1)[:, -1]
    prefill(model, ids[:, :4], cache)
    torch.testing.assert_close(decode_step(model, ids[:, 4], cache), expected, **EXACT)
