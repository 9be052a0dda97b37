"""The Sphinx extension behind the published book: slim pages that need no other host and work from disk.

It replaces the theme's layout by the book's own (templates/), renders a page with only the styles and scripts that the
page uses, folds admonitions without a script, subsets the fonts of the equations, and writes the data of the search.
"""

import os
import sys
from pathlib import Path

from . import assets, chapter_map, equations, folds, navigation, pages, portable_links, search

TEMPLATES = Path(__file__).parent / "templates"


def put_node_on_path():
    """Lets the equation renderer find the `node` that is installed beside this Python, whatever the caller's PATH."""
    beside = str(Path(sys.executable).parent)
    paths = os.environ.get("PATH", "").split(os.pathsep)
    if beside not in paths:
        os.environ["PATH"] = os.pathsep.join([beside, *paths])


def drop_launchers(app, config):
    """Without a repository there is nowhere to launch from, and the theme fails on an empty address."""
    if not (config.html_theme_options.get("repository_url") or "").strip():
        config.html_theme_options = {**config.html_theme_options, "launch_buttons": {}, "repository_url": ""}


def prepare(app):
    """Turns off what the book does by itself: Sphinx's own search index, and its list of links to the source."""
    app.builder.search = False
    app.builder.use_index = False


def setup(app):
    """Connects the parts of the extension; Sphinx calls it once."""
    put_node_on_path()
    app.connect("config-inited", drop_launchers)
    app.connect("builder-inited", prepare, priority=900)
    app.connect("html-page-context", navigation.add_navigation, priority=900)
    app.connect("html-page-context", pages.add_page_details, priority=950)
    app.connect("html-collect-pages", search.search_page)
    app.connect("build-finished", search.write_search_data)
    app.connect("build-finished", assets.write_assets, priority=900)
    equations.setup(app)
    folds.setup(app)
    portable_links.setup(app)
    chapter_map.setup(app)
    return {"version": "1.0", "parallel_read_safe": True, "parallel_write_safe": True}
