"""A `Transformer` cut by layers: pieces of consecutive layers, the first with the embedding, the last with the output.

A pipeline of p stages with v chunks has p v pieces; chunk c of stage s is piece c p + s, as in `schedules`.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from llmlib.fused import output_loss
from llmlib.model import Cache, Transformer
from llmlib.parallel.vocabulary import VocabularyHead

IGNORED = -100  # as a target: no loss here


def split_layers(layers: int, pieces: int) -> list[range]:
    """The layers of each piece: as equal as can be, the earlier ones longer, since the last has the output layer too.

    >>> split_layers(5, 2), split_layers(4, 4)
    ([range(0, 3), range(3, 5)], [range(0, 1), range(1, 2), range(2, 3), range(3, 4)])

    Raises ValueError for more pieces than layers.
    """
    for name, value in (("layers", layers), ("pieces", pieces)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; it has to be a whole number of at least 1.")
    if pieces > layers:
        raise ValueError(
            f"{layers} layers cannot be cut into {pieces} pieces, for a piece has at least one; "
            "take fewer stages, fewer chunks, or a deeper model."
        )
    short, longer = divmod(layers, pieces)
    ends = [short * i + min(i, longer) for i in range(pieces + 1)]
    return [range(start, end) for start, end in pairwise(ends)]


class Piece(nn.Module):
    """Consecutive layers of a model, which it shares with it: ids (B, T) or a stream (B, T, C) in, a stream out.

    The last piece ends with the model's last norm; `logits` and `loss_sum` are its to give. Parameters have the names
    they have in the model.
    """

    def __init__(self, model: Transformer, index: int, pieces: int) -> None:
        super().__init__()
        layers = split_layers(model.config.layers, pieces)[index]
        self.config, self.first, self.last = model.config, index == 0, index == pieces - 1
        self.layers = nn.ModuleDict({str(layer): model.layers[layer] for layer in layers})
        self.end = layers.stop
        if self.first:
            self.embedding = model.embedding
        if self.last:
            self.norm, self.head = model.norm, model.head
        self.register_buffer("rotation", model.rotation, persistent=False)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        if self.first:
            x = self.embedding(x)  # (B, T, C)
        start = 0 if cache is None else cache.length
        table = self.rotation[:, start : start + x.size(1)]
        for layer in self.layers.values():
            x = layer(x, table, None, cache)
        return self.norm(x) if self.last else x

    def loss_sum(self, x: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy summed over tokens, in nats, of the last piece's output: (B, T, C), (B, T) -> ()."""
        wanted = targets != IGNORED
        if isinstance(self.head, VocabularyHead):  # the model is cut by matrices, too
            return self.head.loss_sum(x[wanted], targets[wanted])
        return output_loss(x[wanted], self.head.weight, targets[wanted])


class GrowingCache:
    """Keys and values of a piece's layers, put end to end as they come: the plainest cache that `Piece` can be given.

    >>> cache = GrowingCache(last_layer=0)
    >>> keys, values = cache.append(0, torch.ones(1, 1, 3, 2), torch.zeros(1, 1, 3, 2))
    >>> cache.length, cache.append(0, keys, values)[0].shape
    (3, torch.Size([1, 1, 6, 2]))
    """

    def __init__(self, last_layer: int) -> None:
        self.length, self.last_layer = 0, last_layer
        self._held: dict[int, tuple[Tensor, Tensor]] = {}

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Adds T positions to one layer, (B, K, T, D) each, and returns all of them, (B, K, S, D) each."""
        if layer in self._held:
            keys, values = (torch.cat(pair, dim=2) for pair in zip(self._held[layer], (keys, values), strict=True))
        self._held[layer] = keys, values
        if layer == self.last_layer:
            self.length = keys.size(2)
        return keys, values
