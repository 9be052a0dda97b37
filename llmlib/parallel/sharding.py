"""A finished `Transformer` cut over several processes from outside: the model's own code stays as it is.

Attention is cut by heads, a head's queries, keys and values in one place: H / n query heads and the K / n heads of keys
and values that they read. The feed-forward network is cut by its hidden units, the embedding and the output layer by
tokens. Norms stay whole: every process has all of the stream, and computes the same gradient for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from llmlib.model import ModelConfig, Transformer
from llmlib.parallel.tensor import ColumnLinear, Group, RowLinear, check_divides
from llmlib.parallel.vocabulary import VocabularyEmbedding, VocabularyHead

IGNORED = -100  # as a target: no loss here
_CUT = (ColumnLinear, RowLinear, VocabularyEmbedding, VocabularyHead)


class InputsAndTargets(Protocol):
    """Ids that a model reads and those that it is to predict, (B, T) both, as in `llmlib.training.Batch`."""

    inputs: Tensor
    targets: Tensor


def sharded_config(config: ModelConfig, processes: int) -> ModelConfig:
    """The sizes of each process' share: heads and hidden units divided, the width of the stream as it was.

    >>> config = sharded_config(ModelConfig(vocab_size=512, context=8, width=64, layers=2, heads=4, kv_heads=2), 2)
    >>> config.heads, config.kv_heads, config.head_width, config.kv_bytes()  # half of the cache's bytes
    (2, 1, 16, 256)

    Raises ValueError for sizes that do not divide.
    """
    check_divides("heads", config.heads, processes)
    check_divides("kv_heads", config.kv_heads, processes)
    check_divides("hidden units", config.feed_forward_width, processes)
    check_divides("tokens of the vocabulary", config.vocab_size, processes)
    return replace(
        config,
        heads=config.heads // processes,
        kv_heads=config.kv_heads // processes,
        feed_forward_width=config.feed_forward_width // processes,
    )


def shard_transformer(model: Transformer, group: Group | None = None) -> Transformer:
    """Cuts the model, the same on all processes of the group, in place, and returns it.

    It is used as before, by all processes together: `model(ids)` gives all logits to each of them, and its cache holds
    the heads of one (`model.config` says how many). A layer costs two all-reduces of (B, T, C) numbers forward and two
    backward. Parameters that are not cut get the same gradient on all processes, without any sum.

    Raises ValueError for sizes that do not divide, and for models that differ between processes.
    """
    config = model.config
    local = sharded_config(config, dist.get_world_size(group))
    _check_same(model, group)
    H, K, D, F = config.heads, config.kv_heads, config.head_width, config.feed_forward_width
    for layer in model.layers:
        attention, feed_forward = layer.attention, layer.feed_forward
        attention.qkv = ColumnLinear(attention.qkv, group, blocks=(H * D, K * D, K * D))
        attention.output = RowLinear(attention.output, group)
        attention.heads = (local.heads, local.kv_heads, D)
        feed_forward.gate_up = ColumnLinear(feed_forward.gate_up, group, blocks=(F, F))
        feed_forward.down = RowLinear(feed_forward.down, group)
    model.embedding = VocabularyEmbedding(model.embedding, group)
    model.head = VocabularyHead(model.head, group, model.embedding if config.tied else None)
    model.config = local
    return model


def _check_same(model: nn.Module, group: Group | None) -> None:
    sums = torch.stack([parameter.detach().double().sum() for parameter in model.parameters()])
    range_ = torch.stack([sums, -sums])
    dist.all_reduce(range_, dist.ReduceOp.MAX, group=group)
    if not torch.equal(range_[0], -range_[1]):
        raise ValueError(
            "The processes hold models with different weights; make them from one seed, load them from one file, or "
            "send them from one process to all."
        )


def split_loss_sum(model: Transformer, batch: InputsAndTargets) -> Tensor:
    """Cross-entropy summed over the batch's tokens, in nats, of a model that was cut: `training.loss_sum` for it."""
    wanted = batch.targets != IGNORED
    return model.head.loss_sum(model.hidden(batch.inputs)[wanted], batch.targets[wanted])


def clip_split_gradients(model: Transformer, longest: float, group: Group | None = None) -> Tensor:
    """Scales the whole model's gradient down to `longest`, and returns its norm before: `clip_grad_norm_`, cut.

    The squares of what is cut are summed over the processes; what is whole on each of them counts once.
    """
    cut = {id(parameter) for module in model.modules() if isinstance(module, _CUT) for parameter in module.parameters()}
    cut -= {id(module.bias) for module in model.modules() if isinstance(module, RowLinear)}
    squares = torch.zeros(2, device=next(model.parameters()).device)
    for parameter in model.parameters():
        if parameter.grad is not None:
            squares[int(id(parameter) in cut)] += parameter.grad.square().sum()
    dist.all_reduce(squares[1], group=group)
    norm = squares.sum().sqrt()
    shrink = (longest / (norm + 1e-6)).clamp(max=1.0)
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(shrink)
    return norm


def gathered_weights(model: nn.Module, of: Callable[[Tensor], Tensor] = Tensor.detach) -> dict[str, Tensor]:
    """The whole model's weights by their names in `Transformer`, on every process; with `of`, their gradients, say.

    Of a `Piece` of a model that was cut, those of its layers.
    """
    result, modules = {}, dict(model.named_modules())
    for name, parameter in model.named_parameters():
        owner, _, kind = name.rpartition(".")
        whole = isinstance(modules[owner], _CUT) and not (isinstance(modules[owner], RowLinear) and kind == "bias")
        result[name] = modules[owner].whole(of(parameter)) if whole else of(parameter)
    return result
