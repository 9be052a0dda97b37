"""KVCacheStepper live in a real JupyterLab: the reader's hand reaches Python, and Python the reader's eye."""

from figures import wait_for_status

SETUP = """
import numpy as np
from llmlib.widgets import KVCacheStepper

tokens = ["Pip", " the", " duck", *[f" w{i}" for i in range(10)]]
memory = np.random.default_rng(0).normal(size=(2, 2, 1, 12, 4))
figure = KVCacheStepper.of("Pip the duck", tokens, 3, memory, heads=2, context=64, vocab_size=50)
"""


def test_the_figure_lives_both_ways(open_lab):
    lab = open_lab(SETUP, "figure", "figure")
    page = lab.page
    page.locator(".bw-status").nth(1).wait_for()
    first = page.locator(".bw").first
    first.get_by_role("button", name="Step", exact=True).click()
    lab.wait("figure.step", 1)
    wait_for_status(page, "Prefill: all 3 tokens")
    first.locator(".bw-picture").focus()
    page.keyboard.press("ArrowRight")
    lab.wait("(figure.step, figure.counts()['fetched'])", [2, 3])
    first.get_by_label("Query heads").fill("8")  # nine
    lab.wait("(figure.heads, figure.kv_heads)", [9, 1])
    first.get_by_label("Key–value heads").fill("1")  # the second divisor of nine
    lab.wait("figure.kv_heads", 3)
    first.get_by_label("Prompt").fill("one two")
    lab.wait("(figure.prompt, figure.step, figure.tokens)", ["one two", 0, ["one", " two"]])
    lab.python("figure.step = 3; figure.layers = 7; figure.heads = 4; answer = None")
    wait_for_status(page, "in each of 7 layers and 2 key–value heads")
    first.get_by_label("Model").select_option("Gemma 2B")
    lab.wait("[figure.layers, figure.heads, figure.kv_heads, figure.head_width, figure.context]", [18, 8, 1, 256, 8192])
    assert lab.python("figure.kv_heads = 3; answer = None") == (
        "TraitError: 8 heads cannot share 3 kv_heads; choose a divisor."
    )
    first.get_by_role("button", name="Reset", exact=True).click()
    lab.wait("(figure.step, figure.layers, figure.prompt)", [0, 2, "Pip the duck"])
    assert page.evaluate("[...document.querySelectorAll('.bw')].every((e) => e.scrollWidth <= e.clientWidth)")
