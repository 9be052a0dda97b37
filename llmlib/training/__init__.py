"""Training: batches from a stream of tokens, the loss, the schedule, and a loop that yields a record of each step."""

from llmlib.training.batches import IGNORED, Batch, Batches, DocumentBatches, StreamBatches, token_stream
from llmlib.training.loop import Diverged, StepRecord, Trainer, evaluate, loss_sum, token_losses
from llmlib.training.recipe import Recipe, best_precision, parameter_groups

__all__ = [
    "IGNORED",
    "Batch",
    "Batches",
    "Diverged",
    "DocumentBatches",
    "Recipe",
    "StepRecord",
    "StreamBatches",
    "Trainer",
    "best_precision",
    "evaluate",
    "loss_sum",
    "parameter_groups",
    "token_losses",
    "token_stream",
]
