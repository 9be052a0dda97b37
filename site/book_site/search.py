"""The book's search: the text of every section in one small script, which only the search page loads.

A plain script, not a request, so that the search works when the book is opened from disk.
"""

import json
import re
from pathlib import Path

from docutils import nodes

SKIPPED = (nodes.title, nodes.raw, nodes.image, nodes.comment, nodes.math_block, nodes.target)


def section_text(section):
    """The words of a section without its title, its subsections, its equations in display, and stored outputs."""
    words = []

    def walk(node):
        for child in node.children:
            if isinstance(child, (nodes.section, *SKIPPED)) or "cell_output" in getattr(child, "attributes", {}).get(
                "classes", []
            ):
                continue
            if isinstance(child, nodes.Text):
                words.append(str(child))
            else:
                walk(child)
                if not isinstance(child, nodes.Inline):
                    words.append(" ")

    walk(section)
    return re.sub(r"\s+", " ", "".join(words)).strip()


def search_page(app):
    """Yields the search page."""
    yield "search", {"title": "Search"}, "search.html"


def write_search_data(app, exception):
    """Writes `_static/searchdata.js`: for each section its page, anchor, titles and text."""
    if exception or app.builder.format != "html":
        return
    records = []
    for docname in sorted(app.env.found_docs):
        page = app.env.titles[docname].astext()
        for section in app.env.get_doctree(docname).findall(nodes.section):
            title = next((c.astext() for c in section.children if isinstance(c, nodes.title)), "")
            top = isinstance(section.parent, nodes.document)
            records.append(
                [
                    app.builder.get_target_uri(docname)
                    + ("" if top or not section["ids"] else f"#{section['ids'][0]}"),
                    page,
                    "" if top else title,
                    section_text(section),
                ]
            )
    text = "window.bookSearchData = " + json.dumps(records, ensure_ascii=False, separators=(",", ":")) + ";\n"
    target = Path(app.outdir) / "_static" / "searchdata.js"
    target.write_text(text, "utf-8")
