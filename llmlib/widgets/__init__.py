"""The figures that a reader can touch: live in a notebook, alive without a kernel in the published page."""

from llmlib.widgets.bpe_merges import BPEMerges

__all__ = ["BPEMerges"]
