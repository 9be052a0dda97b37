"""A small page with figures in it, as the published book has them, for the tests: the twin, the host, the module, the style."""

import json
from collections.abc import Sequence
from pathlib import Path

from llmlib.widgets.base import BookWidget
from llmlib.widgets.modules import css_source, host_source, module_source

PAGE = """<!doctype html>
<html lang="en"{theme}><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Figures</title><link rel="icon" href="data:,"><link rel="stylesheet" href="look.css">
<style>body {{ margin: 0 auto; padding: 12px; max-width: {width}px; background: var(--paper); color: var(--ink); }}</style></head>
<body><main><h1>Figures</h1>{figures}</main>{scripts}<script src="host.js"></script></body></html>
"""


def write_page(
    folder: Path, figures: Sequence[BookWidget], *, theme: str = "", width: int = 800, name: str = "index.html"
) -> Path:
    """Write a page with these figures, and the files it needs, into a folder; give the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "look.css").write_text(css_source(), encoding="utf-8")
    (folder / "host.js").write_text(host_source(), encoding="utf-8")
    modules = sorted({figure._module for figure in figures})
    for module in modules:
        text = f"(window.bookWidgets ??= {{}})[{json.dumps(module)}] = {json.dumps(module_source(module))};\n"
        (folder / f"{module}.js").write_text(text, encoding="utf-8")
    page = PAGE.format(
        theme=f' data-theme="{theme}"' if theme else "",
        width=width,
        figures="\n".join(figure.twin() for figure in figures),
        scripts="".join(f'<script src="{module}.js"></script>' for module in modules),
    )
    path = folder / name
    path.write_text(page, encoding="utf-8")
    return path
