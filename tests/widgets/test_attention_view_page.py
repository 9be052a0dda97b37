"""AttentionView in a static page, in a real browser: queries, heads and numbers, in every look."""

import re

import numpy as np
import pytest
from figures import axe_faults, left_behind, press, settle, status, tab_stops

from llmlib.widgets import AttentionView

NASTY = "<img src=x onerror=\"document.title='broken'\"><b>"


def even(T):
    return np.tri(T) / np.arange(1, T + 1)[:, None]


def before(T):
    return np.vstack([np.eye(T)[0], np.eye(T)[:-1]])


def weights(T, L=2, H=2):
    """Heads that are known: layer 0 looks evenly at all and at itself, layer 1 at the token before and at the first."""
    heads = [[even(T), np.eye(T)], [before(T), np.tile(np.eye(T)[0], (T, 1))]]
    return [[heads[layer % 2][head % 2] for head in range(H)] for layer in range(L)]


def view(tokens=("The", " cat", " sat", "."), **state) -> AttentionView:
    return AttentionView.of(list(tokens), weights(len(tokens)), **state)


def rows(page):
    return [re.split(r"[\t\n]+", row.strip()) for row in page.locator(".bw-bars tbody tr").all_inner_texts()]


def cell(page, query, key, T=4):
    """The middle of a cell on the screen."""
    first, last = (page.locator(".bw-map .bw-cell").nth(i).bounding_box() for i in (0, T * (T + 1) // 2 - 1))
    step = (last["x"] - first["x"]) / (T - 1)
    return first["x"] + first["width"] / 2 + key * step, first["y"] + first["height"] / 2 + query * step


@pytest.mark.parametrize("over", ["file", "http"])
def test_queries_layers_and_heads(open_page, over):
    page = open_page(view(query=2), over=over)
    start = status(page)
    assert start == (
        "Layer 0, head 0: “·sat”, token 2, looks at “The” (0.33), then “·cat” (0.33), then itself (0.33). "
        "1 later token is masked. On average 0.29 on the token before, 0.29 on the first, 0.29 on itself."
    )  # (1/3 + 1/4) / 2
    assert rows(page) == [["The", "0.33", "0"], ["·cat", "0.33", "1"], ["·sat", "0.33", "2"], ["more", "0.00"]]
    assert page.locator(".bw-map .bw-cell.is-focus").count() == 3
    assert page.locator(".bw-arc").count() == 3
    page.locator(".bw-controls select").nth(1).select_option("1")
    assert status(page).startswith("Layer 1, head 0: “·sat”, token 2, looks at “·cat” (1.00). 1 later")
    assert page.locator(".bw-arc").count() == 1
    page.get_by_role("radio", name="Layer 1, head 1.").click()
    assert "looks at “The” (1.00)" in status(page)
    assert page.locator(".bw-controls select").nth(2).input_value() == "1"
    press(page, "Step")
    assert status(page).startswith("Layer 1, head 1: “.”, token 3")
    press(page, "Reset")
    assert status(page) == start


def test_layers_stack_upwards_and_every_head_has_its_picture(open_page):
    page = open_page(view())
    names = page.get_by_role("radio").evaluate_all("(all) => all.map((e) => e.ariaLabel.split('.')[0])")
    assert names == ["Layer 1, head 0", "Layer 1, head 1", "Layer 0, head 0", "Layer 0, head 1"]
    shapes = page.get_by_role("radio").evaluate_all("(all) => all.map((e) => e.querySelector('svg').innerHTML)")
    assert len(set(shapes)) == 4


def test_numbers_under_the_pointer_and_a_query_by_a_click(open_page):
    page = open_page(view(query=1))
    page.mouse.move(*cell(page, 3, 0))
    settle(page)
    readout = page.locator(".bw-readout")
    assert re.sub(r"[\u2068\u2069]", "", readout.inner_text()) == "“.” (3) looks at “The” (0) with 0.250."
    page.mouse.move(*cell(page, 0, 2))
    settle(page)
    assert re.sub(r"[\u2068\u2069]", "", readout.inner_text()) == "“·sat” (2) comes after “The” (0): masked."
    page.mouse.click(*cell(page, 2, 1))
    assert "“·sat”, token 2" in status(page)
    page.mouse.move(2, 2)
    settle(page)
    assert readout.inner_text().startswith("Rows look")


def test_masked_cells_are_hatched_and_carry_no_number(open_page):
    page = open_page(view())
    assert page.locator(".bw-map .bw-cell").count() == 10  # of 16
    assert page.locator(".bw-map .bw-masked").get_attribute("d").count("M") == 6
    page.get_by_text("As a table").click()
    press(page, "Back")
    settle(page)
    cells = [row.split("\t") for row in page.locator(".bw-details tbody tr").all_inner_texts()]
    assert [row[2] for row in cells] == ["0.333", "0.333", "0.333", "masked"]


def test_everything_by_keyboard_alone(open_page):
    page = open_page(view(query=2))
    seen = tab_stops(page, 14)
    every = ["Text", "Layer", "Head", "Back", "Step", "Play", "Reset", "Query", "Who looks where", "Layer 0, head 0",
             "As a table"]  # fmt: skip
    assert [want for want in every if not any(name.startswith(want) for name in seen)] == []
    assert sum(re.match(r"Layer \d, head", name) is not None for name in seen) == 1, "the heads are one stop"
    page.locator(".bw-head[aria-checked=true]").focus()
    page.keyboard.press("ArrowUp")
    assert status(page).startswith("Layer 1, head 0")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")  # the last one
    assert status(page).startswith("Layer 1, head 1")
    assert page.evaluate("document.activeElement.ariaLabel").startswith("Layer 1, head 1")
    page.keyboard.press("ArrowDown")
    assert status(page).startswith("Layer 0, head 1: “·sat”")
    page.locator(".bw-picture").focus()
    page.keyboard.press("ArrowLeft")
    assert "“·cat”, token 1" in status(page)
    for number in ("0.000", "1.000", "1.000"):  # of the keys 0, 1, and no further than the query
        page.keyboard.press("ArrowDown")
        assert f"with {number}." in status(page)
    page.keyboard.press("ArrowUp")
    assert "“·cat” (1) looks at “The” (0) with 0.000." in status(page)
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelector('.bw-status').textContent.includes('token 3')")


def test_the_address_holds_a_head_and_gives_it_back(open_page):
    texts = [{"tokens": [f" {word}"] * T, "weights": weights(T)} for word, T in (("a", 3), ("b", 5))]
    page = open_page(AttentionView(texts), hash="#fig-attention-view?text=1&layer=1&head=1&query=4")
    assert status(page).startswith("Layer 1, head 1: “·b”, token 4, looks at “·b” (1.00)")
    page.get_by_label("Text").select_option("0")
    assert status(page).startswith("Layer 1, head 1: “·a”, token 2")
    page.wait_for_function("!location.hash.includes('text=1') && location.hash.includes('layer=1')")


def test_a_broken_address_breaks_nothing(open_page):
    page = open_page(view())
    for query in ["text=9&layer=-1", "layer=x&head=null", "query=1e9", "query=[1]", "head=%00"]:
        page.evaluate("(query) => (location.hash = `#fig-attention-view?${query}`)", query)
        assert re.match(r"Layer \d, head \d: ", status(page)), query


def test_text_is_never_markup(open_page):
    page = open_page(view([NASTY, "</svg><b>", "\n", "a\u0000"]))
    page.get_by_text("As a table").click()
    page.mouse.move(*cell(page, 3, 0))
    settle(page)
    assert page.locator(".book-widget img, .bw-picture b").count() == 0
    assert page.title() == "Figures"
    assert NASTY[:30] in page.locator(".bw-details").inner_text().replace("·", " ")


def test_two_figures_on_a_page_are_independent(open_page):
    page = open_page(view(), view(figure_id="fig-second", layer=1), height=4000)
    page.locator("#fig-second .bw-status").wait_for()
    there = status(page, "#fig-second")
    press(page, "Back")
    page.locator("#fig-attention-view").get_by_role("radio", name="Layer 0, head 1.").click()
    assert status(page).startswith("Layer 0, head 1: “·sat”")
    assert status(page, "#fig-second") == there


def test_a_page_without_a_kernel_offers_no_sentence(open_page):
    page = open_page(view(compute=lambda text: ([text], weights(1))))
    assert not page.get_by_text("A sentence of your own").is_visible()
    assert not page.get_by_role("button", name="Look into it").is_visible()


def test_without_javascript_the_fallback_speaks(open_page):
    page = open_page(view(), java_script_enabled=False)
    assert "2 layers of 2 heads" in page.locator(".book-widget-fallback").inner_text()


@pytest.mark.parametrize(("T", "L", "H"), [(1, 1, 1), (12, 6, 3), (40, 12, 12)])
def test_at_360_px_the_page_does_not_scroll_sideways(open_page, T, L, H):
    figure = AttentionView.of([f" incomprehensible{i}" for i in range(T)], weights(T, L, H))
    page = open_page(figure, width=360, has_touch=True)
    page.get_by_text("As a table").tap()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    small = page.evaluate("""[...document.querySelectorAll('.bw :is(button, select, input, summary)')].filter(
        (e) => e.offsetParent && Math.min(e.offsetHeight, e.offsetWidth) < 39.5).map((e) => e.outerHTML)""")
    assert small == []
    assert page.evaluate("document.getAnimations().length") == 0
    if T > 1:
        last = page.locator(".bw-map-frame").evaluate("(e) => e.scrollLeft + e.clientWidth >= e.scrollWidth - 20")
        assert last, "the query's column is in sight"
        page.locator(".bw-map .bw-cell").last.scroll_into_view_if_needed()
        page.touchscreen.tap(*cell(page, T - 2, T - 3, T))
        assert f"token {T - 2}," in status(page)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_fault(open_page, axe, theme):
    page = open_page(view(query=2), theme=theme, width=760, height=2000)
    page.get_by_text("As a table").click()
    assert axe_faults(page, axe) == []


def test_the_clean_up_leaves_nothing_behind(open_page):
    page = open_page(view(query=0))
    left = left_behind(page, "query")
    assert left == [[True, 2], 0, 0, 0]
