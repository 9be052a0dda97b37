"""Autoregression live in a real JupyterLab: the weights come from the kernel, and the state goes both ways."""

SETUP = """
from llmlib import checkpoints
from llmlib.inspection import record_writing
from llmlib.widgets import Autoregression
figure = Autoregression(record_writing(*checkpoints.load(), "Once upon a time, there was", n=2))
"""


def wait_for_status(page, view, words):
    page.wait_for_function(
        """([view, words]) => document.querySelectorAll('.bw-status')[view].textContent
            .replace(/[\\u2068\\u2069]/g, '').includes(words)""",
        arg=[view, words],
        timeout=15_000,
    )


def test_the_figure_lives_both_ways(open_lab):
    lab = open_lab(SETUP, "figure", "figure")
    page = lab.page
    page.locator(".bw-status").nth(1).wait_for()
    first = page.locator(".bw").nth(0)
    wait_for_status(page, 0, "Tokenize: the prompt becomes 7 tokens")
    # the reader's hand -> Python, and to the other view
    first.get_by_role("button", name="Next token").click()
    lab.wait("(figure.step, figure.stage, figure.tokens[-1])", [5, "append", " a"])
    wait_for_status(page, 1, "Token 1, append")
    first.get_by_role("button", name="Load the model").click()
    first.get_by_text("The model runs in this page.").wait_for(timeout=20_000)
    first.locator(".bw-pick").nth(2).click()  # another token, so another branch
    lab.wait("(len(figure.branches), figure.branch)", [2, 1])
    first.get_by_label("Prompt").fill("One day")
    lab.wait("(figure.prompt, figure.branches, figure.step)", ["One day", [[]], 0])
    for _ in range(3):
        first.get_by_role("button", name="Next token").click()
        wait_for_status(page, 0, "append: the text has")
    lab.wait("(figure.step, len(figure.branches[0]))", [15, 3])
    # Python -> the reader's eye
    lab.python("figure.prompt = 'Tom was'; figure.step = 4; answer = None")
    wait_for_status(page, 0, "Token 1, choose: “")
    lab.wait("len(figure.branches[0])", 1)
    lab.python("figure.overrule(' two'); figure.step = 5; answer = None")
    wait_for_status(page, 0, "Token 1, append: the text has")
    lab.wait("figure.tokens[-1]", " two")
    refused = lab.python("figure.rule = 'best'; answer = None")
    assert refused.startswith("TraitError: rule is 'best'; choose one of")
    assert page.evaluate("[...document.querySelectorAll('.bw')].every((e) => e.scrollWidth <= e.clientWidth)")
    notebook = lab.folder / "figures.ipynb"
    page.keyboard.press("Control+s")
    page.wait_for_timeout(500)
    assert notebook.stat().st_size < 400_000, "the weights are in the notebook"
