"""Steps of the model with their gradients written by hand: on a CPU faster than autograd's, and equal to them.

Autograd keeps what each small operation read, and walks back through them one at a time. Here each step is one
operation: it keeps what its gradient needs, and writes that gradient at once. In every `backward`, `dy` is the gradient
of the loss with respect to what `forward` returned. Where no gradient is wanted, on a GPU, and under `torch.compile`,
which fuses by itself, the plain formula is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional


def _by_hand(x: Tensor) -> bool:
    return torch.is_grad_enabled() and x.device.type == "cpu" and not torch.compiler.is_compiling()


class _RMSNorm(Function):
    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor, epsilon: float) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        r = (length.square() / x.size(-1) + epsilon).rsqrt_()  # 1 / rms
        ctx.save_for_backward(x, scale, r)
        return (x * r).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        # y_i = s_i x_i r, and dr/dx_j = -r^3 x_j / C, so dx_j = r s_j dy_j - x_j (r^3 / C) sum_i dy_i s_i x_i
        x, scale, r = ctx.saved_tensors
        dy_x = (dy * x).flatten(0, -2)
        dscale = r.flatten() @ dy_x
        along = (dy_x @ scale).view(r.shape) * r.square() / -x.size(-1)
        return (dy * scale).addcmul_(x, along).mul_(r), dscale, None


def rms_norm(x: Tensor, scale: Tensor, epsilon: float) -> Tensor:
    """x / sqrt(mean(x^2) + epsilon) * scale, over the last axis. Source: Zhang & Sennrich 2019, equation 4.

    >>> rms_norm(torch.tensor([3.0, 4.0]), torch.ones(2), 0.0) * 12.5**0.5
    tensor([3., 4.])
    """
    if _by_hand(x):
        return _RMSNorm.apply(x, scale, epsilon)
    return functional.rms_norm(x, scale.shape, scale, epsilon)


class _Rotate(Function):
    @staticmethod
    def forward(ctx, qkv: Tensor, cos: Tensor, sin: Tensor, heads: int, kv_heads: int) -> tuple[Tensor, ...]:
        ctx.save_for_backward(cos, sin)
        parts = qkv.split([heads, kv_heads, kv_heads], dim=2)
        return tuple(_turned(parts, cos, sin, torch.empty_like(qkv)))

    @staticmethod
    @once_differentiable
    def backward(ctx, *dy: Tensor) -> tuple[Tensor, None, None, None, None]:
        cos, sin = ctx.saved_tensors  # a rotation's transpose turns back
        dqkv = dy[0].new_empty(*dy[0].shape[:2], sum(part.size(2) for part in dy), dy[0].size(3))
        _turned(dy, cos, -sin, dqkv)
        return dqkv, None, None, None, None


def _turned(parts: Sequence[Tensor], cos: Tensor, sin: Tensor, out: Tensor) -> Sequence[Tensor]:
    """Writes queries and keys, turned, and values as they are, side by side into `out`, and returns the three of it."""
    outs = out.split([part.size(2) for part in parts], dim=2)
    for part, turned in zip(parts[:2], outs[:2], strict=True):
        (first, second), (turned_first, turned_second) = part.chunk(2, dim=-1), turned.chunk(2, dim=-1)
        torch.mul(first, cos, out=turned_first).addcmul_(second, sin, value=-1)
        torch.mul(second, cos, out=turned_second).addcmul_(first, sin)
    outs[2].copy_(parts[2])
    return outs


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns the pairs (x[i], x[i + D/2]) by the angles with these cosines and sines: (..., D), (..., D/2) twice.

    >>> turn(torch.tensor([3.0, 4.0]), cos=torch.zeros(1), sin=torch.ones(1))  # a quarter of a turn
    tensor([-4.,  3.])
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def rotate(qkv: Tensor, table: Tensor, heads: int, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys, turned by the angles of `table`, and values as they are, from all side by side.

    (B, T, H + 2K, D) and a table of (2, T, D/2) or (2, B, T, D/2) -> (B, T, H, D), (B, T, K, D), (B, T, K, D).
    Source: Su et al. 2021 (arXiv 2104.09864), equation 34, pairs chosen as in Llama.
    """
    cos, sin = table.to(qkv.dtype).unsqueeze(-2)  # ([B,] T, 1, D / 2)
    if _by_hand(qkv):
        return _Rotate.apply(qkv, cos, sin, heads, kv_heads)
    qk, v = qkv.split([heads + kv_heads, kv_heads], dim=2)
    q, k = turn(qk, cos, sin).split([heads, kv_heads], dim=2)
    return q, k, v


class _OutputLoss(Function):
    ROWS = 128  # logits are made, used and dropped this many rows at a time, which then stay in the processor's cache

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        loss, dx, dweight = x.new_zeros(()), torch.empty_like(x), torch.zeros_like(weight)
        for start in range(0, x.size(0), _OutputLoss.ROWS):
            part = slice(start, start + _OutputLoss.ROWS)
            chosen = targets[part].unsqueeze(1)
            logits = x[part] @ weight.t()  # (rows, V)
            logits -= logits.amax(dim=1, keepdim=True)
            at_target = logits.gather(1, chosen)
            total = logits.exp_().sum(dim=1, keepdim=True)
            loss += (total.log() - at_target).sum()
            p_minus_y = logits.div_(total).scatter_add_(1, chosen, at_target.new_full(chosen.shape, -1.0))
            torch.mm(p_minus_y, weight, out=dx[part])
            dweight.addmm_(p_minus_y.t(), x[part])
        ctx.save_for_backward(dx, dweight)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        dx, dweight = ctx.saved_tensors
        return dx * dy, dweight * dy, None


def output_loss(x: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy, in nats, of the output layer's logits x W^T: (N, C), (V, C), (N) -> ().

    The gradient with respect to the logits is p - y: the probabilities, less 1 at the target.

    >>> output_loss(torch.zeros(3, 4), torch.ones(8, 4), torch.tensor([0, 1, 2])) / 3  # a uniform guess: ln 8
    tensor(2.0794)
    """
    if _by_hand(x) and not torch.is_autocast_enabled("cpu"):
        return _OutputLoss.apply(x, weight, targets)
    logits = x @ weight.t()  # (N, V)
    precise = torch.promote_types(logits.dtype, torch.float32)  # 16 bits are too few for a sum over V
    return functional.cross_entropy(logits.to(precise), targets, reduction="sum")
