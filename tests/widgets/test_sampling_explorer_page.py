"""SamplingExplorer in a static page, in a real browser: settings, draws, and the book's model writing on."""

import re

import pytest
import torch
from figures import axe_faults, best_beam, left_behind, press, settle, small_targets, status, tab_stops

from llmlib import checkpoints, decoding
from llmlib.widgets import BeamTree, SamplingExplorer, beam_record, sampling_record

NASTY = "<img src=x onerror=\"document.title='broken'\">"
NAMES = ["<end>", " owl", " fox", " sang"]
P = [0.1, 0.2, 0.6, 0.1]


def explorer(names=NAMES, prompt="The", **state) -> SamplingExplorer:
    return SamplingExplorer([sampling_record([0, 1], torch.tensor(P).log() + 5, names, prompt)], **state)


def rows(page):
    settle(page)
    lines = page.locator(".bw-sampled tbody tr").all_inner_texts()
    return [[cell.strip() for cell in line.replace("\u2009", " ").split("\t") if cell.strip()] for line in lines]


@pytest.mark.parametrize("over", ["file", "http"])
def test_settings_keep_renormalise_and_draw(open_page, over):
    page = open_page(explorer(), over=over)
    assert status(page) == (
        "After “The”: all 4 tokens are kept. Entropy 1.09 nats before, 1.09 after: as uncertain as 2.97 equal choices. "
        "Most probable: “·fox”, 0.60."
    )
    page.get_by_label("Top-p").fill("0.75")
    assert status(page).startswith("After “The”: 2 of 4 tokens are kept, which the model gave 0.80. Entropy 1.09")
    assert rows(page) == [["·fox", "0.60", "0.75"], ["·owl", "0.20", "0.25"], ["<end>", "0.10", "cut: top-p"],
                          ["·sang", "0.10", "cut: top-p"]]  # fmt: skip
    page.get_by_label("Temperature").fill("0")
    assert rows(page)[0] == ["·fox", "0.60", "1.00"]
    assert rows(page)[1] == ["·owl", "0.20", "cut: temperature"]
    page.get_by_label("Temperature").fill("0.5")  # squares: 0.36 and 0.04, of which 0.9 is the fox's
    page.get_by_label("Top-p").fill("1")
    page.get_by_label("Top-k").fill("2")
    assert rows(page)[0] == ["·fox", "0.60", "0.90"]
    steps = page.locator(".bw-panel", has_text="What each step leaves").locator("tbody tr").all_inner_texts()
    assert [row.split("\t")[0] for row in steps] == ["the model's own", "temperature", "top-k"]
    press(page, "Draw 1\u2009000")
    counts = [int(row[3].replace(" ", "")) for row in rows(page)]
    assert sum(counts) == 1000
    assert abs(counts[0] - 900) < 50  # five standard deviations
    assert counts[2:] == [0, 0]
    press(page, "Draw 1\u2009000")
    assert [int(row[3].replace(" ", "")) for row in rows(page)] != counts
    press(page, "Reset")
    assert "all 4 tokens are kept" in status(page)


def test_everything_by_keyboard_alone(open_page):
    page = open_page(explorer())
    seen = tab_stops(page, 20)
    every = ["After", "Temperature", "Top-k", "Top-p", "Min-p", "Repetition", "Draw", "Write one", "Write on",
             "Take one", "Reset", "A beginning", "Use it", "As a table"]  # fmt: skip
    assert [want for want in every if not any(name.startswith(want) for name in seen)] == []
    page.get_by_label("Min-p").focus()
    page.keyboard.press("End")
    assert "1 of 4 tokens is kept" in status(page)
    page.get_by_role("button", name="Draw 1").focus()
    page.keyboard.press("Enter")
    assert "Of 1 000 draws" in status(page)


def test_the_address_holds_settings_and_a_broken_one_breaks_nothing(open_page):
    page = open_page(explorer(), hash="#fig-sampling-explorer?top_k=1&draws=1000&seed=3")
    assert "1 of 4 tokens is kept" in status(page)
    page.get_by_label("Top-k").fill("3")
    page.wait_for_function("location.hash.includes('top_k=3')")
    for query in ["temperature=-1&top_p=7", "temperature=null&top_k=x", "min_p=[]&penalty=0&draws=1e99&seed=-3"]:
        page.evaluate("(query) => (location.hash = `#fig-sampling-explorer?${query}`)", query)
        assert re.match(r"After “The”: ", status(page)), query


def test_text_is_never_markup(open_page):
    page = open_page(explorer([NASTY, "<b>x</b>", "\u202e", "</script>"], NASTY, draws=100))
    page.get_by_text("As a table").click()
    settle(page)
    assert page.locator(".book-widget img, .bw-picture b").count() == 0
    assert page.title() == "Figures"


def test_without_javascript_the_fallback_speaks(open_page):
    page = open_page(explorer(top_k=2), java_script_enabled=False)
    assert "top-k 2: 2 of 4 tokens are kept" in page.locator(".book-widget-fallback").inner_text()


def test_at_360_px_the_page_does_not_scroll_sideways(open_page):
    long = [f" incomprehensibilities{i}" for i in range(40)]
    record = sampling_record([0], torch.arange(40) / 9.0, long, "A beginning " * 12)
    page = open_page(SamplingExplorer([record], top_p=0.5, draws=1000), width=360, has_touch=True)
    page.get_by_text("As a table").tap()
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert small_targets(page) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_fault(open_page, axe, theme):
    page = open_page(explorer(top_p=0.75, draws=1000), theme=theme, width=760, height=2200)
    page.get_by_text("As a table").click()
    assert axe_faults(page, axe) == []


def test_where_there_are_no_workers_it_says_so_and_goes_on(open_page):
    page = open_page(explorer())
    page.evaluate("delete window.Worker")
    page.get_by_label("A beginning of your own").fill("Once")
    press(page, "Use it")
    page.get_by_text("This browser has no workers").wait_for()
    page.get_by_text("The recorded texts are shown instead.").wait_for()
    page.get_by_label("Top-k").fill("1")
    assert "1 of 4 tokens is kept" in status(page)


def test_the_books_model_writes_on_in_the_page_as_torch_would(open_page):
    """Both figures on a page, each with its own session; at temperature 0 there is one right answer."""
    model, coder = checkpoints.load(checkpoints.STORY_MODEL)
    end = coder.special_tokens["<|endoftext|>"]
    start = [end, *coder.encode("Once upon a time, a fox")]
    flat = beam_record(lambda ids: torch.zeros(4), NAMES, "The", 1, 1)
    page = open_page(explorer(temperature=0.0), BeamTree([flat], width=1, length=1), height=3000)
    press(page, "Write one token")  # a record goes on, too
    page.wait_for_function("document.querySelector('.bw-story-new').textContent !== ''")
    page.get_by_label("A beginning of your own").first.fill("Once upon a time, a fox")
    press(page, "Use it")
    page.wait_for_function("document.querySelector('.bw-status').textContent.includes('2\u2009048 tokens')")
    press(page, "Write one token")
    page.wait_for_function("document.querySelector('.bw-story-new').textContent !== ''")
    press(page, "Write on")
    page.wait_for_function("document.querySelector('.bw-story-new').textContent.length > 40", timeout=30_000)
    page.wait_for_timeout(300)
    if page.get_by_role("button", name="Stop", exact=True).count():
        press(page, "Stop")
    settle(page)
    written = page.locator(".bw-story-new").inner_text()
    ids = list(start)
    while len(coder.decode(ids[len(start) :])) < len(written):
        with torch.no_grad():
            ids.append(int(decoding.greedy(model(torch.tensor([ids]))[:, -1])))
    assert coder.decode(ids[len(start) :]).strip() == written.strip()
    press(page, "Take one back")
    settle(page)
    assert len(page.locator(".bw-story-new").inner_text()) < len(written)

    beams = page.locator("#fig-beam-tree")
    beams.get_by_label("A beginning of your own").fill("Once upon a time, a fox")
    beams.get_by_role("button", name="Search on from here").click()
    page.wait_for_function("document.querySelector('#fig-beam-tree .bw-beam-token').textContent.includes('fox')")
    beams.get_by_label("Beam width").fill("3")
    beams.get_by_label("Length", exact=False).first.fill("4")
    page.wait_for_function("document.querySelectorAll('#fig-beam-tree .bw-beam-step').length >= 5", timeout=20_000)
    beams.get_by_label("Step", exact=False).last.fill("4")
    settle(page)
    page.wait_for_function("document.querySelector('#fig-beam-tree .bw-status').textContent.startsWith('Step 4')")
    best = best_beam(model, start, 3, 4)
    row = beams.locator(".bw-panel", has_text="Texts that stand").locator("tbody tr").first.inner_text().split("\t")
    assert row[0] == coder.decode(best.tokens).replace(" ", "·")
    assert row[4] == f"{best.score:.2f}".replace("-", "−")


def test_the_clean_up_leaves_nothing_behind(open_page):
    page = open_page(explorer())
    left = left_behind(page, "written", "Write on")
    assert left == [[True, 2], 0, 0, []]
