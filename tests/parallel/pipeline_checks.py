"""What four processes do, in one launch: pipelines, a mesh, and a model cut in four, all against one process."""

from dataclasses import replace

import torch
import torch.distributed as dist

from llmlib import parallel
from llmlib.experiments.workers import replicas, training
from llmlib.model import ModelConfig
from llmlib.parallel import schedules

UNTIED = ModelConfig(vocab_size=64, context=16, width=32, layers=4, heads=4, tied=False)


LONG = [torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6, 5]]), torch.tensor([[2, 7, 1, 8, 2, 8, 1, 8, 2, 8]])]


def lively_model(task):
    """An untied model with large weights, so that what it writes depends on where a token stands."""
    model = replace(task, config=UNTIED).model()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8 if weight.dim() == 2 else 1)
    return model


def everything(task, requests, max_tokens):
    """Tied weights by hand, in every schedule; untied ones by torch's engine; writing; what is refused."""
    half = [dist.new_group(ranks) for ranks in ([0, 1], [2, 3])][dist.get_rank() // 2]
    untied = replace(task, config=UNTIED)
    orders = {
        "gpipe": schedules.gpipe(4, 8),
        "1f1b": schedules.one_f_one_b(4, 8),
        "zb-h1": schedules.zb_h1(4, 8),
    }
    result = {name: training.train_pipeline(task, order) for name, order in orders.items()}
    result["interleaved"] = training.train_pipeline(task, schedules.interleaved(2, 4, 2), half)
    result["uneven"] = training.train_pipeline(task, schedules.gpipe(4, 3))
    result["torch"] = {name: training.train_torch_pipeline(untied, name, 4) for name in ("GPipe", "1F1B")}
    result["answers"] = parallel.pipelined_answers(lively_model(task), requests, max_tokens)
    result["in parts"] = [parallel.pipelined_answers(lively_model(task), LONG, max_tokens, parts=n) for n in (1, 4, 9)]
    result["refusals"] = refusals(task)
    result["data and tensor"] = replicas.train_mesh(task, 2, 2)
    result["data and pipeline"] = replicas.train_cube(task, schedules.one_f_one_b(2, 4), 2, 1)
    result["pipeline and tensor"] = replicas.train_cube(task, schedules.one_f_one_b(2, 4), 1, 2)
    result["tensor"] = training.train_tensor(task)
    return result


def refusals(task):
    said, model = [], task.model()
    pipeline = parallel.Pipeline(model, schedules.gpipe(4, 8))
    for refused in (
        lambda: parallel.Pipeline(model, schedules.interleaved(4, 8, 2)),
        lambda: parallel.Pipeline(model, schedules.gpipe(3, 8)),
        lambda: pipeline.add_gradients(torch.zeros(7, 4, dtype=torch.long), torch.zeros(7, 4, dtype=torch.long)),
        lambda: parallel.pipelined_answers(model, [], 3),
        lambda: parallel.pipelined_answers(model, [torch.zeros(1, 3, dtype=torch.long)], 15),
        lambda: parallel.pipelined_answers(model, [torch.zeros(3)], 3),
        lambda: parallel.pipelined_answers(model, [torch.zeros(1, 3, dtype=torch.long)], 0),
        lambda: parallel.pipelined_answers(model, [torch.zeros(1, 3, dtype=torch.long)], 1, parts=4),
    ):
        try:
            refused()
        except ValueError as error:
            said.append(str(error))
    return said
