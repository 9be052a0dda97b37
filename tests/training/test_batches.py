"""Batches beside slow ways to cut the same stream."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.model import ModelConfig, Transformer
from llmlib.training import IGNORED, Batch, DocumentBatches, StreamBatches, token_losses

END = 0
DOCUMENTS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), min_size=1, max_size=40)


def stream_of(documents):
    return torch.tensor([END, *itertools.chain.from_iterable([*document, END] for document in documents)])


def rows_of(batch):
    """Each row as (what is read, what is predicted), without padding."""
    for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        length = sum(target != IGNORED for target in targets)
        assert targets[length:] == [IGNORED] * (len(targets) - length)
        yield inputs[:length], targets[:length]


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, st.integers(2, 20), st.integers(0, 3), st.integers(0, 5))
def test_an_epoch_holds_every_document_once(documents, context, spare, seed):
    longest = min(context, max(map(len, documents)) + 1)
    batches = DocumentBatches(stream_of(documents), END, longest * (1 + spare), context, seed)
    expected = sorted(([END, *document][:context], [*document, END][:context]) for document in documents)
    for start_of_epoch in (0, len(batches._epoch(0))):
        size = len(batches._epoch(int(start_of_epoch > 0)))
        epoch = [batches[n] for n in range(start_of_epoch, start_of_epoch + size)]
        assert sorted(row for batch in epoch for row in rows_of(batch)) == expected
        assert all(batch.inputs.numel() <= longest * (1 + spare) for batch in epoch)
        assert sum(batch.tokens for batch in epoch) == sum(len(targets) for _, targets in expected)
    assert sorted(row for batch in batches for row in rows_of(batch)) == expected


def test_a_batch_is_a_function_of_seed_and_number():
    stream = stream_of([[n % 7 + 1] * (n % 5 + 1) for n in range(60)])
    for make in (
        lambda seed: DocumentBatches(stream, END, 30, 8, seed),
        lambda seed: StreamBatches(stream, rows=3, length=7, seed=seed),
    ):
        batches = make(4)
        forwards = [batches[n] for n in range(50)]
        for n in (49, 0, 17):  # by itself, from a new object
            again = make(4)[n]
            assert torch.equal(again.inputs, forwards[n].inputs)
            assert torch.equal(again.targets, forwards[n].targets)
        other = make(5)
        assert any(not torch.equal(other[n].targets, forwards[n].targets) for n in range(3))


def test_windows_come_from_everywhere_and_targets_are_one_later():
    batches = StreamBatches(torch.arange(20), rows=8, length=5)
    seen = set()
    for n in range(40):
        batch = batches[n]
        assert batch.inputs.shape == (8, 5)
        assert torch.equal(batch.targets, batch.inputs + 1)
        seen |= set(batch.inputs[:, 0].tolist())
    assert seen == set(range(15))  # the last window ends with the last token as its target


@torch.no_grad()
def test_a_document_changes_no_other_document_s_loss_by_a_bit():
    documents = [[1, 2, 3, 4], [5, 6, 7, 8], [2, 2, 9, 1]]
    changed = [[1, 2, 3, 4], [9, 9, 1, 3], [2, 2, 9, 1]]
    model = Transformer(ModelConfig(10, 8, 16, 2, 2), torch.Generator().manual_seed(0))
    losses = []
    for stream in (stream_of(documents), stream_of(changed)):
        batch = DocumentBatches(stream, END, 100, 8)[0]
        losses.append(
            {tuple(row[0]): loss.tolist() for row, loss in zip(rows_of(batch), token_losses(model, batch), strict=True)}
        )
    assert losses[0].keys() & losses[1].keys() == {(END, 1, 2, 3, 4), (END, 2, 2, 9, 1)}
    for kept in losses[0].keys() & losses[1].keys():
        assert losses[0][kept] == losses[1][kept]


@torch.no_grad()
def test_what_stands_in_the_padding_changes_no_loss():
    model = Transformer(ModelConfig(10, 8, 16, 2, 2), torch.Generator().manual_seed(0))
    batch = DocumentBatches(stream_of([[1, 2, 3, 4], [5]]), END, 100, 8)[0]
    other = Batch(torch.where(batch.targets == IGNORED, 7, batch.inputs), batch.targets)
    assert not torch.equal(other.inputs, batch.inputs)
    assert torch.equal(token_losses(model, batch), token_losses(model, other))
    assert (token_losses(model, batch) == 0).tolist() == (batch.targets == IGNORED).tolist()


def test_shares_of_a_batch_are_the_batch():
    ids = torch.arange(10).view(5, 2)
    shares = [Batch(ids, ids + 1).rows(rank, 3) for rank in range(3)]
    assert sorted(row for share in shares for row in share.inputs.tolist()) == ids.tolist()


def test_streams_that_cannot_be_cut_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="The stream has 5 tokens; windows of 5 need at least 6"):
        StreamBatches(torch.arange(5), rows=1, length=5)
    with pytest.raises(ValueError, match=r"holds no document: .*\(id 0\)"):
        DocumentBatches(torch.tensor([0, 0, 0]), END, 10, 10)
    with pytest.raises(ValueError, match="A batch of 3 tokens does not hold the longest document, 5 tokens"):
        DocumentBatches(stream_of([[1, 2, 3, 4]]), END, 3, 10)
