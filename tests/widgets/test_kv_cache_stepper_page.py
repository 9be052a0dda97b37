"""KVCacheStepper in a static page, in a real browser: step, change the sizes, in every look."""

import re

import numpy as np
import pytest
from figures import axe_faults, left_behind, press, settle, small_targets, status, tab_stops

from llmlib.widgets import KVCacheStepper
from llmlib.widgets.kv_cache_stepper import MODELS

NASTY = "<img src=x onerror=\"document.title='broken'\"> <b>b</b>"
TOKENS = ["Pip", " the", " d", "uck", *[f" w{i}" for i in range(10)]]


def stepper(**state) -> KVCacheStepper:
    memory = np.random.default_rng(0).normal(size=(2, 3, 2, 13, 8))
    sizes = {"heads": 4, "context": 256, "vocab_size": 100}
    return KVCacheStepper.of("Pip the duck", TOKENS, 4, memory, **sizes | state)


def cells(page, title, kind):
    return page.locator(".bw-panel", has_text=title).first.locator(f"svg .bw-kv.is-{kind}").count()


def counted(page):
    rows = page.locator(".bw-kv-counts tbody tr").all_inner_texts()
    return [row.replace("\u2009", " ").split("\t")[1:3] for row in rows]


@pytest.mark.parametrize("over", ["file", "http"])
def test_prefill_then_one_token_at_a_time(open_page, over):
    page = open_page(stepper(), over=over, height=2200)
    before = status(page)
    assert before.startswith("Nothing has been read.")
    assert cells(page, "With a cache", "new") == 0
    press(page, "Step")
    assert status(page).startswith(
        "Prefill: all 4 tokens of the prompt are read in one pass. 4 rows of keys and as many of values are computed "
        "in each of 3 layers and 2 key–value heads: 768 B are appended"  # 2 x 3 x 2 x 8 x 2 bytes = 192 a position
    )
    assert cells(page, "With a cache", "new") == cells(page, "Without", "new") == 3 * 4 * 3  # q, k, v of 4 in 3 layers
    press(page, "Step")
    press(page, "Step")
    assert "Decoding: only “·w1” is read." in status(page)
    assert "5 of each are fetched. 192 B are appended, and the cache holds 6 rows, 1.13 KiB" in status(page)
    assert (cells(page, "With a cache", "new"), cells(page, "With a cache", "kept")) == (3 * 3, 3 * 5 * 2)
    assert cells(page, "Without", "new") == 3 * 6 * 3
    assert counted(page)[:2] == [["1", "6"], ["5", "0"]]
    assert counted(page)[4:] == [["960 B", "0 B"], ["192 B", "0 B"], ["1.13 KiB", "0 B"]]
    tiles = page.locator(".bw-tiles .bw-tile")
    assert tiles.evaluate_all("(all) => all.map((t) => t.className.split('is-')[1])") == [
        "kept", "kept", "kept", "kept", "kept", "new", "next",
    ]  # fmt: skip
    assert "The model's own numbers" in page.locator(".bw-panel", has_text="Rows of keys").inner_text()
    press(page, "Back")
    assert "“·w0”" in status(page)
    press(page, "Reset")
    assert status(page) == before


def test_the_rows_of_the_past_never_change(open_page):
    page = open_page(stepper(step=2), height=2200)

    def shades():
        return page.locator(".bw-kv-rows .bw-kv-number").evaluate_all(
            "(all) => all.map((r) => [r.getAttribute('x'), r.getAttribute('y'), r.getAttribute('fill-opacity')].join())"
        )

    first = shades()
    assert len(first) == 5 * 2 * 8
    press(page, "Step")
    settle(page)
    assert len(shades()) == 6 * 2 * 8
    assert set(first) <= set(shades())


def test_sizes_of_a_real_model_and_of_ones_own(open_page):
    page = open_page(stepper(step=3), height=2200)
    page.get_by_label("Model").select_option("Llama 3 70B")
    assert "in each of 80 layers and 8 key–value heads" in status(page)
    assert "320 KiB are appended" in status(page)
    memory = page.locator(".bw-panel", has_text="Memory for the cache")
    assert "320 KiB a position, 2.5 GiB at 8 192 tokens" in memory.inner_text().replace("\u2009", " ")
    assert "Schematic" in page.locator(".bw-panel", has_text="Rows of keys").inner_text()
    page.get_by_label("Query heads").fill("2")  # the third of 1, 2, 3, …: 3 heads, which cannot share 8
    assert "80 layers and 3 key–value heads" in status(page)
    assert page.get_by_label("Model").input_value() == ""
    page.get_by_label("Key–value heads").fill("0")
    page.get_by_label("Bits a number").fill("0")
    page.get_by_label("Texts at once").fill("3")
    assert "10 KiB are appended" not in status(page)
    assert "80 KiB are appended" in status(page)  # 8 texts x 2 x 80 x 1 x 128 x 4 bits = 81 920 bytes
    press(page, "Reset")
    assert "in each of 3 layers and 2 key–value heads; 5 of each are fetched. 192 B are appended" in status(page)


def test_every_model_of_the_list_is_shown(open_page):
    page = open_page(stepper(step=2), height=2200)
    for name, sizes in MODELS.items():
        page.get_by_label("Model").select_option(name)
        assert f"{sizes['layers']} layers and {sizes['kv_heads']} key–value head" in status(page)
        assert page.get_by_label("Model").input_value() == name


def test_a_prompt_of_ones_own_is_cut_at_white_space_and_goes_on_with_stand_ins(open_page):
    page = open_page(stepper(step=4), height=2200)
    page.get_by_label("Prompt").fill("a  b\U0001f98a c")
    assert status(page).startswith("Nothing has been read")
    press(page, "Step")
    press(page, "Step")
    assert "only “·?1” is read" in status(page)
    assert "no model runs in this figure" in page.locator(".bw-panel").first.inner_text()
    page.get_by_label("Prompt").fill("")
    settle(page)
    assert page.get_by_label("Prompt").get_attribute("aria-invalid") == "true"
    assert status(page).startswith("Nothing has been read")
    long = " ".join(["word"] * 40)
    page.get_by_label("Prompt").fill(long)
    press(page, "Step")
    assert "all 40 tokens" in status(page)
    assert cells(page, "Without", "new") == 3 * 24 * 3  # the newest 24 are drawn


def test_everything_by_keyboard_alone(open_page):
    page = open_page(stepper(), height=900)
    seen = tab_stops(page, 20)
    every = ["Prompt", "Model", "Layers", "Query heads", "Key–value heads", "Head width", "Context", "Bits", "Texts"]
    every += ["Layer shown", "Back", "Step", "Play", "Reset", "A cache of keys", "Rows of", "Counted", "As a table"]
    assert [want for want in every if not any(name.startswith(want) for name in seen)] == []
    page.locator(".bw-picture").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "only “·w0”" in status(page)
    page.keyboard.press("ArrowLeft")
    assert status(page).startswith("Prefill")
    page.get_by_label("Layers").focus()
    page.keyboard.press("ArrowRight")  # moves the slider, not the step
    assert "4 layers" in status(page)
    page.locator(".bw-picture").focus()
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelector('.bw-status').textContent.startsWith('Decoding')")
    page.keyboard.press("Space")


def test_the_address_holds_a_moment_and_gives_it_back(open_page):
    page = open_page(stepper(), hash="#fig-kv-cache-stepper?step=2&heads=8&kv_heads=4&bits=32&prompt=one two")
    assert "only “·?1” is read" in status(page)
    assert "4 key–value heads" in status(page)
    press(page, "Step")
    page.wait_for_function("location.hash.includes('step=3')")
    assert "kv_heads=4" in page.url


def test_a_broken_address_breaks_nothing(open_page):
    page = open_page(stepper())
    for query in ["step=99&layers=-1", "step=x", "heads=1e9&kv_heads=7", "bits=3&batch=null", "prompt=%00",
                  "layer=77&context=[1]", "head_width=0.5", "prompt="]:  # fmt: skip
        page.evaluate("(query) => (location.hash = `#fig-kv-cache-stepper?${query}`)", query)
        assert re.match(r"Nothing|Prefill|Decoding", status(page)), query


def test_text_is_never_markup(open_page):
    page = open_page(stepper())
    page.get_by_label("Prompt").fill(NASTY)
    press(page, "Step")
    page.get_by_text("As a table").click()
    settle(page)
    assert page.locator(".book-widget img, .bw-picture b").count() == 0
    assert page.title() == "Figures"


def test_two_figures_on_a_page_are_independent(open_page):
    page = open_page(stepper(), stepper(figure_id="fig-second", step=3), height=5000)
    page.locator("#fig-second .bw-status").wait_for()
    press(page, "Step")
    assert status(page).startswith("Prefill")
    assert "“·w1”" in status(page, "#fig-second")


def test_the_table_has_every_step(open_page):
    page = open_page(stepper(step=1))
    page.get_by_text("As a table").click()
    settle(page)
    rows = [row.split("\t") for row in page.locator(".bw-details tbody tr").all_inner_texts()]
    decoding = [["1", f"{held}", f"{held + 1}"] for held in range(4, 13)]
    assert [row[2:5] for row in rows] == [["0", "0", "0"], ["4", "0", "4"], *decoding]


def test_without_javascript_the_fallback_speaks(open_page):
    page = open_page(stepper(), java_script_enabled=False)
    assert "4 tokens, and writes on" in page.locator(".book-widget-fallback").inner_text()


def test_at_360_px_the_page_does_not_scroll_sideways(open_page):
    page = open_page(stepper(step=2), width=360, has_touch=True, reduced_motion="reduce")
    page.get_by_text("As a table").tap()
    for prompt in ("incomprehensibilities" * 9, " ".join(["word"] * 40)):
        page.get_by_label("Prompt").fill(prompt)
        page.get_by_role("button", name="Step").tap()
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert small_targets(page) == []
    assert page.evaluate("document.getAnimations().length") == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_fault(open_page, axe, theme):
    page = open_page(stepper(step=3), theme=theme, width=760, height=2500)
    page.get_by_text("As a table").click()
    for _ in range(2):  # decoding, and before anything is read
        assert axe_faults(page, axe) == []
        page.get_by_label("Prompt").fill("another")


def test_the_clean_up_leaves_nothing_behind(open_page):
    page = open_page(stepper())
    left = left_behind(page, "step")
    assert left == [[True, 2], 0, 0, 0]
