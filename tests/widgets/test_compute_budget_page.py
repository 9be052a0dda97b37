"""ComputeBudget in a static page, in a real browser."""

import math
import re

import pytest
from figures import axe_faults, left_behind, press, settle, small_targets, status, tab_stops

from llmlib.scaling import LossLaw
from llmlib.widgets import ComputeBudget

NASTY = "<img src=x onerror=\"document.title='broken'\">"
OWN = LossLaw(E=0.5, A=30.0, B=200.0, alpha=0.3, beta=0.4)


def budget_figure(**state) -> ComputeBudget:
    given = {"own": OWN, "runs": [[1e4, 1e6], [1e5, 3e6]], "own_flops_per_second": 2e9, "log_flops": 23.75}
    return ComputeBudget(**{**given, **state})


@pytest.mark.parametrize("over", ["file", "http"])
def test_a_budget_is_walked_along(open_page, over):
    page = open_page(budget_figure(), over=over)
    start = status(page)
    assert start == (
        "5.62 × 10²³ FLOP (16 500 GPU-days, 45 years on one; 395 000 kWh): 71.4 billion parameters, the best size, on "
        "1.31 trillion tokens, 18.4 a parameter: loss 1.975, best 1.975 nats per token. Beyond the sizes that these "
        "constants were fitted to, 70 million to 16 billion."
    )
    for _ in range(6):
        press(page, "Back")
    assert "17.9 billion parameters, 3.98 times smaller than the best" in status(page)
    assert "The best size would have this loss for 52.2 % of the compute." in status(page)
    page.get_by_label("Constants of the law").select_option("rounded")
    assert "loss 1.9" in status(page)
    page.get_by_label("Budget C, FLOP").fill("12")
    page.get_by_label("Constants of the law").select_option("own")
    best = OWN.best(1e12)
    assert f"best {best.loss:.3f} nats per token" in status(page)
    page.get_by_label("Computed on one").select_option("core")
    assert f"(0.00579 core-days, {1e12 / 2e9 / 60:.3g} minutes on one; 0.139 kWh)" in status(page)
    assert page.get_by_label("Share of its peak").is_disabled()
    press(page, "Reset")
    assert status(page) == start


def test_the_picture_shows_the_tangent(open_page):
    """The best choice lies on the budget's line, and on the curve of equal loss through it."""
    page = open_page(budget_figure(size=20))
    places = page.evaluate("""() => {
        const plot = document.querySelector(".bw-wide-chart svg");
        const best = plot.querySelector(".bw-best").getBBox();
        const at = [best.x + best.width / 2, best.y + best.height / 2];
        const near = (path) => {
            let least = 1e9;
            for (let s = 0; s <= path.getTotalLength(); s += 0.5) {
                const p = path.getPointAtLength(s);
                least = Math.min(least, Math.hypot(p.x - at[0], p.y - at[1]));
            }
            return least;
        };
        return ["bw-now", "bw-yours", "bw-valley"].map((name) => near(plot.querySelector("." + name)));
    }""")
    assert all(distance < 2 for distance in places), places
    texts = page.locator(".bw-wide-chart text").all_text_contents()
    assert {"Chinchilla", "GPT-3", "parameters N (log scale)", "tokens D (log scale)"} <= set(texts)
    page.get_by_label("Show known models").uncheck()
    settle(page)
    assert "Chinchilla" not in page.locator(".bw-wide-chart text").all_text_contents()


def test_a_click_on_the_picture_chooses_a_size(open_page):
    page = open_page(budget_figure())
    box = page.locator(".bw-wide-chart svg").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.4, box["y"] + 60)
    assert "times smaller than the best" in status(page)


def test_the_books_runs_are_in_sight_at_small_budgets(open_page):
    page = open_page(budget_figure(log_flops=12.0, constants="own"))
    assert page.locator(".bw-run").count() == 2


def test_everything_by_keyboard_alone(open_page):
    page = open_page(budget_figure())
    seen = tab_stops(page, 15)
    every = ["Budget", "Constants", "Back", "Step", "Play", "Reset", "Along", "Computed", "Share", "Power",
             "Show known", "Curves of equal loss", "As a table"]  # fmt: skip
    assert [want for want in every if not any(name.startswith(want) for name in seen)] == []
    page.get_by_label("Budget C, FLOP").focus()
    page.keyboard.press("ArrowRight")
    assert status(page).startswith("6.31 × 10²³ FLOP")
    page.locator(".bw-picture").focus()
    page.keyboard.press("ArrowLeft")
    assert "1.26 times smaller than the best" in status(page)


def test_the_address_holds_a_moment_and_gives_it_back(open_page):
    page = open_page(budget_figure(), hash="#fig-compute-budget?log_flops=21&size=30&constants=unrounded")
    assert status(page).startswith("1 × 10²¹ FLOP")
    assert "10 times the best size" in status(page)
    press(page, "Back")
    page.wait_for_function("location.hash.includes('size=29')")


def test_a_broken_address_breaks_nothing(open_page):
    page = open_page(budget_figure())
    for query in ["log_flops=99&size=-4", "log_flops=x", "constants=nothing", "machine=%00", "percent=0&watts=null"]:
        page.evaluate("(query) => (location.hash = `#fig-compute-budget?${query}`)", query)
        assert re.match(r"[\d.]+ × 10\S+ FLOP", status(page)), query


def test_the_table_has_the_numbers(open_page):
    page = open_page(budget_figure(log_flops=math.log10(5.76e23), constants="rounded"))
    page.get_by_text("As a table").click()
    settle(page)
    rows, machines = (
        [row.split("\t") for row in page.locator(f".bw-details table >> nth={n}").locator("tbody tr").all_inner_texts()]
        for n in (0, 1)
    )
    assert len(rows) == 2 + 12
    assert all("20" in source for *_, source in rows[2:])  # each model's source, with its year
    assert rows[6][0] == "LLaMA 65B"
    assert rows[6][-1] == "Touvron et al. 2023, arXiv 2302.13971"
    costs = {row[0].split()[0]: [cell.replace("\u2009", " ") for cell in row[1:]] for row in machines}
    assert sorted(costs) == ["A100", "H100", "H200", "core"]
    assert costs["H100"] == ["16 900 GPU-days, 46 years on one", "404 000 kWh"]
    assert costs["A100"] == ["53 400 GPU-days, 146 years on one", "1.28 million kWh"]
    chinchilla = next(row for row in rows if row[0] == "Chinchilla")
    assert chinchilla[1:6] == ["70 billion", "1.4 trillion", "20", "5.88 × 10²³", "1.937"]
    assert rows[1][1] == "32.2 billion"


def test_named_hardware_has_its_own_days_and_energy(open_page):
    """5.62e23 FLOP at 40%: A100s, of 312 TFLOP/s each, need 989 / 312 times the days of H100s."""
    page = open_page(budget_figure())
    page.get_by_label("Computed on one").select_option("h200")
    assert "(16 500 GPU-days, 45 years on one; 395 000 kWh)" in status(page)
    page.get_by_label("Computed on one").select_option("a100")
    days = 10**23.75 / (0.4 * 312e12) / 86400
    assert f"({days:.3g}" == "(5.22e+04"
    assert "(52 200 GPU-days, 143 years on one; 1.25 million kWh)" in status(page)
    page.get_by_label("Budget C, FLOP").fill("12")
    assert "(9.27 × 10⁻⁸ GPU-days, 8.01 ms on one; 2.23 × 10⁻⁶ kWh)" in status(page)
    assert "on the A100: " in page.locator(".bw-panel", has_text="Yours, and the best").inner_text()


def test_text_is_never_markup(open_page):
    figure = budget_figure(log_flops=23.0)
    figure.models = [[NASTY, 1e9, 1e11, NASTY], ["<b>x</b>", 1e10, 2e11]]
    figure.machines = {key: {**machine, "label": NASTY} for key, machine in figure.machines.items()}
    figure.laws = {key: {**law, "label": NASTY} for key, law in figure.laws.items()}
    figure.caption = NASTY
    page = open_page(figure)
    page.get_by_text("As a table").click()
    settle(page)
    assert page.locator(".bw-details td", has_text="<img").count() > 0
    assert page.locator(".book-widget img, .bw b").count() == 0
    assert page.title() == "Figures"
    page = open_page(figure, java_script_enabled=False)
    assert page.locator(".book-widget-fallback :is(img, b)").count() == 0


def test_the_clean_up_leaves_nothing_behind(open_page):
    page = open_page(budget_figure())
    left = left_behind(page, "size")
    assert left == [[True, 2], 0, 0, 20]


def test_two_figures_and_a_fallback(open_page):
    page = open_page(budget_figure(), budget_figure(figure_id="fig-second", log_flops=20.0), height=4000)
    page.locator("#fig-second .bw-status").wait_for()
    press(page, "Back")
    assert "1.26 times smaller" in status(page)
    assert "the best size" in status(page, "#fig-second")
    page = open_page(budget_figure(), java_script_enabled=False)
    assert "is spent best on" in page.locator(".book-widget-fallback").inner_text()


def test_at_360_px_the_page_does_not_scroll_sideways(open_page):
    page = open_page(budget_figure(), width=360, has_touch=True)
    page.get_by_text("As a table").tap()
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert small_targets(page) == []
    page.get_by_role("button", name="Step", exact=True).tap()
    assert "1.26 times the best size" in status(page)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_fault(open_page, axe, theme):
    page = open_page(budget_figure(size=12), theme=theme, width=760, height=2500)
    page.get_by_text("As a table").click()
    assert axe_faults(page, axe) == []
