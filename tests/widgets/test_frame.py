"""The kit that figures are built of: each control is bound to its trait both ways, and refuses what is not sound."""

import json

import pytest
from playwright.sync_api import Page

from llmlib.widgets import BPEMerges
from llmlib.widgets.modules import module_source

MAKE = """async (source) => {
  const { frame, wellFormed } = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  const state = { T: 0.7, k: 5, greedy: false, rule: "a", number: "9.9", caption: "A test.", words: "" };
  const listeners = {};
  window.saves = 0;
  window.state = state;
  const model = {
    get: (key) => state[key],
    set(key, value) {
      if (state[key] === value) return;
      state[key] = value;
      for (const callback of listeners[`change:${key}`] ?? []) callback();
    },
    save_changes: () => (window.saves += 1),
    on: (event, callback) => (listeners[event] ??= []).push(callback),
    off: (event, callback) => (listeners[event] = listeners[event].filter((other) => other !== callback)),
  };
  window.python = (key, value) => model.set(key, value);
  window.wellFormed = wellFormed;
  window.draws = 0;
  const el = document.createElement("div");
  document.querySelector("main").replaceChildren(el);
  const figure = frame({ model, el }, { name: "Kit", lead: "Move a control." });
  const format = (value) => value.toFixed(2);
  figure.range("T", { label: "Temperature", unit: "K", min: 0, max: 2, step: 0.01, format });
  figure.number("k", { label: "Top k", unit: "tokens", min: 1, max: 50 });
  figure.checkbox("greedy", { label: "Greedy" });
  figure.select("rule", { label: "Rule", options: [["a", "first"], ["b", "second"]] });
  figure.text("words", { label: "Words" });
  figure.table(() => ({ head: ["n"], rows: Array.from({ length: 500 }, (_, i) => [i]), note: "All." }));
  figure.draw(() => {
    window.draws += 1;
    figure.say(JSON.stringify(state));
  });
}"""


@pytest.fixture
def kit(open_page) -> Page:
    page = open_page(BPEMerges("ab"))
    page.evaluate(MAKE, module_source("frame"))
    return page


def state(page: Page) -> dict:
    return page.evaluate("state")


def test_a_slider_shows_its_value_with_its_unit_and_writes_it(kit):
    slider = kit.get_by_label("Temperature")
    assert slider.get_attribute("aria-valuetext") == "0.70 K"
    slider.fill("1.25")
    assert state(kit)["T"] == 1.25
    assert kit.locator(".bw-value").inner_text() == "1.25 K"
    kit.evaluate("python('T', 0.5)")
    assert slider.input_value() == "0.5"
    assert kit.locator(".bw-value").inner_text() == "0.50 K"


@pytest.mark.parametrize("typed", ["", "0", "51", "2.5"])
def test_a_number_out_of_range_is_marked_and_not_taken(kit, typed):
    number = kit.get_by_label("Top k")
    number.fill("7")
    assert state(kit)["k"] == 7
    number.fill(typed)
    assert state(kit)["k"] == 7
    assert number.get_attribute("aria-invalid") == "true"
    number.fill("8")
    assert (state(kit)["k"], number.get_attribute("aria-invalid")) == (8, "false")


def test_check_box_select_and_text_both_ways(kit):
    kit.get_by_label("Greedy").check()
    kit.get_by_label("Rule").select_option("b")
    kit.get_by_label("Words").fill("<b>")
    assert [state(kit)[key] for key in ("greedy", "rule", "words")] == [True, "b", "<b>"]
    kit.evaluate("python('greedy', false); python('rule', 'a'); python('words', 'x')")
    assert not kit.get_by_label("Greedy").is_checked()
    assert kit.get_by_label("Rule").input_value() == "a"
    assert kit.get_by_label("Words").input_value() == "x"


def test_many_changes_are_drawn_once(kit):
    before = kit.evaluate("draws")
    kit.evaluate("() => { for (let i = 0; i < 50; i += 1) python('k', i); }")
    kit.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert kit.evaluate("draws") == before + 1
    assert json.loads(kit.locator(".bw-status").inner_text())["k"] == 49


def test_a_long_table_shows_its_last_rows_and_says_so(kit):
    assert kit.locator("tbody tr").count() == 0, "made only when it is opened"
    kit.get_by_text("As a table").click()
    kit.locator("tbody tr").first.wait_for()  # a fold says that it is open only after the click has returned
    assert kit.locator("tbody tr").count() == 200
    assert kit.locator("tbody tr").last.inner_text() == "499"
    assert kit.locator("caption").inner_text() == "All. The last 200 of 500 rows."
    assert kit.locator("figcaption").inner_text() == "Figure 9.9. A test."


def test_half_a_character_is_replaced(kit):
    fixed = kit.evaluate("[wellFormed('a\\ud83d!'), wellFormed('\\ude00'), wellFormed('😀')]")
    assert fixed == ["a\ufffd!", "\ufffd", "😀"]
