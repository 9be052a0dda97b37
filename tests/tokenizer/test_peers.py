"""The ids equal those of `tokenizers` and of `tiktoken` with the same merges; every text comes back.

TOKENIZER_DEPTH=20 (an environment variable) runs through 20 times as many generated texts.
"""

import json
import os
import pickle
import random
import subprocess
import sys
import tracemalloc
import unicodedata

import pytest
import tiktoken
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from llmlib.tokenizer import GPT2_PATTERN, Normalizer, PreTokenizer, Tokenizer, encoding, load, save

DEPTH = int(os.environ.get("TOKENIZER_DEPTH", "1"))

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CL100K_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)


def test_12000_generated_texts(trained, peers, generate):
    hugging_face, tik = peers
    rng = random.Random(11)
    for _ in range(12 * DEPTH):
        texts = [generate(rng) for _ in range(1000)]
        ours = [trained.encode(text) for text in texts]
        assert ours == [encoding.ids for encoding in hugging_face.encode_batch(texts)]
        assert ours == [tik.encode_ordinary(text) for text in texts]
        assert [trained.decode(ids) for ids in ours] == texts
        assert [tik.decode(ids) for ids in ours] == texts
        trained.forget()


@settings(max_examples=500 * DEPTH, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs", "Cn"])).filter(lambda text: "<|endoftext|>" not in text))
def test_any_text(trained, peers, text):
    """But the special token: `tokenizers` finds it in every text, and hypothesis in this file."""
    ids = trained.encode(text)
    assert ids == peers[0].encode(text).ids == peers[1].encode_ordinary(text)
    assert trained.decode(ids) == text
    assert b"".join(trained.tokens(text)) == trained.decode_bytes(ids) == text.encode()


def test_every_assigned_character(tmp_path):
    """Words end where they do in the libraries, beside letters, digits, spaces and the same character again.

    Every pair of bytes is a token here, so that the ids show each word's end. Ideographs and Hangul: every 16th.
    """
    every_byte = [bytes([byte]) for byte in range(256)]
    ours = Tokenizer([(a, b) for a in every_byte for b in every_byte])
    save(ours, tmp_path / "t.json")
    hugging_face = tokenizers.Tokenizer.from_file(str(tmp_path / "t.json"))
    tik = tiktoken.Encoding("pairs", pat_str=GPT2_PATTERN, mergeable_ranks=ours.vocab, special_tokens={})
    assigned = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cn", "Cs", "Co")]
    dense = [(0x3400, 0xA48C), (0xAC00, 0xD7A3), (0x17000, 0x18CD5), (0x20000, 0x3FFFF)]
    kept = [c for c in assigned if ord(c) % 16 == 0 or not any(low <= ord(c) <= high for low, high in dense)]
    for start in range(0, len(kept), 2048):
        block = kept[start : start + 2048]
        text = "".join(f"a{c}a1{c}1 {c}{c} \n{c}\t" for c in block)
        ids = ours.encode(text)
        assert ids == tik.encode_ordinary(text), f"tiktoken differs in U+{ord(block[0]):04X}..U+{ord(block[-1]):04X}"
        assert ids == hugging_face.encode(text).ids, (
            f"tokenizers differs in U+{ord(block[0]):04X}..{ord(block[-1]):04X}"
        )


@pytest.mark.parametrize(
    "word", ["a" * 5000, "ab" * 3000, "日本語" * 1500, "x1" * 2000, " " * 3000, "\n \t" * 900, "é" * 4000]
)
def test_long_words_and_long_runs(trained, peers, word):
    assert trained.encode(word) == peers[0].encode(word).ids == peers[1].encode_ordinary(word)


def test_bytes_that_are_not_utf8(trained, peers):
    rng = random.Random(13)
    for _ in range(300):
        ids = [rng.randrange(trained.n_vocab) for _ in range(rng.randint(0, 8))]
        assert trained.decode_bytes(ids) == peers[1].decode_bytes(ids)
        assert trained.decode(ids) == peers[1].decode(ids, errors="replace")


def test_special_tokens(trained, peers):
    end = trained.special_tokens["<|endoftext|>"]
    assert end == 4095
    text = "one<|endoftext|>two <|endoftext|><|endoftext|> three"
    assert end not in trained.encode(text)
    assert trained.encode(text) == peers[1].encode(text, disallowed_special=())
    allowed = trained.encode(text, allowed_special="all")
    assert allowed == peers[1].encode(text, allowed_special="all") == peers[0].encode(text).ids
    assert allowed.count(end) == 3
    assert trained.decode(allowed) == text


def test_where_special_tokens_overlap_the_longest_wins(tmp_path):
    ours = Tokenizer([], special_tokens=["<|a|>", "<|a|>b", "b<"])
    save(ours, tmp_path / "t.json")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "t.json"))
    text = "x<|a|>b<|a|>cb<|a|>"
    assert ours.encode(text, allowed_special="all") == theirs.encode(text).ids == [120, 257, 256, 99, 258, *b"|a|>"]


@pytest.mark.parametrize(
    ("normalizer", "theirs"),
    [
        (Normalizer("NFC"), normalizers.NFC()),
        (Normalizer("NFKD", lowercase=True), normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase()])),
        (
            Normalizer(lowercase=True, white_space="strip"),
            normalizers.Sequence([normalizers.Lowercase(), normalizers.Strip()]),
        ),
        (Normalizer(white_space="collapse"), None),
    ],
)
def test_normalizers_do_the_same_in_a_file(normalizer, theirs, tmp_path, generate):
    ours = Tokenizer([(b" ", b"a")], normalizer=normalizer, special_tokens=["<|end|>"])
    path = tmp_path / "tokenizer.json"
    save(ours, path)
    assert load(path) == ours
    peer = tokenizers.Tokenizer.from_file(str(path))
    rng = random.Random(17)
    # Its tables for composing are older than Python's: only characters below U+3000, long settled, are compared.
    texts = [text for text in (generate(rng) for _ in range(3000)) if max(text, default="a") < "\u3000"]
    texts += ["  a <|end|> B ", "ΑΣ ΣΑΣ", "e\u0301\ufb01"]
    assert len(texts) > 500
    for text in texts:
        assert ours.encode(text, allowed_special="all") == peer.encode(text).ids, repr(text)
        if theirs is not None:
            assert normalizer(text) == theirs.normalize_str(text)


def train_theirs(pre_tokenizer, text, *, add_tokens=()):
    theirs = tokenizers.Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizer
    theirs.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        show_progress=False,
        special_tokens=["<|endoftext|>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    theirs.train_from_iterator([text], trainer)
    theirs.add_tokens(list(add_tokens))
    return theirs


def split_then_bytes(*splits):
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def isolated(pattern):
    return pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")


@pytest.mark.parametrize(
    "pre_tokenizer",
    [
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        pre_tokenizers.ByteLevel(add_prefix_space=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False),
        split_then_bytes(isolated(LLAMA3_PATTERN)),
        split_then_bytes(isolated(CL100K_PATTERN.replace("{1,3}+", "{1,3}"))),
        split_then_bytes(pre_tokenizers.Split("a", "isolated")),
        split_then_bytes(pre_tokenizers.Digits(individual_digits=False), isolated(r" ?\S+")),
        pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]),
    ],
    ids=["gpt2", "gpt2 prefix", "bytes", "bytes prefix", "llama 3", "cl100k", "literal", "digits", "smollm"],
)  # fmt: skip
def test_a_file_that_tokenizers_trained(pre_tokenizer, tmp_path, generate):
    rng = random.Random(19)
    text = " ".join(generate(rng) for _ in range(1500)) + " It's 1234 in the year 1999, isn't IT? We'LL see.\n\n" * 40
    theirs = train_theirs(pre_tokenizer, text, add_tokens=["<tool>"])
    path, again = tmp_path / "tokenizer.json", tmp_path / "again.json"
    theirs.save(str(path))
    ours = load(path)
    save(ours, again)
    assert load(again) == ours
    round_trip = tokenizers.Tokenizer.from_file(str(again))
    texts = [generate(rng) for _ in range(1500)]
    texts += ["", " ", "a<tool>b <|endoftext|> c", "<pad>", "'ſ 'S", "x1234567", "!\n\n a"]
    for text in texts:
        ids = theirs.encode(text).ids
        assert ours.encode(text, allowed_special="all") == ids == round_trip.encode(text).ids, repr(text)
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("individual", [False, True])
def test_digits_are_kept_apart_where_the_file_says_so(individual, tmp_path):
    digits = {"type": "Digits", "individual_digits": individual}
    save(Tokenizer([(b"1", b"2")]), tmp_path / "t.json")
    data = json.loads((tmp_path / "t.json").read_text())
    data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, data["pre_tokenizer"]]}
    (tmp_path / "t.json").write_text(json.dumps(data))
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "t.json"))
    assert load(tmp_path / "t.json").encode("in 12") == theirs.encode("in 12").ids


@pytest.mark.parametrize("ignore_merges", [False, True])
@pytest.mark.parametrize("as_pairs", [False, True])
def test_several_merges_for_one_token_and_merges_out_of_order(ignore_merges, as_pairs, tmp_path):
    """Files made from tiktoken's ranks list every way to make a token; files by hand may list merges in any order."""
    rng = random.Random(23)
    for _ in range(30):
        tokens = sorted({"".join(rng.choices("ab", k=rng.randint(2, 4))) for _ in range(8)})
        vocab = {bytes_: i for i, bytes_ in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), *tokens])}
        ways = [(t[:i], t[i:]) for t in tokens for i in range(1, len(t)) if t[:i] in vocab and t[i:] in vocab]
        rng.shuffle(ways)
        save(Tokenizer([], pre_tokenizer="white space", ignore_merges=ignore_merges), tmp_path / "t.json")
        data = json.loads((tmp_path / "t.json").read_text())
        data["model"] |= {"vocab": vocab, "merges": ways if as_pairs else [f"{a} {b}" for a, b in ways]}
        (tmp_path / "t.json").write_text(json.dumps(data))
        ours, theirs = load(tmp_path / "t.json"), tokenizers.Tokenizer.from_file(str(tmp_path / "t.json"))
        for _ in range(50):
            text = "".join(rng.choices("ab ", (5, 5, 1), k=rng.choice((5, 30, 300))))
            assert ours.encode(text) == theirs.encode(text).ids
    assert ours.ignore_merges is ignore_merges


def test_the_cache_changes_nothing(trained, generate, monkeypatch):
    monkeypatch.setattr(encoding, "CACHE_BYTES", 2000)
    rng = random.Random(29)
    texts = [generate(rng) for _ in range(300)]
    small = pickle.loads(pickle.dumps(trained))
    assert small == trained
    assert [small.encode(text) for text in texts] == [trained.encode(text) for text in texts]
    assert 0 < len(small._cache) <= 10
    small.forget()
    assert (len(small._cache), small._cache.room) == (0, 2000)


@pytest.mark.parametrize(
    ("first", "last", "length", "n_words"), [(0x4E00, 0x9FFF, 62, 40), (97, 122, 4, 250), (0x20000, 0x2A6DF, 62, 40)]
)
def test_the_cache_stays_within_its_bound(first, last, length, n_words, monkeypatch):
    """The memory that the cache takes as it is measured, with words that are all different, the longest one kept."""
    monkeypatch.setattr(encoding, "CACHE_BYTES", 1_000_000)
    rng, tokenizer = random.Random(41), Tokenizer([])
    tokenizer.encode("ab")
    highest = 0
    tracemalloc.start()
    try:
        for _ in range(20):
            words = ["".join(map(chr, rng.choices(range(first, last + 1), k=length))) + "." for _ in range(n_words)]
            tokenizer.encode(" ".join(words))
            del words
            highest = max(highest, tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert 250_000 < highest < 1_000_000


@pytest.mark.parametrize("special", [False, True])
def test_an_added_token_may_be_one_that_a_merge_makes(special, tmp_path):
    save(Tokenizer([(b"a", b"b"), (b"ab", b"c")]), tmp_path / "t.json")
    data = json.loads((tmp_path / "t.json").read_text())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special}
    data["added_tokens"] = [{"id": 256, "content": "ab", **flags}, {"id": 120, "content": "x", **flags}]
    (tmp_path / "t.json").write_text(json.dumps(data))
    ours, theirs = load(tmp_path / "t.json"), tokenizers.Tokenizer.from_file(str(tmp_path / "t.json"))
    save(ours, tmp_path / "again.json")
    assert load(tmp_path / "again.json") == ours
    for text in ("ab", "abc", "xab cab", "a b abcabx"):
        ids = theirs.encode(text).ids
        assert ours.encode(text, allowed_special="all") == ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False) == text
    assert ours.encode("abcx") == [257, 120] if special else [256, 99, 120]


def test_documents_become_one_array(trained):
    documents = ["One.", "", "Two <|endoftext|>"]
    ids = trained.encode_documents(documents)
    end = trained.special_tokens["<|endoftext|>"]
    expected = [i for document in documents for i in [*trained.encode(document), end]]
    assert ids.tolist() == expected
    assert ids.itemsize == 2
    assert Tokenizer([], special_tokens={"<|endoftext|>": 70_000}).encode_documents(["a"]).itemsize == 4


def test_byte_lengths_add_up_to_the_text(trained, generate):
    lengths = trained.byte_lengths()
    rng = random.Random(31)
    for _ in range(200):
        text = generate(rng)
        ids = trained.encode(text)
        assert sum(lengths[i] for i in ids) == len(text.encode())
    assert lengths[trained.special_tokens["<|endoftext|>"]] == 0


def test_ids_may_be_an_array_or_a_tensor(trained):
    import numpy as np
    import torch

    ids = trained.encode("Any kind of numbers.")
    assert trained.decode(np.array(ids)) == trained.decode(torch.tensor(ids)) == "Any kind of numbers."


def test_tiktoken_reads_the_vocabulary_of_each_pattern(generate):
    """Any expression: ours, and tiktoken with it, agree on merges that we trained with it."""
    rng = random.Random(37)
    text = " ".join(generate(rng) for _ in range(1500))
    for pattern in (LLAMA3_PATTERN, CL100K_PATTERN, r" ?\S+|\s+(?!\S)|\s+", GPT2_PATTERN):
        ours = Tokenizer.train(text, 500, pre_tokenizer=PreTokenizer((pattern,)))
        tik = tiktoken.Encoding("peer", pat_str=pattern, mergeable_ranks=ours.vocab, special_tokens={})
        for _ in range(500):
            sample = generate(rng)
            assert ours.encode(sample) == tik.encode_ordinary(sample), (pattern, sample)


def test_importing_the_tokenizer_is_light():
    heavy = ["torch", "numpy", "scipy", "matplotlib", "tokenizers", "tiktoken", "transformers", "anywidget"]
    code = f"import sys, llmlib.tokenizer; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
