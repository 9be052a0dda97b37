"""Plots follow the page's theme in every part, and are the same in every run."""

import re

import pytest

from llmlib import plots


def draw():
    figure, axes = plots.figure()
    axes.plot([1, 2, 3], [1, 4, 9], "o-", color=plots.FOCUS, label="squares")
    axes.set(xlabel="n", xscale="log")
    axes.text(1, 5, "bare text")
    axes.legend(title="of n")
    return plots.show(figure, 'Squares, "quoted" & growing.')


def test_no_part_keeps_a_colour_of_its_own():
    """Every colour in the page's version is a variable of the theme, or nothing; text without one would be black."""
    html = draw().html
    colours = re.findall(r"(?:fill|stroke): ([^;\"]+)", html)
    assert len(colours) > 20
    assert {colour for colour in colours if not colour.startswith("var(--")} <= {"none"}
    texts = re.findall(r"<(?:text|tspan)[^>]* style=[^>]*>", html)
    assert len(texts) > 5
    for element in texts:
        assert "fill: var(--ink" in element, element


def test_same_plot_in_every_run():
    assert draw().html == draw().html


def test_description_is_data():
    plot = draw()
    assert 'aria-label="Squares, &quot;quoted&quot; &amp; growing."' in plot.html
    assert repr(plot) == 'Plot: Squares, "quoted" & growing.'


def test_other_viewers_get_plain_svg():
    bundle = draw()._repr_mimebundle_()
    assert bundle["image/svg+xml"].startswith("<svg xmlns=")
    assert "var(" not in bundle["image/svg+xml"]


def test_plot_needs_a_description():
    figure, _ = plots.figure()
    with pytest.raises(ValueError, match="needs a description"):
        plots.show(figure, "  ")


def test_follow_passes_items_on_and_leaves_no_time_behind(monkeypatch):
    """While it runs it says how long is left; what stays is the same after each run."""
    shown = []

    class Handle:
        def update(self, html):
            shown.append(html.data)

    def display(html, display_id):
        shown.append(html.data)
        return Handle()

    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(plots, "display", display)
    monkeypatch.setattr(plots.time, "monotonic", lambda: next(clock))
    assert list(plots.follow(iter("abc"), 3, "steps")) == ["a", "b", "c"]
    assert all("left" in html and "<progress" in html for html in shown[1:-1])
    assert len(shown) > 2
    assert shown[-1] == '<div class="progress">3 of 3 steps</div>'
