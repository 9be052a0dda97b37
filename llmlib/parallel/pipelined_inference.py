"""Answers from a pipeline: requests in groups, so that while one stage works on a group, the others work on others.

A lone request that writes keeps one stage busy at a time; with as many groups as stages, all of them are. While prompts
are read, runs of tokens of one and the same prompt do it, too. Source: the micro-batches of Huang et al. 2018 (arXiv
1811.06965), here without a way back.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from llmlib.model import Transformer
from llmlib.parallel.pieces import GrowingCache, Piece
from llmlib.parallel.pipeline import Mail, clock, common_start, gathered, way_back
from llmlib.parallel.schedules import Action, Span, Timeline
from llmlib.parallel.tensor import Group


def check_requests(requests: Sequence[Tensor], max_tokens: int, context: int, parts: int = 1) -> None:
    """Raise ValueError unless there are groups of prompts, (b, T) whole numbers each, that fit with their answers."""
    if not requests:
        raise ValueError("There is no request; give a list of groups, each a tensor of equally long prompts, (b, T).")
    for name, value in (("max_tokens", max_tokens), ("parts", parts)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; it has to be a whole number of at least 1.")
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
        if ids.size(1) < parts:
            raise ValueError(
                f"A prompt of {ids.size(1)} tokens cannot be cut into {parts} parts, for a part has at least one token."
            )


@torch.no_grad()
def pipelined_answers(
    model: Transformer, requests: Sequence[Tensor], max_tokens: int, group: Group | None = None, parts: int = 1
) -> tuple[list[Tensor], Timeline]:
    """What the model writes after each prompt, greedily, and when each stage worked; on every process.

    `requests` are groups of prompts of equal length, (b, T) each; the answers are (b, max_tokens) each. A group's next
    token needs its last one, so the first stage takes up a group again when the last stage has chosen: with as many
    groups as stages no stage has to wait. A prompt is there from the beginning: cut into `parts` runs of tokens, one
    behind the other, even a lone one fills the pipeline. Each stage keeps a cache of its own layers for each group.

    Raises ValueError for more stages than layers, for no requests, and for those that do not fit.
    """
    check_requests(requests, max_tokens, model.config.context, parts)
    stage, stages = dist.get_rank(group), dist.get_world_size(group)
    piece, width = Piece(model, stage, stages), model.config.width
    caches = [GrowingCache(piece.end - 1) for _ in requests]
    answers: list[list[Tensor]] = [[] for _ in requests]
    back = way_back(group)
    mail, spans, like, tag = Mail(group, back, 1), [], model.norm.weight, 0
    origin = common_start(group, like)
    for turn in range(max_tokens):
        for i, prompts in enumerate(requests):
            for k, x in enumerate([prompts[:, :1]] if turn else prompts.tensor_split(parts, dim=1)):  # (b, t)
                if not piece.first:
                    x = mail.receive((*x.shape, width), like, stage - 1, "F", tag, 0)
                elif turn:  # the tokens that the last stage chose
                    x = mail.receive(x.shape, x, stages - 1, "B", (turn - 1) * len(requests) + i, 0)
                start = clock(like.device) - origin
                y = piece(x, caches[i])
                if piece.last:
                    chosen = piece.head(y[:, -1]).argmax(dim=1, keepdim=True)  # (b, 1)
                spans.append(Span(stage, Action("F", i * parts + k), start, clock(like.device) - origin))
                if not piece.last:
                    mail.send(y, stage + 1, "F", tag, 0)
                tag += 1
            if piece.last:
                answers[i].append(chosen)
                if turn < max_tokens - 1:
                    mail.send(chosen, 0, "B", turn * len(requests) + i, 0)
    mail.close()
    written = [torch.cat(tokens, dim=1) for tokens in answers] if piece.last else None
    all_spans = gathered(spans, group)
    return gathered(written, group)[-1], Timeline(all_spans, [float(len(requests))] * stages)
