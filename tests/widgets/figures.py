"""What the tests of all figures do: read and press in a page, look for faults in it, run a figure's JavaScript."""

import json
import re
import subprocess
from pathlib import Path

import torch
from playwright.sync_api import Page

from llmlib.decoding import Hypothesis, beam_search
from llmlib.model import Transformer
from llmlib.widgets.modules import module_source

FIRST = ".book-widget >> nth=0"
CONTROLS = ".bw :is(button, select, input, textarea, summary)"


def settle(page: Page) -> None:
    """Wait until the picture has followed the state."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def plain(text: str) -> str:
    """Text without the marks that isolate right-to-left text, and with plain spaces."""
    return re.sub(r"[\u2068\u2069]", "", text).replace("\u2009", " ")


def status(page: Page, figure: str = FIRST) -> str:
    """A figure's status line, as plain text, once the picture rests."""
    settle(page)
    return plain(page.locator(figure).locator(".bw-status").inner_text())


def press(page: Page, name: str, figure: str = FIRST) -> None:
    """Press the button of this name."""
    page.locator(figure).get_by_role("button", name=name, exact=True).click()


def wait_for_status(page: Page, words: str, title: str = "") -> None:
    """Wait until every figure whose title begins so has a status that holds these words."""
    page.wait_for_function(
        """([words, title]) => [...document.querySelectorAll(`figure[aria-label^="${title}"] .bw-status`)].every(
            (status) =>
              status.textContent.replace(/[\\u2068\\u2069]/g, '').replace(/\\u2009/g, ' ').includes(words))""",
        arg=[words, title],
    )


def tab_stops(page: Page, n: int) -> list[str]:
    """Press Tab n times: the names of what is reached, each of which has to show that it has the focus."""
    names = []
    for _ in range(n):
        page.keyboard.press("Tab")
        name, outline = page.evaluate("""() => {
            const node = document.activeElement;
            const name = node.ariaLabel ?? node.closest("label")?.textContent ?? node.textContent;
            return [name, getComputedStyle(node).outlineWidth];
        }""")
        assert outline == "3px", f"no visible focus on {name}"
        names.append(name)
    return names


def small_targets(page: Page, controls: str = CONTROLS) -> list[str]:
    """The controls in sight that are lower than 40 px, too small for a finger; a checkbox has its label's height."""
    return page.evaluate(
        """(controls) => [...document.querySelectorAll(controls)].filter((e) => e.offsetParent
        && e.getBoundingClientRect().height < 39.5 && e.type !== 'checkbox').map((e) => e.outerHTML)""",
        controls,
    )


def axe_faults(page: Page, axe: str) -> list:
    """What axe-core finds wrong with the page as it stands."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(axe)
    settle(page)
    return page.evaluate(
        "axe.run().then((r) => r.violations.map((v) => [v.id, v.nodes.map((n) => n.html + n.failureSummary)]))"
    )


def left_behind(page: Page, trait: str, button: str | None = "Play") -> list:
    """Draw the page's first figure anew, twice, press a button, end both, and wait: what is still there.

    [[something listened, elements drawn], listeners left, elements left, the trait's value].
    """
    return page.evaluate(
        """async ([trait, button]) => {
        const box = document.querySelector(".book-widget");
        const text = window.bookWidgets[box.dataset.widget];
        const { default: module } = await import(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
        const state = JSON.parse(box.querySelector('script[type="application/json"]').textContent);
        let listeners = 0;
        const model = { get: (key) => state[key], set: (key, value) => (state[key] = value), save_changes() {},
            on: () => (listeners += 1), off: () => (listeners -= 1) };
        const el = document.createElement("div");
        document.body.append(el);
        const ends = [module.render({ model, el }), module.render({ model, el })];
        const during = [listeners > 0, el.children.length];
        if (button) [...el.querySelectorAll("button")].find((each) => each.textContent === button).click();
        for (const end of ends) end();
        await new Promise((done) => setTimeout(done, 1700)); // longer than a step of any figure that plays
        return [during, listeners, el.children.length, state[trait]];
    }""",
        [trait, button],
    )


def processor_ms(page: Page, code: str, arguments: list) -> list[float]:
    """What each call of this JavaScript costs the page: script, style and layout, in the processor's time, which other
    programs hardly touch."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    parts = ("ScriptDuration", "RecalcStyleDuration", "LayoutDuration")

    def spent() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return 1000 * sum(each["value"] for each in metrics if each["name"] in parts)

    times = []
    for argument in arguments:
        before = spent()
        page.evaluate(code, argument)
        times.append(spent() - before)
    session.detach()
    return times


def in_node(node: str, folder: Path, module: str, code: str, data: object = None) -> object:
    """Run JavaScript after a figure's module; `data` comes in, `out` goes back."""
    (folder / "data.json").write_text(json.dumps(data), encoding="utf-8")
    (folder / "run.mjs").write_text(
        f'import {{ readFileSync }} from "node:fs";\n{module_source(module)}\n'
        f'const data = JSON.parse(readFileSync("data.json", "utf8"));\nlet out;\n{code}\n'
        "console.log(JSON.stringify(out));\n",
        encoding="utf-8",
    )
    done = subprocess.run([node, "run.mjs"], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def best_beam(model: Transformer, start: list[int], width: int, length: int, penalty: float = 1.0) -> Hypothesis:
    """What a search in torch finds after `start`, whose first token ends a text; every text is read whole each time."""
    texts: list[list[int]] = [[]]

    def step(parents: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        texts[:] = [[*texts[p], t] for p, t in zip(parents.tolist(), tokens.tolist(), strict=True)]
        return torch.stack([model(torch.tensor([start + text]))[0, -1] for text in texts])

    with torch.no_grad():
        return beam_search(model(torch.tensor([start]))[0, -1], step, width, length, start[0], penalty)[0]
