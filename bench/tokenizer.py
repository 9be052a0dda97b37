"""Speed and memory of `llmlib.tokenizer` beside `tokenizers` and `tiktoken`: python bench/tokenizer.py [--write].

All contenders do the same work on the same text in turns (one round each, then the next), and medians are compared,
so that a busy machine disturbs all alike. `--quick` takes smaller texts; `--write` keeps the figures in
bench/results/tokenizer.json.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib.metadata
import os
import pydoc_data.topics
import random
import re
import statistics
import sys
import sysconfig
import tempfile
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import records

from llmlib.tokenizer import PreTokenizer, Tokenizer, count_words, learn_merges, learn_merges_by_recount, load, save
from llmlib.tokenizer.pretokenization import GPT2_PATTERN

VOCAB_SIZE = 4096
HEAPS_EXPONENT = 0.6  # unique words grow with the text's length to this power, as in English


@cache
def docs_with_repeats() -> str:
    """The interpreter's reference topics and every docstring in its library's files, each as often as it stands there.

    2.8 MB of English and code, where `llmlib.corpus.python_docs`, which takes each text once, has 2.2 MB.
    """
    texts = list(pydoc_data.topics.topics.values())
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" in path.parts:
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError):
            continue
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        texts += [doc for node in ast.walk(tree) if isinstance(node, documented) and (doc := ast.get_docstring(node))]
    return "\n\n".join(texts)


@lru_cache(maxsize=1)
def english_like(n_bytes: int) -> str:
    """A text of that size: Python's reference and docstrings, 2.8 MB with repeats, then more of the same kind.

    It goes on with phrases of 1 to 8 words copied from anywhere before, which keeps how often each word occurs, and
    with new words, spelled by letter triples as in the docs, at the rate that makes unique words grow as in English
    (Heaps' law).
    """
    chunks = re.findall(r"\s*\S+|\s+$", docs_with_repeats())
    words = list(dict.fromkeys(chunks))
    index = {word: i for i, word in enumerate(words)}
    text = np.array([index[chunk] for chunk in chunks])
    sizes = np.array([len(word.encode()) for word in words])
    rng, letters = np.random.default_rng(1), random.Random(1)
    following = defaultdict(list)
    for word in words:
        spelled = f"  {''.join(filter(str.isalpha, word))}\n"
        for a, b, c in zip(spelled, spelled[1:], spelled[2:], strict=False):
            following[a + b].append(c)
    while sizes[text].sum() < n_bytes:
        n = len(text)
        lengths = rng.integers(1, 9, size=n // 16 + 1)
        starts = rng.integers(0, n - 8, size=len(lengths))
        offsets = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        more = text[np.repeat(starts, lengths) + offsets]
        new = np.flatnonzero(rng.random(len(more)) < HEAPS_EXPONENT * len(words) / n)
        more[new] = np.arange(len(words), len(words) + len(new))
        for _ in new:
            spelled = "  "
            while not spelled.endswith("\n"):
                spelled += letters.choice(following[spelled[-2:]])
            words.append(" " + spelled.strip())
        sizes = np.concatenate([sizes, [len(word.encode()) for word in words[len(sizes) :]]])
        text = np.concatenate([text, more])
    return "".join(map(words.__getitem__, text)).encode()[:n_bytes].decode(errors="ignore")


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def interleaved(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            times[name].append(seconds(work))
    return {name: statistics.median(values) for name, values in times.items()}


def train_with_tokenizers(text: str):
    """The same training by `tokenizers` (on all cores), from lines as its users feed it."""
    from tokenizers import Tokenizer as Peer
    from tokenizers import decoders, models, pre_tokenizers, trainers

    peer = Peer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    peer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    peer.train_from_iterator(text.splitlines(keepends=True), trainer)
    return peer


def row(what: str, unit: str, ours: float, peers: dict[str, float], target: str, met: bool) -> dict:
    """One line of the table; `peers` in the same unit."""
    return {"what": what, "unit": unit, "llmlib": ours, "peers": peers, "target": target, "met": bool(met)}


def bench_training(text: str, rounds: int) -> dict:
    taken = interleaved(
        {"llmlib": lambda: Tokenizer.train(text, VOCAB_SIZE), "tokenizers": lambda: train_with_tokenizers(text)}, rounds
    )
    ratio = taken["llmlib"] / taken["tokenizers"]
    what = f"train {len(text) / 1e6:.3g} MB, vocabulary {VOCAB_SIZE}"
    return row(what, "s", taken["llmlib"], {"tokenizers": taken["tokenizers"]}, "<= 1.2x tokenizers", ratio <= 1.2)


def bench_recount(n_bytes: int) -> dict:
    words = count_words([english_like(n_bytes)], PreTokenizer())
    n_merges = VOCAB_SIZE - 256
    ours = min(seconds(lambda: list(learn_merges(words, n_merges))) for _ in range(3))
    recount = seconds(lambda: learn_merges_by_recount(words, n_merges))
    what = f"learn merges, {n_bytes // 1000} kB, {len(words)} unique words"
    return row(what, "s", ours, {"recount": recount}, ">= 150x the recount", recount / ours >= 150)


def bench_coding(text: str, rounds: int) -> list[dict]:
    import tiktoken
    from tokenizers import Tokenizer as Peer

    megabytes = len(text.encode()) / 1e6
    part = text[: len(text) // 5]  # `tokenizers` is slow on one long text, and its time grows in proportion
    trained = Tokenizer.train(text, VOCAB_SIZE)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tokenizer.json")
        save(trained, path)
        hugging_face = Peer.from_file(path)
        fresh = load(path)
    tik = tiktoken.Encoding("bench", pat_str=GPT2_PATTERN, mergeable_ranks=trained.vocab, special_tokens={})
    ids = trained.encode(text)
    assert ids == tik.encode_ordinary(text), "the ids differ from tiktoken's"
    assert trained.encode(part) == hugging_face.encode(part).ids, "the ids differ from tokenizers'"

    def encode_cold() -> None:
        fresh.forget()
        fresh.encode(text)

    taken = interleaved(
        {
            "cold": encode_cold,
            "warm": lambda: trained.encode(text),
            "tiktoken": lambda: tik.encode_ordinary(text),
            "tokenizers": lambda: hugging_face.encode(part),
            "decode": lambda: trained.decode(ids),
            "decode tiktoken": lambda: tik.decode(ids),
            "decode tokenizers": lambda: hugging_face.decode(ids),
        },
        rounds,
    )
    rate = {name: megabytes / value for name, value in taken.items()}
    rate["tokenizers"] = len(part.encode()) / 1e6 / taken["tokenizers"]
    peers = {"tiktoken": rate["tiktoken"], "tokenizers": rate["tokenizers"]}
    decoders = {"tiktoken": rate["decode tiktoken"], "tokenizers": rate["decode tokenizers"]}
    return [
        row(f"encode {megabytes:.3g} MB, cold", "MB/s", rate["cold"], peers, ">= 5 MB/s", rate["cold"] >= 5),
        row(f"encode {megabytes:.3g} MB, words seen", "MB/s", rate["warm"], peers, ">= 9 MB/s", rate["warm"] >= 9),
        row(f"decode {megabytes:.3g} MB", "MB/s", rate["decode"], decoders, ">= 25 MB/s", rate["decode"] >= 25),
    ]


def bench_memory(text: str) -> list[dict]:
    """The most memory that each stage has in use at one time (with its result, without the text), per byte of text."""
    n_bytes = len(text.encode())
    tokenizer = Tokenizer.train(text, VOCAB_SIZE)
    ids = tokenizer.encode(text)
    tokenizer.forget()
    stages = {
        "train": lambda: Tokenizer.train(text, VOCAB_SIZE),
        "encode": lambda: tokenizer.encode(text),
        "decode": lambda: tokenizer.decode(ids),
    }
    rows = []
    for stage, work in stages.items():
        gc.collect()
        tracemalloc.start()
        work()
        times = tracemalloc.get_traced_memory()[1] / n_bytes
        tracemalloc.stop()
        rows.append(row(f"memory to {stage} {n_bytes / 1e6:.3g} MB", "x the text", times, {}, "<= 10x", times <= 10))
    return rows


def bench_scaling(sizes: list[int]) -> list[dict]:
    """Training time against the text's size and its unique words, each the best of two."""
    points = []
    for n_bytes in sizes:
        text = english_like(n_bytes)
        words = count_words([text], PreTokenizer())
        counting = min(seconds(lambda text=text: count_words([text], PreTokenizer())) for _ in range(2))
        merging = min(seconds(lambda words=words: list(learn_merges(words, VOCAB_SIZE - 256))) for _ in range(2))
        points.append({
            "text_bytes": n_bytes,
            "unique_words": len(words),
            "unique_word_bytes": sum(map(len, words)),
            "counting_seconds": counting,
            "merging_seconds": merging,
        })  # fmt: skip
    return points


def bench_long_words(sizes: list[int]) -> list[dict]:
    """Encoding time of one word without a single break, as its length doubles."""
    tokenizer = Tokenizer.train(english_like(1_000_000), VOCAB_SIZE)
    letters = random.Random(2)
    points = []
    for kind, alphabet in (("a", "a"), ("letters", "etaoinshrdlu")):
        for size in sizes:
            word = "".join(letters.choices(alphabet, k=size))
            points.append({"kind": kind, "bytes": size, "seconds": seconds(lambda word=word: tokenizer.encode(word))})
    return points


def slope(points: list[dict], x: str, y: str) -> float:
    """The exponent of a power law through the points."""
    return float(np.polyfit(np.log([p[x] for p in points]), np.log([p[y] for p in points]), 1)[0])


def show(report: dict) -> None:
    for line in report["rows"]:
        peers = "   ".join(
            f"{name} {value:.3g} ({line['llmlib'] / value:.2f}x)" for name, value in line["peers"].items()
        )
        verdict = "met" if line["met"] else "MISSED"
        ours = f"{line['llmlib']:.3g} {line['unit']}"
        print(f"{line['what']:<48} {ours:>16}   {peers:<48} {line['target']}: {verdict}")
    print("\n   text MB   unique words   counting s   merging s")
    for p in report["training_scaling"]:
        size, unique = p["text_bytes"] / 1e6, p["unique_words"]
        print(f"{size:10.1f} {unique:14,} {p['counting_seconds']:12.3f} {p['merging_seconds']:11.3f}")
    print("exponents:", {name: round(value, 2) for name, value in report["exponents"].items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller texts, fewer rounds")
    parser.add_argument("--write", action="store_true", help="write bench/results/tokenizer.json")
    arguments = parser.parse_args()
    n_bytes, rounds = (1_000_000, 3) if arguments.quick else (10_000_000, 5)
    text = english_like(n_bytes)
    rows = [bench_training(text, rounds), bench_recount(20_000 if arguments.quick else 100_000)]
    rows += bench_coding(text, rounds)
    rows += bench_memory(text)
    sizes = [int(size * 1e6) for size in ((0.1, 0.3, 1) if arguments.quick else (0.1, 0.3, 1, 3, 10, 30, 100))]
    scaling = bench_scaling(sizes)
    long_words = bench_long_words([int(size * 1e6) for size in ((0.05, 0.1) if arguments.quick else (0.25, 0.5, 1))])
    letters = [p for p in long_words if p["kind"] == "letters"]
    names = ("regex", "tokenizers", "tiktoken", "numpy")
    report = {
        "packages": {name: importlib.metadata.version(name) for name in names},
        "text": " ".join(english_like.__wrapped__.__doc__.split()),
        "rows": rows,
        "training_scaling": scaling,
        "long_words": long_words,
        "exponents": {
            "unique words against text": slope(scaling, "text_bytes", "unique_words"),
            "counting against text": slope(scaling, "text_bytes", "counting_seconds"),
            "merging against unique words": slope(scaling, "unique_words", "merging_seconds"),
            "encoding against a word's length": slope(letters, "bytes", "seconds"),
        },
    }
    show(report)
    if arguments.write:
        records.write("tokenizer", report)


if __name__ == "__main__":
    main()
