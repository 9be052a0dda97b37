"""TrainingReplay in a static page, in a real browser: guess, reveal, wind back, in every look."""

import re

import pytest
from figures import axe_faults, left_behind, press, settle, small_targets, status, tab_stops

from llmlib.widgets import TrainingReplay

NASTY = "<img src=x onerror=\"document.title='broken'\"><b>"
MOMENTS = [(0, 0.125), (10, 0.25), (100, 0.5), (1000, 0.75)]  # step, probability of each true token


def make_run(moments=MOMENTS, prompts=("Once| upon| a| dr|agon|.", "Tom| has|\n| a| kite"), entropy=1.0) -> dict:
    """A run whose every number can be worked out by hand: V = 8, the true token at p, a rival at 0.375."""
    texts = [prompt.split("|") for prompt in prompts]

    def prediction(tokens, t, p):
        truth = tokens[t + 1] if t + 1 < len(tokens) else " end"
        top = sorted([[truth, p], [" rival", min(0.375, 1 - p)]], key=lambda pair: -pair[1])
        return {"top": top, "actual": p if t + 1 < len(tokens) else None}

    return {
        "vocab_size": 8,
        "entropy": entropy,
        "curve": {"step": [1, 10, 100, 1000], "tokens": [4, 40, 400, 4000], "loss": [2.0, 1.75, 1.5, 1.25],
                  "gradient_norm": [4, 2, 1, 0.5], "held_out": [[1, 2.0], [1000, 1.25]]},
        "prompts": [{"tokens": tokens} for tokens in texts],
        "moments": [
            {"step": step, "tokens": 4 * step, "loss": None if step == 0 else 1.5, "held_out": 2 - i / 4,
             "gradient_norm": None if step == 0 else 1.0, "sample": f"A story of step {step}.",
             "predictions": [[prediction(tokens, t, p) for t in range(len(tokens))] for tokens in texts]}
            for i, (step, p) in enumerate(moments)
        ],
    }  # fmt: skip


def replay(**state) -> TrainingReplay:
    return TrainingReplay(make_run(), **{"moment": 3, "position": 2, **state})


def rows(page):
    return [re.split(r"[\t\n]+", row.strip()) for row in page.locator(".bw-bars tbody tr").all_inner_texts()]


@pytest.mark.parametrize("over", ["file", "http"])
def test_guess_reveal_and_wind_back(open_page, over):
    page = open_page(replay(), over=over)
    before = status(page)
    assert before == (
        "Step 1 000, 4 000 tokens seen: loss 1.25 nats on held-out text, 0.25 above the entropy. "
        "What follows “Once upon a”? Guess; then press Reveal."
    )
    shown = page.locator(".bw-picture").inner_text()
    assert ["rival" in shown, "0.75" in shown] == [True, False], "a word to pick is no word of the model's"
    assert page.locator(".bw-veil").count() == 2
    page.get_by_label("Your guess").fill("dragon")
    press(page, "Reveal")
    assert status(page).endswith(
        "After “Once upon a” it expects “·dr” first (0.75). The true token is “·dr”, which begins “·dragon”: "
        "probability 0.75, surprise 0.288 nats (0.415 bits)."  # -ln 0.75 and -log2 0.75
    )
    assert rows(page) == [["·dr", "0.75", "true, yours"], ["·rival", "0.25"], ["6 more", "0.00"]]
    score = page.locator(".bw-score").inner_text()
    assert "is right. The model gives it 0.75." in score
    assert "of 1 word: you had 1 right, this moment's model has 1 and is surprised by 0.29 nats" in score
    for _ in range(3):
        press(page, "Back")
    assert "Step 0, 0 tokens seen: loss 2.00 nats" in status(page)
    assert "probability 0.13, surprise 2.08 nats (3 bits)" in status(page)  # 1/8 is 3 bits
    assert rows(page) == [["·rival", "0.38"], ["·dr", "0.13", "true, yours"], ["6 more", "0.50"]]
    assert "model has 0" in page.locator(".bw-score").inner_text()
    assert page.locator(".bw-story").inner_text() == "A story of step 0."
    press(page, "Reset")
    assert status(page) == before
    assert page.get_by_label("Your guess").input_value() == ""
    assert "counts once you press Reveal" in page.locator(".bw-score").inner_text()


def test_a_guess_is_picked_and_only_the_first_one_counts(open_page):
    page = open_page(replay())
    page.locator(".bw-pick", has_text="rival").click()
    settle(page)
    assert page.get_by_label("Your guess").input_value() == " rival"
    assert page.locator(".bw-pick[aria-pressed=true]").count() == 1
    press(page, "Reveal")
    settle(page)
    assert "is not what follows. The model gives it 0.25. So far, of 1 word: you had 0 right" in page.locator(
        ".bw-score"
    ).inner_text().replace("\n", " ")
    press(page, "Next word")
    assert "What follows “Once upon a dr”" in status(page)
    page.locator(".bw-prompt .bw-tile").nth(3).click()  # back to the token that has been guessed
    page.get_by_label("Your guess").fill("dr")
    press(page, "Reveal")
    assert "of 1 word: you had 0 right" in page.locator(".bw-score").inner_text()


def test_other_prompts_and_the_end_of_one(open_page):
    page = open_page(replay(revealed=True))
    page.get_by_label("Prompt").select_option("1")
    assert "What follows “Tom has↵”" in status(page)
    page.get_by_label("Tokens shown").fill("4")
    assert page.get_by_label("Tokens shown").get_attribute("aria-valuetext") == "5 of 5"
    press(page, "Reveal")
    assert status(page).endswith("The prompt ends here.")
    assert not page.locator(".bw-panel", has_text="Surprise of the true word").is_visible()
    page.get_by_role("button", name="Next word").focus()
    page.keyboard.press("Space")  # switched off: there is none
    assert status(page).endswith("The prompt ends here.")


def test_the_curves_show_both_limits_and_the_moment(open_page):
    page = open_page(replay(moment=1))
    loss = page.locator(".bw-panel", has_text="held out").locator("svg")
    texts = loss.locator("text").all_text_contents()
    assert {"ln V = 2.08: uniform guess", "E = 1.00: entropy", "1.75", "training step (log scale)"} <= set(texts)

    def lines():
        return loss.locator(".bw-limit").evaluate_all("(all) => all.map((line) => line.getBBox().y)")

    uniform, entropy = lines()
    point = loss.locator(".bw-point")
    # y is linear: the point at 1.75 divides the way from ln 8 to 1 as the numbers do
    share = (float(point.get_attribute("cy")) - uniform) / (entropy - uniform)
    assert share == pytest.approx((2.0794 - 1.75) / (2.0794 - 1), abs=0.01)
    on_log = float(point.get_attribute("cx"))
    page.get_by_label("Steps on a log scale").uncheck()
    settle(page)
    assert float(point.get_attribute("cx")) < on_log - 50
    assert "training step" in loss.locator("text").all_text_contents()
    box = loss.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.95, box["y"] + 40)  # the nearest moment
    assert status(page).startswith("Step 1 000")


def test_everything_by_keyboard_alone(open_page):
    page = open_page(replay(moment=0))
    seen = tab_stops(page, 18)
    every = ["Prompt", "Tokens shown", "Steps on", "Back", "Step", "Play", "Reset", "Moment", "Your guess", "Reveal",
             "Next word", "·dr", "A text it writes", "As a table"]  # fmt: skip
    assert [want for want in every if not any(name.startswith(want) for name in seen)] == []
    guess = page.get_by_label("Your guess")
    guess.focus()
    page.keyboard.type("DRAGON")
    page.keyboard.press("ArrowLeft")  # moves the caret, not the training
    page.keyboard.press("Enter")
    assert "The true token is “·dr”" in status(page)
    assert status(page).startswith("Step 0")
    page.keyboard.press("Enter")  # and again: the next word
    assert "What follows “Once upon a dr”" in status(page)
    page.locator(".bw-picture").focus()
    page.keyboard.press("ArrowRight")
    assert status(page).startswith("Step 10,")
    page.keyboard.press("Space")  # plays
    page.wait_for_function("document.querySelector('.bw-status').textContent.startsWith('Step 100')")
    page.keyboard.press("Space")


def test_the_address_holds_a_moment_and_gives_it_back(open_page):
    page = open_page(replay(), hash="#fig-training-replay?moment=1&prompt=1&position=3&guess=kite&revealed=true")
    words = status(page)
    assert words.startswith("Step 10,")
    assert "The true token is “·kite”: probability 0.25" in words
    assert "“kite”, is right" in re.sub(r"[\u2068\u2069]", "", page.locator(".bw-score").inner_text())
    press(page, "Step")
    page.wait_for_function("location.hash.includes('moment=2')")
    assert "revealed=true" in page.url


def test_a_broken_address_breaks_nothing(open_page):
    page = open_page(replay())
    for query in [
        "moment=99&prompt=-1",
        "moment=x&prompt=null",
        "position=1e9",
        "revealed=7",
        'guess=%00"',
        "prompt=[1]",
    ]:
        page.evaluate("(query) => (location.hash = `#fig-training-replay?${query}`)", query)
        assert re.match(r"Step [\d ]+, ", status(page)), query


def test_text_is_never_markup(open_page):
    run = make_run(prompts=(f"A|{NASTY}|{NASTY}",))
    run["moments"][0]["sample"] = NASTY
    page = open_page(TrainingReplay(run, position=0))
    page.get_by_label("Your guess").fill(NASTY[:80])
    press(page, "Reveal")
    page.get_by_text("As a table").click()
    settle(page)
    assert page.locator(".book-widget img, .bw-picture b:not(.bw-score b)").count() == 0
    assert page.title() == "Figures"
    assert page.locator(".bw-story").inner_text() == NASTY


def test_two_figures_on_a_page_are_independent(open_page):
    page = open_page(replay(), replay(figure_id="fig-second", moment=0), height=4000)
    page.locator("#fig-second .bw-status").wait_for()
    page.locator("#fig-training-replay").get_by_label("Your guess").fill("x")
    press(page, "Reveal")
    press(page, "Back")
    assert status(page).startswith("Step 100,")
    assert status(page, "#fig-second").startswith("Step 0,")
    assert "Guess; then press Reveal" in status(page, "#fig-second")


def test_the_table_has_the_numbers_and_keeps_the_secret(open_page):
    page = open_page(replay())
    page.get_by_text("As a table").click()
    table = page.locator(".bw-details")
    assert table.locator("tbody tr").last.inner_text().replace("\u2009", " ").split("\t") == [
        "3", "1 000", "4 000", "1.50", "1.25", "1",
    ]  # fmt: skip
    press(page, "Reveal")
    settle(page)
    assert [row.split("\t")[-1] for row in table.locator("tbody tr").all_inner_texts()] == [
        "2.08", "1.39", "0.69", "0.29",  # -ln of 1/8, 1/4, 1/2, 3/4
    ]  # fmt: skip


def test_a_run_of_one_moment_one_token_and_no_entropy(open_page):
    run = make_run(moments=[(5, 0.5)], prompts=("One",), entropy=None)
    run["curve"] = {"step": [5], "tokens": [20], "loss": [1.5], "gradient_norm": [0], "held_out": []}
    page = open_page(TrainingReplay(run))
    assert "above the entropy" not in status(page)
    press(page, "Reveal")
    assert status(page).endswith("The prompt ends here.")
    assert page.locator(".bw-limit").count() == 1  # ln V only


def test_without_javascript_the_fallback_speaks(open_page):
    page = open_page(replay(), java_script_enabled=False)
    assert "A training run at 4 moments" in page.locator(".book-widget-fallback").inner_text()


@pytest.mark.parametrize("revealed", [False, True])
def test_at_360_px_the_page_does_not_scroll_sideways(open_page, revealed):
    long = "|".join(f" word{i}" for i in range(30))
    run = make_run(prompts=(long, "incomprehensibilities" * 4 + "| b"))
    page = open_page(TrainingReplay(run, position=20, revealed=revealed), width=360, has_touch=True)
    page.get_by_text("As a table").tap()
    for prompt in ("0", "1"):
        page.get_by_label("Prompt").select_option(prompt)
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    targets = ".bw :is(button, select, input, summary, .bw-prompt .bw-tile)"
    assert small_targets(page, targets) == []
    page.get_by_role("button", name="Step").tap()
    assert status(page).startswith("Step 10,")
    assert page.evaluate("document.getAnimations().length") == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_fault(open_page, axe, theme):
    page = open_page(replay(revealed=True, guess="rival"), theme=theme, width=760, height=2500)
    page.get_by_text("As a table").click()
    for _ in range(2):  # revealed, and hidden again
        assert axe_faults(page, axe) == []
        press(page, "Next word")


def test_the_clean_up_leaves_nothing_behind(open_page):
    page = open_page(replay(moment=0))
    left = left_behind(page, "moment")
    assert left == [[True, 2], 0, 0, 0]
