"""Files that are whole or not there, and tensors that are those which were saved."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

CHECKSUM = "sha256"  # its name in a file's metadata
_READABLE = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def write(files: Mapping[Path, bytes]) -> None:
    """Puts files in their places; none before all are whole, so that an interruption leaves what was there before."""
    parts = {path: path.with_name(f"{path.name}.part") for path in files}
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        for path, content in files.items():
            with open(parts[path], "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # on the disk before it has the name, should the power fail
        for path, part in parts.items():
            os.replace(part, path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def digest(content: object) -> str:
    """A name for what can be written as JSON: the same for the same content, whatever its layout.

    >>> digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    total = hashlib.sha256(digest(metadata).encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raises ValueError with the name of a tensor that holds what is no number."""
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise ValueError(f"{name} holds infinity or NaN in {dtype}: the model diverged, or {dtype} is too narrow.")


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The content of a safetensors file with a checksum; raises ValueError for a tensor that is not finite."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    check_finite(tensors)
    return to_safetensors(tensors, {**metadata, CHECKSUM: _checksum(tensors, metadata)})


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file, checked against its checksum where it has one.

    The tensors are views of the file, and change with it: copy what is kept. Raises ValueError for a file that is
    damaged or something else; OSError if it cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as problem:
        with open(path, "rb") as file:
            if file.read(40).startswith(b"version https://git-lfs"):
                raise ValueError(f"{path.name} only points to the weights; fetch them with `git lfs pull`.") from None
        raise ValueError(f"{path.name} is cut off or is no safetensors file ({problem}); fetch it again.") from None
    checksum = metadata.pop(CHECKSUM, None)
    if checksum is not None and checksum != _checksum(tensors, metadata):
        raise ValueError(f"{path.name} is damaged: its checksum does not agree with its content; fetch it again.")
    for name, tensor in tensors.items():
        if tensor.dtype not in _READABLE:
            raise ValueError(f"{path.name}: {name} holds {tensor.dtype}; only floating point of 16 to 64 bits is read.")
    try:
        check_finite(tensors)
    except ValueError as problem:
        raise ValueError(f"{path.name}: {problem}") from None
    return tensors, metadata


def read_json(path: Path) -> dict:
    """A JSON file that holds an object; raises ValueError for another, OSError if it cannot be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"{path.name} is no JSON ({problem}); fetch it again.") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path.name} holds {data!r:.40} where an object with named values is expected.")
    return data


def to_json(content: object) -> bytes:
    """A JSON file's content, for people to read too."""
    return (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode()
