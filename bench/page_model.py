"""The model in a page beside onnxruntime-web, on the same weights, in the same Chromium: python bench/page_model.py.

    --quick      fewer tokens and rounds
    --write      keep the figures in bench/results/page_model.json

Both write the same tokens, in turns, with one thread each; medians are compared. onnxruntime-web (compiled, with SIMD
instructions) and the Python package that writes its file are installed into a temporary folder, and shipped nowhere.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import http.server
import importlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import torch
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import records
from setup import find_browser

from llmlib import checkpoints
from llmlib.model import ModelConfig, Transformer
from llmlib.widgets.modules import module_source
from llmlib.widgets.page_model import STORY_MODEL, model_scripts

ONNXRUNTIME_WEB, ONNX = "1.22.0", ["onnx==1.18.0", "protobuf==5.29.5", "typing_extensions==4.12.2"]
SIZES = {
    "the book's": None,
    "3.1M": ModelConfig(vocab_size=2048, context=384, width=192, layers=6, heads=3),
}
PROMPT = 16
FIRST_MS, PER_SECOND, BLOCKED_MS = 300.0, 200.0, 50.0  # what a reader is owed

PAGE = """<!doctype html><meta charset="utf-8"><title>bench</title><link rel="icon" href="data:,">
<script>window.bookParts = {};</script>%s<script src="ort/ort.wasm.min.js"></script>
<script type="module">
import { openModel } from "./runtime.mjs";
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = new URL("ort/", location.href).href;
const best = (row) => row.reduce((at, value, i) => (value > row[at] ? i : at), 0);

window.openBoth = async (name, sizes) => {
  const watch = { longest: 0 };
  const note = (entry) => (watch.longest = Math.max(watch.longest, entry.duration));
  const observer = new PerformanceObserver((list) => list.getEntries().forEach(note));
  observer.observe({ entryTypes: ["longtask"] });
  const start = performance.now();
  const session = await openModel({ name });
  const opened = performance.now() - start;
  const prompt = Array.from({ length: sizes.prompt }, (_, i) => (i * 37 + 5) %% 2000);
  const begin = performance.now();
  await session.logits(prompt);
  const first = performance.now() - begin;
  await new Promise((done) => setTimeout(done, 100));
  observer.disconnect(); // what follows is the other contender's, which runs in the page itself
  const ours = async (n) => {
    const ids = [...prompt];
    await session.logits([0]);
    await session.logits(ids);
    const from = performance.now();
    for (let i = 0; i < n; i += 1) ids.push(best(await session.logits(ids)));
    return { seconds: (performance.now() - from) / 1000, ids };
  };
  const peer = await ort.InferenceSession.create(`${name}.onnx`, { executionProviders: ["wasm"] });
  const { L, K, D, cos, sin } = sizes;
  const cacheNames = Array.from({ length: 2 * L }, (_, i) => `${"kv"[i % 2]}${i >> 1}`);
  const theirs = async (n) => {
    let feeds = {};
    for (const name of cacheNames) feeds[name] = new ort.Tensor("float32", new Float32Array(0), [K, 0, D]);
    const step = async (id, place) => {
      const turned = (table) => new ort.Tensor("float32", Float32Array.from(table[place]), [1, D / 2]);
      const token = new ort.Tensor("int64", BigInt64Array.of(BigInt(id)), [1]);
      const out = await peer.run({ ...feeds, id: token, cos: turned(cos), sin: turned(sin) });
      feeds = Object.fromEntries(cacheNames.map((name) => [name, out[`new_${name}`]]));
      return out.logits.data;
    };
    const ids = [...prompt];
    let row;
    for (let i = 0; i < ids.length; i += 1) row = await step(ids[i], i);
    const from = performance.now();
    for (let i = 0; i < n; i += 1) {
      ids.push(best(row));
      row = await step(ids[ids.length - 1], ids.length - 1);
    }
    return { seconds: (performance.now() - from) / 1000, ids };
  };
  window.contenders = { ours, theirs };
  return { opened, first, watch };
};
</script>"""


def install(folder: Path) -> None:
    """Put onnxruntime-web and the package onnx into `folder`, by their ordinary clients."""
    npm = shutil.which("npm") or str(Path(sys.executable).parent / "npm")
    subprocess.run(
        [npm, "install", "--silent", "--no-audit", "--no-fund", f"onnxruntime-web@{ONNXRUNTIME_WEB}"],
        cwd=folder, check=True,
    )  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder / "python", *ONNX], check=True
    )


def write_onnx(model: Transformer, path: Path, packages: Path) -> None:
    """One decode step as an ONNX file: an id, the cache and a row of RoPE's table in; logits and a longer cache out."""
    sys.path.append(str(packages))
    onnx = importlib.import_module("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    config = model.config
    H, K, D, F, V = config.heads, config.kv_heads, config.head_width, config.feed_forward_width, config.vocab_size
    nodes, constants = [], []

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(kind: str, inputs: list[str], output: str, **attributes) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def matrix(name: str, weight: torch.Tensor) -> str:
        return constant(name, weight.detach().numpy().T)

    def shape(*sizes: int) -> str:
        name = f"shape_{'_'.join(map(str, sizes))}"
        return name if any(c.name == name for c in constants) else constant(name, np.array(sizes, np.int64))

    def norm(x: str, weight: torch.Tensor, to: str) -> str:
        square = node("Mul", [x, x], f"{to}_square")
        mean = node("ReduceMean", [square, shape(-1)], f"{to}_mean", keepdims=1)
        root = node("Sqrt", [node("Add", [mean, "epsilon"], f"{to}_add")], f"{to}_root")
        return node("Mul", [node("Div", [x, root], f"{to}_div"), constant(f"{to}_w", weight.detach().numpy())], to)

    def turned(x: str, heads: int, to: str) -> str:
        split = node("Reshape", [x, shape(heads, 2, D // 2)], f"{to}_split")
        nodes.append(helper.make_node("Split", [split], [f"{to}_a", f"{to}_b"], axis=1, num_outputs=2))
        a, b = (node("Reshape", [f"{to}_{half}", shape(heads, D // 2)], f"{to}_{half}2") for half in "ab")
        first = node("Sub", [node("Mul", [a, "cos"], f"{to}_ac"), node("Mul", [b, "sin"], f"{to}_bs")], f"{to}_first")
        second = node("Add", [node("Mul", [b, "cos"], f"{to}_bc"), node("Mul", [a, "sin"], f"{to}_as")], f"{to}_second")
        return node("Concat", [first, second], to, axis=1)  # (heads, D)

    constant("epsilon", np.float32([config.norm_epsilon]))
    constant("scale", np.float32([D**-0.5]))
    embedding = constant("embedding", model.embedding.weight.detach().numpy())
    x = node("Gather", [embedding, "id"], "x0", axis=0)  # (1, C)
    inputs = [helper.make_tensor_value_info("id", 7, [1])]
    inputs += [helper.make_tensor_value_info(name, 1, [1, D // 2]) for name in ("cos", "sin")]
    outputs = [helper.make_tensor_value_info("logits", 1, [1, V])]
    for n, layer in enumerate(model.layers):
        at = f"l{n}_"
        normed = norm(x, layer.attention_norm.weight, f"{at}norm")
        parts = layer.attention.qkv.weight.split([H * D, K * D, K * D])
        q, k, v = (node("MatMul", [normed, matrix(at + p, w)], f"{at}{p}0") for p, w in zip("qkv", parts, strict=True))
        q = turned(q, H, f"{at}q1")
        k = node("Reshape", [turned(k, K, f"{at}k1"), shape(K, 1, D)], f"{at}k2")
        v = node("Reshape", [v, shape(K, 1, D)], f"{at}v2")
        keys = node("Concat", [f"k{n}", k], f"new_k{n}", axis=1)  # (K, S, D)
        values = node("Concat", [f"v{n}", v], f"new_v{n}", axis=1)
        grouped = node("Reshape", [q, shape(K, H // K, D)], f"{at}q2")
        scores = node("MatMul", [grouped, node("Transpose", [keys], f"{at}kt", perm=[0, 2, 1])], f"{at}s")
        weights = node("Softmax", [node("Mul", [scores, "scale"], f"{at}s2")], f"{at}p", axis=-1)
        mixed = node("Reshape", [node("MatMul", [weights, values], f"{at}m"), shape(1, H * D)], f"{at}m2")
        x = node(
            "Add", [x, node("MatMul", [mixed, matrix(f"{at}o", layer.attention.output.weight)], f"{at}o1")], f"{at}x"
        )
        normed = norm(x, layer.feed_forward_norm.weight, f"{at}norm2")
        gate, up = layer.feed_forward.gate_up.weight.split([F, F])
        gated = node("MatMul", [normed, matrix(f"{at}g", gate)], f"{at}g1")
        raised = node("MatMul", [normed, matrix(f"{at}u", up)], f"{at}u1")
        silu = node("Mul", [gated, node("Sigmoid", [gated], f"{at}sig")], f"{at}silu")
        fed = node(
            "MatMul",
            [node("Mul", [silu, raised], f"{at}gu"), matrix(f"{at}d", layer.feed_forward.down.weight)],
            f"{at}d1",
        )
        x = node("Add", [x, fed], f"x{n + 1}")
        inputs += [helper.make_tensor_value_info(f"{kind}{n}", 1, [K, None, D]) for kind in "kv"]
        outputs += [helper.make_tensor_value_info(f"new_{kind}{n}", 1, [K, None, D]) for kind in "kv"]
    node("MatMul", [norm(x, model.norm.weight, "last"), matrix("head", model.head.weight)], "logits")
    graph = helper.make_graph(nodes, "decode", inputs, outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(made)
    path.write_bytes(made.SerializeToString())


def prepare(site: Path, packages: Path) -> dict[str, ModelConfig]:
    """Write the page, our module, and both contenders' files for every size."""
    shutil.copytree(packages / "node_modules" / "onnxruntime-web" / "dist", site / "ort")
    (site / "runtime.mjs").write_text(module_source("runtime"), "utf-8")
    scripts, configs = [], {}
    for number, (size, config) in enumerate(SIZES.items()):
        name, folder = f"model{number}", STORY_MODEL
        if config is None:
            model = checkpoints.load_model()
        else:
            folder = site / f"{name}-folder"
            checkpoints.save(
                Transformer(config, torch.Generator().manual_seed(0)), folder, checkpoints.load()[1], torch.float16
            )
            model = checkpoints.load_model(folder)
        for file, text in model_scripts(folder, name).items():
            (site / file).write_text(text, "utf-8")
            scripts.append(f'<script src="{file}"></script>')
        write_onnx(model, site / f"{name}.onnx", packages / "python")
        configs[size] = model
    (site / "index.html").write_text(PAGE.replace("%%", "%").replace("%s", "".join(scripts)), "utf-8")
    return configs


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def measure(page, name: str, model: Transformer, n_tokens: int, rounds: int) -> dict:
    """Open both with one model, let them write the same tokens in turns, and give what was measured."""
    config = model.config
    table = model.rotation[:, : PROMPT + n_tokens + 1].tolist()
    sizes = {
        "prompt": PROMPT,
        "L": config.layers,
        "K": config.kv_heads,
        "D": config.head_width,
        "cos": table[0],
        "sin": table[1],
    }
    opened = page.evaluate("([name, sizes]) => window.openBoth(name, sizes)", [name, sizes])
    for who in ("ours", "theirs"):
        page.evaluate("([who, n]) => contenders[who](n)", [who, 16])
    taken, ids = {"ours": [], "theirs": []}, {}
    for _ in range(rounds):
        for who in taken:
            done = page.evaluate("([who, n]) => contenders[who](n)", [who, n_tokens])
            taken[who].append(n_tokens / done["seconds"])
            ids[who] = done["ids"]
    assert ids["ours"] == ids["theirs"], "the contenders wrote different tokens"
    rates = {who: statistics.median(values) for who, values in taken.items()}
    return {
        "parameters": config.count_parameters(), "open_ms": opened["opened"], "first_ms": opened["first"],
        "blocked_ms": opened["watch"]["longest"], "tokens_per_second": rates["ours"],
        "best_per_second": max(taken["ours"]), "onnxruntime_web_per_second": rates["theirs"],
        "onnxruntime_web_best_per_second": max(taken["theirs"]),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer tokens, fewer rounds")
    parser.add_argument("--write", action="store_true", help="write bench/results/page_model.json")
    parser.add_argument("--packages", type=Path, help="a folder in which the two packages are installed already")
    arguments = parser.parse_args()
    n_tokens, rounds = (32, 2) if arguments.quick else (128, 7)
    with tempfile.TemporaryDirectory() as temporary:
        packages, site = arguments.packages or Path(temporary), Path(temporary) / "site"
        site.mkdir()
        if arguments.packages is None:
            install(packages)
        models = prepare(site, packages)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox", "--disable-gpu"])
            rows = {}
            for number, (size, model) in enumerate(models.items()):
                page = browser.new_page()
                page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
                page.wait_for_function("Boolean(window.ort && window.openBoth)")
                rows[size] = measure(page, f"model{number}", model, n_tokens, rounds)
                page.close()
            version = browser.version
            browser.close()
        server.shutdown()
    shipped = sum(len(gzip.compress(text.encode(), 9)) for text in model_scripts().values())
    for size, row in rows.items():
        ratio = row["tokens_per_second"] / row["onnxruntime_web_per_second"]
        print(f"{size}, {row['parameters']:,} parameters: {row['tokens_per_second']:.0f} tokens/s "
              f"(onnxruntime-web {row['onnxruntime_web_per_second']:.0f}: {ratio:.2f}x); first token after "
              f"{row['first_ms']:.0f} ms, page blocked {row['blocked_ms']:.0f} ms at most")  # fmt: skip
    print(f"weights and tokenizer: {shipped / 2**20:.2f} MiB compressed")
    if arguments.write:
        targets = {"first_ms": FIRST_MS, "tokens_per_second_3.1M": PER_SECOND, "blocked_ms": BLOCKED_MS}
        report = {"chromium": version, "onnxruntime_web": ONNXRUNTIME_WEB, "prompt": PROMPT, "tokens": n_tokens,
                  "rounds": rounds, "shipped_gzip_bytes": shipped, "targets": targets, "rows": rows}  # fmt: skip
        records.write("page_model", report)


if __name__ == "__main__":
    main()
