"""A model for a page: its files cut into parts that a figure fetches when it is asked to run, see runtime.js."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlib.widgets.base import BookWidget

if TYPE_CHECKING:  # else when they are needed: a figure that shows a record does not wait for torch
    from torch import Tensor

    from llmlib.model import Transformer
    from llmlib.tokenizer import Tokenizer

STORY_MODEL = Path(str(files("llmlib").joinpath("story_model")))  # the book's own, as in llmlib.checkpoints
PART_BYTES = 480_000  # a multiple of 3, so that base64 text has no padding; small enough to show progress


def model_manifest(folder: str | Path = STORY_MODEL) -> dict[str, Any]:
    """What a page has to know first: {"config": config.json, "tokenizer": tokenizer.json, "bytes": [each part's]}.

    >>> manifest = model_manifest()
    >>> manifest["config"]["hidden_size"], len(manifest["bytes"])
    (128, 5)

    Raises FileNotFoundError for a folder that lacks one of the three files.
    """
    size = len(_read(folder, "model.safetensors"))
    starts = range(0, size, PART_BYTES)
    return {
        "config": json.loads(_read(folder, "config.json")),
        "tokenizer": json.loads(_read(folder, "tokenizer.json")),
        "bytes": [min(PART_BYTES, size - start) for start in starts],
    }


def model_part(part: int, folder: str | Path = STORY_MODEL) -> bytes:
    """Part 1, 2, ... of the weights' file, in the order in which they are put together again."""
    return _read(folder, "model.safetensors")[(part - 1) * PART_BYTES : part * PART_BYTES]


def model_scripts(folder: str | Path = STORY_MODEL, name: str = "story_model") -> dict[str, str]:
    """The parts as classic scripts, which load from disk: {file name: text}. Each puts itself into window.bookParts.

    >>> list(model_scripts())[:3]
    ['story_model.js', 'story_model.1.js', 'story_model.2.js']
    """
    manifest = model_manifest(folder)
    contents = {name: json.dumps(manifest, separators=(",", ":")).replace("<", "\\u003c")}
    for part in range(1, len(manifest["bytes"]) + 1):
        contents[f"{name}.{part}"] = f'"{base64.b64encode(model_part(part, folder)).decode()}"'
    return {f"{file}.js": f'(window.bookParts ??= {{}})["{file}"] = {text};\n' for file, text in contents.items()}


def _read(folder: str | Path, name: str) -> bytes:
    path = Path(folder) / name
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no {name}; a page runs a model saved by checkpoints.save, with its tokenizer, in one file."
        )
    return path.read_bytes()


def needs_model(text: str, problem: Exception) -> str:
    """The paragraph of a fallback that says why a record is shown in place of a text."""
    return (
        f"<p>A recorded text is shown, for <q>{html.escape(text)}</q> needs the model: {html.escape(str(problem))}</p>"
    )


def torch_reader(
    model: Transformer, coder: Tokenizer
) -> tuple[Callable[[str], list[int]], Callable[[list[int]], Tensor]]:
    """How a page reads with a model, in torch: a beginning -> its ids, and all ids -> the logits of the next, (V,).

    A text begins with the end of another one, as in training. Raises ValueError for ids that the model cannot read.
    """
    import torch

    @torch.no_grad()
    def expect(ids: list[int]) -> torch.Tensor:
        wrong = [id_ for id_ in ids if not 0 <= id_ < model.config.vocab_size]
        if wrong:
            raise ValueError(
                f"The token {wrong[0]} is unknown to this model; its ids go from 0 to {model.config.vocab_size - 1}."
            )
        return model(torch.tensor([ids]))[0, -1]

    return lambda text: [coder.special_tokens["<|endoftext|>"], *coder.encode(text)], expect


class ModelWidget(BookWidget):
    """A figure that runs a model in the page. In a notebook, the page asks for its files, and gets them once it does.

    They are in no trait, so that neither a stored notebook nor the figure's twin holds them. `folder`, where they are,
    can be set to another model's: one saved by `checkpoints.save` with its tokenizer, small enough for a browser.
    """

    folder: Path = STORY_MODEL

    def __init__(self, **state: Any) -> None:
        super().__init__(**state)
        self.on_msg(self._answer)

    def in_torch(self) -> tuple[Tokenizer, Callable[[str], list[int]], Callable[[list[int]], Tensor]]:
        """The tokenizer of the model that the page runs, and the two functions of `torch_reader`.

        Raises OSError or ValueError where `folder` holds no model.
        """
        from llmlib import checkpoints

        model, coder = checkpoints.load(self.folder)
        return coder, *torch_reader(model, coder)

    def _answer(self, widget: object, content: object, buffers: object) -> None:
        if not isinstance(content, dict) or content.get("kind") != "model" or not isinstance(content.get("part"), int):
            return
        answer = {"kind": "model", "part": content["part"]}
        try:
            if content["part"] == 0:
                self.send({**answer, "manifest": model_manifest(self.folder)})
            else:
                self.send(answer, [model_part(content["part"], self.folder)])
        except OSError as problem:
            self.send({**answer, "problem": str(problem)})
