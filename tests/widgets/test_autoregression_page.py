"""Autoregression in a static page, in a real browser: the recorded run, the model at work, branches, and every look."""

import re

import pytest
import torch
from figures import axe_faults, small_targets, tab_stops

from llmlib.inspection import record_writing
from llmlib.widgets import Autoregression

PROMPT = "Once upon a time, there was"


@pytest.fixture(scope="module")
def recording(story_model):
    return record_writing(*story_model, PROMPT, n=3)


@pytest.fixture
def figure(recording):
    return lambda **state: Autoregression(recording, **state)


def status(page, figure="#fig-autoregression"):
    """The status line once the figure rests, without the marks that isolate text and with plain spaces."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.wait_for_function(
        """(figure) => document.querySelector(`${figure} .bw`).getAttribute('aria-busy') === 'false'
        && !document.querySelector(`${figure} .bw-status`).textContent.includes('computing')""",
        arg=figure,
    )
    return re.sub("[\u2068\u2069]", "", page.locator(f"{figure} .bw-status").inner_text()).replace("\u2009", " ")


def press(page, name):
    page.get_by_role("button", name=name, exact=True).first.click()
    return status(page)


def texts(page):
    return page.locator(".bw-prompt .bw-token").all_inner_texts()


def greedy_after(story_model, prompt, n):
    """The n most probable tokens after a prompt, as torch has them, with their probabilities."""
    model, coder = story_model
    ids, chosen = [coder.special_tokens["<|endoftext|>"], *coder.encode(prompt)], []
    with torch.no_grad():
        for _ in range(n):
            chances = model(torch.tensor([ids]))[0, -1].softmax(0)
            ids.append(int(chances.argmax()))
            chosen.append((coder.decode(ids[-1:]), float(chances.max())))
    return chosen


@pytest.mark.parametrize("over", ["http", "file"])
def test_the_recorded_run_step_by_step(open_page, figure, over, story_model):
    page = open_page(figure(), over=over)
    assert status(page).startswith(
        "Tokenize: the prompt becomes 7 tokens, after one that marks the beginning of a text."
    )
    assert texts(page) == ["<|endoftext|>", "Once", "·upon", "·a", "·time", ",", "·there", "·was"]
    assert press(page, "Step").startswith(
        "Token 1, forward: 5 layers rewrite the row of “·was”, token 8, looking at all 8."
    )
    assert page.locator(".bw-streams .bw-strip").count() == 6
    model, coder = story_model
    with torch.no_grad():
        largest = model(torch.tensor([[coder.special_tokens["<|endoftext|>"], *coder.encode(PROMPT)]]))[0, -1].max()
    said = re.match(
        "Token 1, logits: one for each of 2 048 tokens. The largest, ([0-9.]+), is that of “·a”", press(page, "Step")
    )
    assert float(said[1]) == pytest.approx(largest.item(), abs=0.006)
    assert "“·a” gets > 0.99" in press(page, "Step")
    assert press(page, "Step") == "Token 1, choose: “·a” (> 0.99); it is the most probable."
    assert press(page, "Step").startswith("Token 1, append: the text has 9 tokens now, and the loop begins again")
    for _ in range(2):
        press(page, "Next token")
    assert texts(page)[8:] == [token.replace(" ", "·") for token, _ in greedy_after(story_model, PROMPT, 3)]
    assert page.get_by_role("button", name="Next token").get_attribute("aria-disabled") == "true"
    assert page.evaluate("typeof Worker.prototype.postMessage") == "function"
    assert "A recorded run" in page.locator(".bw-load").inner_text()
    press(page, "Reset")
    assert texts(page)[-1] == "·was"


def test_the_model_in_the_page_writes_what_torch_writes(open_page, figure, story_model):
    page = open_page(figure())
    page.get_by_label("Prompt").fill("Tom was a cat who lived in")
    assert status(page).startswith("Tokenize: the prompt becomes")
    assert "The model runs in this page." in page.locator(".bw-load").inner_text()
    for token, chance in greedy_after(story_model, "Tom was a cat who lived in", 12):
        press(page, "Next token")
        assert texts(page)[-1] == token.replace(" ", "·").replace("\n", "↵")
        shown = page.locator(".bw-odds tr.is-focus .bw-bar-value").inner_text()
        expected = "> 0.99" if chance >= 0.995 else f"{chance:.2f}"
        assert shown == expected or abs(float(shown) - chance) < 0.006


def test_a_choice_is_overruled_and_both_branches_are_kept(open_page, figure, story_model):
    page = open_page(figure())
    for _ in range(2):
        press(page, "Next token")
    page.locator(".bw-written").first.click()  # back to where the first token was chosen
    assert status(page).startswith("Token 1, choose: “·a”")
    page.locator(".bw-pick", has_text="·an").click()
    assert status(page).startswith("Token 1, append: the text has 9 tokens now")  # the model came by itself
    ((said, _),) = greedy_after(story_model, f"{PROMPT} an", 1)
    assert press(page, "Next token").startswith("Token 2, append")
    assert texts(page)[-2:] == ["·an", said.replace(" ", "·")]
    branches = page.locator(".bw-branches button")
    assert branches.count() == 2
    press(page, "Back")
    page.locator(".bw-written").first.click()
    assert re.match(r"Token 1, choose: “·an” \(< 0.01\); overruled: by itself it would have said “·a”", status(page))
    page.get_by_label("Or what if it had said").fill("two pigs")
    press(page, "Say it")
    assert "".join(texts(page)[8:]) == "·two·pigs"
    assert branches.count() == 3
    assert branches.nth(2).get_attribute("aria-checked") == "true"
    branches.nth(0).click()
    status(page)  # the picture follows in the next frame
    assert texts(page)[8] == "·a"
    model, coder = story_model
    ids = [coder.special_tokens["<|endoftext|>"], *coder.encode(f"{PROMPT} two pigs")]
    with torch.no_grad():
        logs = model(torch.tensor([ids]))[0].log_softmax(-1)
    expected = sum(float(logs[i - 1, ids[i]]) for i in range(8, len(ids)))
    shown = branches.nth(2).locator(".bw-note").inner_text().removeprefix("ln p = ").replace("−", "-")
    assert float(shown) == pytest.approx(expected, rel=0.01)
    assert page.locator(".bw-load").get_by_text("runs in this page").count() == 1


def test_tokens_are_drawn_and_drawn_anew(open_page, figure):
    page = open_page(figure(prompt="One day, there was a race from the"))
    page.get_by_label("The next token is").select_option("drawn")
    assert press(page, "Next token").startswith("Token 1, append")
    first = texts(page)[-1]
    page.locator(".bw-written").click()
    assert re.search(r"the lot 0\.\d\d falls on it", status(page))
    seen = set()
    for _ in range(12):
        press(page, "Draw anew")
        seen.add(texts(page)[-1])
        page.locator(".bw-written").click()
    assert len(seen | {first}) > 1
    assert page.get_by_label("Seed").input_value() == "12"


def test_every_intermediate_can_be_looked_into(open_page, figure, story_model):
    page = open_page(figure(step=1))
    page.get_by_role("radio", name="After layer 2").click()
    assert "After layer 2 it would say" in status(page)
    assert "Layer 2: attention adds a step of length" in page.locator("p.bw-looks").inner_text()
    assert page.get_by_role("radio", name="Head ").count() == 4
    assert "The recorded run does not hold queries, keys, values" in page.locator(".bw-panel").nth(1).inner_text()
    page.get_by_text("As a table").click()
    page.wait_for_function("document.querySelectorAll('.bw-details tbody tr').length === 5")  # the fold opens late
    press(page, "Load the model")
    press(page, "Step")
    page.wait_for_function("document.querySelectorAll('.bw-details tbody tr').length > 100")
    rows = page.locator(".bw-details tbody tr").all_inner_texts()  # the page knows all logits now
    model, coder = story_model
    with torch.no_grad():
        logits = model(torch.tensor([[coder.special_tokens["<|endoftext|>"], *coder.encode(PROMPT)]]))[0, -1]
    best = logits.topk(200)
    assert len(rows) == 200
    for row, id_, logit in zip(rows[:50], best.indices.tolist(), best.values.tolist(), strict=False):
        _, _, shown, value, _ = row.split("\t")
        assert int(shown) == id_
        assert float(value) == pytest.approx(logit, abs=2e-3)


ROWS = ["query", "key", "value", "attention adds", "activation", "feed-forward adds"]


def test_a_heads_query_key_and_value_and_what_the_layer_adds_can_be_looked_into(open_page, figure, story_model):
    """The rows of layer 2 for head 3, which shares its keys with head 2, are torch's."""
    page = open_page(figure(step=1, layer=2))
    page.get_by_text("As a table").click()
    press(page, "Load the model")
    page.get_by_role("radio", name="Head 0").focus()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    status(page)
    assert page.evaluate("document.activeElement.ariaLabel").startswith("Head 3 looks at “")
    assert page.get_by_role("radio", name="Head 3").get_attribute("aria-checked") == "true"
    labels = page.locator(".bw-streams .bw-strip").evaluate_all("(all) => all.map((e) => e.ariaLabel)")[-6:]
    assert [label.split(":")[0] for label in labels] == ROWS
    rows = [row.split("\t") for row in page.locator(".bw-details table >> nth=1").locator("tbody tr").all_inner_texts()]
    shown = {name: [float(n.replace("−", "-")) for n in numbers.split()] for name, _, _, numbers in rows}

    model, coder = story_model
    seen = {}
    layer = model.layers[2]
    project = layer.attention.project

    def watched(*given):
        seen["projected"] = project(*given)
        return seen["projected"]

    layer.attention.project = watched
    hooks = [
        part.register_forward_hook(lambda _, given, out, name=name: seen.update({name: (given[0], out)}))
        for name, part in (("attention adds", layer.attention), ("feed-forward adds", layer.feed_forward))
    ]
    hooks.append(layer.feed_forward.down.register_forward_hook(lambda _, given, out: seen.update(activation=given[0])))
    with torch.no_grad():
        model(torch.tensor([[coder.special_tokens["<|endoftext|>"], *coder.encode(PROMPT)]]))
    for hook in hooks:
        hook.remove()
    layer.attention.project = project
    q, k, v = seen["projected"]
    expected = [q[0, 3, -1], k[0, 1, -1], v[0, 1, -1], seen["attention adds"][1][0, -1], seen["activation"][0, -1],
                seen["feed-forward adds"][1][0, -1]]  # fmt: skip
    for name, numbers in zip(ROWS, expected, strict=True):
        assert shown[name] == pytest.approx(numbers.tolist(), abs=0.0051), name
    assert [len(shown[name]) for name in ROWS] == [32, 32, 32, 128, 352, 128]


def test_the_address_leads_to_a_moment_with_the_model(open_page, figure):
    page = open_page(figure(), hash="#fig-autoregression?prompt=Once was&branches=[[258],[275]]&branch=1&step=9")
    assert status(page).startswith("Token 2, choose:")
    assert texts(page)[1:] == ["Once", "·was", "·was"]
    press(page, "Step")
    page.wait_for_function("location.hash.includes('step=10')")


def test_a_broken_address_breaks_nothing(open_page, figure):
    page = open_page(figure())
    numbers = [
        "step=-1",
        "step=99999",
        "branches=7",
        "branches=[[9999999]]&step=7",
        "branches=[[9999999]]",
        "branch=9",
        "layer=x",
        "seed=a",
    ]
    for query in [*numbers, "rule=no", "prompt=%00%22&step=3"]:
        page.evaluate("(query) => (location.hash = `#fig-autoregression?${query}`)", query)
        assert status(page), query
    assert page.locator(".bw").count() == 1


def test_without_workers_it_says_so_and_shows_the_recorded_run(open_page, figure):
    page = open_page(figure(), edit=lambda text: text.replace("<script>", "<script>delete window.Worker;", 1))
    page.locator(".bw[aria-busy=false]").wait_for()
    press(page, "Load the model")
    said = page.locator(".bw-load").inner_text()
    assert "This browser has no workers" in said
    assert "The recorded run is shown." in said
    assert press(page, "Next token").startswith("Token 1, append")
    page.get_by_label("Prompt").fill("Another")
    assert "Press Reset for the recorded run." in status(page)
    assert "Reset shows the recorded run." in page.locator(".bw-load").inner_text()
    press(page, "Reset")
    assert press(page, "Next token").startswith("Token 1, append")


def test_everything_by_keyboard_alone(open_page, figure):
    page = open_page(figure(step=4))
    seen = tab_stops(page, 34)
    start = ["Prompt", "The next token is", "Load the model", "Back", "Step", "Play", "Reset", "Next token"]
    every = [
        *start,
        "1Tokenize",
        "6Append",
        "After layer 0",
        "Head 0",
        "·a: say this",
        "Or what if",
        "Say it",
        "As a table",
    ]
    assert [want for want in every if not any(name.startswith(want) for name in seen)] == []
    page.locator(".bw-picture").focus()
    page.keyboard.press("ArrowRight")
    assert status(page).startswith("Token 1, append")
    page.get_by_role("radio", name="After layer 0").focus()
    page.keyboard.press("ArrowUp")  # layers stack upwards
    status(page)
    assert page.evaluate("document.activeElement.ariaLabel").startswith("After layer 1")
    page.locator(".bw-pick").nth(1).focus()
    page.keyboard.press("Enter")
    assert status(page).startswith("Token 1, append")
    page.get_by_label("Or what if it had said").fill("seven")
    page.keyboard.press("Enter")
    status(page)
    assert texts(page)[8:] == ["·seven"] or texts(page)[8] == "·se"


def test_text_is_never_markup(open_page, figure):
    page = open_page(figure())
    nasty = "<img src=x onerror=alert(1)>&amp;<b>"
    page.get_by_label("Prompt").fill(nasty)
    press(page, "Next token")
    page.get_by_label("Or what if it had said").fill(nasty)
    press(page, "Say it")
    page.get_by_text("As a table").click()
    assert page.locator(".book-widget img, .bw-picture b").count() == 0
    assert page.title() == "Figures"


def test_two_figures_on_a_page_are_independent(open_page, figure):
    page = open_page(figure(), figure(figure_id="fig-second"), height=4000)
    page.locator("#fig-second .bw-status").wait_for()
    page.locator("#fig-autoregression").get_by_role("button", name="Next token").click()
    assert status(page).startswith("Token 1, append")
    assert status(page, "#fig-second").startswith("Tokenize")


def test_at_360_px_the_page_does_not_scroll_sideways(open_page, figure):
    page = open_page(figure(), width=360, has_touch=True)
    page.get_by_role("button", name="Load the model").tap()
    page.get_by_label("Prompt").fill("incomprehensibilities" * 5)
    page.get_by_text("As a table").tap()
    for step in range(5):
        page.get_by_role("button", name="Step", exact=True).tap()
        status(page)
        if step == 0:
            page.get_by_role("radio", name="Head 2").tap()
            status(page)
            assert page.locator(".bw-streams .bw-strip").count() == 6 + 6
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator(".bw-pick").nth(2).tap()
    status(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert small_targets(page) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_fault(open_page, axe, figure, theme):
    page = open_page(figure(step=1), theme=theme, width=760, height=2500, reduced_motion="reduce")
    page.get_by_text("As a table").click()
    press(page, "Load the model")
    for step in ("Next token", "Back", "Next token"):
        press(page, step)
        if step == "Back":
            page.locator(".bw-pick").nth(2).click()
            status(page)
        assert axe_faults(page, axe) == []


def test_the_clean_up_leaves_nothing_behind(open_page, figure):
    page = open_page(figure())
    left = page.evaluate("""async () => {
        const url = URL.createObjectURL(new Blob([window.bookWidgets.autoregression], { type: "text/javascript" }));
        const { default: module } = await import(url);
        const state = JSON.parse(document.querySelector('script[type="application/json"]').textContent);
        let [listeners, workers] = [0, 0];
        const Real = window.Worker;
        window.Worker = class extends Real {
          constructor(...given) { super(...given); workers += 1; }
          terminate() { workers -= 1; super.terminate(); }
        };
        const model = { get: (key) => state[key], set: (key, value) => (state[key] = value), save_changes() {},
            on: () => (listeners += 1), off: () => (listeners -= 1) };
        const el = document.createElement("div");
        document.body.append(el);
        const ends = [module.render({ model, el }), module.render({ model, el })];
        const load = [...el.querySelectorAll("button")].filter((button) => button.textContent === "Load the model");
        load.forEach((button) => button.click());
        const during = [listeners > 0, el.children.length, workers];
        await new Promise((done) => setTimeout(done, 1500));
        for (const end of ends) end();
        await new Promise((done) => setTimeout(done, 1200));
        return [during, listeners, el.children.length, workers];
    }""")
    assert left == [[True, 2, 2], 0, 0, 0]


def test_without_javascript_the_fallback_speaks(open_page, figure):
    page = open_page(figure(), java_script_enabled=False)
    assert "A model goes on from" in page.locator(".book-widget-fallback").inner_text()
