"""The same jobs done by torch's own: DTensor's `parallelize_module`, `fully_shard`, DDP, and its pipeline stages.

What the modules beside this one do by hand, to be understood, these do for large models, tested and tuned. Each
function takes the book's `Transformer`, the same on all processes, and a mesh or group of processes.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from llmlib.fused import output_loss
from llmlib.model import Transformer
from llmlib.parallel.pieces import IGNORED, Piece
from llmlib.parallel.sharding import sharded_config
from llmlib.parallel.tensor import own_rows, whole_rows


def _fused_blocks(model: Transformer) -> dict[str, tuple[int, ...]]:
    """Matrices that the model stores one below the other: name -> rows of each."""
    H, K, D, F = (model.config.heads, model.config.kv_heads, model.config.head_width, model.config.feed_forward_width)
    blocks = {}
    for layer in range(model.config.layers):
        blocks[f"layers.{layer}.attention.qkv.weight"] = (H * D, K * D, K * D)
        blocks[f"layers.{layer}.feed_forward.gate_up.weight"] = (F, F)
    return blocks


def dtensor_transformer(model: Transformer, mesh) -> Transformer:
    """Tensor parallelism by `torch.distributed.tensor.parallel.parallelize_module`, in place, as `shard_transformer`.

    DTensor cuts a matrix into equal runs of rows. Rows of matrices that are stored in one are therefore sorted by
    process first; `whole_dtensors` sorts them back.
    """
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    n, config = mesh.size(), model.config
    local, blocks = sharded_config(config, n), _fused_blocks(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in blocks:
                parameter.copy_(torch.cat([own_rows(parameter, blocks[name], rank, n) for rank in range(n)]))
    plan = {
        "embedding": RowwiseParallel(input_layouts=Replicate()),
        "layers.*.attention.qkv": ColwiseParallel(),
        "layers.*.attention.output": RowwiseParallel(),
        "layers.*.feed_forward.gate_up": ColwiseParallel(),
        "layers.*.feed_forward.down": RowwiseParallel(),
        "head": ColwiseParallel(output_layouts=Replicate()),
    }
    parallelize_module(model, mesh, plan)
    if config.tied:
        model.head.weight = model.embedding.weight
    for layer in model.layers:
        layer.attention.heads = (local.heads, local.kv_heads, config.head_width)
    model.config = replace(local, tied=config.tied)
    model.whole_config, model.blocks = config, blocks
    return model


def whole_dtensors(model: Transformer, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights or gradients of a `dtensor_transformer` by name, put together on every process."""
    result, n = {}, model.whole_config.heads // model.config.heads
    for name, tensor in tensors.items():
        whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        blocks = model.blocks.get(name)
        result[name] = whole if blocks is None else whole_rows(whole.chunk(n), blocks)
    return result


class ModelLoss(nn.Module):
    """A model whose `forward` is its summed loss, for DDP and `fully_shard`, which hook into `forward`."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        wanted = targets != IGNORED
        return output_loss(self.model.hidden(inputs)[wanted], self.model.head.weight, targets[wanted])


def fully_sharded(model: Transformer, mesh) -> ModelLoss:
    """The model's loss with torch's `fully_shard`: weights, gradients and moments are spread, as in ZeRO's stage 3.

    A layer's weights are gathered when it is their turn, and dropped again. Gradients are averaged over the mesh.
    """
    from torch.distributed.fsdp import fully_shard

    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(ModelLoss(model), mesh=mesh)


class _Logits(nn.Module):
    """A piece of the model as torch's pipeline takes it: the last one ends in logits."""

    def __init__(self, piece: Piece) -> None:
        super().__init__()
        self.piece = piece

    def forward(self, x: Tensor) -> Tensor:
        y = self.piece(x)
        return self.piece.head(y) if self.piece.last else y


def torch_pipeline(model: Transformer, schedule: str, micro_batches: int, chunks: int = 1):
    """A pipeline of `torch.distributed.pipelining` over all processes, and this one's pieces of the model.

    `schedule` is a name that torch knows: "GPipe", "1F1B", "Interleaved1F1B". Its `step(inputs)` on the first stage and
    `step(target=targets, losses=[])` on the last leave the gradient of the mean of the micro-batches' mean losses.
    """
    import torch.distributed as dist
    from torch.distributed.pipelining import PipelineStage
    from torch.distributed.pipelining.schedules import PipelineScheduleMulti, get_schedule_class

    stage, stages = dist.get_rank(), dist.get_world_size()
    places = [chunk * stages + stage for chunk in range(chunks)]
    pieces = [Piece(model, place, chunks * stages) for place in places]
    parts = [
        PipelineStage(_Logits(piece), place, chunks * stages, model.embedding.weight.device)
        for place, piece in zip(places, pieces, strict=True)
    ]
    kind = get_schedule_class(schedule)

    def mean_loss(logits: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    several = issubclass(kind, PipelineScheduleMulti)
    return kind(parts if several else parts[0], n_microbatches=micro_batches, loss_fn=mean_loss), pieces
