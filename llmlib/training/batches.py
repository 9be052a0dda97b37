"""Batches for training. A stream of tokens is one long row of ids in which an end-of-text token stands before, between
and after documents. Two ways to cut it: `StreamBatches` takes windows of equal length from anywhere, `DocumentBatches`
takes whole documents, so that no document ever sees another. Both give the batch of step n from n and the seed alone,
which is what lets a run resume.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from llmlib.tokenizer import Tokenizer

IGNORED = -100  # as a target: no loss here (the padding after a short document)


def token_stream(texts: Iterable[str], coder: Tokenizer, end_of_text: str = "<|endoftext|>") -> Tensor:
    """Ids of all texts in a row, with the special token `end_of_text` before, between and after them: (tokens,)."""
    if end_of_text not in coder.special_tokens:
        raise ValueError(
            f"The tokenizer has no special token {end_of_text!r}; train it with special_tokens=[{end_of_text!r}]."
        )
    end = coder.special_tokens[end_of_text]
    ids = array("i", [end])
    for text in texts:
        ids.extend(coder.encode(text))
        ids.append(end)
    return torch.tensor(ids, dtype=torch.int32)


@dataclass(frozen=True)
class Batch:
    """Ids that a model reads and those that it is to predict, (B, T) both: `targets` is `inputs` one token later."""

    inputs: Tensor
    targets: Tensor

    @property
    def tokens(self) -> int:
        """Tokens predicted; padding does not count."""
        return int((self.targets != IGNORED).sum())

    def rows(self, start: int, step: int = 1) -> Batch:
        """Every `step`-th row from `start` on: a process's share."""
        return Batch(self.inputs[start::step], self.targets[start::step])

    def to(self, device: torch.device) -> Batch:
        return Batch(self.inputs.to(device), self.targets.to(device))


class Batches(Protocol):
    """What the loop asks for: the batch of step n, always the same one."""

    def __getitem__(self, n: int) -> Batch: ...


class StreamBatches:
    """Windows of `length` tokens from anywhere in a stream, `rows` at a time.

    >>> batch = StreamBatches(torch.arange(100), rows=2, length=3)[0]
    >>> bool((batch.targets == batch.inputs + 1).all()), batch.tokens
    (True, 6)
    """

    def __init__(self, stream: Tensor, rows: int, length: int, seed: int = 0) -> None:
        if len(stream) <= length:
            raise ValueError(
                f"The stream has {len(stream)} tokens; windows of {length} need at least {length + 1}. "
                "Give more text or choose shorter windows."
            )
        self.stream, self.rows, self.length, self.seed = stream, rows, length, seed

    def __getitem__(self, n: int) -> Batch:
        starts = np.random.default_rng((self.seed, n)).integers(0, len(self.stream) - self.length, self.rows)
        windows = torch.stack([self.stream[start : start + self.length + 1] for start in starts.tolist()]).long()
        return Batch(windows[:, :-1], windows[:, 1:])


class DocumentBatches:
    """Whole documents, each a row of its own that begins and ends with `end_of_text`, padded to the longest.

    Documents are shuffled anew each epoch; those of like length are put together, so that little is padded, and a batch
    takes as many as fit into `tokens` ids, padding included. A document longer than `context` loses its end.

    >>> stream = torch.tensor([0, 5, 6, 0, 7, 0])
    >>> batch = DocumentBatches(stream, end_of_text=0, tokens=100, context=8)[0]
    >>> sorted(batch.inputs.tolist()), sorted(batch.targets.tolist())
    ([[0, 5, 6], [0, 7, 0]], [[5, 6, 0], [7, 0, -100]])
    """

    POOL = 4096  # documents among which like lengths are sought: enough to pad little, few enough to mix well

    def __init__(self, stream: Tensor, end_of_text: int, tokens: int, context: int, seed: int = 0) -> None:
        self.stream, self.end_of_text, self.tokens, self.context, self.seed = stream, end_of_text, tokens, context, seed
        ends = torch.nonzero(stream == end_of_text).flatten().numpy()
        self.starts, lengths = ends[:-1], np.diff(ends)  # a length counts the closing end_of_text, not the opening one
        self.starts, lengths = self.starts[lengths > 1], lengths[lengths > 1]
        if not len(lengths):
            raise ValueError(
                f"The stream holds no document: nothing stands between two end-of-text tokens (id {end_of_text})."
            )
        self.lengths = np.minimum(lengths, context)
        if tokens < self.lengths.max():
            raise ValueError(
                f"A batch of {tokens} tokens does not hold the longest document, {self.lengths.max()} tokens; "
                "give larger batches or a smaller context."
            )
        self._epochs: list[list[np.ndarray]] = []

    def _epoch(self, number: int) -> list[np.ndarray]:
        """The documents of each batch, in order."""
        random = np.random.default_rng((self.seed, number))
        order, batches = random.permutation(len(self.lengths)), []
        for first in range(0, len(order), self.POOL):
            pool = order[first : first + self.POOL]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            begin = 0
            for end in range(1, len(pool) + 1):
                if end == len(pool) or (end + 1 - begin) * self.lengths[pool[end]] > self.tokens:
                    batches.append(pool[begin:end])
                    begin = end
        return [batches[i] for i in random.permutation(len(batches))]

    def __getitem__(self, n: int) -> Batch:
        for epoch in range(n + 1):
            if epoch == len(self._epochs):
                self._epochs.append(self._epoch(epoch))
            if n < len(self._epochs[epoch]):
                return self.batch_of(self._epochs[epoch][n])
            n -= len(self._epochs[epoch])
        raise AssertionError("an epoch holds at least one batch")

    def __iter__(self) -> Iterator[Batch]:
        """Every document once."""
        return (self.batch_of(documents) for documents in self._epoch(0))

    def batch_of(self, documents: np.ndarray) -> Batch:
        """These documents, by their number in the stream from 0 on, a row each."""
        lengths = self.lengths[documents]
        inputs = torch.full((len(documents), int(lengths.max())), self.end_of_text)
        targets = torch.full_like(inputs, IGNORED)
        for row, (start, length) in enumerate(zip(self.starts[documents], lengths, strict=True)):
            inputs[row, :length] = self.stream[start : start + length]
            targets[row, :length] = self.stream[start + 1 : start + length + 1]
        return Batch(inputs, targets)
