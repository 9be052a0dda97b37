"""Text from a model, one token after the other, with a cache of keys and values so that nothing is computed twice.

Letters for sizes are those of `llmlib.model`.
"""

from llmlib.generation.beams import generate_beams
from llmlib.generation.cache import KVCache
from llmlib.generation.speculation import Speculation, generate_speculatively
from llmlib.generation.steps import Decoder, decode_step, pad, prefill, prefill_flops, step_bytes, step_flops
from llmlib.generation.writing import Generated, Token, generate, stream

__all__ = [
    "Decoder",
    "Generated",
    "KVCache",
    "Speculation",
    "Token",
    "decode_step",
    "generate",
    "generate_beams",
    "generate_speculatively",
    "pad",
    "prefill",
    "prefill_flops",
    "step_bytes",
    "step_flops",
    "stream",
]
