"""Speed of `llmlib.parallel` beside torch's own engines: python bench/parallel.py [--quick] [--write].

Contenders work in turns on the same processes (a round each, then the next), and medians are compared, so that a busy
machine disturbs all alike. What is measured is told by the functions below: each runs on several processes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import records

from llmlib.parallel import run_workers, schedules

# torch is imported where it is used: torch's own `spawn` imports this file again in each process that it starts.
SLEEP = (0.03, 0.03, 0.03)  # seconds of a sleeping stage: forward, to the input, to the weights
STAGES, MICRO_BATCHES = 4, 8


def config(context: int = 256):
    from llmlib.model import ModelConfig

    return ModelConfig(vocab_size=2048, context=context, width=384, layers=5, heads=6)  # 10M parameters


def interleaved(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender in each round; all processes begin each together."""
    import torch.distributed as dist

    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, work in contenders.items():
            dist.barrier()
            begin = time.perf_counter()
            work()
            dist.barrier()
            if turn:  # the first is to warm up
                times[name].append(time.perf_counter() - begin)
    return times


def data_parallel_steps(rows: int, length: int, rounds: int) -> dict[str, list[float]]:
    """Forward, backward and the mean gradient of a model of 10M parameters, in every way."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    from llmlib.model import Transformer
    from llmlib.parallel import ModelLoss, OverlappedAverage, average_each, average_in_buckets

    ids = torch.randint(2048, (rows, length + 1), generator=torch.Generator().manual_seed(0))

    def contender(finish: Callable[[Transformer], Callable[[], None]], wrap=lambda loss: loss) -> Callable[[], None]:
        model = Transformer(config(), torch.Generator().manual_seed(0))
        loss, average = wrap(ModelLoss(model)), finish(model)

        def step() -> None:
            model.zero_grad()
            (loss(ids[:, :-1], ids[:, 1:]) / (rows * length)).backward()
            average()

        return step

    return interleaved(
        {
            "each": contender(lambda model: lambda: average_each(model.parameters())),
            "buckets": contender(lambda model: lambda: average_in_buckets(model.parameters())),
            "overlapped": contender(lambda model: OverlappedAverage(model.parameters()).finish),
            "torch DDP": contender(lambda model: lambda: None, DistributedDataParallel),
        },
        rounds,
    )


def tensor_parallel_forward(shapes: list[tuple[int, int]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """A forward pass without gradients of the same model, cut by hand and by DTensor, for some shapes (B, T)."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh

    from llmlib.model import Transformer
    from llmlib.parallel import dtensor_transformer, shard_transformer

    def model() -> Transformer:
        return Transformer(config(), torch.Generator().manual_seed(0))

    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    cut = {"by hand": shard_transformer(model()), "DTensor": dtensor_transformer(model(), mesh)}
    result = {}
    for B, T in shapes:
        ids = torch.randint(2048, (B, T), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            torch.testing.assert_close(cut["by hand"](ids), cut["DTensor"](ids))
            work = {name: lambda contender=contender, ids=ids: contender(ids) for name, contender in cut.items()}
            result[f"{B} x {T}"] = interleaved(work, rounds)
    return result


def meet() -> None:
    """What both launchers start: one small sum over all processes."""
    import torch

    torch.distributed.all_reduce(torch.zeros(1))


def bare(rank: int, processes: int, folder: str) -> None:
    """What a worker of torch's `spawn` has to do to come as far as one of `run_workers`."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=processes)
    meet()
    dist.destroy_process_group()


def launches(processes: int, rounds: int) -> dict[str, list[float]]:
    """Seconds from the call to the end, of `run_workers` and of `torch.multiprocessing.spawn`."""
    from torch.multiprocessing import spawn

    def ours() -> None:
        run_workers(meet, processes)

    def theirs() -> None:
        with tempfile.TemporaryDirectory() as folder:
            spawn(bare, (processes, folder), processes)

    times: dict[str, list[float]] = {"run_workers": [], "torch spawn": []}
    for _ in range(rounds):
        for name, work in zip(times, (ours, theirs), strict=True):
            begin = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - begin)
    return times


def medians(times: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in times.items()}


def row(what: str, processes: int, ours: float, peers: dict[str, float], target: str, met: bool | None) -> dict:
    return {"what": what, "processes": processes, "unit": "s", "llmlib": ours, "peers": peers,
            "target": target, "met": met}  # fmt: skip


def speed_rows(rounds: int) -> list[dict]:
    """Each of ours beside torch's own."""
    rows = []
    for shape in ((2, 64),):
        found = medians(run_workers(data_parallel_steps, 2, *shape, rounds, seconds=900)[0])
        theirs = found.pop("torch DDP")
        for name, seconds in found.items():
            best = name == "overlapped"
            rows.append(
                row(
                    f"gradients of {shape[0]} x {shape[1]} tokens each, averaged: {name}",
                    2,
                    seconds,
                    {"torch DDP": theirs},
                    "<= 1.2x torch's" if best else "",
                    bool(seconds <= 1.2 * theirs) if best else None,
                )
            )
    forward = run_workers(tensor_parallel_forward, 2, [(1, 1), (4, 64), (4, 256)], rounds, seconds=900)[0]
    for shape, times in forward.items():
        found = medians(times)
        ours, theirs = found["by hand"], found["DTensor"]
        met = bool(ours <= 1.2 * theirs)
        rows.append(
            row(f"forward pass cut in two, {shape} tokens", 2, ours, {"DTensor": theirs}, "<= 1.2x torch's", met)
        )
    for processes in (2, 4):
        found = medians(launches(processes, max(3, rounds // 3)))
        ours, theirs = found["run_workers"], found["torch spawn"]
        met = bool(ours <= theirs + 0.3)
        rows.append(row("start, one sum, end", processes, ours, {"torch spawn": theirs}, "<= 0.3 s more", met))
    return rows


def bubble_rows() -> list[dict]:
    """Bubbles as predicted, with stages that sleep, and with stages that compute: the share of device time idle."""
    from llmlib.experiments.workers import pipelines
    from llmlib.model import ModelConfig

    orders = {
        "GPipe": schedules.gpipe(STAGES, MICRO_BATCHES),
        "1F1B": schedules.one_f_one_b(STAGES, MICRO_BATCHES),
        "interleaved 1F1B": schedules.interleaved(STAGES, MICRO_BATCHES, 2),
        "ZB-H1": schedules.zb_h1(STAGES, MICRO_BATCHES),
    }
    slept = run_workers(pipelines.slept, STAGES, orders, SLEEP)[0]
    size = ModelConfig(vocab_size=512, context=128, width=128, layers=8, heads=4, tied=False)
    computed = run_workers(pipelines.computed, STAGES, size, orders, 2 * MICRO_BATCHES, 3, seconds=300)[0]
    rows = []
    for name, order in orders.items():
        predicted = schedules.timeline(order, *SLEEP).bubble_fraction
        rows.append({
            "schedule": name,
            "predicted": predicted,
            "slept": slept[name].bubble_fraction,
            "computed": statistics.median(line.bubble_fraction for _, line in computed[name]),
            "met": bool(abs(predicted - slept[name].bubble_fraction) <= 0.1),
        })  # fmt: skip
    return rows


def all_reduce_points(processes: int) -> list[dict]:
    from llmlib.experiments.workers import matrices

    counts = [1, 10**3, 10**4, 10**5, 10**6, 10**7]
    found = run_workers(matrices.all_reduce_seconds, processes, counts, 10, seconds=120)[0]
    return [{"bytes": 4 * count, "seconds": seconds} for count, seconds in found.items()]


def serving_rows() -> list[dict]:
    """Texts a second of the book's own model, by the number of replicas."""
    from llmlib.checkpoints import STORY_MODEL, load
    from llmlib.experiments.workers import replicas
    from llmlib.parallel import requests_per_second

    model, coder = load(STORY_MODEL)
    prompts = [coder.encode("Once")] * 12
    served = run_workers(replicas.serve_texts, 4, model, prompts, 60, [1, 2, 4], seconds=200)[0]
    return [{"replicas": count, "texts_per_s": requests_per_second(answers)} for count, answers in served.items()]


def show(report: dict) -> None:
    for line in report["rows"]:
        peers = ", ".join(f"{name} {value:.4f}" for name, value in line["peers"].items())
        said = {True: "met", False: "MISSED", None: ""}[line["met"]]
        what = f"{line['what']:<60} {line['processes']} processes"
        print(f"{what}  {line['llmlib']:.4f} s   {peers}   {line['target']} {said}")
    for line in report["bubbles"]:
        print(
            f"bubble of {line['schedule']:<18} predicted {line['predicted']:.3f}  slept {line['slept']:.3f}  "
            f"computed {line['computed']:.3f}  within 0.1: {'met' if line['met'] else 'MISSED'}"
        )
    for processes, points in report["all_reduce"].items():
        times = ", ".join(f"{point['bytes']} B {1e3 * point['seconds']:.3g} ms" for point in points)
        print(f"all-reduce, {processes} processes: {times}")
    for line in report["serving"]:
        print(f"{line['replicas']} replicas write {line['texts_per_s']:.2f} texts/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--write", action="store_true", help="write bench/results/parallel.json")
    arguments = parser.parse_args()
    report = {
        "packages": {"torch": importlib.metadata.version("torch")},
        "parameters": config().count_parameters(),
        "stages": STAGES,
        "micro_batches": MICRO_BATCHES,
        "sleep": SLEEP,
        "rows": speed_rows(4 if arguments.quick else 9),
        "bubbles": bubble_rows(),
        "all_reduce": {processes: all_reduce_points(processes) for processes in (2, 4)},
        "serving": serving_rows(),
    }
    show(report)
    if arguments.write:
        records.write("parallel", report)


if __name__ == "__main__":
    main()
