"""Figures in one HTML file that needs nothing else: to hand to a class, to open from disk, to test."""

import html
import json
import re
from collections.abc import Sequence

from llmlib.widgets.base import BookWidget
from llmlib.widgets.modules import css_source, host_source, joined_modules, module_source
from llmlib.widgets.page_model import ModelWidget, model_scripts

_COMMENTS = re.compile(r"^[ \t]*(?://.*|/\*\*[\s\S]*?\*/)[ \t]*\n", re.MULTILINE)  # of whole lines
_PAGE = """<!doctype html>
<html lang="en"{theme}><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="data:,"><style>
{css}
body {{ margin: 0 auto; padding: 12px; max-width: 860px; background: var(--paper); color: var(--ink); }}
</style></head><body><main><h1>{title}</h1>
{figures}
</main><script>
{scripts}
</script></body></html>
"""


def page_html(*figures: BookWidget, title: str = "Figures", theme: str = "") -> str:
    """Write figures as one page, alive without a kernel or a network.

    A figure that runs a model brings its weights along, a few megabytes.
    `theme` is "light", "dark", or "" for the system's own.
    Raises ValueError where two figures share a `figure_id`, or for another theme.
    """
    ids = [figure.figure_id for figure in figures]
    if len(set(ids)) < len(ids):
        raise ValueError(f"Two figures have the id {max(ids, key=ids.count)!r}; give each its own figure_id.")
    if theme not in ("", "light", "dark"):
        raise ValueError(f"theme is {theme!r}; choose 'light', 'dark' or ''.")
    folders = {figure.folder for figure in figures if isinstance(figure, ModelWidget)}
    if len(folders) > 1:
        raise ValueError("The figures of one page run one model; give all of them the same folder.")
    weights = [script for folder in folders for script in model_scripts(folder).values()]
    return _PAGE.format(
        theme=f' data-theme="{theme}"' if theme else "",
        title=html.escape(title),
        css=css_source(),
        figures="\n".join(figure.twin() for figure in figures),
        scripts="\n".join([*weights, *(registration(name) for name in _modules(figures)), host_source()]),
    )


def registration(module: str) -> str:
    """Give the classic script that hands a figure's module to the host, see host.js; safe inside a <script> element."""
    text = json.dumps(_COMMENTS.sub("", module_source(module))).replace("<", "\\u003c")
    return f"(window.bookWidgets ??= {{}})[{json.dumps(module)}] = {text};"


def runs_model(module: str) -> bool:
    """Say whether a figure's module runs a model in the page, so that the page needs the model's scripts.

    >>> runs_model("bpe_merges")
    False
    """
    return "runtime" in joined_modules(module)


def _modules(figures: Sequence[BookWidget]) -> list[str]:
    return sorted({figure._module for figure in figures})
