"""The figures that a reader can touch: live in a notebook, alive without a kernel in the published page."""

from llmlib.widgets.attention_view import AttentionView
from llmlib.widgets.autoregression import Autoregression
from llmlib.widgets.beam_tree import BeamTree, beam_record
from llmlib.widgets.bpe_merges import BPEMerges
from llmlib.widgets.competence import Competence
from llmlib.widgets.compute_budget import ComputeBudget
from llmlib.widgets.decoding_records import recorded_predictions
from llmlib.widgets.kv_cache_stepper import KVCacheStepper
from llmlib.widgets.matrix_split import MatrixSplit
from llmlib.widgets.pipeline_bubble import PipelineBubble
from llmlib.widgets.sampling_explorer import SamplingExplorer, sampling_record
from llmlib.widgets.training_replay import TrainingReplay

__all__ = [
    "AttentionView",
    "Autoregression",
    "BPEMerges",
    "BeamTree",
    "Competence",
    "ComputeBudget",
    "KVCacheStepper",
    "MatrixSplit",
    "PipelineBubble",
    "SamplingExplorer",
    "TrainingReplay",
    "beam_record",
    "recorded_predictions",
    "sampling_record",
]
