"""The figures live in a real JupyterLab: what the reader does reaches Python, what Python sets reaches the reader."""

import re

SETUP = """
from llmlib.widgets import BPEMerges
figure = BPEMerges("aaabdaaabac")
other = BPEMerges("abab", figure_id="fig-2")
"""


def status(page, view=0):
    return re.sub(r"[\u2068\u2069]", "", page.locator(".bw-status").nth(view).inner_text())


def wait_for_status(page, words, view=0):
    page.wait_for_function(
        """([words, view]) => document.querySelectorAll('.bw-status')[view].textContent
            .replace(/[\\u2068\\u2069]/g, '').startsWith(words)""",
        arg=[words, view],
    )


def test_bpe_merges_live_both_ways(open_lab):
    lab = open_lab(SETUP, "figure", "figure", "other", theme="dark")
    page = lab.page
    wait_for_status(page, "No merge yet: 11 bytes")
    page.locator(".bw-status").nth(2).wait_for()

    # the reader's hand -> Python
    page.get_by_role("button", name="Step").first.click()
    wait_for_status(page, "Merge 1 of 3")
    lab.wait("figure.step", 1)
    lab.wait("figure.ids", [256, 97, 98, 100, 256, 97, 98, 97, 99])
    page.locator(".bw-jump input").first.focus()
    page.keyboard.press("ArrowRight")  # JupyterLab would move to another cell
    lab.wait("figure.step", 2)
    page.locator(".bw-picture").first.focus()
    page.keyboard.press("ArrowRight")
    lab.wait("figure.step", 3)
    page.locator(".bw-picture").first.press("ArrowLeft")
    lab.wait("figure.step", 2)
    page.locator("textarea.jp-mod-none, .bw textarea").first.fill("low low low")
    lab.wait("figure.text", "low low low")
    lab.wait("figure.tokens == [b'ow', b'low', b' low']", True)
    page.get_by_label("Ties go to").first.select_option("smallest")
    lab.wait("figure.tie_break", "smallest")

    # two views of one figure move together, and another figure stays
    assert status(page, 0) == status(page, 1)
    assert status(page, 2).startswith("No merge yet: 4 bytes")

    # Python -> the reader's eye
    lab.python("figure.tie_break = 'greatest'; figure.text = 'aaabdaaabac'; figure.step = 3; answer = None")
    wait_for_status(page, "Merge 3 of 3: “aaa” + “b” → “aaab” (id 258)")
    wait_for_status(page, "Merge 3 of 3", view=1)
    assert page.locator(".bw textarea").first.input_value() == "aaabdaaabac"
    lab.wait("figure.step", 3)  # the view has not written its own idea of it back
    lab.python("figure.merges = [[97, 98], [97, 97]]; figure.step = 2; answer = None")
    wait_for_status(page, "Merge 2 of 2: “a” + “a” → “aa” (id 257)")
    lab.wait("(figure.trained, figure.ids)", [False, [257, 256, 100, 257, 256, 97, 99]])
    refused = lab.python("figure.step = 7; answer = None")
    assert refused == "TraitError: step is 7; this text has 2 merges, so choose a step from 0 to 2."
    assert status(page).startswith("Merge 2 of 2")
    page.get_by_role("button", name="Reset").first.click()
    lab.wait("(figure.text, figure.step, figure.trained)", ["aaabdaaabac", 0, True])

    # the figure has the notebook's theme, and nothing of the page is wider than its cell
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.bw-primary')).backgroundColor") == "rgb(86, 180, 233)"
    )
    assert page.evaluate("[...document.querySelectorAll('.bw')].every((e) => e.scrollWidth <= e.clientWidth)")
    assert page.evaluate("document.activeElement.closest('.bw') !== null"), "JupyterLab has taken the focus"
