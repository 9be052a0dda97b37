"""How difficult a text is: against counts done by hand, slow versions, and properties of every order."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlib.corpus import stories
from llmlib.curriculum import difficulty_cdf, shuffled_ties, text_lengths, text_rarities, word_surprises

SCORES = st.lists(st.integers(-5, 5) | st.floats(-1e6, 1e6), min_size=1, max_size=40)


def test_lengths_agree_with_the_story_worlds_own_count():
    drawn = list(stories(seed=0, n=50))
    assert text_lengths([story.text for story in drawn]).tolist() == [story.length for story in drawn]


def test_rarity_by_hand():
    """Four words, of which "the" is half: ln 2 for it, ln 4 for the others."""
    texts = ["The cat.", "the owl"]
    assert text_rarities(texts) == pytest.approx([math.log(8), math.log(8)])
    assert text_rarities(["the the the", "owl"], word_surprises(texts), mean=True) == pytest.approx(
        [math.log(2), math.log(4)]
    )


def test_an_unknown_word_counts_as_the_rarest():
    known = word_surprises(["a a a a b"])
    assert text_rarities(["c"], known) == text_rarities(["b"], known) == pytest.approx(math.log(5))


def test_the_mean_is_the_entropy_of_the_words():
    """Weighted by words, the mean surprise of a corpus is the entropy of its word frequencies."""
    texts = [story.text for story in stories(seed=1, n=30)]
    shares = np.exp(-np.array(list(word_surprises(texts).values())))
    entropy = -(shares * np.log(shares)).sum()
    assert shares.sum() == pytest.approx(1)
    assert text_rarities(texts).sum() / text_lengths(texts).sum() == pytest.approx(entropy)


@given(SCORES)
def test_the_cdf_is_the_share_that_is_at_most_as_hard(scores):
    slow = [sum(other <= score for other in scores) / len(scores) for score in scores]
    assert difficulty_cdf(scores).tolist() == slow


@given(SCORES, st.integers(0, 99))
def test_shuffled_ties_order_all_texts_and_keep_the_order_of_scores(scores, seed):
    ranks = shuffled_ties(scores, np.random.default_rng(seed))
    assert sorted(ranks.tolist()) == list(range(1, len(scores) + 1))
    by_rank = [scores[i] for i in np.argsort(ranks)]
    assert by_rank == sorted(scores)


def test_ties_are_broken_at_random_and_not_by_place():
    ranks = [shuffled_ties([0] * 6, np.random.default_rng(seed)).tolist() for seed in range(200)]
    assert np.mean(ranks, axis=0) == pytest.approx([3.5] * 6, abs=0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: difficulty_cdf([]), "one for each text; given shape (0,)"),
        (lambda: difficulty_cdf([[1, 2]]), "given shape (1, 2)"),
        (lambda: difficulty_cdf(["a"]), "Difficulty scores are numbers; given <U1"),
        (lambda: difficulty_cdf([1, math.nan]), "Score 1 is nan: it has no place in an order; leave that text out."),
        (lambda: text_rarities(["?"]), "No word was found to count"),
        (
            lambda: text_rarities(["one", "!"], mean=True),
            "Text 1 holds no word ('!'), so it has no mean; leave it out.",
        ),
    ],
)
def test_what_cannot_be_ordered_is_refused_in_a_sentence(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
