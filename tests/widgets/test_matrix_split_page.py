"""MatrixSplit in a static page, in a real browser: cut, compute, communicate, with the reader's own numbers."""

import pytest
from figures import axe_faults, left_behind, settle, small_targets, status, tab_stops

from llmlib.widgets import MatrixSplit


def entries(page, device, kind):
    """The texts of a device's Y that are drawn in one kind: `is-new`, `is-partial`, `is-sent`, ..."""
    rects = page.locator(".bw-device").nth(device).locator("rect, .bw-entry-text")
    return rects.evaluate_all(
        """(all, kind) => all.filter((e, i) => e.matches(`rect.${kind}`)).map((e) =>
        e.nextElementSibling?.matches("text.bw-entry-text") ? e.nextElementSibling.textContent : "")""",
        kind,
    )


@pytest.mark.parametrize("over", ["file", "http"])
def test_by_columns_step_by_step(open_page, over):
    page = open_page(MatrixSplit(), over=over)
    assert status(page) == "Step 0 of 3: the whole product, X (2, 4) times W (4, 4) = Y (2, 4), on one device."
    assert page.locator(".bw-device").count() == 1
    step = page.get_by_role("button", name="Step", exact=True)
    step.click()
    assert "W is cut by columns. Each device holds all of X and 2 columns of W." in status(page)
    assert page.locator(".bw-device").count() == 2
    step.click()
    assert "each device computes 4 entries of Y to the end, with 16 multiplications" in status(page)
    assert [entries(page, d, "is-new") for d in (0, 1)] == [["2", "4", "7", "3"], ["5", "7", "7", "8"]]
    step.click()
    assert "Every device now has all of Y; each has sent (n − 1)/n × 16 = 8 bytes." in status(page)
    assert entries(page, 1, "is-new") == ["2", "4", "7", "3"]
    assert "sends 4 entries to device 1; 8 bytes sent so far" in page.locator(".bw-device").first.inner_text()


def test_by_rows_the_partial_sums_go_round(open_page):
    page = open_page(MatrixSplit(split="rows", step=2))
    assert "computes all 8 entries of Y, but only its part of each sum, with 16 multiplications" in status(page)
    assert entries(page, 0, "is-new") == ["1", "2", "4", "7", "3", "1", "7", "6"]
    page.get_by_role("button", name="Step", exact=True).click()
    assert "passes a chunk of partial sums on, and the next adds its own" in status(page)
    assert entries(page, 1, "is-new") == ["2", "4", "5", "7"]
    assert entries(page, 0, "is-sent") == ["1", "2", "4", "7"]
    page.get_by_role("button", name="Step", exact=True).click()
    assert "each has sent 2(n − 1)/n × 16 = 16 bytes" in status(page)
    page.get_by_label("A number takes").select_option("4")
    assert "2(n − 1)/n × 32 = 32 bytes" in status(page)
    page.get_by_text("As a table").click()
    rows = [row.split("\t") for row in page.locator(".bw-details tbody tr").all_inner_texts()]
    assert rows == [
        ["0", "0–1", "0–1", "0–3", "2 4 5 7; 7 3 7 8", "32"],
        ["1", "2–3", "2–3", "0–3", "2 4 5 7; 7 3 7 8", "32"],
    ]


def test_numbers_of_the_readers_own_and_wrong_ones(open_page):
    page = open_page(MatrixSplit(step=99))
    x = page.get_by_label("X: a row a line")
    x.fill("1 1 1 1")
    assert "Step 3 of 3" in status(page)
    assert entries(page, 0, "is-new") == ["4", "5"]
    x.fill("1 1 <b>")
    assert page.get_by_role("alert").first.inner_text() == (
        "X holds “<b>” in row 1; write whole numbers from -9 to 9, separated by spaces."
    )
    assert x.get_attribute("aria-invalid") == "true"
    assert entries(page, 0, "is-new") == ["4", "5"]  # the picture stays at what was right
    x.fill("1 2 3")
    settle(page)
    assert page.locator(".bw-veil").inner_text().startswith("X has 3 columns and W has 4 rows;")
    assert status(page).startswith("Nothing to compute")
    page.get_by_label("W: as many rows").fill("1 2\n3 4\n5 6")
    settle(page)
    assert entries(page, 1, "is-new") == ["22"]
    page.get_by_role("button", name="Reset").click()
    settle(page)
    assert x.input_value() == "1 2 0 1\n3 1 2 0"
    page.get_by_role("slider", name="Devices").fill("3")
    settle(page)
    assert "3 devices cannot share equally" in page.locator(".bw-veil").inner_text()


def test_everything_by_keyboard_alone(open_page):
    page = open_page(MatrixSplit())
    seen = tab_stops(page, 13)
    every = ["Cut W by", "Devices", "A number", "X:", "W:", "Back", "Step", "Play", "Reset", "The whole", "As a table"]
    assert [want for want in every if not any(name.startswith(want) for name in seen)] == []
    page.locator(".bw-picture").first.focus()
    page.keyboard.press("ArrowRight")
    assert status(page).startswith("Step 1 of 3")


def test_the_address_holds_a_moment_and_a_broken_one_breaks_nothing(open_page):
    page = open_page(MatrixSplit(), hash="#fig-matrix-split?x=1+1&w=1%0A2&split=rows&devices=2&step=4")
    assert "Step 4 of 4" in status(page)
    assert page.get_by_label("W: as many rows").input_value() == "1\n2"
    for query in ["x=&w=abc", "devices=9&step=-4", "split=none&number_bytes=7", "step=null&devices=%5B%5D", "x=%00"]:
        page.evaluate("(query) => (location.hash = `#fig-matrix-split?${query}`)", query)
        assert status(page).startswith(("Step ", "Nothing to compute")), query


def test_without_javascript_the_fallback_speaks(open_page):
    page = open_page(MatrixSplit(), java_script_enabled=False)
    assert "with W cut by columns over 2 devices" in page.locator(".book-widget-fallback").inner_text()


def test_at_360_px_the_page_does_not_scroll_sideways(open_page):
    big = "\n".join(["1 2 3 4 5 6"] * 6)
    page = open_page(MatrixSplit(x=big, w=big, devices=3, step=2, split="rows"), width=360, has_touch=True)
    page.get_by_text("As a table").tap()
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert small_targets(page) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_fault(open_page, axe, theme):
    page = open_page(MatrixSplit(split="rows", step=3), theme=theme, width=760, height=2000)
    page.get_by_text("As a table").click()
    for devices in ("2", "3"):  # a picture, and a problem
        page.get_by_role("slider", name="Devices").fill(devices)
        assert axe_faults(page, axe) == []


def test_two_figures_are_independent_and_the_clean_up_leaves_nothing(open_page):
    page = open_page(MatrixSplit(), MatrixSplit(figure_id="fig-second", split="rows"), height=4000)
    page.locator("#fig-second .bw-status").wait_for()
    page.locator("#fig-matrix-split").get_by_role("button", name="Step", exact=True).click()
    assert status(page).startswith("Step 1 of 3")
    assert status(page, "#fig-second").startswith("Step 0 of 4")
    left = left_behind(page, "step", None)
    assert left == [[True, 2], 0, 0, 0]
