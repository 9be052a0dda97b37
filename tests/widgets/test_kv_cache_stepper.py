"""KVCacheStepper in Python and in JavaScript: what it may be, and its counts against the package's own formulas."""

import base64
import random
import re

import numpy as np
import pytest
import torch
from figures import in_node
from traitlets import TraitError

from llmlib.generation import KVCache, prefill_flops, step_flops
from llmlib.model import ModelConfig
from llmlib.widgets import KVCacheStepper
from llmlib.widgets.kv_cache_stepper import LIMITS, MODELS, STEPS, step_counts

TOKENS = ["<s>", "Pip", " the", " d", "uck", *[f" w{i}" for i in range(10)]]
KEYS = np.array([[[[100.0 * layer + 10 * s + d for d in range(4)] for s in range(14)]] for layer in range(2)])


def recorded(prompt: str = "Pip the duck") -> KVCacheStepper:
    """A recording of 5 tokens and ten more, 2 layers, 1 head, 4 numbers; values are the negatives of keys."""
    figure = KVCacheStepper.of("Pip the duck", TOKENS, 5, np.stack([KEYS, -KEYS]), heads=2)
    figure.prompt = prompt
    return figure


def some_sizes(rng: random.Random) -> dict[str, int]:
    heads = rng.randint(1, 128)
    return {"layers": rng.randint(1, 128), "heads": heads,
            "kv_heads": rng.choice([k for k in range(1, heads + 1) if heads % k == 0]),
            "head_width": 2 * rng.randint(1, 128), "vocab_size": rng.randint(1, 300_000),
            "context": rng.randint(32, 131_072)}  # fmt: skip


def test_counts_are_the_packages_formulas():
    rng = random.Random(1)
    for _ in range(200):
        sizes, prompt, batch, bits = some_sizes(rng), rng.randint(1, 20), rng.randint(1, 64), rng.choice([8, 16, 32])
        config = ModelConfig(width=sizes["heads"] * sizes["head_width"], **sizes)
        n_bytes = bits // 8
        spent, spent_without = 0.0, 0.0
        for step in range(1, STEPS + 1):
            now, S = step_counts(sizes, prompt, step, batch, bits), prompt + step - 1
            expected = prefill_flops(config, S) if step == 1 else step_flops(config, S)
            assert 2 * now["multiplications"] == pytest.approx(batch * expected, rel=1e-12)
            assert 2 * now["without"] == pytest.approx(batch * prefill_flops(config, S), rel=1e-12)
            spent, spent_without = spent + now["multiplications"], spent_without + now["without"]
            assert now["multiplications_so_far"] == pytest.approx(spent, rel=1e-12)
            assert now["without_so_far"] == pytest.approx(spent_without, rel=1e-12)
            assert now["held_bytes"] == batch * S * config.kv_bytes(n_bytes)
            assert now["fetched_bytes"] + now["appended_bytes"] == now["held_bytes"]
            assert (now["computed"], now["fetched"]) == ((prompt, 0) if step == 1 else (1, S - 1))
        assert now["full_bytes"] == batch * sizes["context"] * config.kv_bytes(n_bytes)


def test_the_cache_of_the_formula_is_the_cache_that_is_allocated():
    sizes = MODELS["the book's story model"]
    config = ModelConfig(width=128, **sizes)
    assert step_counts(sizes, 9, 1, batch=3, bits=32)["full_bytes"] == KVCache(config, batch=3).nbytes


def test_models_are_those_of_the_table():
    """Bytes a position at 16 bits, from the models' own configurations, worked out beside them."""
    worked_out = {
        "GPT-2 124M": 36_864,
        "SmolLM2 135M": 23_040,
        "OPT 13B": 819_200,
        "Llama 2 7B": 524_288,
        "Llama 3 8B": 131_072,
        "Llama 3 70B": 327_680,
        "Llama 3.1 405B": 516_096,
        "Gemma 2B": 18_432,
    }
    for name, expected in worked_out.items():
        figure = KVCacheStepper(step=1, prompt="one", **MODELS[name])
        assert figure.counts()["held_bytes"] == expected, name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompt": "  "}, "The prompt is empty; a model begins with at least one token"),
        ({"prompt": "x" * 201}, "The prompt has 201 characters; up to 200"),
        ({"prompt": "\ud800"}, "lone surrogate"),
        ({"step": 11}, "step is 11; choose a whole number from 0 to 10."),
        ({"step": -1}, "step is -1"),
        ({"layers": 0}, "layers is 0; choose a whole number from 1 to 128."),
        ({"kv_heads": 3}, "4 heads cannot share 3 kv_heads; choose a divisor."),
        ({"heads": 129}, "heads is 129"),
        ({"head_width": 1}, "head_width is 1; choose a whole number from 2 to 256."),
        ({"context": 131_073}, "context is 131073"),
        ({"bits": 7}, "bits is 7; choose 4, 8, 16 or 32."),
        ({"batch": 0}, "batch is 0"),
        ({"layer": 5}, "layer is 5; choose a whole number from 0 to 4."),
        ({"recording": {"prompt": "x"}}, "A recording is made by KVCacheStepper.of"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_a_sentence_and_changes_nothing(values, message):
    with pytest.raises(TraitError, match=re.escape(message)):
        KVCacheStepper(**values)
    figure = KVCacheStepper(step=2)
    before = figure.state()
    for name, value in values.items():
        with pytest.raises(TraitError, match=re.escape(message)):
            setattr(figure, name, value)
    assert figure.state() == before


def test_a_recording_that_does_not_fit_is_refused():
    with pytest.raises(TraitError, match=re.escape("shape (2, 1, 1, 13, 4); it has to be (2, L, K, S, D), with S at")):
        KVCacheStepper.of("a", TOKENS, 5, np.zeros((2, 1, 1, 13, 4)))
    with pytest.raises(TraitError, match="There are 14 tokens; a prompt of 5 needs 10 more"):
        KVCacheStepper.of("a", TOKENS[:14], 5, np.zeros((2, 1, 1, 14, 4)))


def test_other_sizes_keep_the_rest_sound():
    figure = KVCacheStepper(heads=12, kv_heads=4, layers=8, layer=7)
    figure.heads = 9
    assert figure.kv_heads == 3
    figure.layers = 2
    assert figure.layer == 1


def test_a_recording_takes_the_models_sizes_and_tokens_and_keeps_its_numbers():
    figure = recorded()
    assert (figure.layers, figure.kv_heads, figure.head_width) == (2, 1, 4)
    assert figure.tokens == TOKENS[:5]
    kept = np.frombuffer(base64.b64decode(figure.recording["keys"]), np.int8).reshape(figure.recording["shape"])
    largest = figure.recording["largest"][0]
    assert largest == 233  # 100 + 130 + 3
    assert np.abs(kept / 127 * largest - KEYS).max() <= 0.5 * 233 / 127 + 1e-9
    figure.prompt = "Another one"
    assert figure.tokens == ["Another", " one"]
    assert KVCacheStepper.of("a", TOKENS, 5, torch.zeros(2, 1, 1, 14, 4)).recording["largest"] == [0, 0]


def test_the_fallback_and_the_twin_say_what_the_figure_shows_and_hold_no_markup():
    figure = recorded(prompt="<img src=x onerror=alert(1)> b")
    assert "<img" not in figure.twin()
    assert figure.fallback().count("<tr>") == 1 + STEPS
    assert "10 tokens: prefill" not in recorded().fallback()
    assert "5 tokens: prefill" in recorded().fallback()


# ------------------------------------------------------------------------------------------- JavaScript against Python


def in_figure(node, folder, code, data=None):
    return in_node(node, folder, "kv_cache_stepper", code, data)


def test_counts_in_javascript_are_pythons(node, tmp_path):
    rng = random.Random(2)
    cases = [
        {"sizes": some_sizes(rng), "prompt": rng.randint(1, 60), "step": rng.randint(0, STEPS),
         "batch": rng.randint(1, 512), "bits": rng.choice([4, 8, 16, 32])} for _ in range(500)
    ]  # fmt: skip
    code = (
        "out = data.map(({ sizes, prompt, step, batch, bits }) => countsOf({ ...sizes, batch, bits }, prompt, step));"
    )
    for case, counts in zip(cases, in_figure(node, tmp_path, code, cases), strict=True):
        expected = step_counts(**case)
        assert counts.keys() == expected.keys()
        for name, value in expected.items():
            assert counts[name] == pytest.approx(value, rel=1e-12), (name, case)


def test_models_limits_and_steps_are_the_same_in_both(node, tmp_path):
    assert in_figure(node, tmp_path, "out = [MODELS, LIMITS, STEPS, BITS];") == [MODELS, LIMITS, STEPS, [4, 8, 16, 32]]


def test_a_prompt_is_cut_into_the_same_tokens(node, tmp_path):
    rng = random.Random(3)
    pieces = ["fox", " ", "  ", "owl,", "\n", "\u00e9t\u00e9", "\u732b", "\U0001f98a", "\u00a0", "\t", "don't", "7"]
    prompts = ["".join(rng.choices(pieces, k=rng.randint(1, 12))) for _ in range(300)]
    prompts = [prompt for prompt in prompts if prompt.strip()] + ["Pip the duck"]
    recording = recorded().recording
    code = "out = data[0].map((p) => { const t = tokensOfText(p, data[1]); return [t.tokens, t.n, t.real]; });"
    for prompt, (tokens, n, real) in zip(prompts, in_figure(node, tmp_path, code, [prompts, recording]), strict=True):
        figure = recorded(prompt=prompt)
        assert (tokens[:n], len(tokens), real) == (figure.tokens, n + STEPS, prompt == "Pip the duck")
        assert real or "".join(tokens[:n]) == prompt


def test_whatever_an_address_says_the_sizes_are_sound(node, tmp_path):
    rng = random.Random(4)
    anything = [0, -3, 1e9, 2.6, "12", "x", None, [3], {}, 7, 64, 1e-9]
    names = [*LIMITS, "bits"]
    cases = [{name: rng.choice(anything) for name in names} for _ in range(300)] + [{}]
    for sizes in in_figure(node, tmp_path, "out = data.map(settled);", cases):
        KVCacheStepper(step=1, **sizes)  # which refuses what is not sound


def test_recorded_numbers_come_back(node, tmp_path):
    keys = recorded().recording["keys"]
    expected = np.frombuffer(base64.b64decode(keys), np.int8).tolist()
    assert in_figure(node, tmp_path, "out = Array.from(signedBytes(data));", keys) == expected


def test_stand_ins_are_numbers_between_minus_one_and_one_and_differ(node, tmp_path):
    code = "out = []; for (let i = 0; i < 2000; i += 1) out.push(standIn(i % 2, i % 7, i % 97, i % 31));"
    values = in_figure(node, tmp_path, code)
    assert all(-1 <= value < 1 for value in values)
    assert len(set(values)) > 1900
