"""What cannot be done is refused in one sentence that says what was given and what to do."""

import json
import re
import warnings

import pytest

from llmlib.tokenizer import (
    Normalizer,
    PreTokenizer,
    Tokenizer,
    learn_merges,
    load,
    most_frequent_pair,
    save,
)


@pytest.fixture
def small():
    return Tokenizer.train("low lower lowest", 260, special_tokens=["<|endoftext|>"])


@pytest.mark.parametrize(
    ("arguments", "settings", "sentence"),
    [
        (("a", 255), {}, "vocab_size is 255; with 256 bytes and 0 special tokens it is at least 256"),
        (("a", 257), {"special_tokens": ["<a>", "<b>"]}, "2 special tokens it is at least 258"),
        (("a", 2_000_000), {}, "at most 1,114,112"),
        (("", 300), {}, "There is no text to learn from"),
        (([], 300), {}, "There is no text to learn from"),
        ((["", ""], 300), {}, "There is no text to learn from"),
        (("fine\ud800", 300), {}, "lone surrogate U+D800 at position 4"),
        (("a", 300), {"tie_break": "last"}, "tie_break is 'last'; choose"),
        (("a", 300), {"special_tokens": "<a>"}, "special_tokens is the string '<a>'; give a list"),
        (("a", 300), {"special_tokens": ["<a>", "<a>"]}, "each must be different"),
        (("a", 300), {"special_tokens": [""]}, "not empty"),
        (("a", 300), {"pre_tokenizer": "words"}, "There is no pre-tokenizer 'words'"),
    ],
)
def test_training(arguments, settings, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Tokenizer.train(*arguments, **settings)


def test_a_vocabulary_larger_than_the_text_supports_is_cut_short():
    sentence = (
        "The vocabulary has 258 tokens instead of 10,000, because no further pair occurs 2 times; "
        "train on more text, or ask for at most 258."
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(sentence)}$") as told:
        tokenizer = Tokenizer.train("abab", 10_000, special_tokens=["<|endoftext|>"])
    assert [warning.filename for warning in told] == [__file__], "it points at the line that asked"
    assert tokenizer.merges == [(b"a", b"b")]  # nothing else occurs twice
    assert tokenizer.n_vocab == 258
    assert tokenizer.special_tokens == {"<|endoftext|>": 257}


def test_a_vocabulary_that_the_text_supports_brings_no_warning():
    with warnings.catch_warnings(action="error"):
        assert Tokenizer.train("abab", 257).n_vocab == 257
    with pytest.warns(UserWarning, match=r"has 258 tokens instead of 300, because no further pair occurs once"):
        assert Tokenizer.train("abab", 300, min_count=1).n_vocab == 258


def test_no_pairs_at_all():
    assert list(learn_merges({b"a": 5, b"": 2}, 10)) == []
    with pytest.raises(ValueError, match="no pair to choose"):
        most_frequent_pair({})


@pytest.mark.parametrize(
    ("text", "position"),
    [("\ud800", 0), ("ok \udfff", 3), ("x" * 100_000 + "\ude00", 100_000), ("\U0001f600\ud83d", 1)],
)
def test_lone_surrogates(small, text, position):
    with pytest.raises(ValueError, match=f"lone surrogate U\\+D[0-9A-F]{{3}} at position {position:,}:"):
        small.encode(text)


def test_the_place_of_a_surrogate_counts_from_the_start_of_the_text():
    tokenizer = Tokenizer([], special_tokens=["<|end|>"], normalizer=Normalizer(white_space="collapse"))
    for text, allowed, position in [("a<|end|>b\ud800", "all", 9), ("  \n \ud800", (), 4)]:
        with pytest.raises(ValueError, match=f"at position {position}:"):
            tokenizer.encode(text, allowed_special=allowed)


@pytest.mark.parametrize("text", [b"bytes", None, 5, ["a"]])
def test_what_is_not_text(small, text):
    with pytest.raises(TypeError, match="give a str"):
        small.encode(text)
    with pytest.raises(TypeError, match="give a str"):
        Tokenizer.train([text], 300)


def test_empty_text(small):
    assert small.encode("") == small.encode_documents([]).tolist() == []
    assert small.decode([]) == ""


@pytest.mark.parametrize("token_id", [-1, 260, 10**9, "a", 1.5])
def test_unknown_ids(small, token_id):
    with pytest.raises(ValueError, match=r"no token with the id .*: this vocabulary has ids from 0 to 259"):
        small.decode([97, token_id])
    with pytest.raises(ValueError, match="no token with the id"):
        small.token_bytes(token_id)


def test_decoding_what_is_not_utf8(small):
    assert small.decode([0xFF, 97]) == "\ufffda"
    assert small.decode_bytes([0xFF, 97]) == b"\xffa"
    with pytest.raises(UnicodeDecodeError):
        small.decode([0xFF], errors="strict")


def test_decoding_goes_on_after_tokens_without_bytes():
    tokenizer = Tokenizer([], vocab={b"a": 97, b"": 256})
    assert tokenizer.decode([256] * (1 << 16) + [97]) == "a"
    assert tokenizer.decode([97] * ((1 << 16) + 1)) == "a" * ((1 << 16) + 1)


def test_special_tokens_that_do_not_exist(small):
    with pytest.raises(ValueError, match=re.escape("'<pad>' is no special token here; there are ['<|endoftext|>']")):
        small.encode("a", allowed_special=["<pad>"])
    with pytest.raises(ValueError, match="or 'all'"):
        small.encode("a", allowed_special="<|endoftext|>")
    with pytest.raises(ValueError, match=re.escape("'<end>' is no special token here")):
        small.encode_documents(["a"], end_of_text="<end>")


def test_building():
    with pytest.raises(ValueError, match=r"the token b'xy', which the vocabulary lacks"):
        Tokenizer([(b"x", b"y")], vocab={b"x": 0, b"y": 1})
    with pytest.raises(ValueError, match="Two tokens have the id 97"):
        Tokenizer([], special_tokens={"<a>": 97})
    with pytest.raises(ValueError, match="ids go from 0 to 1,114,111"):
        Tokenizer([], special_tokens={"<a>": -1})
    with pytest.raises(ValueError, match=re.escape("special_tokens is ['']; each must be different and not empty")):
        Tokenizer([], special_tokens={"": 256})
    with pytest.raises(ValueError, match=re.escape("added_tokens is ['']; each must be different and not empty")):
        Tokenizer([], added_tokens={"": 256})
    with pytest.raises(ValueError, match="prefix_space is for"):
        PreTokenizer((r"\S+",), prefix_space=True)


def test_a_vocabulary_without_all_bytes():
    tokenizer = Tokenizer([], vocab={b"a": 0, b"b": 1})
    assert tokenizer.encode("ab") == [0, 1]
    with pytest.raises(ValueError, match="no token for the byte 0xC3"):
        tokenizer.encode("bé")


def change(data, path, value):
    *way, last = path
    for key in way:
        data = data[key]
    data[last] = value


SPLIT = {"type": "Split", "pattern": {"Regex": r"\S+"}, "behavior": "Isolated", "invert": False}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (["model"], None, "no section 'model'"),
        (["model", "type"], "WordPiece", "model: the type is 'WordPiece'"),
        (["model", "type"], "Unigram", "model: the type is 'Unigram'"),
        (["model", "vocab"], [["a", 1]], "only byte-level BPE"),
        (["model", "vocab", "▁low"], 400, "model: the token '▁low' (id 400) is not in the byte-level alphabet"),
        (["model", "vocab", "x"], "120", "model: the token 'x' (id '120')"),
        (["model", "merges"], {"a": "b"}, "model: 'merges' is not a list"),
        (["model", "merges", 0], "abc", "model: merge 0 is 'abc', not two tokens"),
        (["model", "merges", 1], ["a"], "model: merge 1 is ['a']"),
        (["model", "merges", 1], 7, "model: merge 1 is 7"),
        (["model", "merges", 0], "q z", "the token b'qz', which the vocabulary lacks"),
        (["model", "dropout"], 0.1, "model: 'dropout' is 0.1"),
        (["model", "byte_fallback"], True, "model: 'byte_fallback'"),
        (["model", "end_of_word_suffix"], "</w>", "model: 'end_of_word_suffix' is '</w>'"),
        (["model", "continuing_subword_prefix"], "##", "model: 'continuing_subword_prefix' is '##'"),
        (["truncation"], {"max_length": 512}, "truncation: the file asks for it"),
        (["padding"], {"strategy": "BatchLongest"}, "padding: the file asks for it"),
        (["normalizer"], {"type": "BertNormalizer"}, "normalizer: the steps ['BertNormalizer'] cannot be read"),
        (
            ["normalizer"],
            {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, {"type": "NFC"}]},
            "in this order",
        ),
        (
            ["normalizer"],
            {"type": "Strip", "strip_left": True, "strip_right": False},
            "normalizer: the steps ['Strip']",
        ),
        (["normalizer"], {"type": "Sequence"}, "normalizer: the Sequence has no list"),
        (["pre_tokenizer"], None, "pre_tokenizer: only byte-level BPE"),
        (["pre_tokenizer"], {"type": "Metaspace"}, "pre_tokenizer: only byte-level BPE"),
        (["pre_tokenizer"], {}, "pre_tokenizer: the section has no type"),
        (["pre_tokenizer"], sequence(BYTES, SPLIT), "pre_tokenizer: only byte-level BPE"),
        (
            ["pre_tokenizer"],
            sequence({"type": "Whitespace"}, BYTES),
            "pre_tokenizer: the type 'Whitespace' cannot be read",
        ),
        (["pre_tokenizer"], sequence(SPLIT | {"behavior": "Removed"}, BYTES), "Split with behavior 'Removed'"),
        (["pre_tokenizer"], sequence(SPLIT | {"invert": True}, BYTES), "pre_tokenizer: Split with"),
        (["pre_tokenizer"], sequence(SPLIT | {"pattern": {}}, BYTES), "pre_tokenizer: Split has no pattern"),
        (["pre_tokenizer"], sequence(SPLIT | {"pattern": {"Regex": "("}}, BYTES), "expression '(' cannot be used"),
        (["pre_tokenizer"], sequence(SPLIT | {"pattern": {"Regex": r"\d{1,3}+"}}, BYTES), "leave the + out"),
        (["pre_tokenizer"], sequence(SPLIT, BYTES | {"add_prefix_space": True}), "prefix_space is for"),
        (["decoder"], {"type": "WordPiece"}, "decoder: the type is ['WordPiece']"),
        (["decoder"], {"type": []}, "decoder: the section has no type"),
        (["added_tokens"], 5, "added_tokens: the section is not a list"),
        (["added_tokens", 0, "content"], "", "has no content or no id"),
        (["added_tokens", 0, "lstrip"], True, "added_tokens: '<|endoftext|>' has 'lstrip' set"),
        (["added_tokens", 0, "id"], None, "has no content or no id"),
        (["added_tokens", 0, "id"], 97, "id 97"),
    ],
)
def test_a_foreign_file(small, tmp_path, path, value, sentence):
    file = tmp_path / "tokenizer.json"
    save(small, file)
    data = json.loads(file.read_text(encoding="utf-8"))
    change(data, path, value)
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(sentence)) as refused:
        load(file)
    assert str(refused.value).startswith("tokenizer.json")


def places(data, path=()):
    """Where a value stands in a file's content: the way to each, but of long lists and tables only the first three."""
    for key in list(data if isinstance(data, dict) else range(len(data)))[:20]:
        yield (*path, key)
        if isinstance(data[key], dict | list):
            yield from list(places(data[key], (*path, key)))[:20]


def test_whatever_stands_anywhere_in_a_file_is_read_or_refused(tmp_path):
    """No other exception than ValueError, with the file's name, for any value of any type at any place."""
    splits = PreTokenizer((r"\d", r"\S+"))
    rich = Tokenizer([(b"a", b"b")], special_tokens=["<s>"], pre_tokenizer=splits, normalizer=Normalizer("NFC", True))
    file = tmp_path / "t.json"
    save(rich, file)
    whole, refused = file.read_text(encoding="utf-8"), 0
    for path in places(json.loads(whole)):
        for value in (None, True, 5, -1, 1.5, "", "x", "\ud800", [], [[]], [5], {}, {"type": []}, {"a": {}}):
            data = json.loads(whole)
            change(data, path, value)
            file.write_text(json.dumps(data), encoding="utf-8")
            try:
                load(file)
            except ValueError as error:
                assert str(error).startswith("t.json")  # noqa: PT017
                refused += 1
    assert refused > 300


NESTED = b'{"model": {"type": "BPE", "vocab": {}, "merges": []}, "decoder": %b}' % (
    b'{"type": "Sequence", "decoders": [' * 30_000 + b"]}" * 30_000
)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "not whole JSON"),
        (b"{\"model\": {", "not whole JSON"),
        (b"[1, 2]", "no section 'model'"),
        (b"null", "no section 'model'"),
        (b"{}", "no section 'model'"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        (NESTED, "nested too deeply"),
    ],
)  # fmt: skip
def test_a_file_that_is_something_else(tmp_path, content, sentence):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        load(tmp_path / "x.json")


def test_a_file_cut_off_anywhere_is_refused(small, tmp_path):
    save(small, tmp_path / "whole.json")
    whole = (tmp_path / "whole.json").read_bytes().rstrip()
    for length in range(0, len(whole), 97):
        (tmp_path / "part.json").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"part\.json"):
            load(tmp_path / "part.json")


def test_a_file_appears_whole_or_not_at_all(small, tmp_path):
    with pytest.raises(FileNotFoundError):
        save(small, tmp_path / "nowhere" / "tokenizer.json")
    twin = Tokenizer([], special_tokens=["Ġ"])  # the format writes a space so
    with pytest.raises(ValueError, match="rename it"):
        save(twin, tmp_path / "tokenizer.json")
    assert list(tmp_path.iterdir()) == []


def test_normalized_added_tokens_need_no_normalizer(small, tmp_path):
    file = tmp_path / "tokenizer.json"
    small.normalizer = Normalizer("NFC")
    save(small, file)
    data = json.loads(file.read_text(encoding="utf-8"))
    data["added_tokens"][0]["normalized"] = True
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match="looked for after normalization"):
        load(file)
    data["normalizer"] = None
    file.write_text(json.dumps(data), encoding="utf-8")
    assert load(file).special_tokens == small.special_tokens
