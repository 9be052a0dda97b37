"""The figures that a reader can touch: live in a notebook, alive without a kernel in the published page."""

from llmlib.widgets.attention_view import AttentionView
from llmlib.widgets.beam_tree import BeamTree, beam_record
from llmlib.widgets.bpe_merges import BPEMerges
from llmlib.widgets.training_replay import TrainingReplay

__all__ = ["AttentionView", "BPEMerges", "BeamTree", "TrainingReplay", "beam_record"]
