"""The map of the book on its first page: a card for each chapter, a link where it exists, "coming" where not yet.

The cards are described in a TOML file (title, sentence, part, docname); each has a picture, an SVG file of its name.
"""

import tomllib
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from .navigation import number_of


class ChapterMap(nodes.General, nodes.Element):
    """Stands for the map until the page is written, when it is known which chapters exist."""


class ChapterMapDirective(SphinxDirective):
    """`{chapter-map} FILE`: the map described by FILE, a TOML file whose path starts at the root of the book."""

    required_arguments = 1

    def run(self):
        described = Path(self.env.srcdir) / self.arguments[0]
        self.env.note_dependency(str(described))
        chapters = tomllib.loads(described.read_text("utf-8"))["chapter"]
        for chapter in chapters:
            picture = described.with_suffix("") / f"{Path(chapter['docname']).name}.svg"
            self.env.note_dependency(str(picture))
            chapter["picture"] = picture.read_text("utf-8").strip()
        return [ChapterMap(chapters=chapters)]


def card(translator, chapter):
    """The HTML of one card."""
    builder = translator.builder
    here, docname = builder.current_docname, chapter["docname"]
    exists = docname in builder.env.found_docs
    title = escape(chapter["title"])
    if exists:
        number = number_of(builder.env, docname)
        title = f'<a href="{escape(builder.get_relative_uri(here, docname))}">{title}</a>'
        note = f'<span class="map-note">Chapter {number}</span>' if number else ""
    else:
        note = '<span class="map-note">Coming</span>'
    return (
        f'<li class="map-card{"" if exists else " map-coming"}">{chapter["picture"]}'
        f'<p class="map-title">{title} {note}</p><p>{escape(chapter["sentence"])}</p></li>'
    )


def visit_chapter_map(self, node):
    parts = {}
    for chapter in node["chapters"]:
        parts.setdefault(chapter["part"], []).append(card(self, chapter))
    for part, cards in parts.items():
        self.body.append(f'<h3 class="map-part">{escape(part)}</h3><ul class="map">{"".join(cards)}</ul>')
    raise nodes.SkipNode


def setup(app):
    """Registers the directive and its node."""
    app.add_node(ChapterMap, html=(visit_chapter_map, None))
    app.add_directive("chapter-map", ChapterMapDirective)
