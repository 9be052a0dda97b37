"""The model beside `transformers`, beside itself with a cache, and beside what can be counted and derived."""

import itertools
import math

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from llmlib.checkpoints import hub_config, hub_weights
from llmlib.model import ModelConfig, Transformer, attend, rotation_table

SMALL = {"vocab_size": 61, "context": 24, "width": 32, "layers": 2, "heads": 4}
GRID = [
    {"kv_heads": 1},
    {"kv_heads": 2, "tied": False},
    {"kv_heads": 4, "rope_base": 500.0, "norm_epsilon": 1e-3},
    {"kv_heads": 2, "head_width": 6, "feed_forward_width": 20},
    {"kv_heads": 4, "head_width": 10, "tied": False},
]


def make(seed=1, **sizes):
    """A small model with logits of order one, so that an error of 1e-5 is a relative one."""
    model = Transformer(ModelConfig(**SMALL | sizes), torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:
                weight.copy_(torch.linspace(0.5, 1.5, len(weight)))  # a norm's scale of all ones would hide a swap
            else:
                weight.mul_(8 if "layers" in name else 10)
    return model


def ids_of(rows, length, seed=0, vocab_size=SMALL["vocab_size"]):
    return torch.randint(vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


class ListCache:
    """The shortest thing that is a cache: tensors laid end to end."""

    def __init__(self, layers):
        self.held, self.length = [None] * layers, 0

    def append(self, layer, keys, values):
        if self.held[layer] is not None:
            keys, values = (torch.cat(pair, dim=2) for pair in zip(self.held[layer], (keys, values), strict=True))
        self.held[layer] = keys, values
        if layer == len(self.held) - 1:
            self.length = keys.size(2)
        return keys, values


def peer_of(model):
    from transformers import LlamaConfig, LlamaForCausalLM

    dropped = ("architectures", "model_type", "torch_dtype", "dtype")
    settings = {name: value for name, value in hub_config(model.config).items() if name not in dropped}
    peer = LlamaForCausalLM(LlamaConfig(**settings)).eval()
    left = peer.load_state_dict(hub_weights(model), strict=False)
    assert left.missing_keys in ([], ["lm_head.weight"])
    assert not left.unexpected_keys
    peer.tie_weights()
    return peer


# The model beside transformers


@pytest.mark.parametrize("sizes", GRID, ids=str)
@torch.no_grad()
def test_logits_equal_those_of_transformers(sizes):
    model = make(**sizes)
    peer = peer_of(model)
    for length in (1, 2, 7, SMALL["context"]):
        ids = ids_of(3, length)
        logits = model(ids)
        assert 0.3 < logits.std() < 30  # of order one, or the tolerance would mean nothing
        assert_close(logits / logits.std(), peer(input_ids=ids).logits / logits.std(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("sizes", GRID[:2], ids=str)
def test_gradients_equal_those_of_transformers(sizes):
    model = make(**sizes)
    peer, ids = peer_of(model), ids_of(2, 9)
    functional.cross_entropy(model(ids).flatten(0, 1), ids.flatten()).backward()
    functional.cross_entropy(peer(input_ids=ids).logits.flatten(0, 1), ids.flatten()).backward()
    twin = Transformer(model.config)
    for parameter, own in zip(twin.parameters(), model.parameters(), strict=True):
        parameter.data = own.grad  # hub_weights renames and splits gradients as it does weights
    theirs = {name: parameter.grad for name, parameter in peer.named_parameters()}
    for name, gradient in hub_weights(twin).items():
        assert_close(gradient, theirs[name], atol=2e-5 * theirs[name].abs().max().item() + 1e-7, rtol=0)


@torch.no_grad()
def test_in_16_bits_the_model_is_as_near_to_the_truth_as_transformers():
    """bfloat16 keeps 8 bits: an operation is off by up to 2^-9 of its result, and both models do the same operations
    in another order. So ours may be off from 32 bits by no more than theirs is, half as much again."""
    model = make(kv_heads=2)
    ids, peer = ids_of(8, 24), peer_of(model)
    truth = model(ids)
    error = (model.bfloat16()(ids).float() - truth).square().mean().sqrt()
    theirs = (peer.bfloat16()(input_ids=ids).logits.float() - truth).square().mean().sqrt()
    assert 0 < error < 1.5 * theirs
    assert theirs < 0.1 * truth.std()


@torch.no_grad()
def test_autocast_is_near_to_32_bits():
    """Products in bfloat16, 2^-9 off each, over 2 layers of 5 products: some percent of the logits' spread."""
    model, ids = make(), ids_of(4, 24)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids)
    error = (logits.float() - model(ids)).square().mean().sqrt() / model(ids).std()
    assert 1e-4 < error < 0.05


# What a causal model has to obey


@pytest.mark.parametrize("sizes", GRID, ids=str)
@torch.no_grad()
def test_the_future_changes_no_past_logit_by_a_bit(sizes):
    model, ids = make(**sizes), ids_of(2, 24)
    before = model(ids)
    for place in (1, 5, 16, 23):
        changed = ids.clone()
        changed[:, place:] = (changed[:, place:] + 1) % SMALL["vocab_size"]
        after = model(changed)
        assert torch.equal(before[:, :place], after[:, :place])
        assert not torch.equal(before[:, place], after[:, place])


def test_the_gradient_of_a_logit_reaches_its_past_and_no_further():
    model, seen = make(), []
    model.embedding.register_forward_hook(lambda _, __, out: seen.append(out) or out.retain_grad())
    model(ids_of(1, 10))[0, 6].square().sum().backward()
    reached = seen[0].grad[0].abs().sum(dim=1) > 0
    assert reached.tolist() == [True] * 7 + [False] * 3


# The cache, masks and positions


@pytest.mark.parametrize("sizes", GRID, ids=str)
@pytest.mark.parametrize("chunks", [[1] * 12, [5, 1, 6], [1, 11], [11, 1], [4, 4, 4]], ids=str)
@torch.no_grad()
def test_reading_in_pieces_with_a_cache_equals_reading_at_once(sizes, chunks):
    model, ids = make(**sizes), ids_of(3, 12)
    cache = ListCache(model.config.layers)
    pieces = torch.cat([model(piece, cache) for piece in ids.split(chunks, dim=1)], dim=1)
    whole = model(ids)
    # The same sums in another order: some units of rounding (6e-8) in logits of this size
    assert_close(pieces / whole.std(), whole / whole.std(), atol=1e-5, rtol=0)


@torch.no_grad()
def test_prompts_of_different_lengths_in_one_batch_equal_each_alone():
    """Padded on the left, with positions of their own, and a mask that hides the padding."""
    model, T, lengths = make(kv_heads=2), 9, [9, 4, 1]
    ids = ids_of(len(lengths), T)
    padding = T - torch.tensor(lengths).view(-1, 1)
    positions = (torch.arange(T) - padding).clamp(min=0)  # (B, T)
    real = torch.arange(T) >= padding
    mask = (torch.ones(T, T, dtype=torch.bool).tril() & real[:, None, :]) | torch.eye(T, dtype=torch.bool)
    together = model(ids, mask=mask[:, None], positions=positions)
    for row, length in enumerate(lengths):
        alone = model(ids[row : row + 1, T - length :])
        assert_close(together[row, T - length :] / alone.std(), alone[0] / alone.std(), atol=1e-5, rtol=0)


@torch.no_grad()
def test_only_the_distance_between_positions_matters():
    model, ids = make(kv_heads=2), ids_of(2, 8)
    near, far = model(ids), model(ids, positions=torch.arange(13, 21))
    assert_close(far / near.std(), near / near.std(), atol=2e-5, rtol=0)
    stretched = model(ids, positions=2 * torch.arange(8))
    assert not torch.allclose(stretched, near, atol=1e-2 * near.std().item(), rtol=0)


@pytest.mark.parametrize(("T", "S"), [(1, 1), (1, 6), (2, 6), (6, 6)])
@pytest.mark.parametrize(("H", "K"), [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_the_plain_formula(T, S, H, K, masked):
    random = torch.Generator().manual_seed(T * S)
    q, k, v = (torch.randn(2, n, m, 8, generator=random) for n, m in ((H, T), (K, S), (K, S)))
    mask = None
    if masked:
        mask = torch.rand(2, 1, T, S, generator=random) < 0.5
        mask[..., 0] = True  # a row that sees nothing has no softmax
    causal = torch.arange(S) <= torch.arange(S - T, S).view(T, 1)
    each_k, each_v = (x.repeat_interleave(H // K, dim=1) for x in (k, v))
    scores = (q @ each_k.transpose(2, 3) / math.sqrt(8)).masked_fill(~(causal if mask is None else mask), -math.inf)
    assert_close(attend(q, k, v, mask), scores.softmax(dim=-1) @ each_v, atol=1e-6, rtol=1e-5)  # 8 terms of order one


def test_rotations_by_hand():
    table = rotation_table(3, 4, 100.0)  # pair 0 turns by 1 a position, pair 1 by 100^(-1/2) = 0.1
    angles = torch.tensor([[0.0, 0.0], [1.0, 0.1], [2.0, 0.2]])
    assert_close(table, torch.stack([angles.cos(), angles.sin()]), atol=1e-7, rtol=0)


# Gradients, and the first loss


@pytest.mark.parametrize("sizes", [{"kv_heads": 1}, {"kv_heads": 2, "tied": False, "head_width": 4}], ids=str)
def test_gradients_equal_finite_differences(sizes):
    """In 64 bits, along random directions: (f(w + hd) - f(w - hd)) / 2h is off by about h^2 = 1e-10."""
    model = Transformer(ModelConfig(13, 8, 8, 2, 2, **sizes), torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10 if parameter.dim() == 2 else 1)
    ids, random = ids_of(2, 6, vocab_size=13), torch.Generator().manual_seed(1)

    def loss():
        return functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())

    loss().backward()
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, generator=random, dtype=torch.float64)
        direction /= direction.norm()
        values = []
        with torch.no_grad():
            for step in (1e-5, -2e-5, 1e-5):
                parameter.add_(step * direction)
                values.append(loss().item())
        slope = (values[0] - values[1]) / 2e-5
        assert slope == pytest.approx((parameter.grad * direction).sum().item(), abs=1e-8, rel=1e-6), name


@pytest.mark.parametrize("sizes", [{}, *GRID, {"width": 128, "vocab_size": 2048}], ids=str)
@torch.no_grad()
def test_the_first_loss_is_that_of_a_uniform_guess(sizes):
    config = ModelConfig(**SMALL | sizes)
    model = Transformer(config, torch.Generator().manual_seed(0))
    ids, targets = (ids_of(40, 24, seed, config.vocab_size) for seed in (0, 1))
    loss = functional.cross_entropy(model(ids).flatten(0, 1), targets.flatten()).item()
    assert loss == pytest.approx(math.log(config.vocab_size), rel=0.02)


def test_weights_are_drawn_as_told_and_from_the_seed_alone():
    config = ModelConfig(500, 8, 128, 2, 4)
    model, again = (Transformer(config, torch.Generator().manual_seed(3)) for _ in range(2))
    for (name, weight), other in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(weight, other)
        if weight.dim() == 1:
            assert (weight == 1).all()
        else:  # 0.02, or 0.02 / sqrt(2 * 2) where it writes into the stream; 16 thousand draws: 3% is over 5 sigma
            deviation = 0.01 if name.endswith(("output.weight", "down.weight")) else 0.02
            assert weight.std().item() == pytest.approx(deviation, rel=0.03)


# What is counted


@pytest.mark.parametrize("sizes", GRID, ids=str)
def test_parameters_are_those_that_are_there(sizes):
    model = make(**sizes)
    outside = [model.embedding.weight] if model.config.tied else [model.embedding.weight, model.head.weight]
    count = sum(parameter.numel() for parameter in model.parameters())
    assert model.config.count_parameters() == count
    assert model.config.count_parameters(embeddings=False) == count - sum(weight.numel() for weight in outside)


def test_counts_by_hand():
    """V 10, C 4, L 2, H 2, K 1, D 2, F 6: attention 4*4 + 2*4*2 + 4*4 = 48, feed-forward 3*4*6 = 72, two norms 8."""
    config = ModelConfig(10, 5, 4, 2, 2, kv_heads=1, feed_forward_width=6)
    assert config.layer_matrices == 48 + 72
    assert config.count_parameters(embeddings=False) == 2 * (120 + 8) + 4
    assert config.count_parameters() == 260 + 10 * 4
    # Per token: 2 * (2 * 120 + 40) for weights; scores and sums 2 * 2HD = 16 a layer and position, of which 3 of 5
    assert config.forward_flops(5) == 560 + 2 * 16 * 3
    assert config.train_flops(5) == 3 * 656
    assert config.kv_bytes() == 2 * 2 * 1 * 2 * 4


@pytest.mark.parametrize("sizes", GRID, ids=str)
def test_flops_are_those_that_torch_counts(sizes):
    """Torch's counter takes attention for what it would be without the causal mask: all T positions for each query."""
    model, (B, T) = make(**sizes), (2, 16)
    config = model.config
    with pytest.MonkeyPatch.context() as patch, FlopCounterMode(display=False) as counter, torch.no_grad():
        # products that the counter knows, not the fused attention
        patch.setattr("llmlib.model.attend", lambda q, k, v, mask: _products(q, k, v))
        model(ids_of(B, T))
    masked = config.layers * 4 * config.heads * config.head_width * (T - 1) / 2  # per token, and not counted by ours
    assert counter.get_total_flops() == B * T * (config.forward_flops(T) + masked)


def _products(q, k, v):
    k, v = (x.repeat_interleave(q.size(1) // k.size(1), dim=1) for x in (k, v))
    return (q @ k.transpose(2, 3)).softmax(dim=-1) @ v


def test_bytes_of_a_cache_are_those_that_it_holds():
    model = make(kv_heads=2, head_width=6)
    cache = ListCache(model.config.layers)
    model(ids_of(1, 7), cache)
    held = sum(tensor.nbytes for tensor in itertools.chain(*cache.held))
    assert held == 7 * model.config.kv_bytes()


# What is refused


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"layers": 0}, "layers is 0; it has to be a whole number of at least 1."),
        ({"heads": True}, "heads is True; it has to be a whole number of at least 1."),
        ({"vocab_size": 2.0}, "vocab_size is 2.0; it has to be a whole number of at least 1."),
        ({"kv_heads": 3}, "4 heads cannot share 3 kv_heads"),
        ({"kv_heads": 8}, "4 heads cannot share 8 kv_heads"),
        ({"heads": 5}, "32 does not divide into 5 heads"),
        ({"head_width": 7}, "head_width is 7; positions rotate pairs, so it has to be even."),
        ({"rope_base": 0.0}, "rope_base is 0.0; it has to be above 0."),
        ({"norm_epsilon": math.nan}, "norm_epsilon is nan; it has to be above 0."),
    ],
    ids=lambda value: str(value)[:30],
)
def test_sizes_that_cannot_be_are_refused_in_a_sentence(sizes, sentence):
    with pytest.raises(ValueError, match=sentence):
        ModelConfig(**SMALL | sizes)


def test_texts_that_cannot_be_read_are_refused_in_a_sentence():
    model, cache = make(), ListCache(2)
    with pytest.raises(ValueError, match="reaches 25 tokens, and the model's context is 24; shorten"):
        model(ids_of(1, 25))
    with pytest.raises(ValueError, match="reaches 25 tokens"):
        model(ids_of(1, 2), positions=torch.tensor([3, 24]))
    model(ids_of(1, 20), cache)
    with pytest.raises(ValueError, match="reaches 25 tokens"):
        model(ids_of(1, 5), cache)
    with pytest.raises(ValueError, match="whole numbers"):
        model(torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"\(3,\)"):
        model(torch.tensor([1, 2, 3]))


def test_tied_weights_are_one_tensor_and_names_are_kept():
    """Checkpoints of a run hold these names."""
    tied, untied = make(), make(tied=False)
    assert tied.head.weight is tied.embedding.weight
    assert untied.head.weight is not untied.embedding.weight
    parts = ["attention.qkv", "attention.output", "attention_norm", "feed_forward.gate_up", "feed_forward.down"]
    layers = {f"layers.{n}.{part}.weight" for n in (0, 1) for part in [*parts, "feed_forward_norm"]}
    assert {name for name, _ in untied.named_parameters()} == layers | {
        "embedding.weight",
        "norm.weight",
        "head.weight",
    }
