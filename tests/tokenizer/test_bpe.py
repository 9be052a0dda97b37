"""The plain algorithm against hand-worked cases, and the fast trainer against the plain one."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.tokenizer import (
    TIE_BREAKS,
    Tokenizer,
    apply_merges,
    count_pairs,
    learn_merges,
    learn_merges_by_recount,
    merge,
    most_frequent_pair,
    rank_merges,
)

NOTES = "aaabdaaabac"


def test_counts_of_the_notes_example():
    # By hand: aaabdaaabac holds aa four times (twice in each aaa), ab twice, and bd, da, ba, ac once each.
    assert count_pairs(NOTES) == {
        ("a", "a"): 4,
        ("a", "b"): 2,
        ("b", "d"): 1,
        ("d", "a"): 1,
        ("b", "a"): 1,
        ("a", "c"): 1,
    }


@pytest.mark.parametrize(
    ("run", "merged"),
    [("aa", "Z"), ("aaa", "Za"), ("aaaa", "ZZ"), ("aaaaa", "ZZa"), ("baaab", "bZab"), ("aabaa", "ZbZ")],
)
def test_a_run_is_merged_from_left_to_right(run, merged):
    assert ["Z" if s == "aa" else s for s in merge(run, ("a", "a"))] == list(merged)


# By hand (and in the book): with overlap aa counts 4 at first, whatever the tie-break; then ties decide.
@pytest.mark.parametrize(
    ("tie_break", "tokens"),
    [("greatest", ["aa", "aaa", "aaab"]), ("first", ["aa", "aaa", "aaab"]), ("smallest", ["aa", "ab", "aaab"])],
)
@pytest.mark.parametrize("train", [learn_merges, learn_merges_by_recount])
def test_merges_of_the_notes_example(train, tie_break, tokens):
    steps = list(train({NOTES.encode(): 1}, 3, tie_break=tie_break))
    assert [step[0] + step[1] for step in steps] == [token.encode() for token in tokens]
    ranks = rank_merges([tuple(step[:2]) for step in steps])
    assert apply_merges(NOTES.encode(), ranks) == [b"aaab", b"d", b"aaab", b"a", b"c"]


def test_a_string_that_begins_another_is_the_smaller_one():
    counts = {(b"a", b"z"): 1, (b"ab", b"a"): 1}
    assert most_frequent_pair(counts) == (b"ab", b"a")
    assert most_frequent_pair(counts, "smallest") == (b"a", b"z")
    assert most_frequent_pair(counts, "first") == (b"a", b"z")


def test_encoding_goes_by_rank_and_not_by_longest_match():
    # Longest match would give abc|d; the pair bc was learned before ab, so that abc is never made here.
    ranks = rank_merges([("b", "c"), ("a", "b"), ("ab", "c")])
    assert apply_merges("abcd", ranks) == ["a", "bc", "d"]


def test_a_step_tells_count_and_length():
    # By hand: aa (4 pairs, 2 merges) leaves 9 of 11 symbols, then aaa (2) 7, then aaab (2) 5.
    steps = list(learn_merges({NOTES.encode(): 1}, 3))
    assert [(step.count, step.n_tokens) for step in steps] == [(4, 9), (2, 7), (2, 5)]


words = st.dictionaries(
    st.one_of(
        st.text("a", max_size=12), st.text("ab", max_size=20), st.text("abc ", max_size=20), st.text(max_size=8)
    ).map(lambda text: text.encode(errors="replace")),
    st.integers(1, 4),
    max_size=8,
)


@settings(max_examples=400, deadline=None)
@given(words, st.sampled_from(TIE_BREAKS), st.sampled_from([1, 2, 3]), st.sampled_from([1, 4, 60]))
def test_fast_training_equals_the_recount(word_counts, tie_break, min_count, n_merges):
    slow = learn_merges_by_recount(word_counts, n_merges, tie_break=tie_break, min_count=min_count)
    steps = list(learn_merges(word_counts, n_merges, tie_break=tie_break, min_count=min_count))
    assert [(step.left, step.right) for step in steps] == slow
    if steps:
        ranks = rank_merges(slow)
        lengths = {word: len(apply_merges(word, ranks)) for word in word_counts}
        assert steps[-1].n_tokens == sum(lengths[word] * count for word, count in word_counts.items())
        # each token is made in one way only, and its own bytes encode to itself
        assert len({a + b for a, b in slow}) == len(slow)
        assert all(apply_merges(a + b, ranks) == [a + b] for a, b in slow)


@pytest.mark.parametrize("tie_break", TIE_BREAKS)
def test_fast_training_equals_the_recount_on_english(trained, tie_break):
    rng = random.Random(3)
    vocabulary = [token for token in trained.vocab if token.isascii() and len(token) > 3]
    word_counts = {b"".join(rng.choices(vocabulary, k=2)): rng.randint(1, 50) for _ in range(400)}
    slow = learn_merges_by_recount(word_counts, 300, tie_break=tie_break)
    assert [tuple(step[:2]) for step in learn_merges(word_counts, 300, tie_break=tie_break)] == slow


@settings(max_examples=300, deadline=None)
@given(st.text("ab c", max_size=60), st.text("ab c", max_size=300))
def test_fast_encoding_equals_the_plain_rule(training, text):
    # "none" makes one word of the text: up to 300 symbols, short and long path alike
    merges = learn_merges({("a" + training).encode(): 1}, 64, min_count=1)
    tokenizer = Tokenizer([step[:2] for step in merges], pre_tokenizer="none")
    assert tokenizer.tokens(text) == apply_merges(text.encode(), rank_merges(tokenizer.merges))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcXYZ"), st.sampled_from("abcXYZ"), st.sampled_from("XYZ"))), st.text("abc")
)
def test_heap_and_list_encode_alike_whatever_the_order_of_merges(merges, word):
    from llmlib.tokenizer.encoding import RankMerger

    merges = list({pair[:2]: pair for pair in merges}.values())
    merger = RankMerger(merges)
    assert merger.merge_long(word) == merger.merge_short(word)
