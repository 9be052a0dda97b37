"""Competence live in a real JupyterLab: both ways, and with a corpus of the reader's own."""

SETUP = """
from llmlib.widgets import Competence

def scored(n):
    return {"texts": [f"Story {i}." for i in range(n)],
            "measures": [{"name": "length", "unit": "words", "scores": list(range(n))}]}

figure = Competence(scored(10), pacing="linear", start=0.2, duration=50)
"""


def test_the_figure_live_both_ways(open_lab):
    lab = open_lab(SETUP, "figure", "figure")
    page = lab.page
    page.locator(".bw-status").nth(1).wait_for()
    first, second = page.locator(".bw").nth(0), page.locator(".bw-status").nth(1)

    first.locator(".bw-picture").focus()
    page.keyboard.press("ArrowRight")
    lab.wait("(figure.time, round(figure.competence, 3))", [1, 0.216])
    first.get_by_label("Pacing").select_option("root")
    lab.wait("figure.pacing", "root")
    first.get_by_label("End T").focus()
    page.keyboard.press("ArrowRight")  # moves the slider, not the notebook
    lab.wait("figure.duration", 51)
    second.get_by_text("At 1 % of the run, c = 0.24").wait_for()

    lab.python("figure.time = 60; figure.hard_first = True; answer = None")
    second.get_by_text("At 60 % of the run, c = 1.00: of 10 stories, all are open").wait_for()
    lab.python("figure.time = 0; figure.sample = scored(5); answer = None")
    second.get_by_text("of 5 stories, 1 are open, length from 4 on").wait_for()
    assert lab.python("figure.time = 101; answer = None").startswith("TraitError: time is 101; it goes from 0 to 100")
    first.get_by_role("button", name="Reset").click()
    lab.wait("(figure.time, figure.pacing, figure.hard_first, figure.duration)", [0, "linear", False, 50])
    assert page.evaluate("[...document.querySelectorAll('.bw')].every((e) => e.scrollWidth <= e.clientWidth)")
