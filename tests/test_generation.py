"""Writing with a model, against the model without a cache, `transformers`, slow loops, and exact distributions."""

import itertools
import math
import time

import pytest
import torch
import transformers
from scipy.stats import chisquare
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from llmlib import checkpoints
from llmlib.decoding import NO_TOKEN, Sampling, greedy, sample
from llmlib.generation import (
    Decoder,
    KVCache,
    decode_step,
    generate,
    generate_beams,
    generate_speculatively,
    pad,
    prefill,
    prefill_flops,
    step_bytes,
    step_flops,
    stream,
)
from llmlib.model import ModelConfig, Transformer
from llmlib.tokenizer import Tokenizer

TOLERANCE = {"rtol": 0, "atol": 1e-5}  # logits are of order 1, and float32 keeps 7 digits


pytestmark = pytest.mark.usefixtures("one_thread")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny(seed: int = 0, **sizes) -> Transformer:
    """A random model whose choices differ: its matrices are larger than where training starts."""
    defaults = {"vocab_size": 40, "context": 48, "width": 24, "layers": 2, "heads": 4, "head_width": 6, "tied": False}
    sizes = defaults | sizes
    model = Transformer(ModelConfig(**sizes), seeded(seed))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(6)
            else:
                parameter.copy_(0.5 + torch.rand(parameter.shape, generator=seeded(seed)))
    return model


def some_ids(seed: int, *shape: int, below: int = 40) -> torch.Tensor:
    return torch.randint(below, shape, generator=seeded(seed))


def peer_of(model: Transformer, folder) -> transformers.LlamaForCausalLM:
    checkpoints.save(model, folder)
    peer = transformers.LlamaForCausalLM.from_pretrained(folder).eval()
    peer.generation_config = transformers.GenerationConfig(pad_token_id=0)
    return peer


CONFIGS = [
    {},
    {"kv_heads": 2},
    {"kv_heads": 1, "tied": True},
    {"layers": 1, "heads": 1, "head_width": 24},
    {"layers": 3, "kv_heads": 2, "head_width": 10, "rope_base": 100.0, "norm_epsilon": 1e-2},
]


# The cache


@pytest.mark.parametrize("sizes", CONFIGS)
@pytest.mark.parametrize("lengths", [[9], [9, 9, 9], [9, 1, 5]])
@pytest.mark.parametrize("chunk", [1, 4, 256])
@pytest.mark.parametrize("large", [0, Decoder.LARGE])
def test_logits_with_the_cache_are_those_without_at_every_step(sizes, lengths, chunk, large, monkeypatch):
    monkeypatch.setattr(Decoder, "LARGE", large)  # a large model's products are asked for in another way
    model = tiny(**sizes)
    texts = [some_ids(seed, length + 12).tolist() for seed, length in enumerate(lengths)]
    start, padding = pad([text[:length] for text, length in zip(texts, lengths, strict=True)], model.config)
    caches = [KVCache(model.config, len(lengths), capacity=21) for _ in range(2)]
    plain, fast = (prefill(model, start, cache, padding, chunk) for cache in caches)
    decoder = Decoder(model, caches[1])
    with torch.no_grad():
        alone = [model(torch.tensor([text]))[0] for text in texts]
    for step in range(13):
        expected = torch.stack([logits[length - 1 + step] for logits, length in zip(alone, lengths, strict=True)])
        torch.testing.assert_close(plain, expected, **TOLERANCE)
        torch.testing.assert_close(fast, expected, **TOLERANCE)
        assert [cache.length for cache in caches] == [9 + step] * 2
        if step < 12:
            ids = torch.tensor([text[length + step] for text, length in zip(texts, lengths, strict=True)])
            plain, fast = decode_step(model, ids, caches[0]), decoder(ids)
    torch.testing.assert_close(caches[1].memory, caches[0].memory, **TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_decoder_takes_the_plain_way_for_other_numbers(dtype):
    model = tiny().to(dtype)
    caches = [KVCache(model.config, dtype=dtype) for _ in range(2)]
    ids = some_ids(0, 1, 5)
    for cache in caches:
        prefill(model, ids, cache)
    assert torch.equal(Decoder(model, caches[0])(ids[:, 0]), decode_step(model, ids[:, 0], caches[1]))


def test_a_prompt_read_in_two_parts_is_the_same_prompt():
    model, ids = tiny(), some_ids(0, 2, 20)
    whole, parts = KVCache(model.config, 2), KVCache(model.config, 2)
    prefill(model, ids[:, :11], parts)
    torch.testing.assert_close(prefill(model, ids[:, 11:], parts), prefill(model, ids, whole), **TOLERANCE)


@pytest.mark.parametrize("sizes", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_allocation_is_the_formula(sizes, dtype):
    config = tiny(**sizes).config
    cache = KVCache(config, batch=3, capacity=17, dtype=dtype)
    expected = 3 * 17 * config.kv_bytes(dtype.itemsize)
    assert cache.nbytes == cache.memory.untyped_storage().nbytes() == expected


def test_steps_take_no_further_memory():
    model = tiny()
    cache = KVCache(model.config)
    decoder, place = Decoder(model, cache), cache.memory.data_ptr()
    prefill(model, some_ids(0, 1, 5), cache)
    for id_ in some_ids(1, 20):
        decoder(id_.view(1))
    assert cache.memory.data_ptr() == place
    assert cache.memory[..., cache.length :, :].count_nonzero() == 0
    assert cache.memory[..., : cache.length, :].count_nonzero() == cache.memory[..., : cache.length, :].numel()


def test_selected_texts_go_on_as_they_would_have():
    model, ids = tiny(kv_heads=2), some_ids(0, 3, 8)
    start, padding = pad([ids[0].tolist(), ids[1, :3].tolist(), ids[2, :6].tolist()], model.config)
    cache, rows, new = KVCache(model.config, 3), torch.tensor([2, 1]), torch.tensor([7, 9])
    prefill(model, start, cache, padding)
    decoder = Decoder(model, cache)
    all_three = decoder(torch.tensor([1, 2, 3]))
    cache.truncate(8)
    cache.select(rows)
    torch.testing.assert_close(decoder(torch.tensor([3, 2])), all_three[rows], **TOLERANCE)
    cache.select(torch.tensor([1, 0, 1]))  # larger again
    logits = decoder(new[[0, 1, 0]])
    texts = [[*ids[1, :3].tolist(), 2, 7], [*ids[2, :6].tolist(), 3, 9]]
    with torch.no_grad():
        expected = torch.stack([model(torch.tensor([text]))[0, -1] for text in texts])
    torch.testing.assert_close(logits, expected[[0, 1, 0]], **TOLERANCE)


@pytest.mark.parametrize("sizes", CONFIGS)
def test_the_operations_are_the_formula(sizes):
    model, T = tiny(**sizes), 11
    config, cache = model.config, KVCache(model.config)

    def counted(work) -> int:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # attention as its two products
            work()
        return counter.get_total_flops()

    measured = counted(lambda: prefill(model, some_ids(0, 1, T), cache))
    future = config.layers * 4 * config.heads * config.head_width * T * (T - 1) / 2  # computed here, then masked
    assert measured - future == prefill_flops(config, T)
    for length in (T + 1, T + 2):
        assert counted(lambda: decode_step(model, torch.tensor([1]), cache)) == step_flops(config, length)


@pytest.mark.parametrize("sizes", CONFIGS)
def test_the_bytes_read_are_those_of_the_weights_and_the_cache(sizes):
    model = tiny(**sizes)
    weights = sum(weight.nbytes for name, weight in model.named_parameters() if name != "embedding.weight")
    weights += model.embedding.weight.nbytes if model.config.tied else 2 * model.embedding.weight[0].nbytes
    assert step_bytes(model.config, 17, batch=2) == weights + KVCache(model.config, 2, 17).nbytes


# Writing


@pytest.mark.parametrize("sizes", CONFIGS[1:3])
def test_greedy_texts_are_those_of_transformers(sizes, tmp_path):
    model = tiny(1, **sizes)
    peer = peer_of(model, tmp_path)
    prompts = [some_ids(seed, length).tolist() for seed, length in enumerate((7, 3, 12))]
    ids, padding = pad(prompts, model.config)
    mask = (torch.arange(12) >= padding.unsqueeze(1)).long()
    stop = int(peer.generate(ids, attention_mask=mask, max_new_tokens=20, do_sample=False)[0, 20])
    expected = peer.generate(ids, attention_mask=mask, max_new_tokens=30, do_sample=False, eos_token_id=stop)
    for text, row in zip(generate(model, prompts, 30, stop=[stop]), expected[:, 12:].tolist(), strict=True):
        assert text.reason == ("stop" if stop in row else "length")
        assert text.tokens == row[: row.index(stop) if stop in row else None]
    assert "stop" in [text.reason for text in generate(model, prompts, 30, stop=[stop])]


@pytest.mark.parametrize("width", range(1, 9))
def test_beams_are_those_of_transformers(width, tmp_path):
    model = tiny(2, kv_heads=2)
    peer, prompt = peer_of(model, tmp_path), some_ids(0, 5)
    for end, penalty in itertools.product((3, None), (-1.0, 0.0, 1.0, 2.0)):
        expected = peer.generate(
            prompt[None],
            attention_mask=torch.ones(1, 5),
            max_new_tokens=12,
            num_beams=width,
            num_return_sequences=width,
            do_sample=False,
            length_penalty=penalty,
            eos_token_id=end,
            early_stopping="never",
            return_dict_in_generate=True,
            output_scores=True,
        )
        ends = () if end is None else end
        found = generate_beams(model, prompt.tolist(), 12, width, end=ends, length_penalty=penalty, n_best=width)
        if width == 1:  # for transformers this is greedy search: no scores, and over at the first end token
            if end is None or penalty == 0:
                assert found[0].tokens == expected.sequences[0, 5:].tolist()
            continue
        rows = [row[: row.index(end) + 1] if end in row else row for row in expected.sequences[:, 5:].tolist()]
        assert [hypothesis.tokens for hypothesis in found] == rows, (end, penalty)
        scores = [hypothesis.score for hypothesis in found]
        assert scores == pytest.approx(expected.sequences_scores.tolist(), rel=1e-5)


def test_a_beam_of_width_1_is_greedy():
    model = tiny(4)
    assert generate_beams(model, [1, 2], 20, 1)[0].tokens == generate(model, [[1, 2]], 20)[0].tokens


def test_texts_of_a_batch_are_those_written_alone():
    model = tiny(3)
    prompts = [some_ids(seed, 1 + seed % 7).tolist() for seed in range(20)]
    alone = [generate(model, [prompt], 40, stop=[5, 6, 7])[0] for prompt in prompts]
    assert generate(model, prompts, 40, stop=[5, 6, 7]) == alone
    assert len({len(text.tokens) for text in alone}) > 5  # they end at different times


def test_texts_drawn_in_a_batch_follow_the_models_distribution():
    model = tiny(5, vocab_size=5)
    n = 6000
    texts = generate(model, [[2, 1]] * n, 2, sample, generator=seeded(0))
    pairs = list(itertools.product(range(5), repeat=2))
    with torch.no_grad():
        log_p = model(torch.tensor([[2, 1, token] for token in range(5)])).log_softmax(-1).double()
    expected = [n * math.exp(log_p[a, 1, a] + log_p[a, 2, b]) for a, b in pairs]
    counts = [sum(text.tokens == [a, b] for text in texts) for a, b in pairs]
    assert min(expected) > 5
    assert chisquare(counts, [e * n / sum(expected) for e in expected]).pvalue > 1e-4


def test_drawn_texts_depend_on_the_generator_alone():
    model = tiny(3)
    texts = [generate(model, [[1]] * 30, 40, sample, stop=[5, 6], generator=seeded(seed)) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_the_chooser_sees_the_tokens_so_far():
    seen = []

    def choose(logits, ids, generator):
        seen.append(ids.tolist())
        return greedy(logits)

    first, second = generate(tiny(), [[3, 1], [4]], 3, choose)
    assert seen[0] == [[3, 1], [NO_TOKEN, 4]]
    assert seen[2] == [[3, 1, *first.tokens[:2]], [NO_TOKEN, 4, *second.tokens[:2]]]


def slow_texts(model, prompts, max_tokens, window=None):
    """No cache: the whole text is read for each token; with a window, its newest part when the context is full."""
    texts = []
    longest = max(len(prompt) for prompt in prompts)
    for prompt in prompts:
        text, start, place = list(prompt), 0, longest  # the rows of a batch are as far along as the longest
        read_from = 0
        for _ in range(max_tokens):
            if place - read_from > model.config.context:
                read_from = place - window
                start = max(0, len(text) - window)
            with torch.no_grad():
                text.append(int(model(torch.tensor([text[start:]]))[0, -1].argmax()))
            place += 1
        texts.append(text[len(prompt) :])
    return texts


@pytest.mark.parametrize("window", [1, 8, 15])
@pytest.mark.parametrize("lengths", [[4], [9, 2, 5]])
def test_a_sliding_window_reads_the_newest_tokens_anew(window, lengths):
    model = tiny(6, context=16)
    prompts = [some_ids(seed, length).tolist() for seed, length in enumerate(lengths)]
    texts = [text.tokens for text in generate(model, prompts, 50, window=window)]
    assert texts == slow_texts(model, prompts, 50, window)


def test_a_prompt_longer_than_the_context_begins_in_the_window():
    model, prompt = tiny(6, context=16), some_ids(0, 40).tolist()
    assert generate(model, [prompt], 9, window=8) == generate(model, [prompt[-8:]], 9)


def test_a_text_may_fill_the_context_to_its_last_position():
    model = tiny(context=16)
    assert generate(model, [[1] * 10], 7)[0].tokens == slow_texts(model, [[1] * 10], 7)[0]
    assert [len(text.tokens) for text in generate(model, [[1] * 16], 1)] == [1]


def test_a_stream_tells_what_each_token_was_chosen_from():
    model, prompt = tiny(1), [3, 1, 4]
    tokens = list(stream(model, prompt, 10, sample, generator=seeded(0)))
    ids = [token.id for token in tokens]
    with torch.no_grad():
        expected = model(torch.tensor([prompt + ids]))[0, 2:-1]
    torch.testing.assert_close(torch.stack([token.logits for token in tokens]), expected, **TOLERANCE)
    log_p = expected.log_softmax(-1)[torch.arange(10), ids]
    assert [token.log_probability for token in tokens] == pytest.approx(log_p.tolist(), abs=1e-5)
    assert [token.reason for token in tokens] == [None] * 9 + ["length"]
    assert ids == generate(model, [prompt], 10, sample, generator=seeded(0))[0].tokens


def test_a_streams_times_are_those_of_the_model_and_not_of_the_reader():
    seconds = []
    begin = time.perf_counter()
    for token in stream(tiny(), [1], 5):
        seconds.append(token.seconds)
        time.sleep(0.05)
    assert all(value > 0 for value in seconds)
    assert sum(seconds) <= time.perf_counter() - begin - 5 * 0.05


def test_a_streams_logits_are_the_readers_to_change():
    model = tiny(1)
    expected = generate(model, [[1]], 8)[0].tokens
    ids = []
    for token in stream(model, [1], 8):
        ids.append(token.id)
        token.logits.fill_(0)
    assert ids == expected


def test_a_stream_ends_with_its_stop_token():
    model = tiny(3)
    tokens = generate(model, [[1]], 20)[0].tokens
    stop = tokens[6]
    streamed = list(stream(model, [1], 20, stop=[stop]))
    assert [token.id for token in streamed] == tokens[: tokens.index(stop) + 1]
    assert streamed[-1].reason == "stop"


def saying(model, ids):
    """A chooser that says these tokens, whatever the model thinks."""
    rest = iter(ids)
    return lambda logits, so_far, generator: torch.full((len(logits),), next(rest))


@pytest.mark.parametrize(
    ("text", "strings", "end"),
    [
        ("one two. three", [". "], "one two. t"),  # the tokens are letters and " t"
        ("one two. three", ["nowhere"], None),
        ("one two. three", ["three", "o. "], "one two. t"),
        ("caf\u00e9 noir", ["\u00e9"], "caf\u00e9"),
        ("aaab", ["aab"], "aaab"),
    ],
)
def test_stop_strings_are_found_across_tokens(text, strings, end):
    coder = Tokenizer([(b" ", b"t")])
    model, ids = tiny(vocab_size=coder.n_vocab), coder.encode(text)
    keywords = {"stop_strings": strings, "coder": coder}
    found = generate(model, [[65]], len(ids), saying(model, ids), **keywords)[0]
    assert coder.decode(found.tokens) == (text if end is None else end)
    assert found.reason == ("length" if end is None else "string")
    streamed = list(stream(model, [65], len(ids), saying(model, ids), **keywords))
    assert [token.id for token in streamed] == found.tokens
    assert streamed[-1].reason == found.reason


def test_a_stop_string_in_the_prompt_does_not_end_the_text():
    coder = Tokenizer([])
    model, prompt = tiny(vocab_size=256), coder.encode("stop")
    assert generate(model, [prompt], 2, saying(model, b"op"), stop_strings=["op"], coder=coder)[0].tokens == [*b"op"]
    assert generate(model, [prompt], 2, saying(model, b"p."), stop_strings=["op"], coder=coder)[0].reason == "length"


# Two models


@pytest.mark.parametrize("ahead", [1, 3, 8])
@pytest.mark.parametrize("penalty", [None, 1.5])
def test_at_temperature_0_a_draft_changes_nothing(ahead, penalty):
    model, draft = tiny(1), tiny(2, layers=1)
    with torch.no_grad():  # alike, so that some of its tokens are taken
        for name, weight in draft.named_parameters():
            weight.copy_(model.get_parameter(name))
    sampling = Sampling(temperature=0, repetition_penalty=penalty)
    for prompt, max_tokens in (([1, 2, 3], 30), ([7], 1), ([5], 2)):
        expected = generate(model, [prompt], max_tokens, sampling)[0].tokens
        written = generate_speculatively(model, draft, prompt, max_tokens, sampling, ahead=ahead)
        assert written.tokens == expected
        assert written.reason == "length"
        assert written.accepted <= written.drafted <= ahead * written.readings


def test_a_model_accepts_its_own_draft():
    model = tiny(1)
    written = generate_speculatively(model, model, [1, 2], 31, Sampling(), ahead=5, generator=seeded(0))
    assert written.accepted == written.drafted == 25
    assert written.readings == 1 + 5  # one token from the prompt, then five times 5 + 1


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.8, top_p=0.9, repetition_penalty=1.2)])
def test_texts_from_a_draft_follow_the_large_models_distribution(sampling):
    model, draft = tiny(5, vocab_size=3, layers=1), tiny(8, vocab_size=3, layers=1)
    n, texts = 400, list(itertools.product(range(3), repeat=3))
    generator = seeded(0)
    counts = dict.fromkeys(texts, 0)
    for _ in range(n):
        counts[tuple(generate_speculatively(model, draft, [1], 3, sampling, ahead=2, generator=generator).tokens)] += 1
    expected = []
    for text in texts:
        ids, p = torch.tensor([[1, *text]]), 1.0
        with torch.no_grad():
            logits = model(ids)[0]
        for i, token in enumerate(text):
            p *= sampling.probabilities(logits[i : i + 1], ids[:, : i + 1])[0, token].item()
        expected.append(n * p)
    assert sum(expected) == pytest.approx(n, rel=1e-4)
    assert all(counts[text] == 0 for text, e in zip(texts, expected, strict=True) if e == 0)
    cases = [(e, counts[text]) for e, text in zip(expected, texts, strict=True) if e >= 5]
    rest = [(e, counts[text]) for e, text in zip(expected, texts, strict=True) if 0 < e < 5]
    cases += [(sum(e for e, _ in rest), sum(o for _, o in rest))] * bool(rest)
    scale = n / sum(e for e, _ in cases)
    assert chisquare([o for _, o in cases], [e * scale for e, _ in cases]).pvalue > 1e-4


def test_a_draft_ends_with_the_stop_token():
    model = tiny(3)
    tokens = generate(model, [[1]], 30)[0].tokens
    for place, ahead in itertools.product((0, 1, 7), (1, 4, 9)):
        expected = generate(model, [[1]], 30, stop=tokens[place : place + 1])[0]
        assert expected.reason == "stop"
        for draft in (tiny(4), model):
            written = generate_speculatively(model, draft, [1], 30, ahead=ahead, stop=tokens[place : place + 1])
            assert (written.tokens, written.reason) == (expected.tokens, "stop")


# What is refused


MODEL = tiny(context=16)
BAD = {
    "There is no prompt": lambda: generate(MODEL, [], 3),
    "Prompt 1 is empty; begin with": lambda: generate(MODEL, [[1], []], 3),
    "are bare token ids": lambda: generate(MODEL, [1, 2], 3),
    "The token 40 is unknown .* from 0 to 39": lambda: generate(MODEL, [[1, 40]], 3),
    "The token -1 is unknown": lambda: list(stream(MODEL, [-1], 3)),
    "Prompt 0 has 17 tokens .* context is 16": lambda: generate(MODEL, [[1] * 17], 1),
    "10 tokens and 8 new ones .* at most 7, shorten": lambda: generate(MODEL, [[1] * 10], 8),
    "10 tokens and 9 new ones": lambda: generate_beams(MODEL, [1] * 10, 9, 2),
    "10 tokens and 11 new ones": lambda: generate_speculatively(MODEL, MODEL, [1] * 10, 11),
    "Prompt 0 is empty; begin with": lambda: generate_beams(MODEL, [], 3, 2),
    "Prompt 0 is empty; begin .* such as": lambda: generate_speculatively(MODEL, MODEL, [], 3),
    "The token 41 is unknown": lambda: generate_beams(MODEL, [41], 3, 2),
    "The token 42 is unknown": lambda: generate_speculatively(MODEL, MODEL, [42], 3),
    "Prompt 0 has 18 tokens": lambda: generate_beams(MODEL, [1] * 18, 1, 2),
    "Prompt 0 has 19 tokens": lambda: generate_speculatively(MODEL, MODEL, [1] * 19, 1),
    "Prompt 0 has 20 tokens": lambda: list(stream(MODEL, [1] * 20, 1)),
    "max_tokens is 0": lambda: generate(MODEL, [[1]], 0),
    "max_tokens is -3": lambda: generate_speculatively(MODEL, MODEL, [1], -3),
    "max_tokens is 1.5": lambda: generate_beams(MODEL, [1], 1.5, 2),
    "width is 0": lambda: generate_beams(MODEL, [1], 3, 0),
    "The window is 16; .* at most 15": lambda: generate(MODEL, [[1]], 3, window=16),
    "The window is 0": lambda: list(stream(MODEL, [1], 3, window=0)),
    "stop_strings is 'end'; give a list": lambda: generate(MODEL, [[1]], 3, stop_strings="end", coder=Tokenizer([])),
    "give the tokenizer as `coder`": lambda: generate(MODEL, [[1]], 3, stop_strings=["end"]),
    "ahead is 0": lambda: generate_speculatively(MODEL, MODEL, [1], 3, ahead=0),
    "know 40 and 41 tokens": lambda: generate_speculatively(MODEL, tiny(vocab_size=41), [1], 3),
    "capacity is 17, and the model's context 16": lambda: KVCache(MODEL.config, capacity=17),
    "batch is 0": lambda: KVCache(MODEL.config, batch=0),
    "capacity is 0": lambda: KVCache(MODEL.config, capacity=0),
    "has room for 4 positions and was to hold 5": lambda: prefill(
        MODEL, some_ids(0, 1, 5), KVCache(MODEL.config, 1, 4)
    ),
    r"shape \(2, 3\); a cache of 1": lambda: prefill(MODEL, some_ids(0, 2, 3), KVCache(MODEL.config)),
    "There is no token to read": lambda: prefill(MODEL, some_ids(0, 1, 0), KVCache(MODEL.config)),
    "chunk is 0": lambda: prefill(MODEL, some_ids(0, 1, 3), KVCache(MODEL.config), chunk=0),
    "The token 99 is unknown": lambda: decode_step(MODEL, torch.tensor([99]), KVCache(MODEL.config)),
    "holds 0 positions and cannot be cut to 3": lambda: KVCache(MODEL.config).truncate(3),
    "room for 1 texts and was to hold 2": lambda: KVCache(MODEL.config).select(torch.tensor([0, 0])),
    r"holds 1 texts, from 0, and was to keep those of \[1\]": lambda: KVCache(MODEL.config).select(torch.tensor([1])),
    "A prompt is a text; encode it": lambda: generate(MODEL, ["ab"], 3),
    "A prompt is a text": lambda: generate(MODEL, "ab", 3, window=8),
    "A prompt is a text; .* own tokenizer": lambda: list(stream(MODEL, "ab", 3)),
    "A prompt is a text; .* list of its ids": lambda: generate_beams(MODEL, "ab", 3, 2),
    "A prompt is a text; .* ids": lambda: generate_speculatively(MODEL, MODEL, "ab", 3),
    r"Prompt 0 is \[1.7\]; token ids are whole numbers": lambda: generate(MODEL, [[1.7]], 3),
    r"Prompt 1 is \['a'\]; token ids": lambda: pad([[1], ["a"]], MODEL.config),
    "are bare token ids; give": lambda: generate(MODEL, [1.7], 3, window=8),
    "are numbers of torch.float32; they have": lambda: prefill(MODEL, torch.tensor([[1.7]]), KVCache(MODEL.config)),
    "are numbers of torch.float32": lambda: decode_step(MODEL, torch.tensor([1.7]), KVCache(MODEL.config)),
    "are numbers of torch.float64": lambda: Decoder(MODEL, KVCache(MODEL.config))(torch.tensor([1.7]).double()),
    "The token 98 is unknown": lambda: Decoder(MODEL, KVCache(MODEL.config))(torch.tensor([98])),
    "The token -2 is unknown": lambda: Decoder(MODEL, KVCache(MODEL.config))(torch.tensor([-2])),
    r"shape \(2,\); a cache of 1 texts takes a token of each": lambda: decode_step(
        MODEL, torch.tensor([1, 2]), KVCache(MODEL.config)
    ),
    r"shape \(1,\); a cache of 2": lambda: Decoder(MODEL, KVCache(MODEL.config, 2))(torch.tensor([1])),
    r"padding is \[3\]; .* from 0 to 2": lambda: prefill(
        MODEL, some_ids(0, 1, 3), KVCache(MODEL.config), padding=torch.tensor([3])
    ),
    "chooser returned the token 40, .* from 0 to 39": lambda: generate(MODEL, [[1]], 1, saying(MODEL, [40])),
    "chooser returned the token -1": lambda: list(stream(MODEL, [1], 3, saying(MODEL, [5, -1]))),
    r"chooser returned tensor.* \(1,\)": lambda: generate(MODEL, [[1]], 3, lambda *_: torch.tensor([[1]])),
    "chooser returned 7; it has to return a tensor": lambda: generate(MODEL, [[1]], 3, lambda *_: 7),
    r"stop is 5; give .* such as \{5\}": lambda: generate(MODEL, [[1]], 3, stop=5),
    "stop is 6; give": lambda: generate_speculatively(MODEL, MODEL, [1], 3, stop=6),
}


@pytest.mark.parametrize("sentence", BAD)
def test_what_means_nothing_is_refused_in_a_sentence(sentence):
    with pytest.raises(ValueError, match=sentence):
        BAD[sentence]()


def test_what_a_step_refuses_leaves_the_cache_as_it_was():
    cache = KVCache(MODEL.config)
    prefill(MODEL, some_ids(0, 1, 3), cache)
    memory, decoder = cache.memory.clone(), Decoder(MODEL, cache)
    for step in (decoder, lambda ids: decode_step(MODEL, ids, cache)):
        for ids in (torch.tensor([40]), torch.tensor([-1]), torch.tensor([1, 1]), torch.tensor([0.5])):
            with pytest.raises(ValueError, match=r"unknown|shape|whole"):
                step(ids)
        assert cache.length == 3
    assert torch.equal(cache.memory, memory)
    expected = MODEL(torch.cat([some_ids(0, 1, 3), torch.tensor([[5]])], dim=1))[:, -1]
    torch.testing.assert_close(decoder(torch.tensor([5])), expected.detach(), **TOLERANCE)


def test_a_full_cache_is_refused_by_each_way_to_step():
    cache = KVCache(MODEL.config, capacity=3)
    prefill(MODEL, some_ids(0, 1, 3), cache)
    for step in (Decoder(MODEL, cache), lambda ids: decode_step(MODEL, ids, cache)):
        with pytest.raises(ValueError, match="room for 3 positions and was to hold 4"):
            step(torch.tensor([1]))
    padded = KVCache(MODEL.config)
    prefill(MODEL, some_ids(0, 1, 3), padded)
    with pytest.raises(ValueError, match="Padding stands before"):
        prefill(MODEL, some_ids(0, 1, 3), padded, padding=torch.tensor([1]))


def test_a_model_that_is_broken_is_refused_and_not_written_on_with():
    model = tiny()
    with torch.no_grad():
        model.layers[1].feed_forward.down.weight[0, 0] = math.nan
    for choose in (greedy, sample, Sampling(0.5)):
        with pytest.raises(ValueError, match="NaN or infinity"):
            generate(model, [[1]], 3, choose)
    with pytest.raises(ValueError, match="NaN or infinity"):
        generate_beams(model, [1], 3, 2)
    with pytest.raises(ValueError, match="NaN or infinity"):
        generate_speculatively(model, model, [1], 3)
