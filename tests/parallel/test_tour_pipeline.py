"""The chapter's launches on pipelines and on data: what they show is what one process computes."""

import pytest
import torch

from llmlib.experiments.workers import tasks, tour
from llmlib.model import ModelConfig, Transformer
from llmlib.parallel import run_workers, schedules
from llmlib.training import Batch, loss_sum

CONFIG = ModelConfig(vocab_size=32, context=16, width=16, layers=4, heads=2)


def material():
    dice = torch.Generator().manual_seed(0)
    model = Transformer(CONFIG, dice)
    ids = torch.randint(32, (4, 9), generator=dice)
    batch = Batch(ids[:, :-1], ids[:, 1:])
    whole = Transformer(CONFIG, torch.Generator().manual_seed(0))
    loss = loss_sum(whole, batch) / batch.tokens
    loss.backward()
    return model, batch, loss.item(), {name: p.grad for name, p in whole.named_parameters()}


def test_pipelines_that_sleep_and_that_compute():
    model, batch, loss, gradients = material()
    orders = {"gpipe": schedules.gpipe(2, 4), "forward": schedules.forward_only(2, 3)}
    report, _ = run_workers(tour.pipeline_tour, 2, orders, (0.01, 0.01, 0.01), model, batch, batch.inputs[:2, :4])
    assert sorted(report["slept"]) == ["forward", "gpipe"]
    assert report["slept"]["gpipe"].step_time >= 5 * 0.03 * 0.99  # (m + p - 1) T; a sleeper never wakes early
    assert report["computed"]["gpipe"].peak_activations == [4, 4]
    assert abs(report["losses"]["gpipe"] - loss) < 1e-5
    for name, gradient in gradients.items():
        torch.testing.assert_close(report["gradients"]["gpipe"][name], gradient, rtol=1e-4, atol=1e-6)
    together, apart = report["answers"][1][0], report["answers"][2][0]
    assert torch.equal(together[0], torch.cat(apart))
    in_parts, line = report["in parts"]
    assert torch.equal(in_parts[0], together[0][:1])
    assert [[span.action.micro_batch for span in spans] for spans in line.spans] == [[0, 1] + [0] * 7] * 2


def test_copies_that_train_and_that_serve():
    model, batch, loss, gradients = material()
    prompts = [[1, 2, 3]] * 6
    copies = run_workers(tour.data_tour, 2, model, batch, prompts, 4, 0.02, [1, 2])
    assert abs(sum(copy["loss"] for copy in copies) / 2 - loss) < 1e-6
    for copy in copies:
        assert not torch.allclose(copy["before"], gradients["norm.weight"], rtol=1e-2)
        for name, gradient in gradients.items():
            torch.testing.assert_close(copy["after"][name], gradient, rtol=1e-4, atol=1e-6)
        assert copy["slept"][1] <= 1 / 0.02  # one replica cannot be faster than its naps
        assert copy["slept"][2] > copy["slept"][1]
        assert copy["answers"][1] == copy["answers"][2]


@pytest.mark.parametrize(
    ("kind", "processes", "ways"), [("tensor", 2, 2), ("pipeline", 2, 2), ("data", 2, 4), ("cube", 8, 1)]
)
def test_every_way_of_training_equals_one_process(kind, processes, ways):
    """With a backend for tensors on processors alone: what the workers send has to be where their model is."""
    task = tasks.Task(ModelConfig(vocab_size=64, context=16, width=32, layers=4, heads=4, tied=False), steps=2)
    for differences in run_workers(tour.equalities, processes, kind, task, seconds=150, backend="cpu:gloo"):
        assert len(differences) == ways
        assert all(loss <= 1e-5 and gradient <= 1e-5 for loss, gradient in differences.values()), differences
