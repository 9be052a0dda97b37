"""Figures never hold up their page: the longest task of its main thread, in processor time, which is its own."""

import json

import pytest
from figures import press, settle, status

from llmlib import checkpoints
from llmlib.inspection import record_writing
from llmlib.widgets import Autoregression, KVCacheStepper, SamplingExplorer
from llmlib.widgets.decoding_records import recorded_predictions

MOST = 50  # ms, above which a browser calls a task long
ROUNDS = 3  # each with a new page; the browser's own work may lengthen a task in any one of them


def longest_task(browser, page, act):
    """The processor time of the longest task on the page's main thread while `act(page)` runs, in ms."""
    browser.start_tracing(page=page, categories=["toplevel", "__metadata"])
    act(page)
    page.wait_for_timeout(100)
    events = json.loads(browser.stop_tracing())["traceEvents"]
    main = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    tasks = [
        event["tdur"] / 1000
        for event in events
        if event["name"] == "ThreadControllerImpl::RunTask" and (event["pid"], event["tid"]) in main and "tdur" in event
    ]
    assert tasks, "the browser has traced no task with its processor time"
    return max(tasks)


def write_token_after_token(page):
    """Load the model, overrule it, look into its layers and heads, let it go on after another prompt."""
    press(page, "Load the model")
    page.get_by_text("The model runs in this page.").wait_for(timeout=20_000)
    for n in range(1, 4):
        press(page, "Next token")
        page.wait_for_function(f"document.querySelectorAll('.bw-written').length === {n}")
    press(page, "Back")
    page.locator(".bw-pick").nth(3).click()
    page.wait_for_function("document.querySelectorAll('.bw-branches button').length === 2")
    page.locator(".bw-stage").nth(1).click()
    page.get_by_role("radio", name="After layer 3").click()
    page.get_by_role("radio", name="Head 2").click()
    page.get_by_label("Prompt").press("End")
    page.keyboard.type(" a big")
    settle(page)


def let_the_model_write(page):
    """Let the model write fifty tokens after a beginning of one's own, change a setting, and draw."""
    page.get_by_label("A beginning of your own").fill("Tom was a cat")
    press(page, "Use it")
    page.wait_for_function("document.querySelector('.bw-status').textContent.includes('cat')", timeout=20_000)
    press(page, "Write on")
    page.wait_for_function("document.querySelector('.bw-story-new').textContent.length > 200", timeout=20_000)
    if page.get_by_role("button", name="Stop", exact=True).count():
        press(page, "Stop")
    page.get_by_label("Temperature").fill("1.3")
    press(page, "Draw 1\u2009000")
    assert "Of 1 000 draws" in status(page)


def step_and_type(page):
    """The first keys that the page is given: steps, and a prompt of one's own."""
    page.locator(".bw-picture").focus()
    for _ in range(6):
        page.keyboard.press("ArrowRight")
        settle(page)
    page.get_by_label("Prompt").press("End")
    for key in " abc":
        page.keyboard.type(key)
        settle(page)
    assert status(page).startswith("Nothing has been read")


FIGURES = {
    "Autoregression": (
        lambda: Autoregression(record_writing(*checkpoints.load(), "Once upon a time, there was", n=2)),
        write_token_after_token,
    ),
    "SamplingExplorer": (lambda: SamplingExplorer(recorded_predictions()["sampling"]), let_the_model_write),
    "KVCacheStepper": (KVCacheStepper, step_and_type),
}


@pytest.mark.alone
@pytest.mark.parametrize("name", FIGURES)
def test_no_task_holds_up_the_page(open_page, browser, name):
    make, act = FIGURES[name]
    figure, found = make(), []
    while len(found) < ROUNDS and (not found or min(found) > MOST):
        found.append(longest_task(browser, open_page(figure, height=1200), act))
    print(name, found)
    assert min(found) <= MOST


@pytest.mark.alone
def test_a_task_that_holds_up_the_page_is_noticed(open_page, browser):
    spin = """() => new Promise((done) => setTimeout(() => {
        const end = performance.now() + 500;
        while (performance.now() < end);
        setTimeout(done);
    }))"""
    assert longest_task(browser, open_page(KVCacheStepper()), lambda page: page.evaluate(spin)) > MOST
