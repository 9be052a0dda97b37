"""PipelineBubble and MatrixSplit live in a real JupyterLab: the reader's hand in Python, and Python in the picture."""

from figures import wait_for_status

SETUP = """
from llmlib.parallel.schedules import one_f_one_b, timeline
from llmlib.widgets import MatrixSplit, PipelineBubble
bubble = PipelineBubble()
split = MatrixSplit()
"""


def test_both_figures_live_both_ways(open_lab):
    lab = open_lab(SETUP, "bubble", "split", "bubble")
    page = lab.page
    page.locator(".bw-status").nth(2).wait_for()
    first, matrix = page.locator(".bw").nth(0), page.locator(".bw").nth(1)

    wait_for_status(page, "GPipe, 4 stages, 8 micro-batches: the step takes as long as 33", "The pipeline bubble")
    first.get_by_label("Schedule").select_option("1f1b")
    lab.wait("(bubble.schedule, bubble.timeline(bubble.schedule).peak_activations)", ["1f1b", [4.0, 3.0, 2.0, 1.0]])
    wait_for_status(page, "1F1B, 4 stages", "The pipeline bubble")  # the other view, too
    first.locator(".bw-picture").focus()
    page.keyboard.press("ArrowLeft")
    lab.wait("bubble.step", 32)
    first.get_by_role("group", name="1F1B, a row for each stage").focus()
    page.keyboard.press("ArrowRight")
    lab.wait("(bubble.cursor, bubble.step)", [[0, 0, 0], 32])
    lab.python("""
spans = [s for row in timeline(one_f_one_b(4, 8), 0.01, 0.01, 0.01).spans for s in row]
bubble.records = {"slept": [[s.stage, *s.action, s.start, s.end] for s in spans]}
bubble.step, answer = 9999, None""")
    first.get_by_label("Measured timeline").select_option("slept")
    lab.wait("bubble.measured", "slept")
    wait_for_status(page, "Measured, slept: the step takes as long as 33", "The pipeline bubble")
    lab.python("bubble.stages, answer = 2, None")
    wait_for_status(page, "it is of 1F1B, 4 stages, 8 micro-batches; choose that", "The pipeline bubble")
    assert lab.python("bubble.stages = 17; answer = 0") == "TraitError: stages is 17; choose a number from 1 to 16."

    matrix.get_by_label("X: a row a line").fill("1 1 1 1")
    lab.wait("split.x", "1 1 1 1")
    matrix.get_by_label("X: a row a line").fill("1 1 1 x")
    matrix.get_by_role("alert").first.get_by_text("X holds “x” in row 1").wait_for()
    lab.wait("split.x", "1 1 1 1")
    lab.python("split.split, split.step, answer = 'rows', 4, None")
    wait_for_status(page, "Step 4 of 4: all-reduce in a ring", "A matrix product")
    matrix.get_by_role("button", name="Reset").click()
    lab.wait("(split.x, split.step, split.split)", ["1 2 0 1\n3 1 2 0", 0, "columns"])
    refused = lab.python("split.w = '1 2'; split.w = '1 a'; answer = 0")
    assert refused.startswith("TraitError: W holds “a” in row 1")
    wait_for_status(page, "Nothing to compute", "A matrix product")
    assert page.evaluate("[...document.querySelectorAll('.bw')].every((e) => e.scrollWidth <= e.clientWidth)")
