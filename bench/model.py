"""Training speed of `llmlib.model` beside `transformers`: python bench/model.py [--quick] [--write].

Models of the same shape in the same loop (AdamW, clipping, the same tokens) take steps in turns, and medians are
compared, so that a busy machine disturbs all alike. Each number of threads is measured by itself. What a step achieves
is set against the machine's own peak: the fastest of some large matrix products of the same precision, in the same run.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # else what an earlier run compiled would be found

import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import records

from llmlib.checkpoints import hub_config, hub_weights
from llmlib.model import ModelConfig, Transformer
from llmlib.training import Batch, Recipe, Trainer, best_precision

ROWS, LENGTH = 16, 256  # 4096 tokens a step
SHAPES = {
    "1M": ModelConfig(vocab_size=2048, context=LENGTH, width=128, layers=4, heads=4),
    "10M": ModelConfig(vocab_size=2048, context=LENGTH, width=384, layers=5, heads=6),
}
PRECISIONS = ("float32", "bfloat16")
TARGETS = {("1M", "float32"): 1.35, ("10M", "float32"): 1.3}  # times the tokens/s of transformers in float32
AMX_TARGETS = {("1M", "bfloat16"): ("float32", 2.2), ("10M", "bfloat16"): ("bfloat16", 1.4)}


def one_batch(config: ModelConfig) -> Batch:
    ids = torch.randint(config.vocab_size, (ROWS, LENGTH + 1), generator=torch.Generator().manual_seed(0))
    return Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())


def our_step(config: ModelConfig, precision: str, compiled: bool = False) -> Callable[[], float]:
    """A step of the book's own trainer, which returns the loss; `compiled`, as a long run on a GPU would be."""
    batch = one_batch(config)
    recipe = Recipe(steps=10**6, learning_rate=1e-3, warm_up=0, precision=precision)
    model = Transformer(config, torch.Generator().manual_seed(0))
    trainer = Trainer(model, _Always(batch), recipe)
    if compiled:
        trainer.loss_sum = torch.compile(trainer.loss_sum)
    run = trainer.run()
    return lambda: next(run).loss


class _Always:
    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __getitem__(self, n: int) -> Batch:
        return self.batch


def their_step(config: ModelConfig, precision: str) -> Callable[[], float]:
    """The same step of `transformers`' model, from the same weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    dropped = ("architectures", "model_type", "torch_dtype", "dtype")
    settings = {name: value for name, value in hub_config(config).items() if name not in dropped}
    model = LlamaForCausalLM(LlamaConfig(**settings, use_cache=False))
    model.load_state_dict(hub_weights(Transformer(config, torch.Generator().manual_seed(0))), strict=False)
    model.tie_weights()
    batch = one_batch(config)
    recipe = Recipe(steps=1)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True
    )

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if precision == "bfloat16" else nullcontext():
            logits = model(input_ids=batch.inputs).logits
        loss = functional.cross_entropy(logits.float().flatten(0, 1), batch.targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        return loss.item()

    return step


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def large_product(precision: str) -> Callable[[], float]:
    """One large matrix product, which gives the floating-point operations a second that it reached."""
    n = 2048
    a, b = (torch.randn(n, n).to(getattr(torch, precision)) for _ in range(2))
    a @ b
    return lambda: 2 * n**3 / seconds(lambda: a @ b)


def measure(shape: str, threads: int, rounds: int) -> list[dict]:
    """Tokens a second of both in both precisions, in turns, and our share of the peak."""
    torch.set_num_threads(threads)
    config, tokens = SHAPES[shape], ROWS * LENGTH
    makers = {"llmlib": our_step, "transformers": their_step, "llmlib, compiled": partial(our_step, compiled=True)}
    steps = {(who, p): make(config, p) for who, make in makers.items() for p in PRECISIONS}
    first = {}  # seconds of the first step, with what is compiled in it
    for precision in PRECISIONS:
        losses = []
        for who in makers:
            start = time.perf_counter()
            losses.append(steps[who, precision]())
            first[who, precision] = time.perf_counter() - start
        assert max(losses) - min(losses) < 1e-2, f"the first losses differ: {losses}"
    times: dict[tuple[str, str], list[float]] = {name: [] for name in steps}
    products = {precision: large_product(precision) for precision in PRECISIONS}
    peaks = dict.fromkeys(PRECISIONS, 0.0)  # of all rounds: what disturbs one of them does not lower the peak
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(seconds(step))
        for precision, product in products.items():
            peaks[precision] = max(peaks[precision], product(), product())
    rates = {name: tokens / statistics.median(values) for name, values in times.items()}
    rows = []
    for who, precision in [(who, p) for who in ("llmlib", "llmlib, compiled") for p in PRECISIONS]:
        rate = rates[who, precision]
        against, times_faster = precision, TARGETS.get((shape, precision))
        if times_faster is None and best_precision() == "bfloat16":
            against, times_faster = AMX_TARGETS[shape, precision]
        ratio = rate / rates["transformers", against]
        what = f"train {shape}, {precision}"
        if who != "llmlib":  # for long runs alone, and no part of the targets
            what, times_faster = f"{what}, compiled (first step {first[who, precision]:.0f} s)", None
        rows.append({
            "what": what,
            "threads": threads,
            "unit": "tokens/s",
            "llmlib": rate,
            "peers": {f"transformers {p}": rates["transformers", p] for p in PRECISIONS},
            "flops_per_s": rate * config.train_flops(LENGTH),
            "peak_flops_per_s": peaks[precision],
            "peak_precision": precision,
            "target": f">= {times_faster}x transformers {against}" if times_faster else "",
            "met": bool(ratio >= times_faster) if times_faster else None,
        })  # fmt: skip
    return rows


def show(report: dict) -> None:
    for line in report["rows"]:
        peers = "   ".join(
            f"{name} {value:.3g} ({line['llmlib'] / value:.2f}x)" for name, value in line["peers"].items()
        )
        verdict = {True: "met", False: "MISSED", None: ""}[line["met"]]
        share = line["flops_per_s"] / line["peak_flops_per_s"]
        print(
            f"{line['what']:<22} {line['threads']} threads {line['llmlib']:>8.0f} tokens/s   {peers}   "
            f"{line['flops_per_s'] / 1e9:.0f} GFLOP/s, {share:.0%} of the peak   {line['target']} {verdict}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the small shape only, few rounds")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--write", action="store_true", help="write bench/results/model.json")
    arguments = parser.parse_args()
    rows = []
    for threads in arguments.threads:
        for shape in ["1M"] if arguments.quick else SHAPES:
            rows += measure(shape, threads, rounds=3 if arguments.quick else 15)
    names = ("torch", "transformers")
    report = {
        "packages": {name: importlib.metadata.version(name) for name in names},
        "sizes": {name: config.count_parameters() for name, config in SHAPES.items()},
        "tokens_a_step": ROWS * LENGTH,
        "rows": rows,
    }
    show(report)
    if arguments.write:
        records.write("model", report)


if __name__ == "__main__":
    main()
