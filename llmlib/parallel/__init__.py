"""Many processes for one model: torch.distributed, with gloo between processors and nccl (not run here) between GPUs.

`launch` runs a function on several processes and brings back what each returns. What the processes then do is in the
modules beside it, and each is imported where it is first used: `from llmlib.parallel import run_workers` is quick.
"""

from importlib import import_module

_HOMES = {
    "launch": ("WorkerFailed", "group_backend", "joined", "process_device", "run_workers"),
    "tensor": ("ColumnLinear", "RowLinear", "f_copy", "g_sum", "gather_columns", "own_rows", "whole_rows"),
    "vocabulary": ("VocabularyEmbedding", "VocabularyHead", "vocabulary_cross_entropy"),
    "engines": ("ModelLoss", "fully_sharded", "dtensor_transformer", "torch_pipeline", "whole_dtensors"),
    "data": ("OverlappedAverage", "average_each", "average_in_buckets", "fill_buckets"),
    "zero": ("ShardedAdamW", "zero_bytes"),
    "serving": ("Served", "requests_per_second", "serve_replicas"),
    "pieces": ("GrowingCache", "Piece", "split_layers"),
    "stages": ("PieceWork", "SleepWork"),
    "pipeline": ("Pipeline", "execute", "gathered", "measured_timeline", "slept_timeline"),
    "pipelined_inference": ("pipelined_answers",),
    "sharding": (
        "clip_split_gradients",
        "gathered_weights",
        "shard_transformer",
        "sharded_config",
        "split_loss_sum",
    ),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module 'llmlib.parallel' has no attribute {name!r}; it has {', '.join(__all__)}.")
    return getattr(import_module(f"llmlib.parallel.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
