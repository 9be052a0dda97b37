"""The book's search: the text of every section in one small script, which only the search page loads.

A plain script, not a request, so that the search works when the book is opened from disk.
"""

import json
import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

SKIPPED = (nodes.raw, nodes.image, nodes.comment, nodes.math_block, nodes.target)


def text_of(part, title=nodes.title):
    """The words of a section or an entry, without what is listed by itself or is no text to look for."""
    words = []

    def walk(node):
        for child in node.children:
            if isinstance(child, (nodes.section, addnodes.glossary, title, *SKIPPED)):
                continue
            if "cell_output" in getattr(child, "attributes", {}).get("classes", []):
                continue
            if isinstance(child, nodes.math) and "\\" in child.astext():
                words.append("…")  # TeX is no text to read
            elif isinstance(child, nodes.Text):
                words.append(str(child))
            else:
                walk(child)
                if not isinstance(child, nodes.Inline):
                    words.append(" ")

    walk(part)
    return re.sub(r"\s+", " ", "".join(words)).strip()


def records_of(address, page, doctree):
    """What the search knows of a page: [address, title of the page, title of the section or term, text], one each."""
    records = []
    for section in doctree.findall(nodes.section):
        top = isinstance(section.parent, nodes.document)
        title = next((child.astext() for child in section.children if isinstance(child, nodes.title)), "")
        anchor = "" if top or not section["ids"] else f"#{section['ids'][0]}"
        records.append([address + anchor, page, "" if top else title, text_of(section)])
    for glossary in doctree.findall(addnodes.glossary):
        for entry in glossary.findall(nodes.definition_list_item):
            term = next(entry.findall(nodes.term))
            anchor = f"#{term['ids'][0]}" if term["ids"] else ""
            records.append([address + anchor, page, term.astext(), text_of(entry, nodes.term)])
    return records


def search_page(app):
    """Yields the search page."""
    yield "search", {"title": "Search"}, "search.html"


def write_search_data(app, exception):
    """Writes `_static/searchdata.js`: what is known of each section and each term of the glossary."""
    if exception or app.builder.format != "html":
        return
    records = [
        record
        for docname in sorted(app.env.found_docs)
        for record in records_of(
            app.builder.get_target_uri(docname), app.env.titles[docname].astext(), app.env.get_doctree(docname)
        )
    ]
    text = "window.bookSearchData = " + json.dumps(records, ensure_ascii=False, separators=(",", ":")) + ";\n"
    target = Path(app.outdir) / "_static" / "searchdata.js"
    target.write_text(text, "utf-8")
