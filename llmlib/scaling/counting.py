"""What a training run computes: the rule C = 6ND, and an exact count beside it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from numbers import Integral

import numpy as np


def positive(name: str, value):
    """A number as it is, anything else as an array of float. Raises ValueError for what is not finite and above 0."""
    array = np.asarray(value, dtype=float)
    if not (np.isfinite(array) & (array > 0)).all():
        raise ValueError(f"{name} is {value}; it has to be a finite number above 0.")
    return value if isinstance(value, float | int) else array


def six_nd(N, D):
    """Floating-point operations of training N parameters on D tokens, by the rule C = 6ND.

    Each weight takes part in one multiplication and one addition a token forward, and in twice that backward. Left out:
    what attention computes without weights. Counted though nothing is computed: an embedding that is looked up.

    >>> f"{six_nd(70e9, 1.4e12):.3g}"
    '5.88e+23'

    Numbers or arrays that broadcast. Raises ValueError for what is not above 0.
    """
    return 6 * positive("N", N) * positive("D", D)


@dataclass(frozen=True)
class DenseShape:
    """The sizes of a dense Transformer as in `llmlib.model`: enough to count its weights and what they compute.

    >>> shape = DenseShape(vocabulary=128256, width=4096, layers=32, heads=32, kv_heads=8, head_width=128,
    ...                    feed_forward=14336, tied=False)  # Llama-3-8B
    >>> f"{shape.parameters:.4g}, {shape.train_flops(8192) / (6 * shape.parameters):.2f}"
    '8.03e+09, 1.07'

    Raises ValueError for a size that is no whole number of at least 1.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    feed_forward: int
    tied: bool = True

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name != "tied"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{name} is {value!r}; it has to be a whole number of at least 1.")
            object.__setattr__(self, name, int(value))  # numpy's whole numbers overflow in products

    @property
    def layer_weights(self) -> int:
        """Entries of the matrices of all layers."""
        attention = 2 * self.width * (self.heads + self.kv_heads) * self.head_width
        return self.layers * (attention + 3 * self.width * self.feed_forward)

    @property
    def parameters(self) -> int:
        """All learned numbers, the vocabulary's matrices included: Hoffmann's N."""
        return self.parameters_without_embedding + (2 - self.tied) * self.vocabulary * self.width

    @property
    def parameters_without_embedding(self) -> int:
        """Layers and norms alone: Kaplan's N."""
        return self.layer_weights + self.layers * 2 * self.width + self.width

    def train_flops(self, length: int) -> float:
        """FLOP a token of training in sequences of `length` tokens: every matrix product, forward and backward.

        Causal attention is counted as far as it looks, (length + 1) / 2 positions on average. Norms, softmax and
        rotations are left out.
        """
        if not length >= 1:
            raise ValueError(f"The sequence has {length} tokens; it needs at least 1.")
        products = 2 * (self.layer_weights + self.vocabulary * self.width)
        attention = self.layers * 4 * self.heads * self.head_width * (length + 1) / 2
        return 3 * (products + attention)
