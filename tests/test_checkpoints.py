"""Models on disk: what `transformers` makes of ours, what we make of theirs, what is refused and leaves no trace."""

import json
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import llmlib
from llmlib import checkpoints
from llmlib import tokenizer as tokenizers
from llmlib.checkpoints import models
from llmlib.model import ModelConfig, Transformer
from llmlib.tokenizer import Tokenizer
from llmlib.training import Recipe, StreamBatches, Trainer

SMALL = ModelConfig(vocab_size=260, context=24, width=16, layers=2, heads=2, kv_heads=1, feed_forward_width=24)
OTHER = replace(SMALL, heads=4, kv_heads=2, head_width=4)  # another model whose weights have the same shapes
TEXT = "low lower lowest <|endoftext|> naïve"


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def coder():
    return Tokenizer.train("low lower lowest", 260, special_tokens=["<|endoftext|>"])


def make(config, seed=0):
    """A model whose every number matters: norms too, and weights large enough to tell apart."""
    model = Transformer(config, torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model


@pytest.fixture
def folder(tmp_path, coder):
    checkpoints.save(make(SMALL), tmp_path / "saved", coder)
    return tmp_path / "saved"


def weights_of(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def assert_same(one, other):
    one, other = weights_of(one), weights_of(other)
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def edit(folder, **settings):
    """Changes config.json, as a hub's file without our checksum would have it; None takes a setting out."""
    data = json.loads((folder / "config.json").read_text())
    data = {name: value for name, value in (data | settings).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(data))


def rewrite(folder, change, **metadata):
    """Writes the tensors that `change` makes of those stored, as any library would: with no checksum."""
    tensors = change(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt", **metadata})


# Against transformers

GRID = [
    ModelConfig(50, 16, 24, 2, 4, kv_heads, head_width, 40, tied, base, epsilon)
    for kv_heads, head_width, tied, base, epsilon in [
        (1, None, True, 10_000.0, 1e-5),
        (2, None, False, 500_000.0, 1e-6),
        (4, 10, True, 100.0, 1e-5),
        (2, 4, False, 10_000.0, 1e-5),
        (1, 8, False, 10_000.0, 1e-2),
    ]
]


def largest_difference(ours, theirs, config):
    """Of the logits, as a share of the largest, at every length up to the context."""
    ids = torch.randint(config.vocab_size, (2, config.context), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = theirs(ids).logits
        pairs = [(ours(ids[:, :length]), expected[:, :length]) for length in (1, 7, config.context)]
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)


@pytest.mark.parametrize("config", GRID)
def test_transformers_loads_what_we_save(tmp_path, config):
    from transformers import LlamaForCausalLM

    model = make(config)
    checkpoints.save(model, tmp_path)
    theirs, report = LlamaForCausalLM.from_pretrained(tmp_path, output_loading_info=True, local_files_only=True)
    assert not any(report.values()), report
    assert theirs.dtype == torch.float32
    assert largest_difference(model, theirs, config) < 1e-5  # fp32, sums in another order
    assert_same(checkpoints.load_model(tmp_path), model)


@pytest.mark.parametrize("config", GRID)
@pytest.mark.parametrize("shard", [None, "5KB"])
def test_we_load_what_transformers_saves(tmp_path, config, shard):
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = checkpoints.hub_config(config)
    settings["rope_parameters"] = {"rope_type": "default", "rope_theta": settings.pop("rope_theta")}
    torch.manual_seed(0)
    theirs = LlamaForCausalLM(LlamaConfig(**settings, initializer_range=0.1))
    theirs.save_pretrained(tmp_path, **({"max_shard_size": shard} if shard else {}))
    assert (tmp_path / "model.safetensors.index.json").exists() == bool(shard)
    ours = checkpoints.load_model(tmp_path)
    assert ours.config == config
    assert largest_difference(ours, theirs, config) < 1e-5


def test_mistral_without_a_window_is_a_llama(tmp_path):
    from transformers import MistralConfig, MistralForCausalLM

    config = GRID[1]
    settings = checkpoints.hub_config(config)
    for window in (None, config.context):
        rope = {"rope_type": "default", "rope_theta": config.rope_base}
        theirs = MistralForCausalLM(
            MistralConfig(**settings | {"model_type": "mistral"}, rope_parameters=rope, sliding_window=window)
        )
        theirs.save_pretrained(tmp_path)
        assert largest_difference(checkpoints.load_model(tmp_path), theirs, config) < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("config", [GRID[0], GRID[3]])
def test_sixteen_bits_are_rounded_once(tmp_path, dtype, config):
    from transformers import LlamaForCausalLM

    model = make(config)
    checkpoints.save(model, tmp_path / "ours", dtype=dtype)
    theirs = LlamaForCausalLM.from_pretrained(tmp_path / "ours", local_files_only=True)
    assert theirs.dtype == dtype
    theirs.save_pretrained(tmp_path / "theirs")
    ours, again = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "theirs"))
    assert ours.keys() == again.keys()
    for name, weight in checkpoints.hub_weights(model).items():
        assert torch.equal(ours[name], weight.to(dtype))
        assert torch.equal(ours[name], again[name])
    for name in ("ours", "theirs"):  # and 16 bits fit into 32
        loaded = checkpoints.load_model(tmp_path / name)
        assert loaded.norm.weight.dtype == torch.float32
        for parameter, original in zip(loaded.parameters(), model.parameters(), strict=True):
            assert torch.equal(parameter, original.to(dtype).float())
        kept = checkpoints.load_model(tmp_path / name, dtype=dtype)
        assert {parameter.dtype for parameter in kept.parameters()} == {dtype}


def test_transformers_loads_our_tokenizer(folder, coder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert theirs(TEXT).input_ids == coder.encode(TEXT, allowed_special="all")
    assert theirs.decode(coder.encode("naïve low")) == "naïve low"
    assert theirs.eos_token == theirs.bos_token == "<|endoftext|>"
    assert theirs.model_max_length == SMALL.context
    end = coder.special_tokens["<|endoftext|>"]
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    assert model.generation_config.eos_token_id == model.config.eos_token_id == end


def test_without_a_tokenizer_no_token_ends_a_text(tmp_path):
    from transformers import LlamaForCausalLM

    checkpoints.save(make(SMALL), tmp_path)
    theirs = LlamaForCausalLM.from_pretrained(tmp_path, local_files_only=True)
    assert theirs.generation_config.eos_token_id is None  # it would be 2 if nothing were said
    assert theirs.config.eos_token_id is None


# Loading


def test_a_round_trip(folder, coder):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    model, tokenizer = checkpoints.load(folder)
    assert torch.equal(torch.rand(1), expected)  # no random number was used up
    assert model.config == SMALL
    assert_same(model, make(SMALL))
    assert tokenizer.encode(TEXT) == coder.encode(TEXT)
    assert model.head.weight is model.embedding.weight
    assert all(parameter.requires_grad for parameter in model.parameters())
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(model(ids), make(SMALL)(ids))


def test_a_loaded_model_trains_and_does_not_follow_its_file(folder):
    model = checkpoints.load_model(str(folder))
    before = weights_of(model)
    path = folder / "model.safetensors"
    path.write_bytes(bytes(path.stat().st_size))
    for name, weight in weights_of(model).items():
        assert torch.equal(weight, before[name])
    losses = [record.loss for record in a_run(model=model).run(3)]
    assert all(not torch.equal(weight, before[name]) for name, weight in weights_of(model).items())
    assert len(losses) == 3


def test_files_are_plain_ones(folder):
    """As a new file of anyone's: readable by whom the system's settings say."""
    (folder / "new").touch()
    assert {path.stat().st_mode for path in folder.iterdir()} == {(folder / "new").stat().st_mode}


def test_old_names(folder):
    """Files of the bare model lack `model.`; old ones hold each layer's table of rotations; some repeat the head."""

    def aged(tensors):
        old = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
        old |= {f"layers.{n}.self_attn.rotary_emb.inv_freq": torch.ones(4) for n in range(2)}
        return old | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}

    rewrite(folder, aged)
    assert_same(checkpoints.load_model(folder), make(SMALL))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"torch_dtype": None, "dtype": "float32"},
        {"rope_theta": None},  # 10,000 is what a missing one means
        {"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 10_000}},
        {"rope_theta": 7.0, "rope_parameters": {"rope_type": "default", "rope_theta": 10_000}},
        {"rope_scaling": {"type": "default"}},
        {"head_dim": None, "attention_bias": None, "mlp_bias": None, "hidden_act": "swish"},
    ],
)
def test_configs_of_old_and_new_writers(folder, settings):
    edit(folder, **settings)
    assert checkpoints.load_model(folder).config == SMALL


def test_what_a_config_leaves_out():
    least = {"model_type": "llama", "vocab_size": 5, "hidden_size": 8, "num_hidden_layers": 1}
    least |= {"num_attention_heads": 2, "intermediate_size": 12}
    config = checkpoints.config_from_hub(least)
    from transformers import LlamaConfig

    theirs = LlamaConfig(**least)
    assert config.context == theirs.max_position_embeddings
    assert config.kv_heads == theirs.num_key_value_heads
    assert config.norm_epsilon == theirs.rms_norm_eps
    assert config.tied == theirs.tie_word_embeddings
    assert config.rope_base == theirs.rope_parameters["rope_theta"]
    for name in least:
        with pytest.raises(ValueError, match=name):
            checkpoints.config_from_hub({key: value for key, value in least.items() if key != name})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"model_type": "qwen2"}, "model_type is 'qwen2'; only models shaped like Llama"),
        ({"model_type": ["llama"]}, "only models shaped like Llama"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"mlp_bias": True}, "mlp_bias is True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is {'bits': 4}"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, r"scaling of positions \(rope_type\) is 'linear'"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5}}, "is 'llama3'"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 5e5}}}, "in one way in all layers"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ({"sliding_window": 8}, "sliding_window is 8, fewer than the 24 positions"),
        ({"model_type": "mistral"}, None),
        ({"model_type": "mistral", "max_position_embeddings": 8192}, "sliding_window is 4096, fewer than the 8192"),
        ({"rope_theta": "10000"}, "rope_theta is '10000'; it has to be a number"),
        ({"hidden_size": "16"}, "width is '16'; it has to be a whole number"),
        ({"num_key_value_heads": 3}, "2 heads cannot share 3 kv_heads"),
        ({"rms_norm_eps": -1.0}, "norm_epsilon is -1.0"),
    ],
)
def test_configs_that_our_model_cannot_have(folder, settings, sentence):
    edit(folder, **settings)
    if sentence is None:
        assert checkpoints.load_model(folder).config == SMALL
        return
    with pytest.raises(ValueError, match=rf"config\.json: .*{sentence}"):
        checkpoints.load(folder)


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "\udc80", "[" * 100_000])
def test_a_config_that_is_none(folder, content):
    (folder / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"config\.json"):
        checkpoints.load_model(folder)


Q = "model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: {name: x for name, x in t.items() if name != Q}, f"lack {Q}, which the config asks for"),
        (lambda t: {}, "lack .* and 17 more"),
        (lambda t: {**t, "model.layers.0.self_attn.q_proj.bias": torch.ones(16)}, "hold .*q_proj.bias, which a model"),
        (lambda t: {"transformer.wte.weight": torch.ones(260, 16)}, "The weights lack"),
        (lambda t: {**t, Q: t[Q][:8].clone()}, rf"{Q} has shape \(8, 16\), and the config asks for \(16, 16\)"),
        (lambda t: {**t, Q: t[Q].to(torch.int8)}, rf"{Q} holds torch.int8"),
        (lambda t: {**t, Q: t[Q].to(torch.float8_e4m3fn)}, rf"{Q} holds torch.float8_e4m3fn"),
        (lambda t: {**t, Q: t[Q].fill_(float("nan"))}, f"{Q} holds infinity or NaN"),
        (lambda t: {**t, Q: t[Q].log()}, f"{Q} holds infinity or NaN"),
        (lambda t: {**t, "lm_head.weight": torch.ones(260, 16)}, "lm_head.weight is not the embedding"),
    ],
)
def test_weights_that_do_not_fit(folder, change, sentence):
    rewrite(folder, change)
    with pytest.raises(ValueError, match=f"saved: .*{sentence}"):
        checkpoints.load(folder)


def test_an_untied_model_needs_its_head(tmp_path):
    checkpoints.save(make(GRID[1]), tmp_path)
    rewrite(tmp_path, lambda tensors: {name: x for name, x in tensors.items() if name != "lm_head.weight"})
    with pytest.raises(ValueError, match=r"lack lm_head\.weight"):
        checkpoints.load_model(tmp_path)


def test_numbers_too_large_for_the_dtype(tmp_path):
    model = make(SMALL)
    with torch.no_grad():
        model.norm.weight[3] = 1e6
    checkpoints.save(model, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"model\.norm\.weight holds infinity or NaN in float16"):
        checkpoints.save(model, tmp_path, dtype=torch.float16)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(ValueError, match="float16 is too narrow"):
        checkpoints.load_model(tmp_path, dtype=torch.float16)
    for action in (checkpoints.save, checkpoints.load_model):
        with pytest.raises(ValueError, match=r"dtype is torch\.int8; choose one of"):
            action(*([model] if action is checkpoints.save else []), tmp_path, dtype=torch.int8)


# Damage

TINY = ModelConfig(vocab_size=5, context=4, width=4, layers=1, heads=2, feed_forward_width=4)


def flips(whole, every=1):
    """The bytes with one bit flipped, in each byte or in every so many."""
    for place in range(0, len(whole), every):
        yield place, whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :]


def test_any_flipped_bit_is_noticed(tmp_path):
    """The load fails with a sentence, or the bit was none of the model's."""
    checkpoints.save(make(TINY), tmp_path)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    for place, flipped in flips(whole, every=3):
        path.write_bytes(flipped)
        if b'"sha256"' in flipped:
            with pytest.raises(ValueError, match=r"model\.safetensors"):
                checkpoints.load_model(tmp_path)
        else:  # in the checksum's own name: now it is a file that has none
            assert whole[place : place + 1] in b'"sha256"'
    path.write_bytes(whole.replace(b'"sha256"', b'"sha25v"'))
    assert_same(checkpoints.load_model(tmp_path), make(TINY))


def test_a_flipped_bit_of_the_config_is_noticed_where_it_matters(tmp_path):
    checkpoints.save(make(TINY), tmp_path)
    path = tmp_path / "config.json"
    noticed = 0
    for _, flipped in flips(path.read_bytes(), every=2):
        path.write_bytes(flipped)
        try:
            assert checkpoints.load_model(tmp_path).config == TINY
        except ValueError:
            noticed += 1
    assert noticed > 100


def test_a_file_cut_short(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for length in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"model\.safetensors is cut off or is no safetensors file"):
            checkpoints.load_model(folder)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ValueError, match="fetch it again"):
        checkpoints.load_model(folder)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    with pytest.raises(ValueError, match="git lfs pull"):
        checkpoints.load_model(folder)


def test_parts_of_two_models(tmp_path, coder):
    """A config or a tokenizer that is sound, but another model's."""
    checkpoints.save(make(SMALL), tmp_path / "one", coder)
    checkpoints.save(make(OTHER), tmp_path / "other", Tokenizer.train("abc abcd", 259, special_tokens=["<|end|>"]))
    for name in ("config", "tokenizer"):
        shutil.copytree(tmp_path / "one", tmp_path / name)
        shutil.copy(tmp_path / "other" / f"{name}.json", tmp_path / name)
        with pytest.raises(ValueError, match=rf"{name}\.json has changed since these weights were saved with it"):
            checkpoints.load(tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(checkpoints.load_model(tmp_path / "tokenizer"), make(SMALL))


def test_layout_and_line_ends_of_json_do_not_matter(folder):
    for name in ("config.json", "tokenizer.json"):
        data = json.loads((folder / name).read_text(encoding="utf-8"))
        text = json.dumps(data, indent=7).replace("\n", "\r\n")
        (folder / name).write_bytes(text.encode())
    assert_same(checkpoints.load(folder)[0], make(SMALL))


def shard(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    places = {name: f"model-0000{1 + (i > 9)}-of-00002.safetensors" for i, name in enumerate(names)}
    for place in set(places.values()):
        save_file({name: tensors[name] for name in names if places[name] == place}, folder / place)
    return places


def write_index(folder, places):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def test_shards_that_do_not_fit_together(folder):
    places = shard(folder)
    write_index(folder, places)
    assert_same(checkpoints.load_model(folder), make(SMALL))
    one, two = sorted(set(places.values()))
    write_index(folder, places | {name: two for name, place in places.items() if place == one})
    with pytest.raises(ValueError, match=f"{two} lacks .*, which model.safetensors.index.json says is there"):
        checkpoints.load_model(folder)
    for wrong in ([], {"a": 5}, None):
        write_index(folder, wrong)
        with pytest.raises(ValueError, match="no 'weight_map'"):
            checkpoints.load_model(folder)
    shutil.copy(folder / one, folder / ".." / "outside.safetensors")  # a folder reads no files but its own
    write_index(folder, {name: "../outside.safetensors" if place == one else place for name, place in places.items()})
    with pytest.raises(FileNotFoundError, match=r"has no file \.\./outside\.safetensors"):
        checkpoints.load_model(folder)
    write_index(folder, places)
    (folder / two).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no file {two}"):
        checkpoints.load_model(folder)


def test_pickles_stay_closed(folder):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(folder / "opened"),)

    (folder / "model.safetensors").unlink()
    torch.save({"weight": Bomb()}, folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"pytorch_model\.bin is a pickle, which can run code"):
        checkpoints.load(folder)
    torch.save({"weight": Bomb()}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="no safetensors file"):
        checkpoints.load(folder)
    assert not (folder / "opened").exists()


# Tokenizers


def test_a_tokenizer_that_is_missing_or_of_another_kind(folder):
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({"model": {"type": "Unigram", "vocab": []}}))
    with pytest.raises(ValueError, match=r"only byte-level BPE can be read\. load_model gives the model alone"):
        checkpoints.load(folder)
    tokenizers.save(Tokenizer([], special_tokens=[f"<{i}>" for i in range(9)]), path)
    with pytest.raises(ValueError, match="has 265 tokens and the model 260"):
        checkpoints.load(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"has no tokenizer\.json; load_model gives the model alone"):
        checkpoints.load(folder)
    assert_same(checkpoints.load_model(folder), make(SMALL))


def test_a_tokenizer_too_large_for_the_model(tmp_path):
    large = Tokenizer([], special_tokens=[f"<{i}>" for i in range(9)])
    with pytest.raises(ValueError, match="has 265 tokens and the model 260"):
        checkpoints.save(make(SMALL), tmp_path / "new", large)
    assert not (tmp_path / "new").exists()


# Where models come from


@pytest.mark.parametrize("function", [checkpoints.load, checkpoints.load_model])
def test_the_book_s_own_model(folder, monkeypatch, function):
    """What is loaded when no name is given: a folder of the package, or a sentence where it is missing."""
    assert function.__defaults__[0] == checkpoints.STORY_MODEL == Path(llmlib.__file__).parent / "story_model"
    monkeypatch.setattr(function, "__defaults__", (folder, *function.__defaults__[1:]))
    function()
    monkeypatch.setattr(models, "STORY_MODEL", folder)
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(FileNotFoundError, match="The book's own model is not in this copy of llmlib"):
        function()


def test_a_repository_of_the_hub(folder, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    asked = []

    def download(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model, _ = checkpoints.load("someone/a-model.v2")
    assert_same(model, make(SMALL))
    [(name, patterns)] = asked
    assert name == "someone/a-model.v2"
    assert all(pattern.endswith((".json", ".safetensors")) for pattern in patterns)


def test_no_network(tmp_path, monkeypatch):
    """The hub's own client, with every connection refused and an empty cache."""
    constants = pytest.importorskip("huggingface_hub.constants")
    download = pytest.importorskip("huggingface_hub._snapshot_download")
    import socket

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(OSError, match=r"the hub did not give a repository of this name .* or give a folder") as caught:
        checkpoints.load("someone/nothing")
    assert "\n" not in str(caught.value)


def test_no_hub_client(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="first install the package huggingface_hub"):
        checkpoints.load("someone/nothing")


@pytest.mark.parametrize("name", ["nothing", "./some/where", "a/b/c", "../up", "/nowhere/at/all", "a b/c", ""])
def test_names_that_are_no_repository(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no folder|has no config\.json"):
        checkpoints.load(name)


def test_a_file_in_place_of_its_folder(folder):
    with pytest.raises(ValueError, match="is a file; give the folder"):
        checkpoints.load(folder / "model.safetensors")


# Interruption


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize(("function", "after"), [("fsync", 0), ("fsync", 4), ("replace", 0)])
def test_an_interrupted_save_leaves_the_old_files(folder, coder, monkeypatch, function, after, failure):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    original, calls = getattr(os, function), []

    def interrupt(*arguments):
        if len(calls) == after:
            raise failure
        calls.append(arguments)
        original(*arguments)

    monkeypatch.setattr(os, function, interrupt)
    with pytest.raises(failure):
        checkpoints.save(make(OTHER, seed=5), folder, coder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("count", range(5))
def test_an_interruption_between_two_files_cannot_mix_two_models(folder, coder, monkeypatch, count):
    """Of five files, `count` are the new model's: the weights are not read with another model's config."""
    replace_file, done = os.replace, []

    def interrupt(source, target):
        if len(done) == count:
            raise KeyboardInterrupt
        done.append(target)
        replace_file(source, target)

    other = make(OTHER, seed=5)
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(other, folder, coder)
    assert not list(folder.glob("*.part"))
    if folder / "config.json" in done:
        with pytest.raises(ValueError, match="has changed since"):
            checkpoints.load(folder)
    else:
        assert_same(checkpoints.load(folder)[0], make(SMALL))
    checkpoints.save(other, folder, coder)
    assert_same(checkpoints.load(folder)[0], other)


# Runs

RECIPE = Recipe(steps=6, learning_rate=1e-2, warm_up=2, accumulate=2)
STREAM = torch.arange(300) * 7 % 260


def a_run(config=SMALL, recipe=RECIPE, stream=STREAM, seed=0, model=None):
    model = make(config, seed=9) if model is None else model
    return Trainer(model, StreamBatches(stream, rows=2, length=min(8, config.context), seed=seed), recipe)


def plain(records):
    return [replace(record, tokens_per_second=0.0) for record in records]


def state_of(trainer):
    moments, counters = trainer.state()
    return {name: x.clone() for name, x in {**weights_of(trainer.model), **moments}.items()}, counters


def assert_same_state(one, other):
    assert one[1] == other[1]
    assert one[0].keys() == other[0].keys()
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])


@pytest.fixture(scope="module")
def straight():
    """A run of 6 steps, never interrupted: its records and its state."""
    trainer = a_run()
    return plain(trainer.run()), state_of(trainer)


@pytest.mark.parametrize("done", [0, 3, 5, 6])
def test_a_resumed_run_is_the_run(tmp_path, straight, done):
    first = a_run()
    records = plain(first.run(done))
    checkpoints.save_training(first, tmp_path / "training.safetensors")
    second = a_run(model=make(SMALL, seed=4))  # another beginning, which the file replaces
    checkpoints.resume_training(second, tmp_path / "training.safetensors")
    assert_same_state(state_of(second), state_of(first))
    records += plain(second.run())
    assert records == straight[0]
    assert_same_state(state_of(second), straight[1])
    assert [path.name for path in tmp_path.iterdir()] == ["training.safetensors"]


def test_a_file_from_before_there_were_checksums(tmp_path, straight):
    first = a_run()
    records = plain(first.run(3))
    tensors, counters = first.state()
    tensors = tensors | {f"model.{name}": weight for name, weight in weights_of(first.model).items()}
    path = tmp_path / "training.safetensors"
    save_file(tensors, path, metadata={name: str(number) for name, number in counters.items()})
    assert load_file(path).keys() == tensors.keys()
    second = a_run()
    checkpoints.resume_training(second, path)
    assert records + plain(second.run()) == straight[0]
    checkpoints.save_training(first, path)
    assert load_file(path).keys() == tensors.keys()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"config": replace(SMALL, feed_forward_width=32)}, "feed_forward_width is 24, and here 32"),
        ({"config": replace(SMALL, rope_base=500.0)}, "rope_base is 10000.0, and here 500.0"),
        ({"recipe": replace(RECIPE, steps=7)}, "steps is 6, and here 7"),
        ({"recipe": replace(RECIPE, betas=(0.9, 0.99))}, r"betas is \[0.9, 0.95\], and here \[0.9, 0.99\]"),
        ({"recipe": replace(RECIPE, precision="bfloat16")}, "precision is float32, and here bfloat16"),
        ({"seed": 1}, "its first batch has other tokens"),
        ({"stream": STREAM.flip(0)}, "its first batch has other tokens"),
    ],
)
def test_a_file_of_another_run(tmp_path, settings, sentence):
    run = a_run()
    list(run.run(2))
    path = tmp_path / "training.safetensors"
    checkpoints.save_training(run, path)
    other = a_run(**settings)
    list(other.run(1))
    before = state_of(other)
    with pytest.raises(ValueError, match=rf"training\.safetensors is of another run: .*{sentence}.* Resume with what"):
        checkpoints.resume_training(other, path)
    assert_same_state(state_of(other), before)


@pytest.mark.parametrize(
    ("change", "metadata", "sentence"),
    [
        (lambda t: t, {}, "is no file of save_training"),
        (lambda t: t, {"step": "two", "tokens": "5"}, "is no file of save_training"),
        (lambda t: {"x": torch.ones(1)}, {"step": "2", "tokens": "5"}, "it lacks"),
        (lambda t: {**t, "x": torch.ones(1)}, {"step": "2", "tokens": "5"}, "it holds x, for which there is no place"),
        (lambda t: t, {"step": "0", "tokens": "0"}, "it holds .*exp_avg, for which there is no place"),
        (
            lambda t: {**t, "norm.weight:exp_avg": torch.ones(8)},
            {"step": "2", "tokens": "5"},
            r"norm.weight:exp_avg is \(8,\) of torch.float32, not \(16,\)",
        ),
        (
            lambda t: {**t, "model.norm.weight": torch.full((16,), float("inf"))},
            {"step": "2", "tokens": "5"},
            "model.norm.weight holds infinity",
        ),
    ],
)
def test_a_file_that_is_no_run_s(tmp_path, change, metadata, sentence):
    run = a_run()
    list(run.run(2))
    path = tmp_path / "training.safetensors"
    checkpoints.save_training(run, path)
    save_file(change({name: x.clone() for name, x in load_file(path).items()}), tmp_path / "other", metadata=metadata)
    before = state_of(run)
    with pytest.raises(ValueError, match=sentence):
        checkpoints.resume_training(run, tmp_path / "other")
    assert_same_state(state_of(run), before)


def test_a_damaged_file_of_a_run(tmp_path):
    run = a_run(TINY, stream=STREAM % 5)
    list(run.run(2))
    path = tmp_path / "training.safetensors"
    with pytest.raises(FileNotFoundError):
        checkpoints.resume_training(run, path)
    checkpoints.save_training(run, path)
    whole, other = path.read_bytes(), a_run(TINY, stream=STREAM % 5)
    untouched = state_of(other)
    for _, flipped in flips(whole, every=31):
        path.write_bytes(flipped)
        if b'"sha256"' in flipped:
            with pytest.raises(ValueError, match=r"training\.safetensors"):
                checkpoints.resume_training(other, path)
    assert_same_state(state_of(other), untouched)
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="cut off"):
        checkpoints.resume_training(other, path)


def test_ctrl_c_while_a_batch_is_made_or_the_loss_computed(tmp_path, straight):
    """What was learned stays: the run goes on from the last whole step, in the same session or from its file."""

    class Interrupted:
        def __init__(self, batches, at):
            self.batches, self.at = batches, at

        def __getitem__(self, n):
            if n == self.at:
                self.at = None
                raise KeyboardInterrupt
            return self.batches[n]

    run = a_run()
    run.batches = Interrupted(run.batches, at=7)  # the second half of the fourth step
    records = []
    with pytest.raises(KeyboardInterrupt):
        records.extend(plain([record])[0] for record in run.run())
    del records[:]
    assert run.step == 3
    path = tmp_path / "training.safetensors"
    checkpoints.save_training(run, path)

    loss_sum = run.loss_sum

    def interrupted_loss(*arguments):
        run.loss_sum = loss_sum
        raise KeyboardInterrupt

    run.loss_sum = interrupted_loss
    with pytest.raises(KeyboardInterrupt):
        list(run.run())
    assert plain(run.run()) == straight[0][3:]
    assert_same_state(state_of(run), straight[1])
    again = a_run()
    checkpoints.resume_training(again, path)
    assert plain(again.run()) == straight[0][3:]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_ctrl_c_while_a_run_is_saved(tmp_path, straight, monkeypatch, function):
    run, path = a_run(), tmp_path / "training.safetensors"
    list(run.run(2))
    checkpoints.save_training(run, path)
    list(run.run(2))

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, function, interrupt)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save_training(run, path)
    assert [file.name for file in tmp_path.iterdir()] == ["training.safetensors"]
    again = a_run()
    checkpoints.resume_training(again, path)
    assert again.step == 2
    assert plain(run.run()) == straight[0][4:]


def test_a_diverged_run_does_not_replace_its_file(tmp_path):
    run, path = a_run(), tmp_path / "training.safetensors"
    list(run.run(2))
    checkpoints.save_training(run, path)
    before = path.read_bytes()
    with torch.no_grad():
        run.model.norm.weight[0] = float("nan")
    with pytest.raises(ValueError, match=r"model\.norm\.weight holds infinity or NaN"):
        checkpoints.save_training(run, path)
    assert path.read_bytes() == before
