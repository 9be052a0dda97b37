"""The two layers that are as wide as the vocabulary, and the loss, cut by tokens: each process knows V / n of them.

Logits are the largest activations of a small model, (B, T, V): the loss is computed from the parts, with two sums of
one number a token, and they are never put together. Source: Shoeybi et al. 2019 (arXiv 1909.08053), section 3.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from llmlib.parallel.tensor import Group, check_divides, f_copy, g_sum, gather_columns, gathered_parts


def _own_tokens(weight: Tensor, group: Group | None) -> Tensor:
    check_divides("tokens of the vocabulary", weight.size(0), dist.get_world_size(group))
    return weight.detach().chunk(dist.get_world_size(group))[dist.get_rank(group)].clone()


class VocabularyEmbedding(nn.Embedding):
    """An embedding cut by tokens, (B, T) -> (B, T, C): who knows a token looks it up, the others add 0."""

    def __init__(self, embedding: nn.Embedding, group: Group | None = None) -> None:
        own = _own_tokens(embedding.weight, group)
        super().__init__(*own.shape, _weight=own)
        self.group, self.first = group, dist.get_rank(group) * len(own)

    def forward(self, ids: Tensor) -> Tensor:
        places = ids - self.first
        unknown = (places < 0) | (places >= len(self.weight))
        known = functional.embedding(places.masked_fill(unknown, 0), self.weight)
        return g_sum(known.masked_fill(unknown.unsqueeze(-1), 0), self.group)  # (B, T, C)

    def whole(self, part: Tensor) -> Tensor:
        """All processes' parts of the weight or its gradient, put together."""
        return torch.cat(gathered_parts(part, self.group))


class VocabularyHead(nn.Module):
    """The output layer cut by tokens. Called, it gathers all logits, (..., C) -> (..., V); `part` leaves them cut."""

    def __init__(self, head: nn.Linear, group: Group | None = None, tied: VocabularyEmbedding | None = None) -> None:
        super().__init__()
        self.group = group
        self.weight = nn.Parameter(_own_tokens(head.weight, group)) if tied is None else tied.weight

    def part(self, x: Tensor) -> Tensor:
        """The logits of this process' tokens, (..., C) -> (..., V / n)."""
        return functional.linear(f_copy(x, self.group), self.weight)

    def loss_sum(self, x: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy summed over tokens, in nats, from logits that stay cut: (N, C), (N,) -> ()."""
        logits = self.part(x)  # (N, V / n)
        precise = torch.promote_types(logits.dtype, torch.float32)
        return vocabulary_cross_entropy(logits.to(precise), targets, self.group).sum()

    def forward(self, x: Tensor) -> Tensor:
        return gather_columns(self.part(x), self.group)

    def whole(self, part: Tensor) -> Tensor:
        """All processes' parts of the weight or its gradient, put together."""
        return torch.cat(gathered_parts(part, self.group))


class _CrossEntropy(Function):
    @staticmethod
    def forward(ctx, logits: Tensor, targets: Tensor, group: Group | None) -> Tensor:
        most = logits.amax(dim=1)  # (N,)
        dist.all_reduce(most, dist.ReduceOp.MAX, group=group)
        shifted = logits - most.unsqueeze(1)
        places = targets - dist.get_rank(group) * logits.size(1)
        unknown = (places < 0) | (places >= logits.size(1))
        places = places.masked_fill(unknown, 0).unsqueeze(1)
        at_target = shifted.gather(1, places).squeeze(1).masked_fill(unknown, 0)
        exponentials = shifted.exp_()
        sums = torch.stack([exponentials.sum(dim=1), at_target])  # (2, N)
        dist.all_reduce(sums, group=group)
        total, at_target = sums
        ctx.save_for_backward(exponentials.div_(total.unsqueeze(1)), places, unknown)
        return total.log() - at_target

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor, None, None]:
        p, places, unknown = ctx.saved_tensors  # the gradient is p - y, of which each process has its own columns
        minus_y = torch.where(unknown, 0.0, -1.0).to(p.dtype).unsqueeze(1)
        return p.scatter_add(1, places, minus_y) * dy.unsqueeze(1), None, None


def vocabulary_cross_entropy(logits: Tensor, targets: Tensor, group: Group | None = None) -> Tensor:
    """Each token's -ln p(target), in nats, from the parts of its logits: (N, V / n), (N,) -> (N,).

    Two all-reduces, 3 N numbers: the greatest logit, the sum of the exponentials and the target's logit. None going
    back. With one process it is the cross-entropy as ever.
    """
    return _CrossEntropy.apply(logits, targets, group)
