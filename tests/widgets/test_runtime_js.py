"""The model twice, in torch and in JavaScript: the same weights and texts, and logits, choices and ids that agree."""

import json
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from test_bpe_merges_js import make_text

from llmlib import checkpoints
from llmlib.corpus import stories
from llmlib.inspection import attention_weights
from llmlib.model import ModelConfig, Transformer
from llmlib.tokenizer import Tokenizer
from llmlib.widgets import page_model
from llmlib.widgets.modules import module_source

POSITIONS = 10_000
# Both sides compute in float32 from the very same numbers and differ in the order of their sums alone. A logit is at
# most about 40, and what reaches it through the layers is less than a few hundred roundings of 2^-24 of its size.
TOLERANCE = 40 * 300 * 2**-24  # 7e-4

READ_MODEL = """
import { readFileSync, writeFileSync } from "node:fs";
const { Llama, readTensors } = pageEngine();
const tensorsOf = (folder) => readTensors(new Uint8Array(readFileSync(`${folder}/model.safetensors`)));
const open = (folder) => new Llama(JSON.parse(readFileSync(`${folder}/config.json`)), tensorsOf(folder));
const job = JSON.parse(readFileSync("job.json"));
const plainArray = (_, value) => (value instanceof Float32Array ? [...value] : value);
const answer = (out) => writeFileSync("answer.json", JSON.stringify(out, plainArray));
"""


def run(node: str, folder: Path, code: str, job: object, module: str = "engine") -> object:
    """Run JavaScript after a module of the figures; `job` goes in, what `answer(...)` is given comes back."""
    source = module_source(module)
    lines = READ_MODEL.splitlines(keepends=True)
    reader = READ_MODEL if "function pageEngine" in source else "".join(lines[:2] + lines[5:])
    (folder / "run.mjs").write_text(f"{source}\n{reader}\n{code}", "utf-8")
    (folder / "job.json").write_text(json.dumps(job), "utf-8")
    done = subprocess.run([node, "run.mjs"], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "answer.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def texts(story_model):
    """Held-out stories as ids, cut to the context: POSITIONS in all."""
    model, coder = story_model
    end, found, left = coder.special_tokens["<|endoftext|>"], [], POSITIONS
    for story in stories(seed=3):
        ids = [end, *coder.encode(story.text), end][: min(model.config.context, left)]
        found.append(ids)
        left -= len(ids)
        if left == 0:
            return found
    return found


def test_logits_agree_with_torch_at_ten_thousand_positions(node, story_model, texts, tmp_path):
    code = """const model = open(job.folder);
    const { openSync, writeSync } = await import("node:fs");
    const file = openSync("logits.bin", "w");
    for (const ids of job.texts) writeSync(file, model.allLogits(ids));
    answer(0);"""
    run(node, tmp_path, code, {"folder": str(page_model.STORY_MODEL), "texts": texts})
    theirs = np.memmap(tmp_path / "logits.bin", np.float32, "r").reshape(POSITIONS, -1)
    with torch.no_grad():
        ours = torch.cat([story_model[0](torch.tensor([ids]))[0] for ids in texts]).numpy()
    assert np.abs(theirs - ours).max() < TOLERANCE
    same = (theirs.argmax(axis=1) == ours.argmax(axis=1)).mean()
    assert same >= 0.999
    assert len(np.unique(ours.argmax(axis=1))) > 300, "the model says always the same: nothing is compared"


def small_model(folder: Path, generator: int, dtype=torch.float32, **sizes) -> Transformer:
    """A random model with a tokenizer in `folder`; its weights are large enough to tell right from wrong."""
    config = ModelConfig(**{"vocab_size": 261, "context": 80, "width": 24, "layers": 3, "heads": 4, **sizes})
    model = Transformer(config, torch.Generator().manual_seed(generator))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.dim() == 2 else 1).add_(0.1 if parameter.dim() == 1 else 0)
    coder = Tokenizer([(b"a", b"b")], special_tokens=["<|endoftext|>"])
    checkpoints.save(model, folder, coder, dtype)
    return checkpoints.load_model(folder)


SHAPES = [
    {},
    {"kv_heads": 2},
    {"kv_heads": 1, "head_width": 10, "rope_base": 500.0},
    {"tied": False, "vocab_size": 263, "feed_forward_width": 37},
    {"layers": 1, "heads": 1, "width": 6, "norm_epsilon": 1e-3},
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_any_shape_of_model_and_any_number_format(node, tmp_path, sizes, dtype):
    model = small_model(tmp_path, 5, dtype, **sizes)
    ids = torch.randint(model.config.vocab_size, (70,), generator=torch.Generator().manual_seed(1))  # three chunks
    theirs = run(node, tmp_path, "answer(open('.').allLogits(job));", ids.tolist())
    with torch.no_grad():
        ours = model(ids.unsqueeze(0))[0]
    torch.testing.assert_close(torch.tensor(theirs).view_as(ours), ours, atol=2e-4, rtol=2e-4)


def test_the_cache_changes_nothing(node, tmp_path):
    """Any walk over branches of a text, cached, gives what a fresh model gives."""
    small_model(tmp_path, 6, kv_heads=2)
    rng = random.Random(3)
    walk, ids = [], [1]
    for _ in range(60):
        ids = ids[: rng.randint(0, len(ids))] + [rng.randrange(261) for _ in range(rng.randint(0, 40))]
        ids = ids[:80] or [rng.randrange(261)]
        walk.append(list(ids))
    code = """const kept = open(".");
    answer(job.map((ids) => {
      const [a, b] = [kept.logits(ids), open(".").logits(ids)];
      return [Math.max(...a.map((v, i) => Math.abs(v - b[i]))), kept.ids.length === ids.length];
    }));"""
    for difference, held in run(node, tmp_path, code, walk):
        assert difference < 1e-4
        assert held


def test_what_is_common_is_not_read_again(node, tmp_path):
    small_model(tmp_path, 6)
    code = """const model = open(".");
    const count = (ids) => { let read = 0; const real = model.read;
      model.read = (part, ...rest) => { read += part.length; return real.call(model, part, ...rest); };
      model.logits(ids); model.read = real; return read; };
    answer([[1, 2, 3, 4], [1, 2, 3, 4, 5], [1, 2, 9, 4, 5], [1, 2, 9, 4, 5], [7]].map(count));"""
    assert run(node, tmp_path, code, None) == [4, 1, 3, 1, 1]  # the same text again: its last token is


def test_intermediates_are_the_models_own(node, tmp_path):
    model = small_model(tmp_path, 7, kv_heads=2)
    ids = [3, 1, 4, 1, 5, 9, 2, 6] * 5
    seen = run(node, tmp_path, "answer(open('.').inspect(job));", ids)
    tensor = torch.tensor(ids)
    with torch.no_grad():
        stream = model.embedding(tensor.unsqueeze(0))
        close(seen["embedding"], stream[0, -1])
        expected = attention_weights(model, tensor)  # (L, H, T, T)
        for n, layer in enumerate(model.layers):
            q, k, v = layer.attention.project(layer.attention_norm(stream), model.rotation[:, : len(ids)])
            between = stream + layer.attention(layer.attention_norm(stream), model.rotation[:, : len(ids)], None, None)
            after = layer(stream, model.rotation[:, : len(ids)], None, None)
            found = seen["layers"][n]
            close(found["attention"], expected[n, :, -1])
            close(found["query"], q[0, :, -1].flatten())
            close(found["key"], k[0, :, -1].flatten())
            close(found["value"], v[0, :, -1].flatten())
            close(found["stream"], after[0, -1])
            close(found["attentionAdds"], (between - stream)[0, -1])
            close(found["feedForwardAdds"], (after - between)[0, -1])
            gate, up = layer.feed_forward.gate_up(layer.feed_forward_norm(between))[0, -1].chunk(2)
            close(found["activation"], torch.nn.functional.silu(gate) * up)
            close(found["attended"], (between - stream)[0, -1].norm())
            close(found["fed"], (after - between)[0, -1].norm())
            close(found["logits"], model.head(model.norm(after[0, -1])))
            stream = after
        close(seen["logits"], model(tensor.unsqueeze(0))[0, -1])
    assert seen["position"] == 39
    assert seen["ids"] == ids


def close(theirs, ours) -> None:
    torch.testing.assert_close(torch.tensor(theirs), ours, atol=2e-4, rtol=2e-4)


def test_what_cannot_be_read_is_refused_in_a_sentence(node, tmp_path):
    small_model(tmp_path, 8)
    code = """const told = (f) => { try { f(); return "nothing"; } catch (error) { return error.message; } };
    const model = open(".");
    const config = JSON.parse(readFileSync("config.json"));
    const tensors = tensorsOf(".");
    answer([told(() => model.logits([])), told(() => model.logits(Array(81).fill(1))),
      told(() => model.logits([1, 261])), told(() => model.logits([1.5])),
      told(() => new Llama({ ...config, hidden_size: 32 }, tensors)),
      model.logits([1, 2]).length]);"""
    empty, long, unknown, broken, shape, after = run(node, tmp_path, code, None)
    assert empty.startswith("There is no token to read; begin with")
    assert long == "The text has 81 tokens, and the model's context is 80; shorten the text."
    assert unknown == "The token 261 is unknown to this model; its ids go from 0 to 260."
    assert broken.startswith("The token 1.5 is unknown")
    assert shape == "The weights hold model.embed_tokens.weight as (261,24); the model needs (261,32)."
    assert after == 261, "a refusal spoils nothing"


TOKENIZE = """const coder = tokenizerFrom(JSON.parse(readFileSync(`${job.folder}/tokenizer.json`)));
answer({ ids: job.texts.map((text) => coder.encode(text)),
  special: job.texts.map((text) => coder.encode(text, { special: true })),
  back: job.texts.map((text) => coder.decode(coder.encode(text))), end: coder.end, size: coder.size,
  texts: Array.from({ length: coder.size }, (_, id) => coder.text(id)) });"""


@pytest.mark.parametrize("which", ["the book's", "numbered otherwise"])
def test_ids_agree_with_python(node, story_model, tmp_path, which):
    rng = random.Random(21)
    coder, folder = story_model[1], page_model.STORY_MODEL
    if which == "numbered otherwise":  # as in GPT-2's own file, where the bytes come in another order
        folder = tmp_path
        order = list(range(262))
        rng.shuffle(order)
        tokens = [bytes([byte]) for byte in range(256)] + [b"ab", b" t", b" the", b"he", b"\xc3\xa9", b"aa"]
        merges = [(b" ", b"t"), (b"h", b"e"), (b" t", b"he"), (b"a", b"b"), (b"\xc3", b"\xa9"), (b"a", b"a")]
        vocab = dict(zip(tokens, order, strict=True))
        coder = Tokenizer(merges, vocab=vocab, special_tokens={"<|endoftext|>": 262, "<|a|b|>": 263})
        checkpoints.save(Transformer(ModelConfig(264, 8, 8, 1, 1)), folder, coder)
    written = [story.text for story in stories(seed=9, n=100)]
    mixed = ["".join(rng.choice([make_text(rng), "<|endoftext|>", " the "]) for _ in range(3)) for _ in range(100)]
    texts = ["", "<|endoftext|>", " ", *written, *mixed, *(make_text(rng) for _ in range(300))]
    theirs = run(node, tmp_path, TOKENIZE, {"folder": str(folder), "texts": texts}, "bpe_file")
    assert theirs["ids"] == [coder.encode(text) for text in texts]
    assert theirs["special"] == [coder.encode(text, allowed_special="all") for text in texts]
    assert theirs["back"] == texts
    assert (theirs["end"], theirs["size"]) == (coder.special_tokens["<|endoftext|>"], coder.n_vocab)
    assert theirs["texts"] == [coder.decode([id_]) for id_ in range(coder.n_vocab)]


def test_a_tokenizer_that_works_otherwise_is_refused(node, tmp_path):
    code = """const plain = { model: { type: "BPE", vocab: {}, merges: [] }, pre_tokenizer: { type: "ByteLevel" } };
    answer([{ ...plain, normalizer: { type: "NFC" } }, { ...plain, pre_tokenizer: { type: "Metaspace" } },
      { ...plain, model: { ...plain.model, type: "Unigram" } }, { ...plain, model: { ...plain.model,
      ignore_merges: true } }].map((file) => { try { tokenizerFrom(file); return "nothing"; }
      catch (error) { return error.message; } }));"""
    asked = [
        "a normalizer",
        "another pre-tokenizer than GPT-2's",
        "a Unigram model",
        "words that are tokens without merges",
    ]
    assert run(node, tmp_path, code, None, "bpe_file") == [
        f"The tokenizer's file asks for {what}, which a page cannot do." for what in asked
    ]
