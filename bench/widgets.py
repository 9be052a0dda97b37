"""How fast BPEMerges answers in a real browser, on a text of 10,000 characters: each step, each key, each jump.

    python bench/widgets.py            print the table
    python bench/widgets.py --write    and keep it in bench/results/widgets.json

A step is timed from the call that asks for it to the end of the layout it causes: script, style and layout. The budget
is 16 ms, one picture of a screen that shows 60 a second. "cpu" is the same for steps in processor time, which other
programs on the machine hardly touch; "cpu all" adds all else the main thread does for a step, painting without a GPU
included.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import records
from setup import find_browser

from llmlib.widgets import BPEMerges
from llmlib.widgets.page import page_html

BUDGET_MS = 16.0
CHARACTERS = 10_000

MEASURE = """async ({ step, rounds }) => {
  const slider = document.querySelector(".bw-jump input");
  const area = document.querySelector(".bw textarea");
  const root = document.querySelector(".bw");
  // Everything a change does runs in the handler and in the next animation frame; both are timed, layout included.
  let asked = null;
  const realFrame = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (callback) => realFrame((time) => {
    const start = performance.now();
    callback(time);
    root.getBoundingClientRect(); // style and layout, now instead of a moment later
    if (asked) asked.ms += performance.now() - start;
  });
  const time = async (act) => {
    asked = { ms: 0 };
    const start = performance.now();
    act();
    asked.ms += performance.now() - start;
    await new Promise((done) => realFrame(() => setTimeout(done)));
    const { ms } = asked;
    asked = null;
    return ms;
  };
  const jump = (to) => () => { slider.value = to; slider.dispatchEvent(new Event("input", { bubbles: true })); };
  const button = (name) => [...root.querySelectorAll("button")].find((b) => b.textContent === name);
  const out = { step: [], back: [], jump: [], key: [] };
  await time(jump(step));
  for (let i = 0; i < rounds; i += 1) out.step.push(await time(() => button("Step").click()));
  for (let i = 0; i < rounds; i += 1) out.back.push(await time(() => button("Back").click()));
  for (let i = 0; i < rounds; i += 1) out.jump.push(await time(jump(i % 2 ? 0 : Number(slider.max))));
  for (let i = 0; i < rounds; i += 1) {
    out.key.push(await time(() => {
      area.value = area.value.slice(0, -1) + "abcdefgh"[i % 8];
      area.dispatchEvent(new Event("input", { bubbles: true }));
    }));
  }
  // A pause in the typing sets off learning anew, in slices. The browser reports what holds the page for over 50 ms.
  const longest = { ms: 0 };
  const note = (entry) => (longest.ms = Math.max(longest.ms, entry.duration));
  const observer = new PerformanceObserver((list) => list.getEntries().forEach(note));
  observer.observe({ entryTypes: ["longtask"] });
  await new Promise((done) => setTimeout(done, 600));
  observer.disconnect();
  out["held"] = [longest.ms];
  return out;
}"""


def measure(browser: Browser, text: str, pre_tokenizer: str, tie_break: str = "greatest", rounds: int = 40) -> dict:
    """Time the figure on a text, in milliseconds: {what: [time, ...]}."""
    figure = BPEMerges(text, pre_tokenizer=pre_tokenizer, tie_break=tie_break)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_text(page_html(figure), encoding="utf-8")
        page = browser.new_page(viewport={"width": 1000, "height": 1200})
        page.goto(path.as_uri())
        page.wait_for_function("document.querySelector('.bw[aria-busy=false]')")
        page.wait_for_timeout(300)
        times = page.evaluate(MEASURE, {"step": len(figure.merges) // 3, "rounds": rounds})
        page.locator(".bw-jump input").fill(str(len(figure.merges) // 3))
        times["cpu"], times["cpu all"] = zip(*(processor_time(page, rounds) for _ in range(3)), strict=True)
        page.close()
    return times


def processor_time(page: Page, steps: int) -> tuple[float, float]:
    """Give what one step costs the page's main thread on average: script, style and layout; and everything (ms)."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def read() -> dict[str, float]:
        return {item["name"]: item["value"] for item in session.send("Performance.getMetrics")["metrics"]}

    before = read()
    page.evaluate(
        """async (steps) => {
            const step = [...document.querySelectorAll(".bw button")].find((button) => button.textContent === "Step");
            for (let i = 0; i < steps; i += 1) {
              step.click();
              await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
            }
        }""",
        steps,
    )
    after = read()
    spent = {name: 1000 * (after[name] - before[name]) / steps for name in before}
    session.detach()
    return spent["ScriptDuration"] + spent["LayoutDuration"] + spent["RecalcStyleDuration"], spent["TaskDuration"]


def sample_text(characters: int = CHARACTERS) -> str:
    """English and code from Python's own reference, which every machine has."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))[:characters]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="keep the table in bench/results/widgets.json")
    options = parser.parse_args()
    rows = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox", "--disable-gpu"])
        for pre_tokenizer, tie_break in [("gpt2", "greatest"), ("none", "greatest"), ("none", "first")]:
            times = measure(browser, sample_text(), pre_tokenizer, tie_break)
            for what, values in times.items():
                ordered = sorted(values)
                rows.append({
                    "pre_tokenizer": pre_tokenizer, "tie_break": tie_break, "what": what,
                    "median_ms": round(statistics.median(values), 1),
                    "p90_ms": round(ordered[int(0.9 * (len(ordered) - 1))], 1), "max_ms": round(ordered[-1], 1),
                })  # fmt: skip
        version = browser.version
        browser.close()
    print(f"{'words by':8} {'ties to':9} {'what':9} {'median':>8} {'p90':>8} {'max':>8}   (ms; budget {BUDGET_MS:g})")
    for row in rows:
        times = f"{row['median_ms']:8} {row['p90_ms']:8} {row['max_ms']:8}"
        print(f"{row['pre_tokenizer']:8} {row['tie_break']:9} {row['what']:9} {times}")
    if options.write:
        record = {"chromium": version, "characters": CHARACTERS, "budget_ms": BUDGET_MS, "rows": rows}
        records.write("widgets", record)


if __name__ == "__main__":
    main()
