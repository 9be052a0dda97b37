"""The hub's words for a model, and ours: `config.json` and `ModelConfig`, the tensors' names and the parameters'."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from llmlib.model import ModelConfig, Transformer

# What a config that leaves it out means. Mistral's first model saw a window of positions; without it, it is a Llama.
_DEFAULTS = {
    "llama": {"max_position_embeddings": 2048, "sliding_window": None},
    "mistral": {"max_position_embeddings": 131_072, "sliding_window": 4096},
}


def hub_config(config: ModelConfig, dtype: torch.dtype = torch.float32, end_of_text: int | None = None) -> dict:
    """The content of `config.json`; `end_of_text` is the id of the token that stands before and after a text."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "intermediate_size": config.feed_forward_width,
        "tie_word_embeddings": config.tied,
        "rope_theta": float(config.rope_base),
        "rms_norm_eps": float(config.norm_epsilon),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }


def config_from_hub(data: Mapping) -> ModelConfig:
    """The sizes in a `config.json`, of older and of newer writers; raises ValueError for what our model cannot do.

    >>> config_from_hub(hub_config(ModelConfig(vocab_size=50, context=8, width=16, layers=2, heads=4))).heads
    4
    """
    kind = data.get("model_type")
    if str(kind) not in _DEFAULTS:
        raise ValueError(f"model_type is {kind!r}; only models shaped like Llama can be read: {', '.join(_DEFAULTS)}.")
    data = _DEFAULTS[kind] | data
    rope = _section(data, "rope_scaling") | _section(data, "rope_parameters")  # the latter is the newer name
    context, window = data["max_position_embeddings"], data["sliding_window"]
    for name, value, allowed in (
        ("hidden_act", data.get("hidden_act", "silu"), ("silu", "swish")),
        ("attention_bias", data.get("attention_bias"), (None, False)),
        ("mlp_bias", data.get("mlp_bias"), (None, False)),
        ("quantization_config", data.get("quantization_config"), (None,)),
        ("the scaling of positions (rope_type)", rope.get("rope_type", rope.get("type", "default")), ("default",)),
        ("partial_rotary_factor", rope.get("partial_rotary_factor", data.get("partial_rotary_factor", 1)), (1,)),
    ):
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; our model can only have {' or '.join(map(repr, allowed))}.")
    if window is not None and not _at_least(window, context):
        raise ValueError(
            f"sliding_window is {window!r}, fewer than the {context} positions; our model always sees them all."
        )
    missing = [
        name
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        if name not in data
    ]
    if missing:
        raise ValueError(f"{_listed(missing)} must be given, and the config lacks it.")
    return ModelConfig(
        vocab_size=data["vocab_size"],
        context=context,
        width=data["hidden_size"],
        layers=data["num_hidden_layers"],
        heads=data["num_attention_heads"],
        kv_heads=data.get("num_key_value_heads"),
        head_width=data.get("head_dim"),
        feed_forward_width=data["intermediate_size"],
        tied=bool(data.get("tie_word_embeddings", False)),
        rope_base=_number("rope_theta", rope.get("rope_theta", data.get("rope_theta", 10_000.0))),
        norm_epsilon=_number("rms_norm_eps", data.get("rms_norm_eps", 1e-6)),
    )


def _section(data: Mapping, name: str) -> dict:
    section = data.get(name) or {}
    if not isinstance(section, dict) or any(isinstance(value, dict) for value in section.values()):
        raise ValueError(f"{name} is {section!r:.60}; our model rotates positions in one way in all layers.")
    return section


def _at_least(value: object, least: object) -> bool:
    return isinstance(value, int) and isinstance(least, int) and value >= least


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is {value!r}; it has to be a number.")
    return float(value)


def _listed(names: Iterable[str], shown: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def layout(config: ModelConfig) -> dict[str, dict[str, tuple[int, ...]]]:
    """Each parameter of our model, and the hub's tensors, with their shapes, that it holds one below the other.

    >>> layout(ModelConfig(vocab_size=50, context=8, width=16, layers=1, heads=2))["layers.0.feed_forward.down.weight"]
    {'model.layers.0.mlp.down_proj.weight': (16, 64)}
    """
    V, C, F = config.vocab_size, config.width, config.feed_forward_width
    H, K, D = config.heads, config.kv_heads, config.head_width
    parameters = {"embedding": {"embed_tokens": (V, C)}, "norm": {"norm": (C,)}}
    for number in range(config.layers):
        layer = {
            "attention_norm": {"input_layernorm": (C,)},
            "attention.qkv": {
                "self_attn.q_proj": (H * D, C),
                "self_attn.k_proj": (K * D, C),
                "self_attn.v_proj": (K * D, C),
            },
            "attention.output": {"self_attn.o_proj": (C, H * D)},
            "feed_forward_norm": {"post_attention_layernorm": (C,)},
            "feed_forward.gate_up": {"mlp.gate_proj": (F, C), "mlp.up_proj": (F, C)},
            "feed_forward.down": {"mlp.down_proj": (C, F)},
        }
        for ours, theirs in layer.items():
            parameters[f"layers.{number}.{ours}"] = {f"layers.{number}.{name}": shape for name, shape in theirs.items()}
    named = {
        f"{ours}.weight": {f"model.{name}.weight": shape for name, shape in theirs.items()}
        for ours, theirs in parameters.items()
    }
    return named if config.tied else named | {"head.weight": {"lm_head.weight": (V, C)}}


def hub_weights(model: Transformer) -> dict[str, Tensor]:
    """The weights under the hub's names, which keep apart the matrices that our model multiplies at once."""
    parameters, weights = dict(model.named_parameters()), {}
    for ours, theirs in layout(model.config).items():
        rows = [shape[0] for shape in theirs.values()]
        weights |= dict(zip(theirs, parameters[ours].detach().split(rows), strict=True))
    return weights


def weights_from_hub(config: ModelConfig, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The hub's tensors as the parameters of our model, each a copy; the inverse of `hub_weights`.

    Names may lack `model.` before them, and old files' tables of rotations are left out. Raises ValueError with the
    name of a tensor that is missing, superfluous, or of another shape.
    """
    stored = {_today(name): tensor for name, tensor in stored.items() if not name.endswith("rotary_emb.inv_freq")}
    if config.tied and "lm_head.weight" in stored:
        head = stored.pop("lm_head.weight")
        if not torch.equal(head, stored.get("model.embed_tokens.weight", head[:0])):
            raise ValueError("lm_head.weight is not the embedding, and the config ties the two; it should say untied.")
    wanted = {name: shape for theirs in layout(config).values() for name, shape in theirs.items()}
    if missing := wanted.keys() - stored.keys():
        raise ValueError(f"The weights lack {_listed(sorted(missing))}, which the config asks for.")
    if extra := stored.keys() - wanted.keys():
        raise ValueError(f"The weights hold {_listed(sorted(extra))}, which a model of this config has no place for.")
    for name, shape in wanted.items():
        if stored[name].shape != shape:
            raise ValueError(f"{name} has shape {tuple(stored[name].shape)}, and the config asks for {shape}.")
    return {ours: torch.cat([stored[name] for name in theirs]) for ours, theirs in layout(config).items()}


def _today(name: str) -> str:
    """A tensor's name with the prefix that files of the bare model lack."""
    return f"model.{name}" if name.startswith(("embed_tokens.", "layers.", "norm.")) else name
