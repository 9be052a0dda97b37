"""Models on disk, in the layout of the Hugging Face hub: `config.json`, `model.safetensors`, `tokenizer.json`.

`transformers` loads what `save` writes, and `load` takes any repository or folder whose model is shaped like Llama.
Nothing is ever unpickled. A file appears under its name only when it is whole.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from llmlib import tokenizer as tokenizers
from llmlib.model import ModelConfig, Transformer
from llmlib.tokenizer import Tokenizer
from llmlib.training import Trainer


def hub_config(config: ModelConfig) -> dict:
    """The config as `config.json` has it."""
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
        "rope_theta": config.rope_base,
        "rms_norm_eps": config.norm_epsilon,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "float32",
    }


def hub_weights(model: Transformer) -> dict[str, Tensor]:
    """The weights under the hub's names, which keep apart the matrices that the model multiplies at once."""
    config = model.config
    H, K, D = config.heads, config.kv_heads, config.head_width
    weights = {"model.embed_tokens.weight": model.embedding.weight, "model.norm.weight": model.norm.weight}
    if not config.tied:
        weights["lm_head.weight"] = model.head.weight
    for number, layer in enumerate(model.layers):
        start = f"model.layers.{number}."
        q, k, v = layer.attention.qkv.weight.split([H * D, K * D, K * D])
        gate, up = layer.feed_forward.gate_up.weight.chunk(2)
        weights |= {
            start + "input_layernorm.weight": layer.attention_norm.weight,
            start + "self_attn.q_proj.weight": q,
            start + "self_attn.k_proj.weight": k,
            start + "self_attn.v_proj.weight": v,
            start + "self_attn.o_proj.weight": layer.attention.output.weight,
            start + "post_attention_layernorm.weight": layer.feed_forward_norm.weight,
            start + "mlp.gate_proj.weight": gate,
            start + "mlp.up_proj.weight": up,
            start + "mlp.down_proj.weight": layer.feed_forward.down.weight,
        }
    return {name: weight.detach().contiguous() for name, weight in weights.items()}


def _write(path: Path, write) -> None:
    """Lets `write` fill a new file beside `path`, and only then gives it that name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def save(model: Transformer, folder: str | Path, tokenizer: Tokenizer | None = None, dtype=torch.float32) -> None:
    """Writes the model, and its tokenizer if given, into `folder`; numbers are stored as `dtype`."""
    folder = Path(folder)
    weights = {name: weight.to(dtype) for name, weight in hub_weights(model).items()}
    config = hub_config(model.config) | {"torch_dtype": str(dtype).removeprefix("torch.")}
    _write(folder / "model.safetensors", lambda path: save_file(weights, path, metadata={"format": "pt"}))
    _write(folder / "config.json", lambda path: Path(path).write_text(json.dumps(config, indent=2) + "\n"))
    if tokenizer is not None:
        tokenizers.save(tokenizer, folder / "tokenizer.json")


def save_training(trainer: Trainer, path: str | Path) -> None:
    """Writes everything that a run resumes from into one file."""
    moments, counters = trainer.state()
    weights = {f"model.{name}": parameter for name, parameter in trainer.model.named_parameters()}
    tensors = {name: tensor.detach().contiguous() for name, tensor in (weights | moments).items()}
    metadata = {name: str(number) for name, number in counters.items()}
    _write(Path(path), lambda name: save_file(tensors, name, metadata=metadata))


def resume_training(trainer: Trainer, path: str | Path) -> None:
    """Takes up a run where `save_training` left it."""
    from safetensors import safe_open

    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        counters = {name: int(number) for name, number in file.metadata().items()}
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            parameter.copy_(tensors.pop(f"model.{name}"))
    trainer.restore(tensors, counters)
