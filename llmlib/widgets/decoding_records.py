"""What the book's model expects after some beginnings, recorded for the figures SamplingExplorer and BeamTree.

    python -m llmlib.widgets.decoding_records

Writes `decoding_records.json` beside this file, in a few seconds: {"sampling": [records], "beams": [records]}.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlib.widgets.beam_tree import beam_record
from llmlib.widgets.page_model import torch_reader
from llmlib.widgets.sampling_explorer import sampling_record

if TYPE_CHECKING:  # else when they are needed: to show what is recorded takes no torch
    from llmlib.model import Transformer
    from llmlib.tokenizer import Tokenizer

PEAKED = "Mina was a fussy hamster who lived in a hole under the hedge. She"
MIDDLE = "Once upon a time, Pip the duck lived in a clock shop. He loved playing the flute."
FLAT = "Far from here, there lived a fox cub called"
BEAMS = ("Mina was afraid of", "Mina had a good friend,")
WIDTH, LENGTH = 4, 8
RECORD = Path(__file__).with_name("decoding_records.json")


def predictions_after(model: Transformer, coder: Tokenizer, prompt: str) -> dict[str, Any]:
    """A record for SamplingExplorer: what the model expects after an end of text and this prompt."""
    start, expect = torch_reader(model, coder)
    ids = start(prompt)
    return sampling_record(ids, expect(ids), lambda token: coder.decode([token]), prompt)


def beams_after(
    model: Transformer, coder: Tokenizer, prompt: str, width: int = WIDTH, length: int = LENGTH
) -> dict[str, Any]:
    """A record for BeamTree: what every search up to this width and length meets after this prompt."""
    start, expect = torch_reader(model, coder)
    first = start(prompt)
    return beam_record(
        lambda ids: expect([*first, *ids]), lambda token: coder.decode([token]), prompt, width, length, end=first[0]
    )


def recorded_predictions() -> dict[str, list[dict[str, Any]]]:
    """The records of the book's model, as the chapter's figures take them."""
    return json.loads(RECORD.read_text("utf-8"))


def make_records() -> dict[str, list[dict[str, Any]]]:
    """The same, computed anew by the model in the package."""
    from llmlib import checkpoints

    model, coder = checkpoints.load(checkpoints.STORY_MODEL)
    return {
        "sampling": [predictions_after(model, coder, prompt) for prompt in (MIDDLE, PEAKED, FLAT)],
        "beams": [beams_after(model, coder, prompt) for prompt in BEAMS],
    }


if __name__ == "__main__":
    text = json.dumps(make_records(), ensure_ascii=False, separators=(",", ":"))
    RECORD.write_text(text + "\n", encoding="utf-8")
