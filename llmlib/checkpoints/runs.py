"""A run of training on disk: everything that it resumes from, in one file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from llmlib.checkpoints import files
from llmlib.training import Batches, Trainer


def save_training(trainer: Trainer, path: str | Path) -> None:
    """Writes the weights, the optimiser's moments, how far the run has come, and by what it is known again.

    Raises ValueError for numbers that are not finite, and leaves an earlier file as it was.
    """
    moments, counters = trainer.state()
    weights = {f"model.{name}": parameter for name, parameter in trainer.model.named_parameters()}
    metadata = {name: str(number) for name, number in counters.items()}
    metadata |= {name: json.dumps(value) for name, value in _identity(trainer).items()}
    files.write({Path(path): files.pack({**weights, **moments}, metadata)})


def resume_training(trainer: Trainer, path: str | Path) -> None:
    """Takes up a run where `save_training` left it: the steps that follow are those of a run never interrupted.

    Raises ValueError for a file that is damaged, or of another model, recipe or data, and changes nothing then.
    """
    path = Path(path)
    tensors, metadata = files.read(path)
    try:
        counters = {name: int(metadata[name]) for name in ("step", "tokens")}
    except (KeyError, ValueError):
        raise ValueError(f"{path.name} is no file of save_training: it does not say how far a run has come.") from None
    try:
        _check_identity(_identity(trainer), metadata)
        _check_tensors(trainer, tensors, counters["step"])
    except ValueError as problem:
        raise ValueError(
            f"{path.name} is of another run: {problem} Resume with what it was begun with, or begin anew elsewhere."
        ) from None
    tensors = {name: tensor.to(trainer.device) for name, tensor in tensors.items()}
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            parameter.copy_(tensors.pop(f"model.{name}"))
    trainer.restore(tensors, counters)


def _identity(trainer: Trainer) -> dict[str, object]:
    """What a run is known by: the model's sizes, the recipe, and the batches."""
    plain = json.loads(json.dumps({"config": asdict(trainer.model.config), "recipe": asdict(trainer.recipe)}))
    return plain | {"batches": _first_batch(trainer.batches)}


def _first_batch(batches: Batches) -> str:
    first = batches[0]
    ids = torch.stack([first.inputs, first.targets]).long().cpu()
    return hashlib.sha256(ids.numpy().tobytes()).hexdigest()


def _check_identity(here: Mapping, metadata: Mapping[str, str]) -> None:
    for part in ("config", "recipe"):
        there = json.loads(metadata.get(part, "{}"))  # files of before this check say nothing
        for name in there.keys() & here[part].keys():
            if there[name] != here[part][name]:
                raise ValueError(f"there, {name} is {there[name]}, and here {here[part][name]}.")
    if metadata.get("batches") not in (None, json.dumps(here["batches"])):
        raise ValueError("its first batch has other tokens (another text, seed or size of batches).")


def _check_tensors(trainer: Trainer, tensors: Mapping[str, Tensor], step: int) -> None:
    wanted = {}
    for name, parameter in trainer.model.named_parameters():
        wanted[f"model.{name}"] = (parameter.dtype, parameter.shape)
        if step and parameter.requires_grad:
            wanted[f"{name}:step"] = (torch.float32, torch.Size())
            wanted[f"{name}:exp_avg"] = wanted[f"{name}:exp_avg_sq"] = (parameter.dtype, parameter.shape)
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in tensors:
            raise ValueError(f"it lacks {name}.")
        if name not in wanted:
            raise ValueError(f"it holds {name}, for which there is no place here.")
        dtype, shape = wanted[name]
        if (tensors[name].dtype, tensors[name].shape) != (dtype, shape):
            raise ValueError(
                f"{name} is {tuple(tensors[name].shape)} of {tensors[name].dtype}, not {tuple(shape)} of {dtype}."
            )
