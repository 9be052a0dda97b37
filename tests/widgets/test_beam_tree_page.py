"""BeamTree in a static page, in a real browser: step, widen, compare with greedy, in every look."""

import re

import pytest
import torch
from figures import axe_faults, left_behind, press, settle, small_targets, status, tab_stops

from llmlib.widgets import BeamTree, beam_record

NASTY = "<img src=x onerror=\"document.title='broken'\">"
# By hand: after nothing "a" 0.5, "b" 0.4, end 0.1; after "a" evenly "a", "b", and the end 0.02; after "b" the end 0.9.
AFTER = {None: [0.5, 0.4, 0.1], 0: [0.49, 0.49, 0.02], 1: [0.04, 0.06, 0.9]}


def record(prompt="Say", names=(" a", " b", "<end>"), width=3, length=4):
    rows = {key: torch.tensor(row).log() + torch.tensor([1e-4, 0, 0]) for key, row in AFTER.items()}
    return beam_record(lambda ids: rows[ids[-1] if ids else None], names, prompt, width, length, end=2)


def beams(**state) -> BeamTree:
    return BeamTree([record()], **{"width": 2, "length": 3, "alpha": 0.0, **state})


def standing(page):
    panel = page.locator(".bw-panel", has_text="Texts that stand")
    return [row.split("\t") for row in panel.locator("tbody tr").all_inner_texts()]


def nodes(page, kind):
    return [re.sub(r"\s+", " ", text) for text in page.locator(f".bw-beam.{kind}").all_text_contents()]


@pytest.mark.parametrize("over", ["file", "http"])
def test_the_tree_grows_and_the_beam_beats_greedy(open_page, over):
    page = open_page(beams(), over=over)
    assert status(page) == "A search of width 2, 2 steps: nothing is chosen yet. Press Step."
    assert page.locator(".bw-panel", has_text="Texts that stand").is_hidden()
    press(page, "Step")
    assert status(page) == (
        "Step 1 of 2: 3 candidates, 2 kept, 1 pruned. Best by sum: “·a” with −0.69 (probability 0.50); it is greedy's."
    )
    assert nodes(page, "is-kept") == ["·a−0.69kept", "·b−0.92kept"]  # ln 0.5, ln 0.4
    assert nodes(page, "is-pruned") == ["<end>−2.30pruned"]  # ln 0.1
    press(page, "Step")
    assert status(page) == (
        "Step 2 of 2: 4 candidates, 2 kept, 1 ended, 1 pruned. Best by sum: “·b<end>” with −1.02 (probability 0.36); "
        "greedy's “·a·a” has −1.41. The search stops: nothing that goes on can come to be better."
    )
    assert nodes(page, "is-finished") == ["<end>−1.02ended"]  # ln(0.4 * 0.9)
    assert standing(page)[0] == ["·b<end>", "2", "−1.02", "1.00", "−1.02", "ended"]
    press(page, "Back")
    assert status(page).startswith("Step 1 of 2")
    press(page, "Reset")
    assert "nothing is chosen yet" in status(page)


def test_width_one_is_greedy_and_the_penalty_reorders(open_page):
    page = open_page(beams(step=3))
    page.get_by_label("Beam width").fill("1")
    assert "it is greedy's" in status(page)
    assert len(nodes(page, "is-kept")) == 3
    page.get_by_label("Beam width").fill("2")
    page.get_by_label("Penalty's exponent").fill("2")  # now length pays, and the search goes on
    assert status(page).startswith("Step 3 of 3")
    assert "Best by score" in status(page)
    cells = standing(page)
    divisors = {int(n): float(divisor) for _, n, _, divisor, _, _ in cells}
    assert divisors == {n: n**2 for n in divisors}
    page.get_by_label("Length penalty").select_option("wu")
    settle(page)
    cells = standing(page)
    assert all(float(divisor) == pytest.approx(((5 + int(n)) / 6) ** 2, abs=0.006) for _, n, _, divisor, _, _ in cells)
    scores = [float(cell[4].replace("−", "-")) for cell in cells if "greedy" not in cell[5]]
    assert scores == sorted(scores, reverse=True)


def test_everything_by_keyboard_alone(open_page):
    page = open_page(beams())
    seen = tab_stops(page, 16)
    every = ["After", "Beam width", "Length", "Penalty's", "Back", "Step", "Play", "Reset", "The tree", "As a table"]
    assert [want for want in every if not any(name.startswith(want) for name in seen)] == []
    page.locator(".bw-picture").focus()
    page.keyboard.press("ArrowRight")
    assert status(page).startswith("Step 1 of 2")
    page.keyboard.press("Space")  # plays to the end
    page.wait_for_function("document.querySelector('.bw-status').textContent.startsWith('Step 2')")
    page.get_by_label("Beam width").focus()
    page.keyboard.press("Home")
    assert "Step 2 of 3" in status(page)  # width 1 has no text that ends early


def test_the_address_holds_a_moment_and_gives_it_back(open_page):
    page = open_page(beams(), hash="#fig-beam-tree?width=1&step=2&length=4")
    assert status(page).startswith("Step 2 of 4: 2 candidates, 1 kept, 1 pruned.")
    press(page, "Step")
    page.wait_for_function("location.hash.includes('step=3')")


def test_a_broken_address_breaks_nothing(open_page):
    page = open_page(beams())
    for query in ["width=99&step=99", "width=x", "alpha=null&penalty=7", "length=-1&step=1", "text=5&step=[1]"]:
        page.evaluate("(query) => (location.hash = `#fig-beam-tree?${query}`)", query)
        assert re.match(r"(A search of width|Step \d)", status(page)), query


def test_text_is_never_markup(open_page):
    page = open_page(BeamTree([record(NASTY, (NASTY, "\u202eb", "<b>"))], width=2, length=3, step=2))
    page.get_by_text("As a table").click()
    settle(page)
    assert page.locator(".book-widget img, .bw-picture b").count() == 0
    assert page.title() == "Figures"


def test_two_texts_and_two_figures_are_independent(open_page):
    page = open_page(
        BeamTree([record(), record("Other", length=2)], step=1), beams(figure_id="fig-second"), height=3000
    )
    page.locator("#fig-second .bw-status").wait_for()
    first = page.locator("#fig-beam-tree")
    first.get_by_label("After").select_option("1")
    assert "nothing is chosen yet" in status(page)  # another text begins anew
    assert first.get_by_label("Length", exact=False).first.get_attribute("max") == "2"
    press(page, "Step")
    assert status(page).startswith("Step 1")
    assert "nothing is chosen yet" in status(page, "#fig-second")


def test_the_table_has_each_candidate(open_page):
    page = open_page(beams(step=2))
    page.get_by_text("As a table").click()
    settle(page)
    rows = [row.split("\t") for row in page.locator(".bw-details tbody tr").all_inner_texts()]
    assert [row[0] for row in rows] == ["1"] * 3 + ["2"] * 4
    assert ["2", "·b<end>", "−0.11", "−1.02", "ended"] in rows  # ln 0.9


def test_without_javascript_the_fallback_speaks(open_page):
    page = open_page(beams(), java_script_enabled=False)
    assert "A beam search of width 2 after" in page.locator(".book-widget-fallback").inner_text()


def test_at_360_px_the_page_does_not_scroll_sideways(open_page):
    page = open_page(
        BeamTree([record("A long beginning of a story " * 6)], width=3, length=4), width=360, has_touch=True
    )
    page.get_by_text("As a table").tap()
    for _ in range(3):
        page.get_by_role("button", name="Step", exact=True).tap()
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    frame, now = (page.locator(name).bounding_box() for name in (".bw-beam-frame", ".bw-beam-step.is-now"))
    left, right = now["x"] - frame["x"], frame["x"] + frame["width"] - now["x"] - now["width"]
    assert min(left, right) >= 0  # the step's column is in sight
    assert small_targets(page) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_fault(open_page, axe, theme):
    page = open_page(beams(step=2), theme=theme, width=760, height=1600)
    page.get_by_text("As a table").click()
    assert axe_faults(page, axe) == []


def test_the_clean_up_leaves_nothing_behind(open_page):
    page = open_page(beams())
    left = left_behind(page, "step")
    assert left == [[True, 2], 0, 0, 0]
