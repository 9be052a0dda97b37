"""Tokenization in four stages: normalize, pre-tokenize, train BPE, encode (and decode).

Each stage is a plain function; `Tokenizer` puts them together, and `save` and `load` keep it as a `tokenizer.json`.
"""

from llmlib.tokenizer.bpe import (
    TIE_BREAKS,
    apply_merges,
    count_pairs,
    learn_merges_by_recount,
    merge,
    most_frequent_pair,
    rank_merges,
    split_symbols,
)
from llmlib.tokenizer.files import load, save
from llmlib.tokenizer.normalization import Normalizer, normalize
from llmlib.tokenizer.pretokenization import GPT2_PATTERN, PATTERNS, PreTokenizer, count_words, pre_tokenize
from llmlib.tokenizer.tokenizer import Tokenizer
from llmlib.tokenizer.training import Merge, learn_merges

__all__ = [
    "GPT2_PATTERN",
    "PATTERNS",
    "TIE_BREAKS",
    "Merge",
    "Normalizer",
    "PreTokenizer",
    "Tokenizer",
    "apply_merges",
    "count_pairs",
    "count_words",
    "learn_merges",
    "learn_merges_by_recount",
    "load",
    "merge",
    "most_frequent_pair",
    "normalize",
    "pre_tokenize",
    "rank_merges",
    "save",
    "split_symbols",
]
