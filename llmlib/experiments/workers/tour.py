"""What the chapter on parallelism shows, many things in each launch: functions for `run_workers`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from llmlib.experiments.workers.matrices import all_reduce_seconds, both_ways
from llmlib.experiments.workers.tasks import Run, Task
from llmlib.model import Transformer
from llmlib.parallel import g_sum, gather_columns, shard_transformer
from llmlib.parallel.schedules import Order, one_f_one_b
from llmlib.training import Batch, loss_sum


def two_layers(x: Tensor, w: Tensor, v: Tensor) -> dict[str, Tensor]:
    """relu(X W) V with W cut by columns and V by rows: the whole result after one sum, and nothing sent in between."""
    rank, n = dist.get_rank(), dist.get_world_size()
    hidden = torch.relu(x @ w.chunk(n, dim=1)[rank])
    return {"hidden": hidden, "result": g_sum(hidden @ v.chunk(n, dim=0)[rank])}


def two_layers_gathered(x: Tensor, w: Tensor, v: Tensor) -> Tensor:
    """The same with both cut by columns: the hidden numbers are gathered, and so is the result."""
    rank, n = dist.get_rank(), dist.get_world_size()
    hidden = gather_columns(torch.relu(x @ w.chunk(n, dim=1)[rank]))
    return gather_columns(hidden @ v.chunk(n, dim=1)[rank])


def counted(work: Callable[[], Any]) -> tuple[Any, int]:
    """What `work` returns, and how many all-reduces it made."""
    calls, original = [], dist.all_reduce
    dist.all_reduce = lambda *args, **kwargs: (calls.append(1), original(*args, **kwargs))[1]
    try:
        return work(), len(calls)
    finally:
        dist.all_reduce = original


def tensor_tour(
    x: Tensor, w: Tensor, v: Tensor, model: Transformer, ids: list[int], n_tokens: int, sizes: list[int]
) -> dict[str, Any]:
    """A product both ways, two layers, a finished model that is cut and writes, and the time of all-reduces.

    `model` writes `n_tokens` tokens after `ids`, the most probable each; `sizes` are numbers (float32) to be summed.
    """
    from llmlib.generation import generate

    report: dict[str, Any] = {"matrices": both_ways(x, w), "layers": two_layers(x, w, v)}
    report["gathered"] = two_layers_gathered(x, w, v)
    shard_transformer(model)
    report["weights"] = sum(parameter.numel() for parameter in model.parameters())
    report["kv_bytes"] = model.config.kv_bytes()
    with torch.inference_mode():
        _, report["all_reduces"] = counted(lambda: model(torch.tensor([ids])))
    report["text"] = generate(model, [ids], n_tokens)[0].tokens
    report["seconds"] = all_reduce_seconds(sizes)
    return report


def pipeline_tour(
    orders: dict[str, Order], seconds: tuple[float, float, float], model: Transformer, batch: Batch, requests: Tensor
) -> dict[str, Any]:
    """Each order done by stages that sleep, then, if it goes backward, by stages that compute; and requests answered.

    `seconds` are the times of a stage forward, backward to the input and to the weights. `batch` is one step of
    training; `requests` are prompts, (B, T), answered all in one group, then in as many groups as there are stages; the
    first one also alone, read in as many parts as there are stages.
    """
    from llmlib.parallel.pipeline import Pipeline, gathered, measured_timeline, slept_timeline
    from llmlib.parallel.pipelined_inference import pipelined_answers

    report: dict[str, Any] = {"slept": {}, "computed": {}, "losses": {}, "gradients": {}, "answers": {}}
    for name, order in orders.items():
        report["slept"][name] = slept_timeline(order, *seconds)
        if all(action.kind == "F" for action in order[0]):
            continue  # nothing to learn from
        pipeline = Pipeline(model, order)
        for _ in range(2):  # the first is warmer for the second
            pipeline.pieces.zero_grad()
            report["losses"][name] = pipeline.add_gradients(batch.inputs, batch.targets)
        report["computed"][name] = measured_timeline(pipeline.spans, pipeline.most_kept)
        parts = gathered(pipeline.own_gradients())
        if dist.get_rank() == 0:  # one copy of them is enough to be sent to the caller
            report["gradients"][name] = {key: value for part in parts for key, value in part.items()}
    stages = dist.get_world_size()
    for groups in (1, stages):
        report["answers"][groups] = pipelined_answers(model, requests.chunk(groups), 8)
    report["in parts"] = pipelined_answers(model, [requests[:1]], 8, parts=stages)
    return report


def data_tour(
    model: Transformer, batch: Batch, prompts: list[list[int]], n_tokens: int, nap: float, counts: list[int]
) -> dict[str, Any]:
    """One step of training with the batch's rows shared out, then requests shared out to so many replicas.

    `loss` and `before` (the last norm's gradient) are of this replica's rows, `after` are all gradients averaged. Under
    `slept` and `wrote`: replicas -> requests per second, if an answer takes `nap` seconds of sleep, and if the model
    writes `n_tokens` after each prompt.
    """
    from llmlib.experiments.workers.replicas import own_share_of_loss, serve_texts
    from llmlib.parallel import average_in_buckets, requests_per_second, serve_replicas

    loss = own_share_of_loss(model, batch, loss_sum)
    loss.backward()
    report: dict[str, Any] = {"loss": loss.item(), "before": model.norm.weight.grad.clone()}
    average_in_buckets(model.parameters())
    report["after"] = {name: parameter.grad for name, parameter in model.named_parameters()}
    naps = {count: serve_replicas(prompts, lambda prompt: time.sleep(nap), count) for count in counts}
    texts = serve_texts(model, prompts, n_tokens, counts)
    report["slept"] = {count: requests_per_second(served) for count, served in naps.items()}
    report["wrote"] = {count: requests_per_second(served) for count, served in texts.items()}
    report["answers"] = {count: [one.answer for one in served] for count, served in texts.items()}
    return report


def here() -> str:
    """Where and when something is measured now, for a caption: "on 2 cores of ..., 2026-11-25"."""
    from datetime import date

    from llmlib.experiments.describe_story_model import hardware

    return f"on {hardware()}, {date.today().isoformat()}"


def equalities(kind: str, task: Task) -> dict[str, tuple[float, float]]:
    """Way of training -> the greatest difference of a loss and of a gradient's entry from those of one process.

    `kind` is "tensor", "pipeline", "data", or, on eight processes, "cube": all three at once.
    """
    from llmlib.experiments.workers import replicas, training

    n, micro_batches = dist.get_world_size(), task.rows // 2
    ways: dict[str, dict[str, Callable[[], Run]]] = {
        "tensor": {
            "by hand": lambda: training.train_tensor(task),
            "torch's parallelize_module": lambda: training.train_dtensor(task),
        },
        "pipeline": {
            "1F1B by hand": lambda: training.train_pipeline(task, one_f_one_b(n, micro_batches))[0],
            "1F1B by torch's pipelining": lambda: training.train_torch_pipeline(task, "1F1B", micro_batches),
        },
        "data": {
            "by hand": lambda: replicas.train_data(task),
            "torch's DistributedDataParallel": lambda: replicas.train_ddp(task),
            "ZeRO-1 by hand": lambda: replicas.train_zero(task)[0],
            "torch's fully_shard": lambda: replicas.train_fully_sharded(task),
        },
        "cube": {"2 x 2 x 2": lambda: replicas.train_cube(task, one_f_one_b(2, micro_batches // 2), 2, 2)},
    }
    alone = training.train_alone(task)
    return {name: train().difference(alone) for name, train in ways[kind].items()}
