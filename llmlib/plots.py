"""Plots in the book's one look: drawn with matplotlib, shown as inline SVG that follows the page's light or dark theme.

The colours say the same in every plot and figure: FOCUS is what the reader's hand is on, NEW what is computed now,
KEPT what is kept or cached, BACK gradients, WARN cost or waste, IDLE what is masked or past, INK text and axes.
"""

import html
import io
import re
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.resources import files
from typing import TypeVar

import matplotlib.pyplot as plt
from IPython.display import HTML, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, FOCUS, NEW, KEPT, BACK, WARN, IDLE = "#1f2328", "#0072b2", "#d55e00", "#008a64", "#b5578a", "#9a6f00", "#7a808a"

# A page defines the names on the left, for its light and its dark theme; JupyterLab defines its own text colour.
_THEME = {
    INK: f"var(--ink, var(--jp-content-font-color1, {INK}))",
    FOCUS: f"var(--focus, {FOCUS})",
    NEW: f"var(--new, {NEW})",
    KEPT: f"var(--kept, {KEPT})",
    BACK: f"var(--back, {BACK})",
    WARN: f"var(--warn, {WARN})",
    IDLE: f"var(--idle, {IDLE})",
}
_STYLE = str(files("llmlib") / "plots.mplstyle")


def figure(columns: int = 1, **options) -> tuple[Figure, Axes]:
    """A figure of the book's size with `columns` axes side by side: (figure, axes), or (figure, array of axes).

    `options` go to `matplotlib.pyplot.subplots`. The book's style stays on for what is drawn into the figure later.
    """
    plt.style.use(["default", _STYLE])
    return plt.subplots(1, columns, **options)


def label(axes: Axes, text: str, x: float, y: float, colour: str = INK, **options) -> None:
    """Write `text` beside a line, at data coordinates (x, y), in the line's colour: used instead of a legend."""
    axes.annotate(text, (x, y), xytext=(6, 0), textcoords="offset points", color=colour, va="center", **options)


def show(figure: Figure, description: str) -> "Plot":
    """End a cell with this: the figure as SVG. `description` says in words what a reader who cannot see it would miss.

    The figure is closed, so that it is not shown a second time and does not stay in memory.
    """
    if not description.strip():
        raise ValueError("A plot needs a description in words for readers who cannot see it; the one given is empty.")
    plot = Plot(figure, description)
    plt.close(figure)
    return plot


Item = TypeVar("Item")


def follow(items: Iterable[Item], total: int, what: str, draw: "Callable[[], Plot] | None" = None) -> Iterator[Item]:
    """Passes `items` on while a notebook shows how far they have come, and with `draw` a plot of how they look so far.

    What stays in the end holds no time, so that a stored notebook is the same after each run.

    >>> for step in follow(range(3), 3, "steps"): pass
    <IPython.core.display.HTML object>
    """
    started = shown = time.monotonic()
    handle = display(HTML(_progress(0, total, what, "")), display_id=True)
    done = 0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if handle and now - shown > 1:
            left = f", about {(now - started) * (total - done) / done:.0f} s left"
            handle.update(HTML(_progress(done, total, what, left) + (draw().html if draw else "")))
            shown = time.monotonic()
    if handle:
        handle.update(HTML(_progress(done, total, what, "") + (draw().html if draw else "")))


def follow_line() -> Callable[[str], None]:
    """A function that shows one line in a notebook, and replaces it each time it is called with another.

    >>> say = follow_line()
    >>> say("2 of 2 processes are done")
    <IPython.core.display.HTML object>
    """
    shown: list = []

    def say(line: str) -> None:
        text = HTML(f'<div class="progress">{html.escape(line)}</div>')
        if not shown:
            shown.append(display(text, display_id=True))
        elif shown[0]:
            shown[0].update(text)

    return say


def _progress(done: int, total: int, what: str, left: str) -> str:
    text = html.escape(f"{done} of {total} {what}{left}")
    bar = f'<progress value="{done}" max="{total}" aria-label="{html.escape(what)}"></progress> ' if left else ""
    return f'<div class="progress">{bar}{text}</div>'


class Plot:
    """A finished plot. Notebooks take its HTML, whose colours follow the theme; other viewers its plain SVG."""

    def __init__(self, figure: Figure, description: str):
        self.description = description
        self.svg = _to_svg(figure, salt=description)

    def __repr__(self) -> str:
        return f"Plot: {self.description}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self.html, "image/svg+xml": self.svg}

    @property
    def html(self) -> str:
        """The plot for a page: inline SVG whose colours are the theme's."""
        svg = re.sub("font-family: [^;]*", "font-family: inherit", self.svg)
        for colour, variable in _THEME.items():
            svg = re.sub(colour, variable, svg, flags=re.IGNORECASE)
        description = html.escape(self.description, quote=True)
        # On a narrow screen the plot keeps a readable size and scrolls in its frame, which Tab can therefore reach.
        svg = svg.replace("<svg", '<svg style="width: 100%; min-width: 27rem; max-width: 42rem"', 1)
        return (
            f'<div class="plot" role="img" tabindex="0" aria-label="{description}" style="overflow-x: auto">{svg}</div>'
        )


def _to_svg(figure: Figure, salt: str) -> str:
    """The figure as an <svg> element. The salt makes its internal ids the same in every run, and its own on a page."""
    with plt.rc_context({"svg.hashsalt": salt}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    view_box = re.search(r'viewBox="[^"]*"', svg).group()
    for dropped in (
        r"^.*?<svg[^>]*>",  # the XML header, and a size in points: the page decides
        r"<metadata>.*?</metadata>",
        r"<style.*?</style>",  # inline, it would apply to the whole page
        r"<!--.*?-->",
        r'(?<=<g) id="[^"]*"',  # names that nothing refers to, the same in every plot
    ):
        svg = re.sub(dropped, "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*\n\s*", "\n", svg.replace("\n<defs>\n</defs>", "")).strip()
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {names} {view_box} stroke-linejoin="round" stroke-linecap="butt">{svg}'
