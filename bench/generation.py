"""Speed of `llmlib.generation` beside `transformers`: python bench/generation.py [--quick] [--write].

All contenders write the same tokens with the same weights in turns (one round each, then the next), and medians are
compared, so that a busy machine disturbs all alike. `--quick` takes fewer tokens and rounds, `--threads` as many
threads (else torch decides), and `--write` keeps the figures in bench/results/generation.json.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import records

from llmlib import checkpoints
from llmlib.generation import (
    Decoder,
    KVCache,
    decode_step,
    generate,
    generate_beams,
    prefill,
    step_bytes,
    step_flops,
)
from llmlib.model import ModelConfig, Transformer

SIZES = {
    "1M": ModelConfig(vocab_size=1024, context=4096, width=128, layers=4, heads=4),
    "10M": ModelConfig(vocab_size=4096, context=4096, width=320, layers=7, heads=5),
}
PROMPT = 64
BEAMS = 4


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def interleaved(contenders: dict[str, Callable[[], object]], rounds: dict[str, int]) -> dict[str, float]:
    """Median seconds of each, taken in turns, each in as many rounds as said; all have run once before."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(max(rounds.values())):
        gc.collect()
        for name, work in contenders.items():
            if turn < rounds[name]:
                times[name].append(seconds(work))
    return {name: statistics.median(values) for name, values in times.items()}


def row(what: str, unit: str, ours: float, peers: dict[str, float], target: str, met: bool) -> dict:
    """One line of the table; `peers` in the same unit."""
    return {"what": what, "unit": unit, "llmlib": ours, "peers": peers, "target": target, "met": bool(met)}


def with_peer(config: ModelConfig):
    """A random model, and `transformers`' with the same weights."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model = Transformer(config, torch.Generator().manual_seed(0))
    with torch.no_grad():  # larger than where training starts, so that near ties do not decide which token is best
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(4)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.save(model, folder)
        peer = transformers.LlamaForCausalLM.from_pretrained(folder).eval()
    peer.generation_config = transformers.GenerationConfig(pad_token_id=0)
    return model, peer


@torch.no_grad()
def write_uncached(model: Transformer, prompt: list[int], n_tokens: int) -> list[int]:
    """Reads the whole text again for each token, but computes only the last position's logits."""
    ids = torch.tensor([prompt])
    for _ in range(n_tokens):
        logits = model.head(model.hidden(ids)[:, -1])
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    return ids[0, len(prompt) :].tolist()


def read_bandwidth(rounds: int) -> float:
    """Bytes a second at which this machine reads its memory at best: the sum of a vector far larger than its caches."""
    vector = torch.ones(64 * 2**20)  # 256 MiB
    with torch.inference_mode():
        return vector.nbytes / min(seconds(vector.sum) for _ in range(10 * rounds))


def bench_writing(name: str, n_tokens: int, rounds: int) -> list[dict]:
    model, peer = with_peer(SIZES[name])
    prompt = torch.randint(SIZES[name].vocab_size, (PROMPT,), generator=torch.Generator().manual_seed(1))
    ids, mask = prompt[None], torch.ones(1, PROMPT, dtype=torch.long)

    def by_transformers(**how) -> list[int]:
        written = peer.generate(
            ids, attention_mask=mask, max_new_tokens=n_tokens, min_new_tokens=n_tokens, do_sample=False, **how
        )
        return written[0, PROMPT:].tolist()

    contenders = {
        "llmlib": lambda: generate(model, ids.tolist(), n_tokens)[0].tokens,
        "transformers": by_transformers,
    }
    turns = {"llmlib": rounds, "transformers": rounds, "uncached": 2}
    if name == "10M":  # it takes as long as all others together
        contenders["uncached"] = lambda: write_uncached(model, prompt.tolist(), n_tokens)
    texts = {contender: work() for contender, work in contenders.items()}
    assert all(text == texts["llmlib"] for text in texts.values()), "the contenders wrote different texts"
    taken = interleaved(contenders, turns)
    rate = {contender: n_tokens / value for contender, value in taken.items()}
    ratio, least = rate["llmlib"] / rate["transformers"], {"1M": 3.0, "10M": 1.8}[name]
    peers = {"transformers": rate["transformers"]}
    what = f"greedy, {name}, {n_tokens} tokens after {PROMPT}"
    rows = [row(what, "tokens/s", rate["llmlib"], peers, f">= {least}x transformers", ratio >= least)]
    if name == "10M":
        target = ">= 10x uncached"
        met = rate["llmlib"] >= 10 * rate["uncached"]
        rows.append(row(what, "tokens/s", rate["llmlib"], {"uncached": rate["uncached"]}, target, met))
        step = step_bytes(model.config, PROMPT + n_tokens // 2)
        limit = read_bandwidth(rounds) / step
        peers, met = {"limit": limit}, rate["llmlib"] >= 0.55 * limit
        rows.append(row(what, "tokens/s", rate["llmlib"], peers, ">= 0.55x the memory's limit", met))

    n_beamed = n_tokens // 2
    found = {
        "llmlib": lambda: generate_beams(model, prompt.tolist(), n_beamed, BEAMS)[0].tokens,
        "transformers": lambda: peer.generate(
            ids, attention_mask=mask, max_new_tokens=n_beamed, num_beams=BEAMS, do_sample=False, early_stopping="never"
        )[0, PROMPT:].tolist(),
    }
    assert found["llmlib"]() == found["transformers"](), "the two searches found different texts"
    rate = {contender: n_beamed / value for contender, value in interleaved(found, turns).items()}
    what, peers = f"beam {BEAMS}, {name}, {n_beamed} tokens after {PROMPT}", {"transformers": rate["transformers"]}
    met = rate["llmlib"] >= 2 * rate["transformers"]
    return [*rows, row(what, "tokens/s", rate["llmlib"], peers, ">= 2x transformers", met)]


def bench_lengths(name: str, lengths: list[int], repeats: int) -> list[dict]:
    """Seconds of a decode step against the positions in the cache, with the bytes and operations it takes."""
    config = SIZES[name]
    model = Transformer(config, torch.Generator().manual_seed(0))
    cache = KVCache(config)
    prefill(model, torch.zeros(1, max(lengths), dtype=torch.long), cache)
    token, decoder = torch.tensor([1]), Decoder(model, cache)
    times: dict[int, list[float]] = {length: [] for length in lengths}
    for _ in range(repeats):
        for length in lengths:
            cache.length = length - 1  # what was written further on is overwritten
            times[length].append(seconds(lambda: decoder(token)))
    return [
        {
            "length": length,
            "seconds": statistics.median(times[length]),
            "bytes": step_bytes(config, length),
            "flops": step_flops(config, length),
        }
        for length in lengths
    ]


def bench_batches(name: str, batches: list[int], repeats: int) -> list[dict]:
    """Tokens a second, all texts together, against how many are written at once, by `Decoder` and by `decode_step`."""
    config, length = SIZES[name], 128
    model = Transformer(config, torch.Generator().manual_seed(0))
    points = []
    for batch in batches:
        cache = KVCache(config, batch, length + 1)
        cache.memory.normal_()  # a step takes as long whatever was read before it
        tokens = torch.ones(batch, dtype=torch.long)
        steps = {"decoder": Decoder(model, cache), "plain": partial(decode_step, model, cache=cache)}
        times: dict[str, list[float]] = {kind: [] for kind in steps}
        for turn in range(max(3, min(repeats, 400 // batch)) + 1):
            for kind, step in steps.items():
                cache.length = length
                taken = seconds(partial(step, tokens))
                if turn > 0:
                    times[kind].append(taken)
        points.append({
            "batch": batch,
            "tokens_per_second": batch / statistics.median(times["decoder"]),
            "plain_tokens_per_second": batch / statistics.median(times["plain"]),
        })  # fmt: skip
    return points


def fit_lengths(points: list[dict]) -> dict:
    """A line through seconds against length: where it starts, its slope, and where the slope has doubled the start."""
    slope, start = np.polyfit([p["length"] for p in points], [p["seconds"] for p in points], 1)
    return {
        "seconds_at_0": float(start),
        "seconds_per_position": float(slope),
        "doubled_at": float(start / slope) if slope > 0 else None,
    }


def show(report: dict) -> None:
    for line in report["rows"]:
        peers = "   ".join(
            f"{name} {value:.3g} ({line['llmlib'] / value:.2f}x)" for name, value in line["peers"].items()
        )
        verdict = "met" if line["met"] else "MISSED"
        ours = f"{line['llmlib']:.3g} {line['unit']}"
        print(f"{line['what']:<40} {ours:>16}   {peers:<32} {line['target']}: {verdict}")
    for name, points in report["lengths"].items():
        print(f"\n{name}: milliseconds a token at each cached length")
        print("   ".join(f"{p['length']}: {1e3 * p['seconds']:.2f}" for p in points))
        print({key: value and float(f"{value:.3g}") for key, value in report["length_fits"][name].items()})
    for name, points in report["batches"].items():
        print(f"\n{name}: tokens a second at each batch (in brackets: by decode_step)")
        print("   ".join(
            f"{p['batch']}: {p['tokens_per_second']:.0f} ({p['plain_tokens_per_second']:.0f})" for p in points
        ))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer tokens, fewer rounds")
    parser.add_argument("--write", action="store_true", help="write bench/results/generation.json")
    parser.add_argument("--threads", type=int, help="threads for all contenders")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    n_tokens, rounds, repeats = (32, 2, 5) if arguments.quick else (256, 5, 30)
    lengths = [32, 256, 1024] if arguments.quick else [16, 32, 64, 128, 256, 512, 1024, 2048, 3072, 4096]
    batches = [1, 4, 16] if arguments.quick else [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    rows = [line for name in SIZES for line in bench_writing(name, n_tokens, rounds)]
    by_length = {name: bench_lengths(name, lengths, repeats) for name in SIZES}
    report = {
        "packages": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
        "threads": torch.get_num_threads(),
        "sizes": {name: config.count_parameters() for name, config in SIZES.items()},
        "rows": rows,
        "lengths": by_length,
        "length_fits": {name: fit_lengths(points) for name, points in by_length.items()},
        "batches": {name: bench_batches(name, batches, repeats) for name in SIZES},
    }
    show(report)
    if arguments.write:
        records.write("generation", report)


if __name__ == "__main__":
    main()
