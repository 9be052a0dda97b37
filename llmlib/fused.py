"""Steps of the model with their gradients written by hand: on a CPU several times as fast as autograd's, and equal.

Autograd keeps what each small operation read, and walks back through them one at a time. Here each step is one
operation: it keeps what its gradient needs, and writes that gradient at once. In every `backward`, `dy` is the gradient
of the loss with respect to what `forward` returned. Numbers of a sequence may have any shape before the last axis.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional


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
    if not torch.is_grad_enabled():
        return functional.rms_norm(x, scale.shape, scale, epsilon)
    return _RMSNorm.apply(x, scale, epsilon)


class _SwiGLU(Function):
    @staticmethod
    def forward(ctx, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        gated = functional.silu(gate)
        ctx.save_for_backward(gate_up, gated)
        return gated * up

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> Tensor:
        gate_up, gated = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        dx = torch.empty_like(gate_up)
        dgate, dup = dx.chunk(2, dim=-1)
        torch.mul(dy, gated, out=dup)
        torch.ops.aten.silu_backward.grad_input(dy * up, gate, grad_input=dgate)
        return dx


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up, the two side by side on the last axis: (..., 2F) -> (..., F). Source: Shazeer 2020, equation 6.

    >>> swiglu(torch.tensor([0.0, 1.0, 5.0, 2.0]))  # silu(0) * 5, silu(1) * 2
    tensor([0.0000, 1.4621])
    """
    if not torch.is_grad_enabled():
        gate, up = gate_up.chunk(2, dim=-1)
        return functional.silu(gate) * up
    return _SwiGLU.apply(gate_up)


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    (first, second), (y_first, y_second) = x.chunk(2, dim=-1), y.chunk(2, dim=-1)
    torch.mul(first, cos, out=y_first).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=y_second).addcmul_(first, sin)
    return y


class _Rotate(Function):
    @staticmethod
    def forward(ctx, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(dy, cos, -sin), None, None  # a rotation's transpose turns back


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turns the pairs (x[i], x[i + D/2]) by the angles of `table`: (B, T, H, D), (2, T, D/2) -> (B, T, H, D)."""
    cos, sin = table.to(x.dtype).unsqueeze(-2)  # (T, 1, D / 2)
    if not torch.is_grad_enabled():
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return _Rotate.apply(x, cos, sin)


class _OutputLoss(Function):
    ROWS = 256  # logits are made, used and dropped this many rows at a time, which then stay in the processor's cache

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
    plain = torch.is_autocast_enabled(x.device.type) or x.device.type != "cpu" or torch.compiler.is_compiling()
    if plain or not torch.is_grad_enabled():
        return functional.cross_entropy((x @ weight.t()).float(), targets, reduction="sum")
    return _OutputLoss.apply(x, weight, targets)
