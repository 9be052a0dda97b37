"""ComputeBudget live in a real JupyterLab: both ways, with a law of the reader's own."""

from figures import wait_for_status

SETUP = """
from llmlib.scaling import LossLaw
from llmlib.widgets import ComputeBudget
budget = ComputeBudget(LossLaw(0.5, 30.0, 200.0, 0.3, 0.4), [[1e4, 1e6], [1e5, 3e6]], 2e9, log_flops=23.75)
"""


def test_a_budget_lives_both_ways(open_lab):
    lab = open_lab(SETUP, "budget", "budget")
    page = lab.page
    page.locator(".bw-status").nth(1).wait_for()
    first = page.locator(".bw").nth(0)
    wait_for_status(page, "71.4 billion parameters, the best size")
    # the reader's hand -> Python, and the other view
    first.get_by_role("button", name="Back").click()
    lab.wait("budget.size", 19)
    wait_for_status(page, "1.26 times smaller than the best")
    first.get_by_label("Constants of the law").select_option("own")
    lab.wait("(budget.constants, budget.law.E)", ["own", 0.5])
    first.locator(".bw-picture").focus()
    page.keyboard.press("ArrowRight")
    lab.wait("budget.size", 20)
    # Python -> the reader's eye
    lab.python("budget.log_flops = 12.0; budget.machine = 'core'; answer = None")
    wait_for_status(page, "1 × 10¹² FLOP (8.33 minutes")
    refused = lab.python("budget.log_flops = 40.0; answer = None")
    assert refused == "TraitError: log_flops is 40.0; give a number from 12 to 26 (log10 of a budget in FLOP)."
    first.get_by_role("button", name="Reset").click()
    lab.wait("(budget.log_flops, budget.size, budget.constants)", [23.75, 20, "besiroglu"])
    assert page.evaluate("[...document.querySelectorAll('.bw')].every((e) => e.scrollWidth <= e.clientWidth)")
