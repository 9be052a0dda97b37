"""Choosing tokens, against cases worked by hand, `transformers`, exhaustive search, and the exact distributions."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers.generation import logits_process

from llmlib.decoding import (
    NO_TOKEN,
    Sampling,
    accept_draft,
    beam_search,
    distinct_share,
    expected_tokens,
    greedy,
    min_p,
    repeated_share,
    repetition_penalty,
    sample,
    temperature,
    top_k,
    top_p,
    wu_penalty,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_logits(seed: int, *shape: int, spread: float = 3.0) -> torch.Tensor:
    return spread * torch.randn(*shape, generator=seeded(seed))


def fit(observed, expected) -> float:
    """The p-value of counts under their expectations; what is expected fewer than 5 times counts as one case."""
    pairs = sorted(zip(map(float, expected), map(int, observed), strict=True))
    rare = [pair for pair in pairs if pair[0] < 5]
    cases = [(sum(e for e, _ in rare), sum(o for _, o in rare))] * bool(rare) + pairs[len(rare) :]
    scale = sum(o for _, o in cases) / sum(e for e, _ in cases)  # rounding: the sums differ by 1e-6 or so
    return chisquare([o for _, o in cases], [e * scale for e, _ in cases]).pvalue


# Steps


STEPS = {
    "temperature": (temperature, lambda x: logits_process.TemperatureLogitsWarper(x), (0.3, 1.0, 2.5)),
    "top_k": (top_k, lambda x: logits_process.TopKLogitsWarper(x), (1, 5, 1000)),
    "top_p": (top_p, lambda x: logits_process.TopPLogitsWarper(x), (0.05, 0.5, 0.9, 0.999)),
    "min_p": (min_p, lambda x: logits_process.MinPLogitsWarper(x), (0.01, 0.1, 0.7)),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("seed", range(5))
def test_a_step_leaves_the_distribution_that_transformers_leaves(name, seed):
    ours, theirs, settings_ = STEPS[name]
    logits = some_logits(seed, 4, 200)
    for setting in settings_:
        expected = theirs(setting)(None, logits).softmax(dim=-1)
        torch.testing.assert_close(ours(logits, setting).softmax(dim=-1), expected, rtol=1e-5, atol=1e-9)
        assert torch.equal(ours(logits, setting) == -math.inf, expected == 0), setting


@pytest.mark.parametrize("seed", range(5))
def test_a_repetition_penalty_is_that_of_transformers(seed):
    logits, ids = some_logits(seed, 3, 50), torch.randint(50, (3, 20), generator=seeded(seed))
    expected = logits_process.RepetitionPenaltyLogitsProcessor(1.7)(ids, logits.clone())
    assert torch.equal(repetition_penalty(logits, ids, 1.7), expected)


def test_a_repetition_penalty_looks_past_what_is_no_token():
    logits = some_logits(0, 2, 5)
    padded = torch.tensor([[NO_TOKEN, 3], [4, 4]])
    assert torch.equal(
        repetition_penalty(logits, padded, 2.0)[0], repetition_penalty(logits[:1], padded[:1, 1:], 2.0)[0]
    )
    assert torch.equal(repetition_penalty(logits, padded[:, :1], 2.0)[0], logits[0])


@pytest.mark.parametrize("seed", range(5))
def test_steps_in_a_sampling_come_in_the_order_of_transformers(seed):
    logits, ids = some_logits(seed, 3, 80), torch.randint(80, (3, 20), generator=seeded(seed))
    theirs = logits_process.LogitsProcessorList([
        logits_process.RepetitionPenaltyLogitsProcessor(1.3),
        logits_process.TemperatureLogitsWarper(1.6),
        logits_process.TopKLogitsWarper(40),
        logits_process.TopPLogitsWarper(0.9),
        logits_process.MinPLogitsWarper(0.05),
    ])  # fmt: skip
    ours = Sampling(temperature=1.6, top_k=40, top_p=0.9, min_p=0.05, repetition_penalty=1.3)
    expected = theirs(ids, logits.clone()).softmax(dim=-1)
    assert 1 < (expected > 0).sum() < 3 * 40
    torch.testing.assert_close(ours.probabilities(logits, ids), expected, rtol=1e-5, atol=1e-9)


def by_definition(probabilities: list[float], p: float) -> set[int]:
    """The nucleus in Holtzman's words: the smallest set whose sum is at least p, taken from the most probable on."""
    order = sorted(range(len(probabilities)), key=lambda i: -probabilities[i])
    for n in range(1, len(order) + 1):
        if math.fsum(probabilities[i] for i in order[:n]) >= p:
            return set(order[:n])
    return set(order)


@settings(max_examples=200, deadline=None)
@given(st.permutations(range(1, 9)), st.integers(1, 35))
def test_the_nucleus_is_the_smallest_set_with_the_mass(weights, tenths):
    # Weights 1 to 8 sum to 36, so p = (n - 1/2) / 36 lies half a weight from any sum: rounding cannot decide.
    probabilities = [weight / 36 for weight in weights]
    p = (tenths - 0.5) / 36
    kept = torch.nonzero(top_p(torch.tensor(probabilities).log(), p) > -math.inf).flatten().tolist()
    assert set(kept) == by_definition(probabilities, p)


def test_the_limits_of_temperature():
    logits = torch.tensor([[1.0, 3.0, 3.0, -math.inf, 2.0]])
    assert temperature(logits, 0).softmax(-1).tolist() == [[0, 0.5, 0.5, 0, 0]]
    assert temperature(logits, math.inf).softmax(-1).tolist() == [[0.25, 0.25, 0.25, 0, 0.25]]
    torch.testing.assert_close(temperature(logits, 1e-30).softmax(-1), temperature(logits, 0).softmax(-1))
    torch.testing.assert_close(temperature(logits, 1e30).softmax(-1), temperature(logits, math.inf).softmax(-1))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 20), st.floats(1.01, 5))
def test_entropy_rises_with_temperature(seed, tau, factor):
    def entropy(t):
        log_p = temperature(some_logits(seed, 30).double(), t).log_softmax(-1)
        return -(log_p.exp() * log_p).sum().item()

    assert entropy(tau * factor) >= entropy(tau) - 1e-12


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 10**6),
    st.floats(0, 50),
    st.integers(1, 60),
    st.floats(0.001, 1),
    st.floats(0, 1),
    st.booleans(),
)
def test_some_token_always_stays_and_the_best_does(seed, tau, k, p, least, tied):
    logits = some_logits(seed, 2, 40)
    logits = logits.round() if tied else logits
    probabilities = Sampling(tau, k, p, least).probabilities(logits)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(2))
    best = logits.max(dim=-1).values
    assert (logits.where(probabilities > 0, -math.inf).max(dim=-1).values == best).all()


def test_steps_that_change_nothing_give_the_logits_themselves():
    logits = some_logits(0, 2, 10)
    for same in (top_k(logits, 10), top_k(logits, 99), top_p(logits, 1.0), min_p(logits, 0.0)):
        assert torch.equal(same, logits)
    assert torch.equal(repetition_penalty(logits, torch.tensor([[1], [2]]), 1.0), logits)


# Choosers


@pytest.mark.parametrize(
    ("choose", "seed"),
    [(sample, 0), (Sampling(temperature=0.7), 1), (Sampling(top_k=5), 2), (Sampling(top_p=0.8, temperature=1.5), 3)],
)
def test_draws_follow_the_distribution(choose, seed):
    logits = some_logits(seed, 1, 12, spread=1.0)
    expected = Sampling() if choose is sample else choose
    probabilities = expected.probabilities(logits)[0].double()
    n = 20_000
    counts = torch.bincount(choose(logits.expand(n, -1), None, seeded(seed)), minlength=12)
    possible = probabilities > 0
    assert counts[~possible].sum() == 0
    assert fit(counts[possible], n * probabilities[possible]) > 1e-4  # seeded, so it holds for good


def test_greedy_is_the_limit_of_sampling():
    logits = torch.tensor([[1.0, 5.0, 5.0], [2.0, 0.0, 1.0]])
    assert greedy(logits).tolist() == Sampling(temperature=0)(logits).tolist() == [1, 0]
    assert Sampling(temperature=0).probabilities(logits).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert Sampling(top_k=1)(logits[1:]).tolist() == [0]


def test_a_generator_decides_the_draws():
    logits = some_logits(0, 50, 20)
    assert torch.equal(sample(logits, generator=seeded(3)), sample(logits, generator=seeded(3)))
    assert not torch.equal(sample(logits, generator=seeded(3)), sample(logits, generator=seeded(4)))


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
@pytest.mark.parametrize("choose", [greedy, sample, Sampling(temperature=0), Sampling(0.5, 3, 0.9, 0.1)])
def test_logits_that_are_no_numbers_are_refused(bad, choose):
    logits = some_logits(0, 2, 6)
    logits[1] = -math.inf if bad is None else torch.tensor([0, 1, bad, 0, 1, 0])
    with pytest.raises(ValueError, match="NaN or infinity, or rule out every token"):
        choose(logits)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Sampling(temperature=-0.1), "temperature is -0.1; it is 0"),
        (lambda: Sampling(temperature=math.nan), "temperature is nan"),
        (lambda: Sampling(top_k=0), "k is 0; it counts"),
        (lambda: Sampling(top_k=-1), "k is -1; it counts"),
        (lambda: Sampling(top_p=math.nan), "p is nan; the probability"),
        (lambda: Sampling(min_p=math.nan), "p is nan; it is a fraction"),
        (lambda: Sampling(repetition_penalty=math.inf), "penalty is inf; it is above 0"),
        (lambda: Sampling(top_k=2.0), "k is 2.0; it counts"),
        (lambda: Sampling(top_p=0), "p is 0; the probability to keep is above 0"),
        (lambda: Sampling(top_p=1.01), "p is 1.01; the probability"),
        (lambda: Sampling(min_p=-0.1), "p is -0.1; it is a fraction"),
        (lambda: Sampling(min_p=2), "p is 2; it is a fraction"),
        (lambda: Sampling(repetition_penalty=0), "penalty is 0; it is above 0"),
        (lambda: Sampling(repetition_penalty=1.2)(torch.zeros(1, 3)), "needs the tokens so far"),
    ],
)
def test_settings_that_mean_nothing_are_refused_in_a_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        ([[3]], "The token 3 among those so far is unknown: the logits are of 3 tokens, from 0 to 2"),
        ([[0, 7]], "The token 7 among"),
        ([[NO_TOKEN, -2]], "The token -2 among"),
        ([[0.0]], "torch.float32; beside logits of 1 texts they are whole numbers"),
        ([[0], [1]], r"shape \(2, 1\)"),
        ([0, 1], r"shape \(2,\)"),
    ],
)
def test_a_repetition_penalty_refuses_tokens_that_the_logits_do_not_have(ids, sentence):
    with pytest.raises(ValueError, match=sentence):
        repetition_penalty(torch.zeros(1, 3), torch.tensor(ids), 1.5)
    with pytest.raises(ValueError, match=sentence):
        Sampling(repetition_penalty=1.5)(torch.zeros(1, 3), torch.tensor(ids))


# Beams


class Table:
    """A model of tiny vocabulary whose logits depend on the last tokens; it checks that its cache was reordered."""

    def __init__(self, seed: int, V: int, memory: int = 2) -> None:
        self.V, self.memory = V, memory
        self.logits = some_logits(seed, *[V + 1] * memory, V, spread=1.5)
        self.texts = [()]
        self.calls = 0

    def after(self, text: tuple) -> torch.Tensor:
        last = (self.V,) * self.memory + text
        return self.logits[last[-self.memory :]]

    def step(self, parents: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.texts = [(*self.texts[p], t) for p, t in zip(parents.tolist(), tokens.tolist(), strict=True)]
        return torch.stack([self.after(text) for text in self.texts])

    def search(self, width, max_tokens, **keywords):
        self.texts, self.calls = [()], 0
        return beam_search(self.after(()), self.step, width, max_tokens, **keywords)

    def exhaustive(self, max_tokens: int, end: int | None, penalty) -> list[tuple[float, list[int]]]:
        """Every text that ends or has `max_tokens`, with its score; the best first."""
        found = []
        for length in range(1, max_tokens + 1):
            for text in itertools.product(range(self.V), repeat=length):
                if end in text[:-1] or (length < max_tokens and text[-1] != end):
                    continue
                terms = [self.after(text[:i]).double().log_softmax(-1)[text[i]].item() for i in range(length)]
                found.append((math.fsum(terms) / penalty(length), list(text)))
        return sorted(found, reverse=True)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("exponent", [-1.0, 0.0, 0.7, 1.0, 3.0])
@pytest.mark.parametrize("end", [0, None])
def test_a_beam_as_wide_as_all_texts_finds_what_exhaustive_search_finds(seed, exponent, end):
    V, n, n_best = 3, 4, 10
    table = Table(seed, V)
    expected = table.exhaustive(n, end, lambda length: length**exponent)[:n_best]
    ends = () if end is None else end
    found = table.search(V**n, n, end=ends, length_penalty=exponent, n_best=n_best)
    assert [hypothesis.tokens for hypothesis in found] == [tokens for _, tokens in expected]
    assert [hypothesis.score for hypothesis in found] == pytest.approx([score for score, _ in expected], abs=1e-5)
    for hypothesis in found:
        assert hypothesis.score == pytest.approx(hypothesis.log_probability / len(hypothesis.tokens) ** exponent)
        assert hypothesis.finished == (hypothesis.tokens[-1] == end)


def test_a_search_by_hand():
    # From the start: a .5, b .4, end .1; after a: end .4, a .35, b .25; after b: end .9.
    table = torch.tensor([[0.5, 0.4, 0.1], [0.35, 0.25, 0.4], [0.05, 0.05, 0.9]]).log()
    steps = []
    best = beam_search(
        table[0], lambda _, tokens: table[1 + tokens], 2, 3, end=2, length_penalty=0.0, n_best=2, on_step=steps.append
    )
    assert [hypothesis.tokens for hypothesis in best] == [[1, 2], [0, 2]]
    assert [math.exp(hypothesis.log_probability) for hypothesis in best] == pytest.approx([0.36, 0.2])
    assert [(step.parents, step.tokens) for step in steps] == [([0, 0, 0], [0, 1, 2]), ([1, 0, 0, 0], [2, 2, 0, 1])]
    # The end of the empty text is third of three, so it is not set aside. Two have ended, better than what goes on.
    assert [step.fates for step in steps] == [["kept", "kept", "pruned"], ["finished", "finished", "kept", "kept"]]


def test_width_1_is_greedy():
    table = Table(5, 6)
    text = ()
    while len(text) < 8:
        text += (int(table.after(text).argmax()),)
    assert table.search(1, 8)[0].tokens == list(text)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]), st.integers(1, 3))
def test_stopping_early_loses_nothing(seed, width, exponent, n_best):
    """A score that never lets the search stop early (the longest text's bound is infinite) finds the same texts."""
    table, n_best = Table(seed, 4), min(width, n_best)
    early = table.search(width, 7, end=0, length_penalty=exponent, n_best=n_best)

    # Searched for all `width` best at once with one more length that nothing reaches, the bound is never met early.
    def endless(length):
        return 1e9 if length == 8 else length**exponent

    late = []
    table.search(width, 8, end=0, length_penalty=endless, n_best=width, on_step=late.append)
    texts, found = [[]], []
    for length, step in enumerate(late[:7], start=1):
        new = [[*texts[p], t] for p, t in zip(step.parents, step.tokens, strict=True)]
        for text, log_p, fate in zip(new, step.log_probabilities, step.fates, strict=True):
            if fate == "finished" or (fate == "kept" and length == 7):
                found.append((log_p / length**exponent, text))
        texts = [text for text, fate in zip(new, step.fates, strict=True) if fate == "kept"]
    best = sorted(found, reverse=True)[:n_best]
    assert [hypothesis.score for hypothesis in early] == pytest.approx([score for score, _ in best])
    assert [hypothesis.tokens for hypothesis in early] == [text for _, text in best]


def test_it_does_stop_early():
    # The end has 0.9 at every step, so after the first no other text can catch up.
    logits = torch.tensor([0.05, 0.05, 0.9]).log()
    calls = []

    def step(parents, tokens):
        calls.append(len(tokens))
        return logits.expand(len(tokens), -1)

    assert beam_search(logits, step, 2, 50, end=2, length_penalty=0.0)[0].tokens == [2]
    assert calls == []


def test_a_length_penalty_of_wu():
    table = Table(3, 4)
    penalty = wu_penalty(0.6)
    assert penalty(1) == 1.0
    score, tokens = table.exhaustive(4, 0, penalty)[0]
    best = table.search(4**4, 4, end=0, length_penalty=penalty)[0]
    assert best.tokens == tokens
    assert best.score == pytest.approx(score, abs=1e-6)


def test_several_end_tokens():
    table = Table(8, 4)
    best = table.search(4**4, 4, end=[0, 3], n_best=20)
    for hypothesis in best:
        assert hypothesis.finished == (hypothesis.tokens[-1] in (0, 3))
        assert not {0, 3} & set(hypothesis.tokens[:-1])
    assert {hypothesis.tokens[-1] for hypothesis in best} >= {0, 3}


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"width": 0}, "width is 0"),
        ({"width": 1.5}, "width is 1.5"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"n_best": 0}, "n_best is 0"),
        ({"n_best": 3}, "n_best is 3, and a search of width 2"),
        ({"length_penalty": lambda length: -1.0}, "penalty of 1 tokens is -1.0"),
    ],
)
def test_searches_that_mean_nothing_are_refused_in_a_sentence(keywords, sentence):
    with pytest.raises(ValueError, match=sentence):
        Table(0, 3).search(**({"width": 2, "max_tokens": 3} | keywords))


def test_a_search_refuses_logits_that_are_no_numbers():
    for bad in ([0.0, math.nan], [0.0, math.inf], [-math.inf, -math.inf]):
        with pytest.raises(ValueError, match="NaN or infinity, or rule out every token"):
            beam_search(torch.tensor(bad), None, 2, 3)
    with pytest.raises(ValueError, match="NaN"):
        beam_search(torch.zeros(2), lambda parents, tokens: torch.full((len(tokens), 2), math.nan), 2, 3)


def test_a_search_refuses_logits_of_another_shape():
    with pytest.raises(ValueError, match=r"shape \(1, 3\); they are those of one place"):
        beam_search(torch.zeros(1, 3), None, 2, 3)
    with pytest.raises(ValueError, match=r"shape \(1, 3\); for 2 texts and 3 tokens it is \(2, 3\)"):
        beam_search(torch.zeros(3), lambda parents, tokens: torch.zeros(1, 3), 2, 3)


def test_texts_that_are_ruled_out_are_never_found():
    def step(parents, tokens):
        return torch.tensor([[0.0, -math.inf, 0.0]]).expand(len(tokens), -1)

    found = beam_search(torch.tensor([0.0, -math.inf, 0.0]), step, 8, 2, n_best=8)
    assert sorted(hypothesis.tokens for hypothesis in found) == [[0, 0], [0, 2], [2, 0], [2, 2]]


# Speculation


def test_a_draft_is_accepted_with_the_overlap_of_the_distributions():
    """Leviathan et al. 2023, theorem 3.5: on average sum_x min(p(x), q(x)) of drafted tokens are accepted."""
    p, q = some_logits(1, 2, 8, spread=1.0).softmax(-1)
    generator, n = seeded(0), 4000
    drafts = torch.multinomial(q, n, True, generator=generator)
    target = torch.stack([p, p])
    results = [accept_draft(token.view(1), q[None], target, generator) for token in drafts]
    expected = torch.minimum(p, q).sum().item()
    deviation = math.sqrt(expected * (1 - expected) / n)
    assert sum(n_accepted for _, n_accepted in results) / n == pytest.approx(expected, abs=4 * deviation)
    first = torch.bincount(torch.tensor([tokens[0] for tokens, _ in results]), minlength=8)
    assert fit(first, n * p) > 1e-4


@pytest.mark.parametrize("seed", range(2))
def test_drafted_texts_are_distributed_as_the_target_model_writes_them(seed):
    """All texts of three tokens, from two different tables with memory: counts against the exact probabilities."""
    target, draft = Table(seed, 3), Table(seed + 100, 3)
    generator, n = seeded(seed), 2500
    counts = dict.fromkeys(itertools.product(range(3), repeat=3), 0)
    for _ in range(n):
        text = ()
        while len(text) < 3:
            q, drafted = [], text
            for _ in range(2):
                q.append(draft.after(drafted).softmax(-1))
                drafted += (int(torch.multinomial(q[-1], 1, generator=generator)),)
            p = torch.stack([target.after(drafted[: len(text) + i]).softmax(-1) for i in range(3)])
            tokens, _ = accept_draft(torch.tensor(drafted[len(text) :]), torch.stack(q), p, generator)
            text += tuple(tokens)
        counts[text[:3]] += 1
    texts = target.exhaustive(3, None, lambda length: 1)
    assert fit([counts[tuple(text)] for _, text in texts], [n * math.exp(score) for score, _ in texts]) > 1e-4


def test_a_draft_equal_to_the_target_is_always_accepted():
    p = some_logits(0, 5, 10).softmax(-1)
    for seed in range(50):
        drafted = torch.multinomial(p[:4], 1, generator=seeded(seed)).flatten()
        tokens, accepted = accept_draft(drafted, p[:4], p, seeded(seed))
        assert accepted == 4
        assert tokens[:4] == drafted.tolist()


@pytest.mark.parametrize(
    ("token", "draft", "target", "sentence"),
    [
        (1, [0.5, math.nan], [0.5, 0.5], "of draft go from nan to nan"),
        (1, [0.5, 0.5], [math.nan, 0.5], "of target go from nan"),
        (1, [0.5, 0.5], [math.inf, 0.5], "of target go from 0.5 to inf"),
        (1, [-0.5, 1.5], [0.5, 0.5], "of draft go from -0.5"),
        (2, [0.5, 0.5], [0.5, 0.5], "The drafted token 2 is unknown; .* 0 to 1"),
        (-1, [0.5, 0.5], [0.5, 0.5], "The drafted token -1 is unknown"),
        (1, [0.5, 0.5, 0.0], [0.5, 0.5], r"The shapes are \(1,\), \(1, 3\) and \(2, 2\)"),
        (1, [0.5, 0.5], [0.0, 0.0], "Row 0 of target is 0 everywhere"),
    ],
)
def test_drafts_that_mean_nothing_are_refused_in_a_sentence(token, draft, target, sentence):
    with pytest.raises(ValueError, match=sentence):
        accept_draft(torch.tensor([token]), torch.tensor([draft]), torch.tensor([target, target]), seeded(0))


def test_expected_tokens_is_what_independent_acceptances_give():
    a, ahead = 0.7, 5
    lucky = torch.rand(200_000, ahead, generator=seeded(0)) < a
    average = 1 + lucky.long().cumprod(dim=1).sum(dim=1).double().mean().item()
    assert expected_tokens(a, ahead) == pytest.approx(average, abs=0.02)  # 4 deviations of the mean
    assert expected_tokens(1.0, 4) == 5
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="it is a probability"):
            expected_tokens(bad, 4)
    for bad in (-1, 1.5):
        with pytest.raises(ValueError, match="it counts drafted tokens"):
            expected_tokens(0.5, bad)


# --------------------------------------------------------------------------------------------------------- measures


def test_shares_of_runs_are_those_counted_by_hand_and_the_slow_way():
    assert repeated_share("ababab", 2) == pytest.approx(3 / 5)  # ab, ba, then both again, and ab once more
    assert repeated_share("abc", 4) == repeated_share([], 1) == 0.0
    random = torch.Generator().manual_seed(0)
    for n in (1, 2, 3):
        for _ in range(40):
            sizes = torch.randint(1, 9, (3,), generator=random).tolist()
            texts = [torch.randint(0, 3, (size,), generator=random).tolist() for size in sizes]
            runs = [tuple(text[i : i + n]) for text in texts for i in range(len(text)) if i + n <= len(text)]
            again = sum(runs[i] in runs[:i] for i in range(len(runs)))
            if runs:
                assert distinct_share(texts, n) == pytest.approx(1 - again / len(runs))
            of_one = [tuple(texts[0][i : i + n]) for i in range(len(texts[0]) - n + 1)]
            seen_before = sum(of_one[i] in of_one[:i] for i in range(len(of_one)))
            assert repeated_share(texts[0], n) == pytest.approx(seen_before / len(of_one) if of_one else 0)


@pytest.mark.parametrize("n", [0, -1, 1.5, True])
def test_a_run_of_no_tokens_is_refused(n):
    for measure in (repeated_share, distinct_share):
        with pytest.raises(ValueError, match="it counts the tokens of a run"):
            measure(["abc"], n)
    with pytest.raises(ValueError, match="No text has 4 tokens"):
        distinct_share(["abc", []], 4)
