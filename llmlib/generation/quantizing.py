"""Keys and values in a few bits: numbers become small whole numbers, with a scale for each group of them."""

from __future__ import annotations

import torch
from torch import Tensor

from llmlib.model import ModelConfig

ALONG = {"token": -1, "channel": -2}  # the axis that shares a scale: a token's D numbers, or a channel's tokens


def quantize(x: Tensor, bits: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes 0 .. 2^bits - 1 of numbers, and the least number and the step of each group along `dim`, in 16 bits.

    Between them lie equal steps, so that a number is off by at most half a step, and by the rounding of the two.

    >>> codes, least, size = quantize(torch.tensor([[0.0, 1.0, 3.0]]), bits=2, dim=-1)
    >>> codes, least, size
    (tensor([[0, 1, 3]], dtype=torch.uint8), tensor([[0.]], dtype=torch.float16), tensor([[1.]], dtype=torch.float16))
    >>> dequantize(codes, least, size)
    tensor([[0., 1., 3.]])

    Raises ValueError unless bits is a whole number from 1 to 8.
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 8:
        raise ValueError(f"bits is {bits!r}; a code fits into a byte, so it is a whole number from 1 to 8.")
    most = 2**bits - 1
    least = x.amin(dim, keepdim=True).half()
    size = ((x.amax(dim, keepdim=True) - least.float()) / most).half()
    codes = (x - least.float()) / size.float().clamp(min=1e-8)
    return codes.round().clamp(0, most).to(torch.uint8), least, size


def dequantize(codes: Tensor, least: Tensor, size: Tensor) -> Tensor:
    """The numbers that codes stand for, in float32; see `quantize`."""
    return codes * size.float() + least.float()


def _pack(codes: Tensor, bits: int) -> Tensor:
    """Codes side by side in bytes, (..., D) -> (..., D bits / 8): 8 / bits of them in each.

    >>> _pack(torch.tensor([1, 2, 3, 15], dtype=torch.uint8), bits=4)
    tensor([ 33, 243], dtype=torch.uint8)
    """
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8)
    return (codes.unflatten(-1, (-1, len(shifts))) << shifts).sum(dim=-1, dtype=torch.uint8)


def _unpack(packed: Tensor, bits: int) -> Tensor:
    """What `_pack` was given: (..., D bits / 8) -> (..., D)."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8)
    return ((packed.unsqueeze(-1) >> shifts) & (2**bits - 1)).flatten(-2)


class QuantizedCache:
    """A cache of keys and values in `bits` bits each; the model takes it where it takes a `KVCache`.

    `keys` and `values` say what shares a scale: the D numbers of a "token", in one head, or those of a "channel" over a
    group of `group` tokens. The newest tokens, until they are a group, and those of the pass under way stay exact.
    Source: Liu et al. 2024 (arXiv 2402.02750), who take channels for keys and tokens for values.

    >>> config = ModelConfig(vocab_size=50, context=64, width=64, layers=2, heads=2)
    >>> plain, small = 64 * config.kv_bytes(), QuantizedCache(config, bits=4, group=16).nbytes
    >>> round(plain / small, 1)  # less than 32 / 4: there are the scales, and the newest group
    2.4
    """

    def __init__(
        self,
        config: ModelConfig,
        bits: int = 8,
        keys: str = "channel",
        values: str = "token",
        batch: int = 1,
        group: int = 32,
    ) -> None:
        if bits not in (2, 4, 8):
            raise ValueError(f"bits is {bits!r}; choose 2, 4 or 8, so that whole numbers of codes fill a byte.")
        for name, value in (("keys", keys), ("values", values)):
            if value not in ALONG:
                raise ValueError(f"{name} is {value!r}; choose 'token' or 'channel', what is to share a scale.")
        if config.head_width * bits % 8:
            raise ValueError(f"{config.head_width} codes of {bits} bits fill no whole number of bytes; take more bits.")
        if isinstance(group, bool) or not isinstance(group, int) or group < 1:
            raise ValueError(f"group is {group!r}; it has to be a whole number of at least 1.")
        self.bits, self.group, self.config, self.length = bits, group, config, 0
        self.dims = (ALONG[keys], ALONG[values])
        groups = -(-config.context // group)
        L, B, K, D = config.layers, batch, config.kv_heads, config.head_width
        self.codes = torch.zeros(2, L, B, K, groups, group, D * bits // 8, dtype=torch.uint8)
        shapes = {-1: (L, B, K, groups, group, 1), -2: (L, B, K, groups, 1, D)}
        self.scales = [torch.zeros(2, *shapes[dim], dtype=torch.float16) for dim in self.dims]  # least, size
        self.newest = torch.zeros(2, L, B, K, group, D)

    @property
    def nbytes(self) -> int:
        """Bytes taken, used or not: codes, scales, and the exact newest group."""
        return self.codes.nbytes + self.newest.nbytes + sum(scale.nbytes for scale in self.scales)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Adds T positions to one layer, (B, K, T, D) each, and returns all of them, (B, K, S, D) each.

        The last layer's addition moves `length` on. All codes are turned back into numbers at each call, which saves
        memory where the cache rests, and no time.
        """
        done, rest = divmod(self.length, self.group)
        both = []
        for which, new in enumerate((keys, values)):
            recent = torch.cat([self.newest[which, layer, :, :, :rest], new], dim=2)
            old = dequantize(
                _unpack(self.codes[which, layer, :, :, :done], self.bits), *self.scales[which][:, layer, :, :, :done]
            ).flatten(2, 3)  # (B, K, done group, D)
            both.append(torch.cat([old, recent], dim=2))
            full = recent.size(2) // self.group
            parts = recent[:, :, : full * self.group].unflatten(2, (full, self.group))
            codes, *scale = quantize(parts, self.bits, self.dims[which])
            self.codes[which, layer, :, :, done : done + full] = _pack(codes, self.bits)
            self.scales[which][:, layer, :, :, done : done + full] = torch.stack(scale)
            left = recent[:, :, full * self.group :]
            self.newest[which, layer, :, :, : left.size(2)] = left
        if layer == self.config.layers - 1:
            self.length += keys.size(2)
        return both[0], both[1]
