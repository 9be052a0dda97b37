"""The chapter's launch on tensor parallelism: what it shows is what one process computes."""

import torch

from llmlib.experiments.workers import tour
from llmlib.generation import generate
from llmlib.model import ModelConfig, Transformer
from llmlib.parallel import run_workers


def test_everything_in_one_launch_equals_one_process():
    dice = torch.Generator().manual_seed(0)
    x, w, v = (torch.randint(-5, 6, size, generator=dice).float() for size in [(2, 4), (4, 6), (6, 4)])
    config = ModelConfig(vocab_size=32, context=16, width=16, layers=3, heads=4, kv_heads=2)
    model = Transformer(config, dice)
    reports = run_workers(tour.tensor_tour, 2, x, w, v, model, [1, 2, 3], 5, [16])
    truth = torch.relu(x @ w) @ v
    alone = generate(model, [[1, 2, 3]], 5)[0].tokens
    for rank, report in enumerate(reports):
        assert torch.equal(report["matrices"]["columns"]["result"], x @ w)
        assert torch.equal(report["layers"]["result"], truth)
        assert torch.equal(report["gathered"], truth)
        assert torch.equal(report["layers"]["hidden"], torch.relu(x @ w)[:, 3 * rank : 3 * rank + 3])
        assert report["all_reduces"] == 2 * 3 + 1
        assert report["text"] == alone
        assert report["kv_bytes"] == config.kv_bytes() // 2
        assert report["seconds"][16] > 0
