"""Text from a model, one token after the other, with a cache of keys and values so that nothing is computed twice.

Letters for sizes are those of `llmlib.model`.
"""

from llmlib.generation.beams import generate_beams
from llmlib.generation.cache import KVCache
from llmlib.generation.paging import BlockPool, PagedCache
from llmlib.generation.quantizing import QuantizedCache, dequantize, quantize
from llmlib.generation.sliding import SlidingCache, window_mask
from llmlib.generation.speculation import Speculation, generate_speculatively
from llmlib.generation.steps import Decoder, decode_step, pad, prefill, prefill_flops, step_bytes, step_flops
from llmlib.generation.writing import Generated, Token, generate, stream

__all__ = [
    "BlockPool",
    "Decoder",
    "Generated",
    "KVCache",
    "PagedCache",
    "QuantizedCache",
    "SlidingCache",
    "Speculation",
    "Token",
    "decode_step",
    "dequantize",
    "generate",
    "generate_beams",
    "generate_speculatively",
    "pad",
    "prefill",
    "prefill_flops",
    "quantize",
    "step_bytes",
    "step_flops",
    "stream",
    "window_mask",
]
