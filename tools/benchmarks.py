"""Write the book's page of measurements, book/benchmarks.md, from the records in bench/results.

python tools/benchmarks.py          (`make bench WRITE=1` does so after measuring)
"""

import re
from itertools import pairwise
from pathlib import Path

import records

from llmlib import plots

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "book" / "benchmarks.md"

HEAD = """# Measurements

Every table on this page was printed by a script in the folder `bench`, on the machine and the day that it names.
What is compared was measured in the same run, in turns: a ratio means something even where the machine does not.
To measure on your own machine: `make bench`; to replace this page by what you measured: `make bench WRITE=1`.
"""


def table(head: list[str], rows: list[list[object]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def three(value: float) -> str:
    """Three significant digits: 1234.5 -> 1 230, 0.01234 -> 0.0123."""
    text = f"{float(f'{value:.3g}'):,.10f}".rstrip("0").rstrip(".")
    return text.replace(",", "\u2009")


def tokenizer_section(record: dict) -> str:
    rows = [
        [
            row["what"],
            f"{three(row['llmlib'])} {row['unit']}",
            "; ".join(f"{name} {three(value)}" for name, value in row["peers"].items()) or "–",
            f"{row['target']}: {'met' if row['met'] else 'missed'}",
        ]
        for row in record["rows"]
    ]
    points = record["training_scaling"]
    unique = [p["unique_words"] for p in points]
    figure, axes = plots.figure()
    axes.loglog(unique, [p["merging_seconds"] for p in points], "o-", color=plots.FOCUS)
    axes.loglog(unique, [p["counting_seconds"] for p in points], "s-", color=plots.WARN)
    plots.label(axes, "merging", unique[0], 2.2 * points[0]["merging_seconds"], plots.FOCUS)
    plots.label(axes, "counting", unique[1], 0.7 * points[1]["counting_seconds"], plots.WARN)
    axes.set(xlabel="unique words of the text (log scale)", ylabel="seconds (log scale)")
    sizes = f"{three(points[0]['text_bytes'] / 1e6)} to {three(points[-1]['text_bytes'] / 1e6)} MB"
    description = f"Seconds to count words and to learn merges, against the number of unique words, texts of {sizes}."
    exponent = record["exponents"]
    tenfold = 10 ** (exponent["merging against unique words"] * exponent["unique words against text"])
    return f"""## The tokenizer

{table(["what", "llmlib", "reference, same run", "target"], rows)}

The text is made for the purpose. {record["text"]}
Ours is plain Python on one core; `tokenizers` and `tiktoken` are compiled, and `tokenizers` trains on all cores.

Learning the merges costs time in proportion to (unique words)$^{{{exponent["merging against unique words"]:.2f}}}$,
while the unique words grow only as (text)$^{{{exponent["unique words against text"]:.2f}}}$:
a text ten times as long takes about {tenfold:.0f} times as long to merge.
What does grow with the text is counting its words.

{embed(figure, description)}

{machine(record, "bench/tokenizer.py")}
"""


def corpus_section(record: dict) -> str:
    speed = record["speed"]
    rows = [
        ["sampling stories", f"{three(speed['sampling_mb_per_s'])} MB/s"],
        ["parsing stories", f"{three(speed['parsing_stories_per_s'])} stories/s"],
        ["checking stories", f"{three(speed['checking_stories_per_s'])} stories/s"],
        ["exact entropy of the world", f"{three(record['entropy_s'])} s"],
        ["proof that no story has two derivations", f"{three(record['proof_of_unambiguity_s'])} s"],
        ["reading the interpreter's documents", f"{three(record['python_docs_s'])} s"],
    ]
    worlds = [
        [
            three(world["difficulty"]),
            three(world["words_per_story"]),
            three(world["nats_per_story"]),
            three(world["nats_per_word"]),
            three(world["mean_depth"]),
        ]
        for world in record["worlds"]
    ]
    return f"""## The story world

{table(["what", "llmlib"], rows)}

The world has {record["word_types"]} word types, {record["characters"]} characters, {record["facts"]} facts about them.
Entropies and mean lengths are exact, depths are means over sampled stories:

{table(["difficulty", "words a story", "nats a story", "nats a word", "mean depth"], worlds)}

{machine(record, "bench/corpus.py")}
"""


def widgets_section(record: dict) -> str:
    rows = [
        [
            row["pre_tokenizer"],
            row["tie_break"],
            row["what"],
            f"{row['median_ms']} ms",
            f"{row['p90_ms']} ms",
            f"{row['max_ms']} ms",
            within_budget(row, record["budget_ms"]),
        ]
        for row in record["rows"]
    ]
    return f"""## The figure BPEMerges

A text of {three(record["characters"])} characters.
The budget for one step is {three(record["budget_ms"])} ms, a frame at 60 frames a second:
met if the longest stays within it.
A *step* and a step *back* are timed until their layout is done, and so are a *jump* to the other end and a typed *key*.
*Held* is the longest that learning anew, after a pause in the typing, holds the page; what is under 50 ms counts as 0.
*Cpu* is a step's processor time on average, which other programs hardly touch;
*cpu all* adds all else that the page's main thread does for it, painting without a graphics card included.

{table(["words by", "ties to", "what", "median", "90th percentile", "longest", "budget"], rows)}

{machine(record, "bench/widgets.py")}
"""


def within_budget(row: dict, budget: float) -> str:
    """Whether all of a step's times are within the budget, or how many; a jump and the like have no budget."""
    if row["what"] not in ("step", "back", "key", "cpu"):
        return "–"
    shares = {"max_ms": "met", "p90_ms": "missed, 9 of 10 within", "median_ms": "missed, half within"}
    return next((words for key, words in shares.items() if row[key] <= budget), "missed by most")


def site_section(record: dict) -> str:
    rows = [
        [name, f"{three(row['bytes'] / 1000)} kB", row["requests"], f"{row['first']} ms", f"{row['largest']} ms"]
        for name, row in record["median"].items()
    ]
    ratio = record["ratio"]
    rows.append(["ratio", ratio["bytes"], ratio["requests"], ratio["first"], ratio["largest"]])
    return f"""## A page's weight

All that the Tokenization chapter loads before the reader touches anything, compressed with gzip.
Beside it, the same content built by an untouched Jupyter Book {record["versions"]["jupyter-book"]},
its files from other hosts counted from the npm packages of the same versions.
Medians of {record["rounds"]} visits over a slow connection ({record["network"]} a round trip),
with the processor slowed down {record["cpu_slowdown"]} times.

{table(["page", "bytes", "requests", "first contentful paint", "largest contentful paint"], rows)}

{machine(record, "bench/site.py")}
"""


def compared(row: dict) -> str:
    """The peers' figures, each with how many times as fast ours is."""
    return "; ".join(f"{name} {three(value)} ({row['llmlib'] / value:.2f}x)" for name, value in row["peers"].items())


def verdict(row: dict) -> str:
    return f"{row['target']}: {'met' if row['met'] else 'missed'}" if row["target"] else "–"


def precision_of_peak(row: dict) -> str:
    return row.get("peak_precision", "float32")  # older records set both precisions against this one


def needed(row: dict) -> float | None:
    """The share of the peak that a row's target asks of our matrix products; None where the record cannot say.

    The times faster, times the reference's tokens a second, times the operations of a token, over the peak.
    """
    target = re.fullmatch(r">= ([\d.]+)x (.+)", row["target"])
    if target is None or precision_of_peak(row) not in row["what"]:
        return None
    flops_per_token = row["flops_per_s"] / row["llmlib"]
    return float(target[1]) * row["peers"][target[2]] * flops_per_token / row["peak_flops_per_s"]


def what_targets_ask(rows: list[dict]) -> str:
    """In words, row by row; and where the whole machine, or nearly, would not do."""
    asked = {
        f"{row['what'].replace(',', ' in')} with {threads(row['threads'])}": share
        for row in rows
        if (share := needed(row))
    }
    if not asked:
        return ""
    shares = "; ".join(f"{share:.0%} to {what}" for what, share in asked.items())
    lines = [
        "The targets, too, can be set against that speed, to which the reference may come close.",
        f"They ask for {shares}.",
    ]
    for what, share in asked.items():
        if share > 1:
            lines.append(f"To {what} as fast as that is more than this machine can do.")
        elif share > 0.9:
            lines.append(
                f"To {what} as fast as that would leave {1 - share:.0%} of a step for all that is no matrix product."
            )
    return "\n".join(lines)


def threads(n: int) -> str:
    return f"{n} thread{'s' if n > 1 else ''}"


def model_section(record: dict) -> str:
    rows = [
        [
            row["what"],
            row["threads"],
            f"{three(row['llmlib'])} {row['unit']}",
            compared(row),
            f"{row['flops_per_s'] / row['peak_flops_per_s']:.0%} of {three(row['peak_flops_per_s'] / 1e9)} GFLOP/s in "
            f"{precision_of_peak(row)}",
            verdict(row),
        ]
        for row in record["rows"]
    ]
    versions = ", ".join(f"{name} {version}" for name, version in record["packages"].items())
    mixed = any(precision_of_peak(row) not in row["what"] for row in record["rows"])
    above = (
        "Steps in bfloat16 are set against float32's speed, too: theirs is higher, so they can pass 100%.\n"
        if mixed
        else ""
    )
    return f"""## Training

Models of one shape in one loop, {three(record["tokens_a_step"])} tokens a step: ours, and `LlamaForCausalLM`.
In brackets, how many times as fast ours is.
The last share is what our model's matrix products reach of the speed of one large product, measured in the same run.
{above}
{table(["what", "threads", "llmlib", "reference, same run", "matrix products", "target"], rows)}

{what_targets_ask(record["rows"])}

{versions}. {machine(record, "bench/model.py")}
"""


def bandwidth(record: dict) -> float:
    """Bytes a second that lie behind the table's limit: its tokens a second times the bytes of a step in mid-text."""
    row = next(row for row in record["rows"] if "limit" in row["peers"])
    size, n_tokens, prompt = re.fullmatch(r"greedy, (\w+), (\d+) tokens after (\d+)", row["what"]).groups()
    points = record["lengths"][size]
    bytes_at_0 = points[0]["bytes"] - points[0]["length"] * bytes_per_position(points)
    return row["peers"]["limit"] * (bytes_at_0 + (int(prompt) + int(n_tokens) // 2) * bytes_per_position(points))


def bytes_per_position(points: list[dict]) -> float:
    """What each position in the cache adds to a step's bytes."""
    return (points[-1]["bytes"] - points[0]["bytes"]) / (points[-1]["length"] - points[0]["length"])


KNEE = 0.2  # the gain below which twice as many texts are not worth their wait


def knee(points: list[dict]) -> dict:
    """The first of the batches, each twice the one before, from which on every doubling gains less than KNEE."""
    steep = [
        i for i, (a, b) in enumerate(pairwise(points)) if b["tokens_per_second"] >= (1 + KNEE) * a["tokens_per_second"]
    ]
    return points[steep[-1] + 1 if steep else 0]


def speed_by_length(record: dict) -> str:
    """What a position in the cache costs, by the fitted lines and by the bytes that it adds."""
    speed, rows = bandwidth(record), []
    for name, fit in record["length_fits"].items():
        each, slope = bytes_per_position(record["lengths"][name]), fit["seconds_per_position"]
        rows.append([
            name,
            f"{256 * slope / fit['seconds_at_0']:.0%}",
            f"{three(1e9 * slope)} ns",
            f"{three(1e9 * each / speed)} ns for {three(each)} bytes",
            f"{slope * speed / each:.1f}x",
        ])  # fmt: skip
    head = ["model", "the first 256 positions add", "each position, fitted", "by theory", "ratio"]
    return (
        "Dashed is the theory: the bytes of a step, weights and cache, over the bandwidth behind the limit above, "
        f"{three(speed / 1e9)} GB/s.\n"
        "It is the least that reading can take, and a line; the measured times are nearly flat where the cache is "
        "small beside the weights, and then rise on a steeper line.\n\n"
        f"{table(head, rows)}"
    )


def knees(record: dict) -> str:
    """In words: where the throughput bends."""
    found = {name: knee(points) for name, points in record["batches"].items()}
    each = "; ".join(
        f"{point['batch']} texts for the {name} model, {three(point['tokens_per_second'])} tokens/s"
        for name, point in found.items()
    )
    return (
        f"We call knee the first batch from which on every doubling gains less than {KNEE:.0%} (ringed on the right): "
        f"{each}."
    )


def generation_section(record: dict) -> str:
    rows = [
        [row["what"], f"{three(row['llmlib'])} {row['unit']}", compared(row), verdict(row)] for row in record["rows"]
    ]
    colours = dict(zip(record["lengths"], [plots.FOCUS, plots.NEW], strict=False))
    figure, (left, right) = plots.figure(2, figsize=(6.5, 3.2))
    for name, points in record["lengths"].items():
        left.plot([p["length"] for p in points], [1e3 * p["seconds"] for p in points], "o-", color=colours[name], ms=3)
        left.text(
            points[-1]["length"], 1e3 * points[-1]["seconds"], f"{name} ", color=colours[name], ha="right", va="bottom"
        )
        theory = [1e3 * p["bytes"] / bandwidth(record) for p in points]
        left.plot([p["length"] for p in points], theory, "--", color=colours[name], lw=1)
    left.set(xlabel="positions in the cache", ylabel="milliseconds a token", ylim=(0, None))
    for name, points in record["batches"].items():
        right.loglog(
            [p["batch"] for p in points], [p["tokens_per_second"] for p in points], "o-", color=colours[name], ms=3
        )
        right.text(
            points[-1]["batch"],
            points[-1]["tokens_per_second"],
            f"{name} ",
            color=colours[name],
            ha="right",
            va="bottom",
        )
        bend = knee(points)
        right.plot(bend["batch"], bend["tokens_per_second"], "o", ms=9, mfc="none", color=plots.INK)
    right.set(xlabel="texts at once (log scale)", ylabel="tokens/s, all together (log scale)")
    figure.tight_layout()
    description = (
        "Left: milliseconds a token against the positions in the cache, nearly flat at first, then rising on a line, "
        "above the dashed line of the bytes over the bandwidth. "
        "Right: tokens a second of all texts together against how many are written at once, rising until a knee, "
        "which is ringed."
    )
    return f"""## Writing

One text after a prompt of 64 tokens, greedily and with beams, by models of two sizes with random weights, in float32.
In brackets, how many times as fast ours is.
The limit is the speed at which this machine's memory can deliver the weights.

{table(["what", "llmlib", "reference, same run", "target"], rows)}

{embed(figure, description)}

{speed_by_length(record)}

{knees(record)}

{machine(record, "bench/generation.py")}
"""


def parallel_section(record: dict) -> str:
    rows = [
        [
            row["what"],
            row["processes"],
            f"{three(1e3 * row['llmlib'])} ms",
            "; ".join(
                f"{name} {three(1e3 * value)} ({row['llmlib'] / value:.2f}x)" for name, value in row["peers"].items()
            ),
            verdict(row),
        ]
        for row in record["rows"]
    ]
    bubbles = [
        [row["schedule"], *(f"{100 * row[key]:.1f}%" for key in ("predicted", "slept", "computed"))]
        for row in record["bubbles"]
    ]
    serving = [[line["replicas"], three(line["texts_per_s"])] for line in record["serving"]]
    figure, axes = plots.figure()
    for (processes, points), colour in zip(record["all_reduce"].items(), [plots.FOCUS, plots.NEW], strict=True):
        axes.loglog([p["bytes"] for p in points], [1e3 * p["seconds"] for p in points], "o-", color=colour, ms=3)
        last = points[-1]
        plots.label(axes, f"{processes} processes", last["bytes"], 1e3 * last["seconds"], colour)
    axes.set(xlabel="bytes that are summed (log scale)", ylabel="milliseconds (log scale)")
    description = "Milliseconds of an all-reduce against its bytes: flat where they are few, then in proportion."
    sleep = " + ".join(f"{1e3 * seconds:g}" for seconds in record["sleep"])
    return f"""## Many processes

All processes are on this one machine, and talk through gloo; torch's own engines do the same work in turns with ours.
The model has {three(record["parameters"] / 1e6)}M parameters. In brackets, how many times as long ours takes.

{table(["what", "processes", "llmlib", "torch's own, same run", "target"], rows)}

The idle share of {record["stages"]} stages with {record["micro_batches"]} micro-batches:
as predicted, as measured with stages that sleep ({sleep} ms forward, to the input, to the weights),
and as measured with stages that compute, which have to share this machine's cores.
Sleeping stages are to come within 10 percentage points of the prediction:
{"all do" if all(row["met"] for row in record["bubbles"]) else "not all do"}.

{table(["schedule", "predicted", "stages that sleep", "stages that compute"], bubbles)}

{embed(figure, description)}

Texts of 60 tokens that the book's own model writes, spread over replicas:

{table(["replicas", "texts a second"], serving)}

torch {record["packages"]["torch"]}. {machine(record, "bench/parallel.py")}
"""


def page_model_section(record: dict) -> str:
    targets, rows = record["targets"], record["rows"]

    def met(value: float, limit: float, least: bool) -> str:
        return f"{'>=' if least else '<='} {three(limit)}: {'met' if (value >= limit) is least else 'missed'}"

    lines = []
    for size, row in rows.items():
        name = f"{size} model, {three(row['parameters'] / 1e6)} million parameters"
        ours, theirs = row["tokens_per_second"], row["onnxruntime_web_per_second"]
        asked = met(ours, targets["tokens_per_second_3.1M"], True) if size == "3.1M" else "–"
        best = f"{three(row['best_per_second'])}; {three(row['onnxruntime_web_best_per_second'])}"
        lines.append([name, "tokens/s", three(ours), f"{three(theirs)} ({ours / theirs:.2f}x)", best, asked])
        lines.append(
            [name, "first token, ms", three(row["first_ms"]), "", "", met(row["first_ms"], targets["first_ms"], False)]
        )
        blocked = row["blocked_ms"]
        lines.append([name, "page blocked, ms", three(blocked), "", "", met(blocked, targets["blocked_ms"], False)])
    head = ["what", "unit", "llmlib", "onnxruntime-web (ratio)", "best rounds: ours; theirs", "target"]
    shipped = f"{three(record['shipped_gzip_bytes'] / 2**20)} MiB"
    return f"""## The model in the page

A figure's model, in plain JavaScript in a worker, beside onnxruntime-web {record["onnxruntime_web"]}, which is compiled
with SIMD instructions, on the same weights in the same Chromium {record["chromium"]}.
Both write the same {record["tokens"]} tokens after {record["prompt"]}, with one thread, in turns: medians of
{record["rounds"]} rounds, and the best round of each.
The first token is counted from when the weights are in.
The page is blocked while one task of its main thread lasts, 0 if none takes 50 ms.
Weights and tokenizer come to {shipped} compressed; onnxruntime-web's own code alone has 11 MB.

{table(head, lines)}

{machine(record, "bench/page_model.py")}
"""


def curriculum_section(record: dict) -> str:
    rows = [
        [row["what"], f"{three(1e9 * row['seconds'])} ns", "met" if row["seconds"] <= record["limit"] else "missed"]
        for row in record["rows"]
    ]
    rows.append(["`numpy`'s `choice` with the same weights", f"{three(1e9 * record['choice_seconds'])} ns", "–"])
    n = record["documents"]
    return f"""## Drawing from a curriculum's window

{table(["what", "a draw", f"limit {three(1e6 * record['limit'])} µs"], rows)}

{three(n / 1e6)} million documents, drawn in batches of {record["batch"]:,}.
Sorting them by difficulty takes {three(record["sorting_seconds"])} s, once.
The order takes {three(record["bytes"] / n)} bytes a document, and {three(record["bytes_with_ties"] / n)} with the ties
of the last row but one.

{machine(record, "bench/curriculum.py")}
"""


def scaling_section(record: dict) -> str:
    n = record["resamples"]
    rows = [
        ["one fit, from 27 starts", f"{three(record['fit_s'])} s", "–"],
        [f"{n} resamples, all at once", f"{three(record['bootstrap_s'])} s", f"{record['budget_s']} s: {met(record)}"],
        [f"{n} resamples, scipy's L-BFGS-B one by one (from a few)", f"{three(record['scipy_s'])} s", "–"],
    ]
    return f"""## Fitting a scaling law

Five constants fitted to {record["runs"]} runs, and again to {n} resamples of them, on one core.

{table(["what", "processor time", "target"], rows)}

{machine(record, "bench/scaling.py")}
"""


def met(record: dict) -> str:
    return "met" if record["met"] else "missed"


def machine(record: dict, script: str) -> str:
    return f"*Measured by `{script}` on {record['date']}: {record['machine']}, Python {record['python']}.*"


def embed(figure, description: str) -> str:
    return f"```{{raw}} html\n{plots.show(figure, description).html}\n```"


SECTIONS = {
    "tokenizer": tokenizer_section,
    "corpus": corpus_section,
    "model": model_section,
    "generation": generation_section,
    "parallel": parallel_section,
    "page_model": page_model_section,
    "curriculum": curriculum_section,
    "scaling": scaling_section,
    "widgets": widgets_section,
    "site": site_section,
}


def page() -> str:
    sections = [section(record) for name, section in SECTIONS.items() if (record := records.read(name))]
    return "\n".join([HEAD, *sections])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"-- Wrote {PAGE.relative_to(ROOT)}")
