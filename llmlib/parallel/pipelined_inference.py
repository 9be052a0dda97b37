"""Answers from a pipeline: requests in groups, so that while one stage works on a group, the others work on others.

A lone request keeps one stage busy at a time; with as many groups as stages, all of them are. Source: the micro-batches
of Huang et al. 2018 (arXiv 1811.06965), here without a way back.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from llmlib.model import Transformer
from llmlib.parallel.pieces import GrowingCache, Piece
from llmlib.parallel.pipeline import Mail, common_start, gathered
from llmlib.parallel.schedules import Action, Span, Timeline
from llmlib.parallel.tensor import Group


def check_requests(requests: Sequence[Tensor], max_tokens: int, context: int) -> None:
    """Raise ValueError unless there are groups of prompts, (b, T) whole numbers each, that fit with their answers."""
    if not requests:
        raise ValueError("There is no request; give a list of groups, each a tensor of equally long prompts, (b, T).")
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens!r}; it has to be a whole number of at least 1.")
    for ids in requests:
        if ids.dim() != 2 or ids.is_floating_point() or 0 in ids.shape:
            raise ValueError(
                f"A group of requests is whole numbers, (b, T), neither of them 0; one is {ids.dtype}, "
                f"{tuple(ids.shape)}. Put prompts of equal length into a group."
            )
        if ids.size(1) + max_tokens - 1 > context:
            raise ValueError(
                f"A prompt of {ids.size(1)} tokens and {max_tokens} new ones do not fit a context of {context}."
            )


@torch.no_grad()
def pipelined_answers(
    model: Transformer, requests: Sequence[Tensor], max_tokens: int, group: Group | None = None
) -> tuple[list[Tensor], Timeline]:
    """What the model writes after each prompt, greedily, and when each stage worked; on every process.

    `requests` are groups of prompts of equal length, (b, T) each; the answers are (b, max_tokens) each. A group's next
    token needs its last one, so the first stage takes up a group again when the last stage has chosen: with as many
    groups as stages no stage has to wait. Each stage keeps a cache of its own layers for each group.

    Raises ValueError for more stages than layers, for no requests, and for those that do not fit.
    """
    check_requests(requests, max_tokens, model.config.context)
    stage, stages = dist.get_rank(group), dist.get_world_size(group)
    piece, width = Piece(model, stage, stages), model.config.width
    caches = [GrowingCache(piece.end - 1) for _ in requests]
    answers: list[list[Tensor]] = [[] for _ in requests]
    mail, spans, like = Mail(group, group, 1), [], model.norm.weight
    origin = common_start(group, like)
    for turn in range(max_tokens):
        for i, prompts in enumerate(requests):
            tag = turn * len(requests) + i
            T = 1 if turn else prompts.size(1)
            if piece.first:
                x = prompts
                if turn:  # the tokens that the last stage chose
                    x = mail.receive((len(prompts), 1), prompts, stages - 1, "B", tag - len(requests), 0)
            else:
                x = mail.receive((len(prompts), T, width), like, stage - 1, "F", tag, 0)
            start = time.perf_counter() - origin
            y = piece(x, caches[i])
            if piece.last:
                chosen = piece.head(y[:, -1]).argmax(dim=1, keepdim=True)  # (b, 1)
                answers[i].append(chosen)
            spans.append(Span(stage, Action("F", i), start, time.perf_counter() - origin))
            if not piece.last:
                mail.send(y, stage + 1, "F", tag, 0)
            elif turn < max_tokens - 1:
                mail.send(chosen, 0, "B", tag, 0)
    mail.close()
    written = [torch.cat(parts, dim=1) for parts in answers] if piece.last else None
    all_spans = gathered(spans, group)
    return gathered(written, group)[-1], Timeline(all_spans, [float(len(requests))] * stages)
