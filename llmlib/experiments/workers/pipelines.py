"""Pipelines whose stages sleep or compute, for timelines to be held against the predicted ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llmlib.model import ModelConfig, Transformer
from llmlib.parallel import Pipeline, measured_timeline, slept_timeline
from llmlib.parallel.schedules import Order, Timeline


def slept(orders: dict[str, Order], seconds: Sequence[float]) -> dict[str, Timeline]:
    """Each order done by stages that sleep so many seconds forward, to the input and to the weights."""
    return {name: slept_timeline(order, *seconds) for name, order in orders.items()}


def computed(
    config: ModelConfig, orders: dict[str, Order], rows: int, steps: int = 3
) -> dict[str, list[tuple[float, Timeline]]]:
    """Each order done by a model's stages, for some steps on the same batch: the loss and the timeline of each step."""
    model = Transformer(config, torch.Generator().manual_seed(0))
    ids = torch.randint(config.vocab_size, (rows, config.context + 1), generator=torch.Generator().manual_seed(1))
    result = {}
    for name, order in orders.items():
        pipeline, measured = Pipeline(model, order), []
        for _ in range(steps):
            pipeline.pieces.zero_grad()
            loss = pipeline.add_gradients(ids[:, :-1], ids[:, 1:])
            measured.append((loss, measured_timeline(pipeline.spans, pipeline.most_kept)))
        result[name] = measured
    return result


def stage_seconds(line: Timeline) -> dict[str, float]:
    """The mean time of each kind of action on a stage, from a measured timeline: what a prediction is made from."""
    times: dict[str, list[float]] = {}
    for span in (span for spans in line.spans for span in spans):
        times.setdefault(span.action.kind, []).append(span.end - span.start)
    return {kind: sum(values) / len(values) for kind, values in times.items()}
