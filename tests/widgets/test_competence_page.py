"""Competence in a static page, in a real browser: open the window, drag its numbers, in every look."""

import re

import pytest
from figures import axe_faults, left_behind, press, settle, small_targets, status, tab_stops

from llmlib.widgets import Competence

NASTY = "<img src=x onerror=\"document.title='broken'\"><b>"
SAMPLE = {  # ten stories of 10, 20 ... 100 words, of which six are plain
    "texts": [f"Story {i}." for i in range(10)],
    "measures": [
        {"name": "length", "unit": "words", "scores": [10 * (i + 1) for i in range(10)]},
        {"name": "depth", "unit": "levels", "scores": [0, 0, 0, 0, 0, 0, 1, 1, 2, 3]},
    ],
}


def competence(**state) -> Competence:
    return Competence(SAMPLE, **{"pacing": "linear", "start": 0.2, "duration": 50, **state})


@pytest.mark.parametrize("over", ["file", "http"])
def test_the_window_opens_and_goes_back(open_page, over):
    page = open_page(competence(), over=over)
    start = (
        "At 0 % of the run, c = 0.20: of 10 stories, 2 are open, length up to 20 (words). 0 % of the corpus has been"
    )
    assert status(page).startswith(start)
    for _ in range(2):
        press(page, "Step")
    page.get_by_role("slider", name="Time t").fill("25")
    assert status(page).startswith("At 25 % of the run, c = 0.60: of 10 stories, 6 are open, length up to 60 (words).")
    assert page.locator(".bw-stories.is-open").count() == 6
    page.get_by_role("slider", name="Time t").fill("50")
    assert "all are open" in status(page)
    page.get_by_label("Hardest first").check()
    page.get_by_role("slider", name="Time t").fill("0")
    assert "2 are open, length from 90 on (words)" in status(page)
    assert set(page.locator(".bw-drawn .bw-text").all_inner_texts()) <= {"Story 8.", "Story 9."}
    press(page, "Reset")
    assert status(page).startswith(start)


def test_each_pacing_and_measure(open_page):
    page = open_page(competence(time=20))
    for pacing, c in [("linear", "0.52"), ("root", "0.65"), ("step", "0.40"), ("all", "1.00")]:
        page.get_by_label("Pacing").select_option(pacing)  # by hand: .2 + .8 * .4; sqrt(.04 + .96 * .4); .2 + .8 / 4; 1
        assert f"c = {c}:" in status(page), pacing
    page.get_by_label("Pacing").select_option("linear")
    page.get_by_label("Difficulty").select_option("depth")
    assert "6 are open, depth up to 0 (levels). No story has so small a d, so the easiest are open." in status(page)
    page.get_by_label("Softness").fill("0.1")  # beyond: 2 e^-2 + e^-3 + e^-4 of 6 more than that
    assert "a draw falls beyond the window with probability 0.05" in status(page)


def test_the_reader_drags_c0_and_T_and_the_moment(open_page):
    page = open_page(competence())
    picture = page.locator(".bw-panel", has_text="Competence").first.locator("svg")

    def drag(handle, dx, dy):
        box = picture.locator(f"[data-handle={handle}]").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + dx / 2, y + dy / 2)
        page.mouse.move(x + dx, y + dy)
        page.mouse.up()
        settle(page)

    zero, one = (picture.locator(f"[data-handle={name}]").bounding_box()["y"] for name in ("start", "duration"))
    unit = (zero - one) / 0.8  # pixels from c = 0 to c = 1
    drag("start", 0, -0.3 * unit)
    assert float(page.get_by_label("Start c₀").input_value()) == pytest.approx(0.5, abs=0.02)
    left, right = (picture.locator(f"[data-handle={name}]").bounding_box()["x"] for name in ("start", "duration"))
    drag("duration", (right - left) * 0.6, 0)
    assert float(page.get_by_label("End T").input_value()) == pytest.approx(80, abs=1)
    box = picture.bounding_box()
    page.mouse.click(left + 20 + (right - left) * 1.2, box["y"] + box["height"] * 0.6)
    assert status(page).startswith(("At 59 %", "At 60 %", "At 61 %"))


def test_everything_by_keyboard_alone(open_page):
    page = open_page(competence())
    seen = tab_stops(page, 15)
    every = ["Difficulty", "Pacing", "Start", "End T", "Softness", "Hardest", "Back", "Step", "Play", "Reset", "Time",
             "Draw others", "As a table"]  # fmt: skip
    assert [want for want in every if not any(name.startswith(want) for name in seen)] == []
    page.locator(".bw-picture").focus()
    page.keyboard.press("ArrowRight")
    assert status(page).startswith("At 1 %")
    page.keyboard.press("Space")  # plays
    page.wait_for_function("/^At [3-9] %/.test(document.querySelector('.bw-status').textContent)")
    page.keyboard.press("Space")
    page.get_by_label("Start c₀").focus()
    page.keyboard.press("End")
    assert "c = 1.00: of 10 stories, all are open" in status(page)


def test_others_are_drawn_and_the_address_holds_the_moment(open_page):
    page = open_page(competence(), hash="#fig-competence?time=40&pacing=root&measure=depth&seed=3")
    assert status(page).startswith("At 40 % of the run, c = 0.90")
    before = page.locator(".bw-drawn").inner_text()
    texts = {before}
    for _ in range(5):
        press(page, "Draw others")
        settle(page)
        texts.add(page.locator(".bw-drawn").inner_text())
    assert len(texts) > 3
    page.wait_for_function("location.hash.includes('seed=8')")
    press(page, "Reset")


def test_a_broken_address_breaks_nothing(open_page):
    page = open_page(competence())
    for query in [
        "time=1e9",
        "time=x",
        "start=-3&duration=0",
        "pacing=%3Cb%3E",
        "measure=null",
        "softness=[]",
        "seed=-1",
    ]:
        page.evaluate("(query) => (location.hash = `#fig-competence?${query}`)", query)
        assert re.match(r"At \d+ % of the run, c = [01]\.\d\d: of 10 stories", status(page)), query


def test_text_is_never_markup(open_page):
    sample = {"texts": [NASTY] * 3, "measures": [{"name": NASTY, "unit": NASTY, "scores": [1, 2, 3]}]}
    page = open_page(Competence(sample))
    page.get_by_text("As a table").click()
    settle(page)
    assert page.locator(".book-widget img, .bw-picture b").count() == 0
    assert page.title() == "Figures"
    assert page.locator(".bw-drawn .bw-text").first.inner_text() == NASTY


def test_the_table_is_in_order_of_difficulty_and_sums_to_one(open_page):
    page = open_page(competence(time=25))
    page.get_by_text("As a table").click()
    rows = [row.split("\t") for row in page.locator(".bw-details tbody tr").all_inner_texts()]
    assert [row[0] for row in rows] == [f"Story {i}." for i in range(10)]
    assert [row[3] for row in rows] == ["1.00"] * 6 + ["0.00"] * 4
    assert sum(float(row[4]) for row in rows) == pytest.approx(100, abs=0.1)
    assert sum(int(row[5]) for row in rows) == 2  # a quarter of ten draws


def test_two_figures_on_a_page_are_independent(open_page):
    page = open_page(competence(), competence(figure_id="fig-second", time=50), height=3000)
    page.locator("#fig-second .bw-status").wait_for()
    press(page, "Step")
    assert status(page).startswith("At 1 %")
    assert status(page, "#fig-second").startswith("At 50 %")


def test_a_corpus_of_one_story_and_without_javascript(open_page):
    one = {"texts": ["Only."], "measures": [{"name": "length", "unit": "words", "scores": [1.5]}]}
    page = open_page(Competence(one))
    assert "of 1 story, all are open" in status(page)
    still = open_page(competence(), java_script_enabled=False)
    assert "10 stories, easiest first by length" in still.locator(".book-widget-fallback").inner_text()


def test_at_360_px_the_page_does_not_scroll_sideways(open_page):
    sample = {**SAMPLE, "texts": ["incomprehensibilities" * 8, *SAMPLE["texts"][1:]]}
    page = open_page(Competence(sample, start=0.05), width=360, has_touch=True)
    page.get_by_text("As a table").tap()
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert small_targets(page) == []
    page.get_by_role("button", name="Step").tap()
    assert status(page).startswith("At 1 %")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_fault(open_page, axe, theme):
    page = open_page(competence(time=20, softness=0.1), theme=theme, width=760, height=2000)
    page.get_by_text("As a table").click()
    assert axe_faults(page, axe) == []


def test_the_clean_up_leaves_nothing_behind(open_page):
    page = open_page(competence())
    left = left_behind(page, "time")
    assert left == [[True, 2], 0, 0, 0]
