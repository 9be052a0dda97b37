"""A model and its tokenizer in a folder or a repository of the hub."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from llmlib import tokenizer as tokenizers
from llmlib.checkpoints import files
from llmlib.checkpoints.hub import config_from_hub, hub_config, hub_weights, weights_from_hub
from llmlib.model import ModelConfig, Transformer
from llmlib.tokenizer import Tokenizer
from llmlib.tokenizer.files import to_json

STORY_MODEL = Path(__file__).parent.parent / "story_model"  # the book's own, part of the package
DRAFT_MODEL = STORY_MODEL.with_name("draft_model")  # a smaller one that drafts for it, without a tokenizer of its own
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def save(
    model: Transformer,
    folder: str | Path,
    tokenizer: Tokenizer | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes the model, and its tokenizer if given, into `folder`; numbers are stored as `dtype`.

    `transformers` loads the folder. A tokenizer's special token, if it has just one, is what texts begin and end with.
    Raises ValueError for numbers that are not finite, or not in `dtype`, and writes nothing then.
    """
    _check_dtype(dtype)
    folder, end = Path(folder), None
    metadata = {"format": "pt", "config": files.digest(hub_config(model.config))}
    contents: dict[str, dict] = {}
    if tokenizer is not None:
        _check_vocabulary(tokenizer, model.config)
        end = next(iter(tokenizer.special_tokens), None) if len(tokenizer.special_tokens) == 1 else None
        contents["tokenizer.json"] = to_json(tokenizer)
        contents["tokenizer_config.json"] = {
            "tokenizer_class": "PreTrainedTokenizerFast",  # older readers took Llama's, which adds tokens of its own
            "model_max_length": model.config.context,
            "clean_up_tokenization_spaces": False,
            "bos_token": end,
            "eos_token": end,
        }
        metadata["tokenizer"] = files.digest(contents["tokenizer.json"])
    end_id = None if end is None else tokenizer.special_tokens[end]
    contents["config.json"] = hub_config(model.config, dtype, end_id)
    contents["generation_config.json"] = {"bos_token_id": end_id, "eos_token_id": end_id}
    weights = {name: weight.to(dtype) for name, weight in hub_weights(model).items()}
    packed = {folder / name: files.to_json(content) for name, content in contents.items()}
    files.write({**packed, folder / WEIGHTS: files.pack(weights, metadata)})


def load(
    name: str | Path = STORY_MODEL, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[Transformer, Tokenizer]:
    """A model and its tokenizer: the book's own, or those of a folder or of a repository of the hub ("owner/name").

    Raises ValueError for files that are damaged, or hold what our model or our tokenizer cannot do; OSError if they
    cannot be found or read.
    """
    folder = _find(name)
    config = _read_config(folder)  # before the rest, which takes longer
    try:
        tokenizer = tokenizers.load(folder / "tokenizer.json")
        _check_vocabulary(tokenizer, config)
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder} has no tokenizer.json; load_model gives the model alone.") from None
    except ValueError as problem:
        raise ValueError(f"The tokenizer cannot be read: {problem} load_model gives the model alone.") from None
    return _read_model(folder, config, dtype, device, tokenizer), tokenizer


def load_model(
    name: str | Path = STORY_MODEL, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Transformer:
    """The model alone, as `load` does: for repositories whose tokenizer is missing or is no byte-level BPE."""
    folder = _find(name)
    return _read_model(folder, _read_config(folder), dtype, device)


def _check_dtype(dtype: torch.dtype) -> None:
    if dtype not in _DTYPES:
        raise ValueError(f"dtype is {dtype}; choose one of {', '.join(map(str, _DTYPES))}.")


def _check_vocabulary(tokenizer: Tokenizer, config: ModelConfig) -> None:
    if tokenizer.n_vocab > config.vocab_size:
        raise ValueError(
            f"The tokenizer has {tokenizer.n_vocab:,} tokens and the model {config.vocab_size:,}; "
            "they do not belong together."
        )


def _find(name: str | Path) -> Path:
    """The folder of that name, or the one into which a repository of the hub is fetched."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder == STORY_MODEL:
        raise FileNotFoundError(
            f"The book's own model is not in this copy of llmlib ({folder} is missing): install llmlib again, "
            "or train the model with python -m llmlib.experiments.train_story_model."
        )
    if folder.exists():
        raise ValueError(f"{folder} is a file; give the folder that it is in.")
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise FileNotFoundError(f"There is no folder {folder}; a repository of the hub is written 'owner/name'.")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ImportError(
            f"There is no folder {folder}; to fetch it from the hub, first install the package huggingface_hub."
        ) from None
    try:
        return Path(
            snapshot_download(
                name, allow_patterns=["config.json", "tokenizer.json", WEIGHTS, INDEX, "model-*.safetensors"]
            )
        )
    except Exception as problem:  # of the hub, of its client, and of the network: each has its own kinds
        reason = str(problem).strip().split("\n")[0]
        raise OSError(
            f"There is no folder {folder}, and the hub did not give a repository of this name "
            f"({type(problem).__name__}: {reason}); check the name and the connection, or give a folder."
        ) from problem


def _read_config(folder: Path) -> ModelConfig:
    try:
        return config_from_hub(files.read_json(folder / "config.json"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder} has no config.json; give the folder of a model in the hub's form.") from None
    except ValueError as problem:
        raise ValueError(f"{folder / 'config.json'}: {problem}") from None


def _read_model(
    folder: Path,
    config: ModelConfig,
    dtype: torch.dtype,
    device: torch.device | str,
    tokenizer: Tokenizer | None = None,
) -> Transformer:
    """The model, once all that it is made of has been checked."""
    _check_dtype(dtype)
    try:
        stored, metadata = _read_weights(folder)
        now = {"config": files.digest(hub_config(config))}
        if tokenizer is not None:
            now["tokenizer"] = files.digest(to_json(tokenizer))
        for part in now.keys() & metadata.keys():
            if metadata[part] != now[part]:
                raise ValueError(f"{part}.json has changed since these weights were saved with it; fetch both again.")
        weights = {name: weight.to(dtype) for name, weight in weights_from_hub(config, stored).items()}
        files.check_finite(weights)
    except ValueError as problem:
        raise ValueError(f"{folder}: {problem}") from None
    with _Unfilled():
        model = Transformer(config)
    for ours, parameter in model.named_parameters():
        parameter.data = weights[ours]
    return model.to(device)


class _Unfilled(TorchFunctionMode):
    """Within it a model is made without its random numbers, which are most of the work and would be thrown away."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function.__name__ in ("normal_", "uniform_", "kaiming_uniform_"):
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return function(*args, **kwargs)


def _read_weights(folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a folder, from one file or, where an index says so, from several; and the metadata."""
    if (folder / WEIGHTS).exists():
        return files.read(folder / WEIGHTS)
    if not (folder / INDEX).exists():
        pickles = [path.name for path in sorted(folder.iterdir()) if path.suffix in (".bin", ".pt", ".pth", ".ckpt")]
        there = f"{pickles[0]} is a pickle, which can run code when it is read, and is not opened; " if pickles else ""
        raise FileNotFoundError(f"{folder} has no {WEIGHTS}; {there}choose a repository with safetensors.")
    places = files.read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
        raise ValueError(f"{INDEX} has no 'weight_map' that says in which file each tensor is; fetch it again.")
    stored: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for place in sorted(set(places.values())):
        if Path(place).name != place or not (folder / place).is_file():
            raise FileNotFoundError(f"{folder} has no file {place}, which {INDEX} names; fetch the folder again.")
        tensors, said = files.read(folder / place)
        metadata |= said
        if lost := [name for name, where in places.items() if where == place and name not in tensors]:
            raise ValueError(f"{place} lacks {lost[0]}, which {INDEX} says is there; fetch the folder again.")
        stored |= {name: tensor for name, tensor in tensors.items() if places.get(name, place) == place}
    return stored, metadata
