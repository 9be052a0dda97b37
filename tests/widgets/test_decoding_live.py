"""SamplingExplorer and BeamTree live in a real JupyterLab: both ways, and the book's model from the kernel's files."""

from figures import wait_for_status

SETUP = """
import torch
from llmlib.widgets import BeamTree, SamplingExplorer, beam_record, sampling_record

names = ["<end>", " owl", " fox", " sang"]
explorer = SamplingExplorer([sampling_record([0, 1], torch.tensor([0.1, 0.2, 0.6, 0.1]).log() + 5, names, "The")])
table = torch.tensor([[0.1, 0.5, 0.4, 0.0], [0.1, 0.3, 0.3, 0.3], [0.05, 0.9, 0.05, 0.0]]).log()
record = beam_record(lambda ids: table[min(ids[-1], 2) if ids else 0], names, "The", 3, 3, end=0)
tree = BeamTree([record], width=2, length=3, alpha=0.0)
"""


def test_both_figures_live_both_ways(open_lab):
    lab = open_lab(SETUP, "explorer", "tree")
    page = lab.page
    page.locator(".bw-status").nth(1).wait_for()
    first, second = page.locator(".bw").nth(0), page.locator(".bw").nth(1)

    # SamplingExplorer: the reader's hand -> Python, and Python -> the reader's eye
    first.get_by_label("Top-k").fill("2")
    lab.wait("(explorer.top_k, [round(p, 2) for p in explorer.probabilities.tolist()])", [2, [0, 0.25, 0.75, 0]])
    wait_for_status(page, "2 of 4 tokens are kept", "Sampling")
    lab.python("explorer.top_k = 0; explorer.temperature = 0.0; answer = None")
    wait_for_status(page, "1 of 4 tokens is kept", "Sampling")
    first.get_by_role("button", name="Draw 1").click()
    lab.wait("explorer.draws", 1000)
    refused = lab.python("explorer.top_p = 0.0; answer = None")
    assert refused == "TraitError: top_p is 0.0; it lies between 0.01 and 1."

    # the model's files come from the kernel; what is written goes back to it
    first.get_by_label("A beginning of your own").fill("Once upon a")
    first.get_by_role("button", name="Use it").click()
    lab.wait("explorer.prompt", "Once upon a", seconds=60)
    wait_for_status(page, "1 of 2 048 tokens is kept", "Sampling")
    first.get_by_role("button", name="Write one token").click()
    lab.wait("len(explorer.written)", 1, seconds=30)
    first.get_by_role("button", name="Reset").click()
    lab.wait("(explorer.written, explorer.prompt, explorer.draws)", [[], "", 0])

    # BeamTree
    second.get_by_role("button", name="Step", exact=True).click()
    lab.wait("tree.step", 1)
    wait_for_status(page, "Step 1 of 3: 3 candidates, 2 kept", "Beam search")
    lab.python("tree.width = 1; tree.step = 3; answer = None")
    wait_for_status(page, "it is greedy's", "Beam search")
    second.get_by_label("Beam width").fill("3")
    lab.wait("tree.width", 3)
    assert lab.python("tree.width = 99; answer = None") == (
        "TraitError: width is 99; it is a whole number from 1 to 8."
    )
    assert page.evaluate("[...document.querySelectorAll('.bw')].every((e) => e.scrollWidth <= e.clientWidth)")
