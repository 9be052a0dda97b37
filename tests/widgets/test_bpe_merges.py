"""BPEMerges in Python, with no view open: what goes in, what comes out, what is refused; and its twin in HTML."""

import json
import re
import subprocess
import sys

import pytest
from traitlets import TraitError

from llmlib.tokenizer import Tokenizer
from llmlib.widgets import BPEMerges
from llmlib.widgets.page import page_html


def test_the_notes_example_step_by_step():
    # worked by hand: aaabdaaabac -> aa a b d aa a b a c -> aaa b d aaa b a c -> aaab d aaab a c
    figure = BPEMerges("aaabdaaabac")
    assert figure.merges == [[97, 97], [256, 97], [257, 98]]
    seen = []
    for step in range(4):
        figure.step = step
        seen.append(figure.ids)
    assert seen == [
        list(b"aaabdaaabac"),
        [256, 97, 98, 100, 256, 97, 98, 97, 99],
        [257, 98, 100, 257, 98, 97, 99],
        [258, 100, 258, 97, 99],
    ]


def test_inputs_change_the_results():
    figure = BPEMerges("aaabdaaabac", step=3)
    figure.tie_break = "smallest"
    assert figure.tokens == [b"aa", b"ab", b"aaab"]
    figure.tie_break = "greatest"
    figure.text = "low low low"
    assert figure.tokens == [b"ow", b"low", b" low"]
    figure.pre_tokenizer = "none"
    assert figure.tokens == [b"ow", b"low", b"low "], "without words, merges cross the space"
    assert figure.ids == [258, 258, 257]


def test_given_merges_are_replayed_on_any_text_until_trained_again():
    tokenizer = Tokenizer.train("low lower lowest slow slower", 261)
    pairs = [[tokenizer.vocab[left], tokenizer.vocab[right]] for left, right in tokenizer.merges]
    figure = BPEMerges("slowest", merges=pairs, step=len(pairs))
    assert not figure.trained
    assert figure.ids == tokenizer.encode("slowest")
    figure.text = "lower"
    assert figure.merges == pairs
    assert figure.ids == tokenizer.encode("lower")
    figure.merges = [[108, 111]]  # again, and shorter than the step
    assert (figure.step, figure.ids) == (1, [256, *b"wer"])
    figure.trained = True
    assert figure.merges == []
    assert figure.step == 0


def test_given_ids_show_the_text_that_they_spell():
    figure = BPEMerges("aaabdaaabac", step=2)
    seen = []
    figure.observe(lambda change: seen.append(change["new"]), ["ids"])
    figure.ids = [257, 98, 98, 256]  # aaa b b aa, by hand
    assert figure.text == "aaabbaa"
    assert (figure.step, figure.trained, figure.merges) == (2, False, [[97, 97], [256, 97], [257, 98]])
    assert (figure.ids, seen) == ([257, 98, 98, 256], [[257, 98, 98, 256]])
    figure.step = 3
    assert figure.ids == [258, 98, 256]
    figure.ids = list("¿né?".encode())
    assert figure.text == "¿né?"
    figure.ids = []
    assert figure.text == ""


def test_a_shorter_text_leaves_a_step_that_exists():
    figure = BPEMerges("aaabdaaabac", step=3)
    figure.text = "abab"
    assert (figure.step, figure.ids) == (1, [256, 256])
    figure.text = ""
    assert (figure.step, figure.merges, figure.ids) == (0, [], [])


@pytest.mark.parametrize(
    ("trait", "value", "message"),
    [
        ("step", 4, "step is 4; this text has 3 merges, so choose a step from 0 to 3."),
        ("step", -1, "step is -1"),
        ("tie_break", "last", "tie_break is 'last'; choose one of 'greatest', 'smallest', 'first'."),
        ("pre_tokenizer", "bert", "pre_tokenizer is 'bert'; choose one of 'none'"),
        ("merges", [[97]], "Merge 0 is [97]; it has to be two ids that exist by then, from 0 to 255."),
        ("merges", [[97, 97], [97, 257]], "Merge 1 is [97, 257]; it has to be two ids that exist by then, from 0 to"),
        ("merges", [[97, 97], [97, 97]], "Merge 1 makes b'aa', which is token 256 already"),
        ("ids", [97, 258], "ids has 258; after 2 merges there are ids from 0 to 257."),
        ("ids", [-1], "ids has -1"),
        ("ids", [98, 97, 97], "ids is [98, 97, 97], which spells 'baa', but after 2 merges that text is [98, 256]"),
        ("ids", [0xC3], "The ids spell no text"),
        ("ids", [98] * 20_001, "20,001 characters; the figure takes up to 20,000"),
        ("text", "a\ud800", "lone surrogate"),
        ("text", "a" * 20_001, "20,001 characters; the figure takes up to 20,000"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_refused_and_changes_nothing(trait, value, message):
    figure = BPEMerges("aaabdaaabac", step=2)
    before = figure.state()
    with pytest.raises(TraitError, match=re.escape(message)):
        setattr(figure, trait, value)
    assert figure.state() == before


def test_a_misspelt_argument_is_named():
    with pytest.raises(TypeError, match="BPEMerges has no 'steps'; it takes figure_id, caption, "):
        BPEMerges("abc", steps=2)
    with pytest.raises(ValueError, match="figure_id is 'a b'"):
        BPEMerges("abc", figure_id="a b")
    with pytest.raises(TraitError, match="ids are computed"):
        BPEMerges("abc", ids=[1])


def test_the_twin_holds_the_state_and_no_markup_of_the_readers():
    text = "</script><img src=x onerror=alert(1)>&amp;\"'<!--" * 2
    twin = BPEMerges(text, step=1).twin()
    assert twin.count("</script>") == 1
    assert "<img" not in twin
    assert "<!--" not in twin
    state = re.search(r'<script type="application/json">(.*?)</script>', twin, re.S)[1]
    assert json.loads(state)["text"] == text


def test_the_fallback_says_what_the_figure_shows():
    fallback = BPEMerges("aaabdaaabac").fallback()
    assert "11 bytes" in fallback
    assert "3 merges" in fallback
    assert "<td>3</td><td>aaa</td><td>b</td><td>aaab</td><td>258</td><td>5</td>" in fallback
    assert "nothing to merge" in BPEMerges("abc").fallback()


def test_outputs_are_the_same_in_every_session():
    code = (
        "import json; from llmlib.widgets import BPEMerges\n"
        "figures = BPEMerges('aab aab', step=1), BPEMerges('x')\n"
        "print(json.dumps([[repr(w), w._repr_mimebundle_()[0]] for w in figures]))"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert first == second
    (one, bundle), (_, other) = json.loads(first)
    assert one == bundle["text/plain"]
    view = "application/vnd.jupyter.widget-view+json"
    assert bundle[view]["model_id"] != other[view]["model_id"], "two figures of one session are two models"
    assert set(bundle) == {"text/plain", "text/html", view}


def test_one_page_holds_figures_of_different_names_only():
    one, other = BPEMerges("a"), BPEMerges("b", figure_id="fig-second")
    assert page_html(one, other).count('<div class="book-widget" data-widget="bpe_merges" id=') == 2
    with pytest.raises(ValueError, match="Two figures have the id 'fig-bpe-merges'"):
        page_html(one, one)
    with pytest.raises(ValueError, match="theme is 'blue'"):
        page_html(one, theme="blue")


def test_a_title_is_text_not_markup():
    page = page_html(BPEMerges("abab"), title="Is a < b & c?</title>")
    assert page.count("Is a &lt; b &amp; c?&lt;/title&gt;") == 2  # in the window's bar and on the page
