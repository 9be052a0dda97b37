"""PipelineBubble in a static page, in a real browser: schedules, sizes, what an action is, in every look."""

import statistics

import pytest
from figures import axe_faults, left_behind, processor_ms, settle, small_targets, status, tab_stops

from llmlib.parallel.schedules import gpipe, one_f_one_b, timeline
from llmlib.widgets import PipelineBubble


def slide(page, label, value):
    page.get_by_label(label).evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input', { bubbles: true })); }",
        str(value),
    )
    settle(page)


def numbers(page):
    return [row.split("\t") for row in page.locator(".bw-panel .bw-table tbody tr").all_inner_texts()]


@pytest.mark.parametrize("over", ["file", "http"])
def test_schedules_sizes_and_both_definitions(open_page, over):
    page = open_page(PipelineBubble(), over=over)
    assert status(page) == (
        "GPipe, 4 stages, 8 micro-batches: the step takes as long as 33 forward passes instead of 24; idle for 0.27 of "
        "all device time, or 0.38 of the ideal time; a stage keeps activations of up to 8 micro-batches."
    )
    page.get_by_label("Compare with").select_option("1f1b")
    settle(page)
    assert numbers(page) == [["GPipe", "33", "24", "0.27", "0.38", "8"], ["1F1B", "33", "24", "0.27", "0.38", "4"]]
    slide(page, "Micro-batches m", 32)
    assert numbers(page)[1] == ["1F1B", "105", "96", "0.09", "0.09", "4"]
    page.get_by_label("Schedule").select_option("interleaved")
    slide(page, "Chunks v", 3)
    assert numbers(page)[0] == ["Interleaved 1F1B, 3 chunks", "99", "96", "0.03", "0.03", "5"]
    slide(page, "Micro-batches m", 9)
    assert page.get_by_role("alert").inner_text().startswith("9 micro-batches cannot be interleaved on 4 stages")
    assert "Take 8 or 10" in status(page)
    page.get_by_label("Schedule").select_option("forward")
    slide(page, "Communication", 0.5)
    assert numbers(page)[0] == [
        "Forward only (inference)",
        "13.5",
        "9",
        "0.33",
        "0.50",
        "1",
    ]  # m + p - 1 and 3 handoffs
    page.get_by_role("button", name="Reset").click()
    assert status(page).startswith("GPipe, 4 stages, 8 micro-batches: the step takes as long as 33")


def test_it_fills_as_time_passes(open_page):
    page = open_page(PipelineBubble(schedule="1f1b", step=3))
    assert status(page) == (
        "1F1B, after 3 of 33 forward passes: 6 of 64 actions are done; in the last of them 3 of 4 stages worked."
    )
    drawn = page.locator(".bw-action.is-forward").first
    assert drawn.get_attribute("d").count("M") == 6
    page.get_by_role("button", name="Step").click()
    assert "after 4 of 33" in status(page)
    page.get_by_role("slider", name="Time passed").focus()
    page.keyboard.press("End")
    assert status(page).startswith("1F1B, 4 stages")
    assert drawn.get_attribute("d").count("M") == 32
    page.get_by_role("button", name="Play").click()  # from the start, since all is shown
    page.wait_for_function("/after [1-9] of 33/.test(document.querySelector('.bw-status').textContent)")
    page.get_by_role("button", name="Pause").click()


def test_every_action_says_what_it_is(open_page):
    page = open_page(PipelineBubble(schedule="1f1b", other="zb-h1"))
    readout = page.locator(".bw-readout")
    assert "walk with the arrow keys" in readout.inner_text()
    first = page.get_by_role("group", name="1F1B, a row for each stage")
    first.focus()
    page.keyboard.press("ArrowRight")
    settle(page)
    assert readout.inner_text() == "1F1B, stage 0, F0: micro-batch 0, forward, from 0 to 1. It did not wait."
    for key in ["ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown"]:
        page.keyboard.press(key)
    settle(page)
    assert readout.inner_text() == (
        "1F1B, stage 1, F3: micro-batch 3, forward, from 10 to 11. It did not wait. It needs F3 of stage 0."
    )
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert readout.inner_text() == (
        "1F1B, stage 1, B0: micro-batch 0, backward, from 8 to 10. It waited 4, for B0 of stage 2."
    )
    assert status(page).startswith("1F1B, 4 stages")  # the arrows walked, and did not turn time back
    second = page.locator(".bw-gantt").nth(1)
    second.scroll_into_view_if_needed()
    box = second.bounding_box()
    page.mouse.move(box["x"] + 22 + 0.95 * (box["width"] - 30) * 27 / 33, box["y"] + 15)  # near the end of its 27
    settle(page)
    assert readout.inner_text().startswith("ZB-H1 (zero bubble), stage 0,")
    assert page.locator(".bw-chosen").count() == 1
    page.mouse.move(box["x"] + 24, box["y"] + 100)  # idle: what was pointed at stays
    assert readout.inner_text().startswith("ZB-H1")


def recorded():
    """Two records of 1F1B, the second slower, and one of GPipe with fewer stages."""
    slept, computed = (timeline(one_f_one_b(3, 4), t, 2 * t, t).spans for t in (0.01, 0.02))
    return {"slept": slept, "computed": computed, "GPipe's": timeline(gpipe(2, 4), 1, 1, 1).spans}


def test_a_record_is_laid_beneath_the_prediction(open_page):
    page = open_page(PipelineBubble.over(recorded(), "1f1b"))
    assert page.locator(".bw-gantt").count() == 2
    assert numbers(page) == [
        ["1F1B", "24", "16", "0.33", "0.50", "3"],
        ["Measured, slept", "24", "16", "0.33", "0.50", "3"],
    ]
    assert "Measured, slept: time in units of 10 ms, the mean forward pass" in page.locator(".bw-gantts").inner_text()
    page.get_by_role("group", name="Measured").focus()
    page.keyboard.press("End")
    settle(page)
    assert page.locator(".bw-readout").inner_text().startswith("Measured, slept, stage 0, F0")


def test_the_reader_chooses_a_record_and_it_is_refused_where_it_does_not_belong(open_page):
    page = open_page(PipelineBubble.over(recorded(), "1f1b", measured="slept", made="by hand, today"), width=360)
    choice = page.get_by_label("Measured timeline")
    assert choice.locator("option").all_inner_texts() == ["none", "GPipe's", "computed", "slept"]
    choice.focus()
    page.keyboard.press("ArrowUp")
    settle(page)
    assert "Measured, computed: time in units of 20 ms" in page.locator(".bw-gantts").inner_text()
    page.wait_for_function("location.hash.includes('measured=computed')")
    slide(page, "Micro-batches m", 5)
    sentence = (
        "Measured, computed: it is of 1F1B, 3 stages, 4 micro-batches; choose that to lay it beneath the prediction."
    )
    assert page.get_by_role("alert").inner_text() == sentence
    assert len(numbers(page)) == 1
    assert sentence in status(page)
    slide(page, "Micro-batches m", 4)
    assert len(numbers(page)) == 2
    page.get_by_label("Schedule").select_option("gpipe")
    assert sentence in status(page)  # the sizes fit, the order does not
    page.get_by_label("Compare with").select_option("1f1b")
    settle(page)
    assert [row[0] for row in numbers(page)] == ["GPipe", "1F1B", "Measured, computed"]
    choice.select_option("GPipe's")
    assert "it is of GPipe, 2 stages, 4 micro-batches; choose that" in status(page)
    choice.select_option("")
    settle(page)
    assert page.get_by_role("alert").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert small_targets(page) == []
    assert "times recorded by hand, today" in page.locator(".bw-caption").inner_text()
    for name in ("constructor", "nothing"):
        page.evaluate("(name) => (location.hash = `#fig-pipeline-bubble?measured=${name}`)", name)
        settle(page)
        assert [row[0] for row in numbers(page)] == ["1F1B"], name
        assert choice.input_value() == ""


def test_without_records_there_is_nothing_to_choose(open_page):
    page = open_page(PipelineBubble())
    assert not page.get_by_label("Measured timeline").is_visible()


def test_everything_by_keyboard_alone(open_page):
    page = open_page(PipelineBubble(other="1f1b"))
    seen = tab_stops(page, 17)
    every = ["Schedule", "Compare", "Stages", "Micro-batches", "Backward", "Communication", "Back", "Step", "Play",
             "Reset", "Time passed", "GPipe, a row", "1F1B, a row", "In numbers", "As a table"]  # fmt: skip
    assert [want for want in every if not any(name.startswith(want) for name in seen)] == []
    page.locator(".bw-picture").focus()
    page.keyboard.press("ArrowLeft")
    assert "after 32 of 33" in status(page)


def test_the_address_holds_a_moment_and_a_broken_one_breaks_nothing(open_page):
    page = open_page(
        PipelineBubble(),
        hash="#fig-pipeline-bubble?stages=2&micro_batches=3&schedule=zb-h1&step=4&cursor=%5B0%2C1%2C0%5D",
    )
    assert status(page).startswith("ZB-H1 (zero bubble), after 4 of 10")
    assert "stage 1, F0" in page.locator(".bw-readout").inner_text()
    slide(page, "Stages p", 5)
    page.wait_for_function("location.hash.includes('stages=5')")
    for query in ["stages=99&micro_batches=-3", "stages=x&cursor=7", "schedule=none&other=x", "ratio=1e9&step=null",
                  "cursor=%5B9%2C9%2C9%5D", "chunks=%5B1%5D&schedule=interleaved"]:  # fmt: skip
        page.evaluate("(query) => (location.hash = `#fig-pipeline-bubble?${query}`)", query)
        assert "forward passes" in status(page), query


def test_the_table_has_every_action(open_page):
    page = open_page(PipelineBubble(stages=2, micro_batches=2))
    page.get_by_text("As a table").click()
    settle(page)
    rows = [row.split("\t") for row in page.locator(".bw-details tbody tr").all_inner_texts()]
    assert rows[:3] == [["GPipe", "0", "F0", "0", "1"], ["GPipe", "0", "F1", "1", "2"], ["GPipe", "0", "B0", "5", "7"]]
    assert len(rows) == 8


def test_without_javascript_the_fallback_speaks(open_page):
    page = open_page(PipelineBubble(), java_script_enabled=False)
    assert "GPipe with 4 stages" in page.locator(".book-widget-fallback").inner_text()


@pytest.mark.parametrize("sizes", [{}, {"stages": 16, "micro_batches": 64}])
def test_at_360_px_the_page_does_not_scroll_sideways(open_page, sizes):
    page = open_page(PipelineBubble(schedule="interleaved", other="zb-h1", **sizes), width=360, has_touch=True)
    page.get_by_text("As a table").tap()
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert small_targets(page) == []
    page.locator(".bw-gantt").first.tap(position={"x": 30, "y": 12})
    settle(page)
    assert "stage 0, F" in page.locator(".bw-readout").inner_text()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_fault(open_page, axe, theme):
    page = open_page(
        PipelineBubble(schedule="zb-h1", other="gpipe", cursor=[0, 1, 2]), theme=theme, width=760, height=2500
    )
    page.get_by_text("As a table").click()
    assert axe_faults(page, axe) == []


def test_two_figures_are_independent_and_the_clean_up_leaves_nothing(open_page):
    page = open_page(PipelineBubble(), PipelineBubble(figure_id="fig-second", stages=2), height=4000)
    page.locator("#fig-second .bw-status").wait_for()
    page.locator("#fig-pipeline-bubble").get_by_label("Schedule").select_option("1f1b")
    assert status(page).startswith("1F1B")
    assert status(page, "#fig-second").startswith("GPipe, 2 stages")
    left = left_behind(page, "step")
    assert left == [[True, 2], 0, 0, 0]


@pytest.mark.alone
@pytest.mark.parametrize(
    "state", [{"schedule": "1f1b"}, {"schedule": "interleaved", "chunks": 4, "other": "zb-h1"}], ids=["one", "worst"]
)
def test_sixteen_stages_and_64_micro_batches_are_drawn_within_50_ms(open_page, state):
    """Script, style and layout of each move of a slider, with curves not known before, in the processor's time."""
    page = open_page(PipelineBubble(stages=16, micro_batches=64, **state))
    move = """async (ratio) => {
        const input = document.querySelectorAll(".bw-controls input[type=range]")[2];  // the backward pass
        input.value = ratio;
        input.dispatchEvent(new Event("input", { bubbles: true }));
        for (let i = 0; i < 3; i += 1) await new Promise(requestAnimationFrame);
    }"""
    times = processor_ms(page, move, [2.25 + 0.25 * i for i in range(8)])
    assert statistics.quantiles(times)[0] <= 50, times  # the lower quartile: a busy machine can only add to a time
    assert min(times) > 1, times  # something was drawn
