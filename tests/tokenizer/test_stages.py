"""Normalization and pre-tokenization against Unicode's own examples, worked cases, and the slow path."""

import copy
import pickle
import random
import re

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.tokenizer import GPT2_PATTERN, PATTERNS, Normalizer, PreTokenizer, Tokenizer, normalize, pre_tokenize
from llmlib.tokenizer import pretokenization as module
from llmlib.tokenizer.normalization import WHITE_SPACE


# Examples from Unicode Standard Annex 15 (figures 3 to 6): Angstrom, ohm, ligature fi, superscript five.
@pytest.mark.parametrize(
    ("text", "nfc", "nfd", "nfkc", "nfkd"),
    [
        ("\u212b", "\u00c5", "A\u030a", "\u00c5", "A\u030a"),
        ("\u2126", "\u03a9", "\u03a9", "\u03a9", "\u03a9"),
        ("\ufb01", "\ufb01", "\ufb01", "fi", "fi"),
        ("2\u2075", "2\u2075", "2\u2075", "25", "25"),
    ],
)
def test_forms(text, nfc, nfd, nfkc, nfkd):
    assert [normalize(text, form=form) for form in ("NFC", "NFD", "NFKC", "NFKD")] == [nfc, nfd, nfkc, nfkd]


def test_case_is_lowered_character_by_character():
    assert normalize("ΟΔΟΣ İI", lowercase=True) == "οδοσ i\u0307i"


def test_white_space():
    text = "\u3000 a \r\n\u2028 b\x1c\t"
    assert normalize(text, white_space="strip") == "a \r\n\u2028 b\x1c"  # U+001C is no white space in Unicode
    assert normalize(text, white_space="collapse") == "a b\x1c"
    assert normalize(text) == text


def test_white_space_is_what_the_expressions_call_white_space():
    assert set(WHITE_SPACE) == set(regex.findall(r"\s", "".join(map(chr, range(0x110000)))))


@settings(max_examples=200, deadline=None)
@given(st.text(), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]), st.booleans())
def test_normalizing_twice_changes_nothing(text, form, lowercase):
    once = normalize(text, form=form, white_space="collapse")
    assert normalize(once, form=form, white_space="collapse") == once or form.startswith("NFK")
    assert Normalizer(form, lowercase)(text) == normalize(text, form=form, lowercase=lowercase)


@pytest.mark.parametrize("settings_", [{"form": "NFX"}, {"white_space": "drop"}])
def test_settings_that_do_not_exist_are_refused(settings_):
    with pytest.raises(ValueError, match="choose"):
        normalize("a", **settings_)
    with pytest.raises(ValueError, match="choose"):
        Normalizer(**settings_)


# Worked from the pattern by hand; \s+(?!\S) leaves the last space of a run to the word after it.
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello world", ["Hello", " world"]),
        ("a  b", ["a", " ", " b"]),
        ("a \n b\n", ["a", " \n", " b", "\n"]),
        ("a\nb", ["a", "\n", "b"]),
        ("we'll say 'tis", ["we", "'ll", " say", " '", "tis"]),
        ("WE'LL", ["WE", "'", "LL"]),
        ("x=10;", ["x", "=", "10", ";"]),
        ("  ", ["  "]),
        ("a\x1cb", ["a", "\x1c", "b"]),
        ("日本 語2", ["日本", " 語", "2"]),
        ("", []),
    ],
)
def test_gpt2_words(text, words):
    assert pre_tokenize(text) == words


def test_other_patterns():
    text = "Well, it's  (12.5) e\u0301!\n"
    assert pre_tokenize(text, "white space") == ["Well,", " it's", " ", " (12.5)", " e\u0301!", "\n"]
    assert pre_tokenize(text, "punctuation") == [
        *["Well", ",", " it", "'", "s", " ", " (", "12", ".", "5", ")", " e\u0301", "!", "\n"]
    ]
    assert pre_tokenize(text, "none") == [text]
    assert pre_tokenize("", "none") == []


def every_kind():
    names = [PreTokenizer.named(name) for name in PATTERNS]
    digits = [PreTokenizer((p, GPT2_PATTERN)) for p in (module.DIGIT_PATTERN, module.DIGITS_PATTERN)]
    return [*names, *digits, PreTokenizer((r"\p{N}{1,3}| ?\p{L}+[\r\n]*",))]


@pytest.mark.parametrize("pre_tokenizer", every_kind(), ids=lambda p: "+".join(p.patterns)[:30] or "none")
def test_chunks_split_as_the_whole_text_does(pre_tokenizer, monkeypatch, generate):
    """The proof at the head of the module, tried out: fast == slow, with blocks so small that many cuts are made."""
    monkeypatch.setattr(module, "BLOCK_CHARACTERS", 16)
    rng = random.Random(7)
    for _ in range(1500):
        text = generate(rng)
        if rng.random() < 0.5:
            text += "".join(rng.choices("ab1'!" + WHITE_SPACE + "\x1c\x1f\u200b\ufeff" + 9 * " \n", k=30))
        chunks = [chunk for block in pre_tokenizer.chunks(text) for chunk in block]
        if pre_tokenizer.chunks_are_safe:
            words = [word for chunk in chunks for word in pre_tokenizer.split(chunk)]
            assert all(pre_tokenizer.split(word) == [word] for word in words)
        else:
            words = chunks
        slow = list(pre_tokenizer.iterate(text))
        assert words == slow == pre_tokenizer.split(text)
        assert "".join(words) == text


def test_chunks_are_only_used_where_proved():
    assert all(PreTokenizer.named(name).chunks_are_safe for name in PATTERNS if name != "none")
    assert not PreTokenizer((GPT2_PATTERN, module.DIGIT_PATTERN)).chunks_are_safe
    assert not PreTokenizer((r" ?\S+[\n]*|\s+",)).chunks_are_safe
    assert not PreTokenizer((r"[a-z] ", GPT2_PATTERN)).chunks_are_safe


@pytest.mark.parametrize("pre_tokenizer", every_kind(), ids=lambda p: "+".join(p.patterns)[:30] or "none")
@pytest.mark.parametrize("duplicate", [lambda x: pickle.loads(pickle.dumps(x)), copy.copy, copy.deepcopy])
def test_a_tokenizer_can_be_pickled_and_copied(pre_tokenizer, duplicate):
    text = "It's  in 1994.\n"
    tokenizer = Tokenizer([(b"i", b"n")], pre_tokenizer=pre_tokenizer)
    ids, words = tokenizer.encode(text), pre_tokenizer.split(text)  # so that everything cached is there
    assert duplicate(tokenizer) == tokenizer
    assert duplicate(tokenizer).encode(text) == ids
    assert duplicate(pre_tokenizer) == pre_tokenizer
    assert duplicate(pre_tokenizer).split(text) == words


def test_a_prefix_space_is_copied_too():
    tokenizer = Tokenizer([], pre_tokenizer=PreTokenizer(prefix_space=True))
    assert pickle.loads(pickle.dumps(tokenizer)).encode("a") == [32, 97]


def test_an_expression_that_is_not_in_a_tuple_is_refused():
    with pytest.raises(ValueError, match=re.escape("patterns is the string 'ab'; give a tuple")):
        PreTokenizer("ab")
    assert PreTokenizer(["ab"]).patterns == ("ab",)


def test_a_pre_tokenizer_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=re.escape("choose 'none', 'white space', 'punctuation', 'gpt2'")):
        pre_tokenize("a", "gpt-2")


@pytest.mark.parametrize("pattern", [r"\[[a]\[|[^\[\]a-]--|&&", "[[:alpha:]]+", "[]a]|[^]b]&&"])
def test_signs_of_set_operations_elsewhere_are_plain(pattern):
    assert PreTokenizer((pattern,)).patterns == (pattern,)


@pytest.mark.parametrize("pattern", ["(", r"[\p{L}&&[^a]]", "[a[b]]", "[a-z--b]", r"\[[^]&&a]"])
def test_an_expression_that_cannot_be_used_is_refused(pattern):
    with pytest.raises(ValueError, match="cannot be used"):
        PreTokenizer((pattern,))
