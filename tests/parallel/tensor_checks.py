"""What two processes check of tensor parallelism, each against the same layers uncut: in one launch, for speed.

A check raises AssertionError, which becomes the caller's error, or returns numbers for the test to judge.
"""

from dataclasses import replace

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from llmlib import parallel
from llmlib.experiments.workers import training
from llmlib.generation import KVCache, generate, stream
from llmlib.model import ModelConfig, Transformer
from llmlib.training import Batch, loss_sum

CONFIG = ModelConfig(vocab_size=32, context=24, width=24, layers=2, heads=4, kv_heads=2, tied=False)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def own(tensor, dim):
    return tensor.chunk(dist.get_world_size(), dim)[dist.get_rank()]


def layers():
    """Column then row, with biases, of widths that tell rows from columns: output and all gradients."""
    for bias in (True, False):
        torch.manual_seed(0)
        first, second = nn.Linear(6, 10, bias), nn.Linear(10, 4, bias)
        column, row = parallel.ColumnLinear(first), parallel.RowLinear(second)
        x = torch.randn(3, 5, 6, generator=seeded())
        mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        weights = torch.randn(3, 5, 4, generator=seeded(1))
        y, expected = row(torch.tanh(column(mine))), second(torch.tanh(first(theirs)))
        assert_close(y, expected)
        (y * weights).sum().backward()
        (expected * weights).sum().backward()
        assert_close(mine.grad, theirs.grad)
        assert_close(column.weight.grad, own(first.weight.grad, 0))
        assert_close(row.weight.grad, own(second.weight.grad, 1))
        assert_close(column.whole(column.weight.grad), first.weight.grad)
        assert_close(row.whole(row.weight.grad), second.weight.grad)
        if bias:
            assert_close(column.bias.grad, own(first.bias.grad, 0))
            assert_close(row.bias.grad, second.bias.grad)


def gathering():
    part = torch.full((2, 3), dist.get_rank() + 1.0, requires_grad=True)
    whole = parallel.gather_columns(part)
    assert_close(whole.detach(), torch.tensor([[1.0, 1, 1, 2, 2, 2]] * 2))
    (whole * torch.arange(12.0).view(2, 6)).sum().backward()
    assert_close(part.grad, own(torch.arange(12.0).view(2, 6), 1))


def vocabulary():
    """Tokens of both halves; logits far beyond what exp can take; loss and gradients as cross_entropy's."""
    table = nn.Embedding(8, 3)
    nn.init.normal_(table.weight, generator=seeded())
    cut, ids = parallel.VocabularyEmbedding(table), torch.tensor([[0, 3, 4], [7, 7, 1]])
    weights = torch.randn(2, 3, 3, generator=seeded(1))
    (cut(ids) * weights).sum().backward()
    (table(ids) * weights).sum().backward()
    assert_close(cut(ids), table(ids))
    assert_close(cut.weight.grad, own(table.weight.grad, 0))

    for scale in (1.0, 1000.0):
        logits = (scale * torch.randn(5, 8, generator=seeded(2))).requires_grad_()
        part = own(logits.detach(), 1).clone().requires_grad_()
        targets, weights = torch.tensor([0, 7, 3, 4, 4]), torch.tensor([1.0, 2, 3, 4, 5])
        losses = parallel.vocabulary_cross_entropy(part, targets)
        expected = functional.cross_entropy(logits, targets, reduction="none")
        assert_close(losses, expected)
        (losses * weights).sum().backward()
        (expected * weights).sum().backward()
        assert_close(part.grad, own(logits.grad, 1))


def whole_model():
    """Logits, and through them gradients; a padded batch's loss; the gradient's norm and its clipping."""
    for tied in (False, True):
        model = Transformer(replace(CONFIG, tied=tied), seeded(3))
        cut = parallel.shard_transformer(Transformer(replace(CONFIG, tied=tied), seeded(3)))
        assert (cut.head.weight is cut.embedding.weight) == tied
        sizes = [sum(parameter.numel() for parameter in m.parameters()) for m in (cut, model)]
        norms = (2 * CONFIG.layers + 1) * CONFIG.width
        assert 2 * (sizes[0] - norms) == sizes[1] - norms  # half of everything but the norms
        gathered = parallel.gathered_weights(cut)
        for name, weight in model.named_parameters():
            assert_close(gathered.pop(name), weight.detach(), atol=0, rtol=0)
        assert not gathered
        ids = torch.randint(32, (3, 11), generator=seeded(4))
        assert_close(cut(ids), model(ids))
        for m in (cut, model):
            m(ids).square().mean().backward()
        through_logits = parallel.gathered_weights(cut, lambda parameter: parameter.grad)
        for name, parameter in model.named_parameters():
            assert_close(through_logits[name], parameter.grad)
        targets = ids.roll(-1, 1)
        targets[1, 4:] = -100
        batch = Batch(ids, targets)
        for m, loss in ((cut, parallel.split_loss_sum), (model, loss_sum)):
            m.zero_grad()
            loss(m, batch).backward()
        assert_close(parallel.split_loss_sum(cut, batch), loss_sum(model, batch))
        norm = parallel.clip_split_gradients(cut, 0.5)
        assert_close(norm, nn.utils.clip_grad_norm_(model.parameters(), 0.5))
        clipped = parallel.gathered_weights(cut, lambda parameter: parameter.grad)
        for name, parameter in model.named_parameters():
            assert_close(clipped[name], parameter.grad)


class AllReduces(TorchDispatchMode):
    """Counts what reaches torch's own dispatcher, whatever function of ours asked for it."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.c10d.allreduce_.default
        return function(*args, **(kwargs or {}))


def communication():
    """All-reduces forward and backward of models of 1, 2 and 3 layers, counted below our code."""
    counts = []
    for layers in (1, 2, 3):
        cut = parallel.shard_transformer(Transformer(replace(CONFIG, layers=layers), seeded()))
        ids = torch.randint(32, (2, 9), generator=seeded())
        with AllReduces() as forward:
            loss = parallel.split_loss_sum(cut, Batch(ids[:, :-1], ids[:, 1:]))
        with AllReduces() as backward:
            loss.backward()
        with AllReduces() as inference, torch.no_grad():
            cut(ids)
        counts.append([forward.count, backward.count, inference.count])
    return counts


def writing():
    """Greedy and beam-free texts of several lengths, as the whole model writes them; half of the cache's bytes each."""
    model = Transformer(CONFIG, seeded(5))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3 if weight.dim() == 2 else 1)  # so that texts vary
    prompts = [[1, 2, 3, 4], [9, 8], [30]]
    expected = [text.tokens for text in generate(model, prompts, max_tokens=12)]
    whole_bytes = KVCache(model.config, 3).nbytes
    cut = parallel.shard_transformer(model)
    assert [text.tokens for text in generate(cut, prompts, max_tokens=12)] == expected
    assert [token.id for token in stream(cut, prompts[0], max_tokens=12)] == expected[0]
    assert len(set(expected[0])) > 3
    assert 2 * KVCache(cut.config, 3).nbytes == whole_bytes


def refusals():
    """Each a sentence, before anything is cut."""
    said = []
    for change in (
        {"heads": 3, "kv_heads": 3, "width": 24},
        {"kv_heads": 1},
        {"feed_forward_width": 33},
        {"vocab_size": 33},
    ):
        try:
            parallel.shard_transformer(Transformer(replace(CONFIG, **{"head_width": 6} | change)))
        except ValueError as error:
            said.append(str(error))
    try:
        parallel.ColumnLinear(nn.Linear(4, 6), blocks=(3, 3))
    except ValueError as error:
        said.append(str(error))
    try:
        parallel.RowLinear(nn.Linear(5, 6))
    except ValueError as error:
        said.append(str(error))
    try:
        parallel.shard_transformer(Transformer(CONFIG, seeded(dist.get_rank())))
    except ValueError as error:
        said.append(str(error))
    return said


def everything(task):
    """All of the above, and a training by hand and by DTensor."""
    for check in (layers, gathering, vocabulary, whole_model, writing):
        check()
    return {
        "communication": communication(),
        "refusals": refusals(),
        "by hand": training.train_tensor(task),
        "DTensor": training.train_dtensor(task),
    }
