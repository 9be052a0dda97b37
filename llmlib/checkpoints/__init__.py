"""Models on disk, in the layout of the Hugging Face hub: `config.json`, `model.safetensors`, `tokenizer.json`.

`transformers` loads what `save` writes, and `load` takes any repository or folder whose model is shaped like Llama.
Nothing is ever unpickled. A file appears under its name only when it is whole, and carries a checksum of its content.
"""

from llmlib.checkpoints.hub import config_from_hub, hub_config, hub_weights, weights_from_hub
from llmlib.checkpoints.models import DRAFT_MODEL, STORY_MODEL, load, load_model, save
from llmlib.checkpoints.runs import resume_training, save_training

__all__ = [
    "DRAFT_MODEL",
    "STORY_MODEL",
    "config_from_hub",
    "hub_config",
    "hub_weights",
    "load",
    "load_model",
    "resume_training",
    "save",
    "save_training",
    "weights_from_hub",
]
