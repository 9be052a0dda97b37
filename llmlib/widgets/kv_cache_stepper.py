"""The figure KVCacheStepper: a prompt is read and a text written, with a cache of keys and values and without one."""

import base64
import html
import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import regex
import traitlets

from llmlib.widgets.base import BookWidget, table_html

STEPS = 10  # one for the prompt, and nine tokens after it
MAX_PROMPT = 200  # characters
BITS = (4, 8, 16, 32)
WHITE_SPACE = regex.compile(r" ?\P{White_Space}+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+")

SIZES = ("layers", "heads", "kv_heads", "head_width", "vocab_size", "context")
MODELS = {
    name: dict(zip(SIZES, sizes, strict=True))
    for name, sizes in {
        "the book's story model": (5, 4, 2, 32, 2048, 384),
        "GPT-2 124M": (12, 12, 12, 64, 50257, 1024),
        "SmolLM2 135M": (30, 9, 3, 64, 49152, 8192),
        "Gemma 2B": (18, 8, 1, 256, 256_000, 8192),
        "Llama 2 7B": (32, 32, 32, 128, 32_000, 4096),
        "Llama 3 8B": (32, 32, 8, 128, 128_256, 8192),
        "OPT 13B": (40, 40, 40, 128, 50272, 2048),
        "Llama 3 70B": (80, 64, 8, 128, 128_256, 8192),
        "Llama 3.1 405B": (126, 128, 8, 128, 128_256, 131_072),
    }.items()
}
LIMITS = {"layers": 128, "heads": 128, "kv_heads": 128, "head_width": 256, "vocab_size": 1_000_000,
          "context": 131_072, "batch": 512}  # fmt: skip


def step_counts(sizes: dict[str, int], prompt: int, step: int, batch: int = 1, bits: int = 16) -> dict[str, float]:
    """What step `step` takes (1 reads a prompt of so many tokens, each later one a token), with a cache and without.

    `rows` of keys, and as many of values, in each layer and head of keys: `computed`, `fetched` from the cache and
    `held` after it; `recomputed` is how many a model without a cache computes. `multiplications` of this step for all
    texts of the batch, those of a model `without` a cache, and the sums of both up to this step. Bytes of the cache
    `fetched_bytes`, `appended_bytes` and `held_bytes`, at `bits` a number. The feed-forward width is that which
    `ModelConfig` chooses, 8/3 of the width, and the output layer is computed at the last position only.

    >>> now = step_counts(MODELS["the book's story model"], prompt=9, step=3)
    >>> now["computed"], now["fetched"], now["held"], now["recomputed"]
    (1, 10, 11, 11)
    """
    L, H, K, D, V = (sizes[name] for name in ("layers", "heads", "kv_heads", "head_width", "vocab_size"))
    C = H * D
    F = 32 * math.ceil(C * 8 / 3 / 32)
    weights = L * (2 * C * (H + K) * D + 3 * C * F)  # multiplications a token, without the output layer
    row_bytes = batch * 2 * L * K * D * bits / 8  # of a token, in all layers and heads

    def reading(T: int) -> float:
        return batch * (T * weights + L * 2 * H * D * T * (T + 1) / 2 + V * C)

    def decoding(S: int) -> float:
        return batch * (weights + L * 2 * H * D * S + V * C)

    S = 0 if step == 0 else prompt + step - 1
    computed = 0 if step == 0 else prompt if step == 1 else 1
    with_it = [reading(prompt)] + [decoding(prompt + s) for s in range(1, step)]
    without = [reading(prompt + s) for s in range(step)]
    return {
        "computed": computed,
        "fetched": S - computed,
        "held": S,
        "recomputed": S,
        "multiplications": with_it[step - 1] if step else 0.0,
        "without": without[-1] if step else 0.0,
        "multiplications_so_far": sum(with_it[:step]),
        "without_so_far": sum(without),
        "fetched_bytes": (S - computed) * row_bytes,
        "appended_bytes": computed * row_bytes,
        "held_bytes": S * row_bytes,
        "full_bytes": sizes["context"] * row_bytes,
    }


class KVCacheStepper(BookWidget):
    """Read a prompt and write on, one step at a time: which rows of keys and values are computed, fetched and appended.

    Step 1 reads the prompt (prefill), each later one a single token. Beside each other stand a model with a cache and
    one without. The sizes are those of any model; `MODELS` has some real ones. `bits` are those of a number in the
    cache, and `batch` texts are written at once.

    With a `recording` (see `of`), its prompt is cut into tokens by its own tokenizer and goes on as its model wrote,
    and the rows show its real keys and values. Any other prompt is cut at white space, and what follows it are
    stand-ins: no model runs in this figure.

    >>> figure = KVCacheStepper(prompt="Once upon a time", step=2, **MODELS["Llama 3 70B"])
    >>> figure.tokens, figure.counts()["held_bytes"] == 5 * 327_680
    (['Once', ' upon', ' a', ' time'], True)

    Raises traitlets.TraitError, with what is allowed, for what cannot be shown.
    """

    _module = "kv_cache_stepper"

    prompt = traitlets.Unicode("The fox saw the owl and the owl saw", help="What is read first.").tag(sync=True)
    step = traitlets.Int(0, help=f"Steps taken, 0 to {STEPS}: the prompt, then one token each.").tag(sync=True)
    layers = traitlets.Int(5, help="Layers, L.").tag(sync=True)
    heads = traitlets.Int(4, help="Query heads, H.").tag(sync=True)
    kv_heads = traitlets.Int(2, help="Heads of keys and values, K, a divisor of the query heads.").tag(sync=True)
    head_width = traitlets.Int(32, help="Numbers in a key, D.").tag(sync=True)
    vocab_size = traitlets.Int(2048, help="Tokens that exist, V: the output layer's work.").tag(sync=True)
    context = traitlets.Int(384, help="The most tokens of a text, for which memory is reckoned.").tag(sync=True)
    bits = traitlets.Int(16, help="Bits of a number in the cache: 4, 8, 16 or 32.").tag(sync=True)
    batch = traitlets.Int(1, help="Texts written at once, B.").tag(sync=True)
    layer = traitlets.Int(0, help="The layer whose rows are shown, from 0.").tag(sync=True)
    recording = traitlets.Dict(help="Keys and values of a real model, see `of`; empty for none.").tag(sync=True)

    def __init__(self, **state: Any) -> None:
        state.setdefault(
            "caption",
            "One text with a cache of keys and values, and without. A step computes rows (orange, filled), or finds "
            "them in the cache (green, outlined). Multiplications are those of a model of this book's shape with these "
            "sizes (a feed-forward width of 8/3 of the width); the cache's bytes are exact for the models named.",
        )
        super().__init__(**state)
        self.observe(self._keep_sizes_sound, ["heads", "layers"])

    @classmethod
    def of(cls, prompt: str, tokens: Sequence[str], n_prompt: int, memory: Any, **state: Any) -> Self:
        """A figure with a recording: a prompt, the texts of its `n_prompt` tokens and of those that a model wrote on.

        `memory` holds the model's keys and values, (2, L, K, S, D), such as `KVCache.memory[:, :, 0]`, for at least as
        many positions as the figure reads, n_prompt + 9. They are kept to 8 bits. The figure takes the model's sizes
        where none are given.
        """
        memory, S = np.asarray(memory, dtype=np.float64), n_prompt + STEPS - 1
        if memory.ndim != 5 or memory.shape[0] != 2 or memory.shape[3] < S:
            raise traitlets.TraitError(
                f"memory has shape {memory.shape}; it has to be (2, L, K, S, D), with S at least {S}."
            )
        if len(tokens) < n_prompt + STEPS:
            raise traitlets.TraitError(
                f"There are {len(tokens)} tokens; a prompt of {n_prompt} needs {STEPS} more, that the model wrote."
            )
        memory = memory[:, :, :, :S]
        largest = np.abs(memory).max(axis=(1, 2, 3, 4))
        codes = np.rint(127 * memory / np.maximum(largest, 1e-30)[:, None, None, None, None]).astype(np.int8)
        recording = {
            "prompt": prompt,
            "tokens": list(tokens[: n_prompt + STEPS]),
            "n_prompt": n_prompt,
            "shape": list(memory.shape[1:]),
            "largest": [float(f"{value:.4g}") for value in largest],
            "keys": base64.b64encode(codes[0].tobytes()).decode(),
            "values": base64.b64encode(codes[1].tobytes()).decode(),
        }
        sizes = {"layers": memory.shape[1], "kv_heads": memory.shape[2], "head_width": memory.shape[4]}
        return cls(recording=recording, **{"prompt": prompt} | sizes | state)

    @property
    def tokens(self) -> list[str]:
        """The prompt's tokens: those of the recording, or its words, cut at white space."""
        if self.recording and self.prompt == self.recording["prompt"]:
            return self.recording["tokens"][: self.recording["n_prompt"]]
        return WHITE_SPACE.findall(self.prompt)

    def counts(self, step: int | None = None) -> dict[str, float]:
        """`step_counts` of the figure's sizes, for this step or another one."""
        sizes = {name: getattr(self, name) for name in SIZES}
        return step_counts(sizes, len(self.tokens), self.step if step is None else step, self.batch, self.bits)

    @traitlets.validate("prompt")
    def _check_prompt(self, proposal: dict) -> str:
        prompt = proposal["value"]
        if not prompt.strip():
            raise traitlets.TraitError("The prompt is empty; a model begins with at least one token, so type a word.")
        if len(prompt) > MAX_PROMPT:
            raise traitlets.TraitError(f"The prompt has {len(prompt)} characters; up to {MAX_PROMPT} can be shown.")
        if any("\ud800" <= character <= "\udfff" for character in prompt):
            raise traitlets.TraitError("The prompt holds a lone surrogate, half of a character: leave it out.")
        return prompt

    @traitlets.validate("step")
    def _check_step(self, proposal: dict) -> int:
        return _in_range("step", proposal["value"], 0, STEPS)

    @traitlets.validate("layers", "heads", "head_width", "vocab_size", "context", "batch")
    def _check_size(self, proposal: dict) -> int:
        name, least = proposal["trait"].name, 2 if proposal["trait"].name == "head_width" else 1
        return _in_range(name, proposal["value"], least, LIMITS[name])

    @traitlets.validate("kv_heads")
    def _check_kv_heads(self, proposal: dict) -> int:
        value = _in_range("kv_heads", proposal["value"], 1, LIMITS["kv_heads"])
        if self.heads % value:
            raise traitlets.TraitError(f"{self.heads} heads cannot share {value} kv_heads; choose a divisor.")
        return value

    @traitlets.validate("bits")
    def _check_bits(self, proposal: dict) -> int:
        if proposal["value"] not in BITS:
            raise traitlets.TraitError(f"bits is {proposal['value']}; choose 4, 8, 16 or 32.")
        return proposal["value"]

    @traitlets.validate("layer")
    def _check_layer(self, proposal: dict) -> int:
        return _in_range("layer", proposal["value"], 0, self.layers - 1)

    @traitlets.validate("recording")
    def _check_recording(self, proposal: dict) -> dict[str, Any]:
        wanted = {"prompt", "tokens", "n_prompt", "shape", "largest", "keys", "values"}
        if proposal["value"] and set(proposal["value"]) != wanted:
            raise traitlets.TraitError("A recording is made by KVCacheStepper.of; give what that returns.")
        return proposal["value"]

    def notify_change(self, change: Any) -> None:
        with self.hold_sync():  # other sizes, and the kv_heads that fit them, in one message to the views
            super().notify_change(change)

    def _keep_sizes_sound(self, change: object) -> None:
        """After other sizes: as many kv_heads as can be shared, and a layer that exists."""
        if self.heads % self.kv_heads:
            self.kv_heads = max(k for k in range(1, self.kv_heads + 1) if self.heads % k == 0)
        self.layer = min(self.layer, self.layers - 1)

    def fallback(self) -> str:
        words = (
            f"<p>A model of {self.layers} layers, {self.heads} query heads and {self.kv_heads} heads of keys and "
            f"values reads <q>{html.escape(self.prompt)}</q>, {len(self.tokens)} tokens, and writes on. With a cache "
            "each step after the first computes one row of keys and one of values in each layer and head, and fetches "
            "the others; without a cache it computes them all again.</p>"
        )
        head = ["step", "reads", "rows computed", "fetched", "without a cache", "multiplications", "without a cache"]
        rows = []
        for step in range(1, STEPS + 1):
            now = self.counts(step)
            reads = f"{len(self.tokens)} tokens: prefill" if step == 1 else "1 token"
            rows.append([step, reads, now["computed"], now["fetched"], now["recomputed"],
                         f"{now['multiplications']:.3g}", f"{now['without']:.3g}"])  # fmt: skip
        return words + table_html(head, rows)


def _in_range(name: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise traitlets.TraitError(f"{name} is {value}; choose a whole number from {least} to {most}.")
    return value
