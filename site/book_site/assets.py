"""The files that the pages load, made when all pages are written: styles, equation fonts, figures' scripts.

Only what some page refers to stays in `_static`; everything else that the theme and the extensions bring is removed.
"""

import re
import shutil
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import sphinx_design
from sphinx.errors import ExtensionError

from llmlib.widgets.modules import css_source, host_source
from llmlib.widgets.page import registration, runs_model
from llmlib.widgets.page_model import model_scripts

from . import stylesheets
from .fonts import write_equation_styles
from .pages import widgets_in

KEPT = {"searchdata.js", "search.js"}


class EquationText(HTMLParser):
    """Collects the characters of a page that are drawn with the equations' fonts."""

    def __init__(self):
        super().__init__()
        self.characters = set()
        self.depth = 0

    def handle_starttag(self, tag, attrs):
        if tag == "span" and (self.depth or ("class", "katex-html") in attrs):
            self.depth += 1

    def handle_endtag(self, tag):
        if tag == "span" and self.depth:
            self.depth -= 1

    def handle_data(self, data):
        if self.depth:
            self.characters.update(data)


def figure_scripts(names):
    """The scripts of the figures `names`: {file name under _static/widgets: text}, the host among them.

    Each is a classic script that hands the text of a figure's module to the host: from disk, no module would load.
    Where a figure runs the book's model, the model's scripts are among them; the host loads them when a reader asks.
    Raises ExtensionError, naming the figure, where the package has none of that name.
    """
    if not names:
        return {}
    scripts = {"host.js": stylesheets.minified_script(host_source())}
    for name in names:
        try:
            scripts[f"{name}.js"] = registration(name) + "\n"
        except (FileNotFoundError, ValueError) as error:
            raise ExtensionError(f"A page shows the figure {name!r}, which cannot be put on it: {error}") from error
    if any(map(runs_model, names)):
        scripts |= model_scripts()
    return scripts


def remove_unused(out, pages, kept=KEPT):
    """Removes from `_static` each file that no page refers to and that is not among the `kept`."""
    static = out / "_static"
    used = {name for html in pages.values() for name in re.findall(r'_static/([^"?#]+)', html)} | kept
    used |= {"favicon.svg", "logo.svg"}
    for path in sorted(static.rglob("*"), reverse=True):
        name = path.relative_to(static).as_posix()
        if path.is_file() and name not in used and not name.startswith("fonts/"):
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def write_entrance(app, out):
    """Writes index.html at the root of the site, which leads to the book's first page."""
    target = app.builder.get_target_uri(app.config.root_doc)
    title = escape(app.config.html_title)
    head = (
        f'<meta charset="utf-8">\n<title>{title}</title>\n<meta http-equiv="refresh" content="0; url={target}">\n'
        '<link rel="icon" href="_static/favicon.svg">'
    )
    body = f'<main><h1><a href="{target}">{title}</a></h1></main>'
    page = (
        f'<!DOCTYPE html>\n<html lang="{app.config.language}">\n<head>\n{head}\n</head>\n<body>{body}</body>\n</html>\n'
    )
    (out / "index.html").write_text(page, "utf-8")


def write_assets(app, exception):
    """Writes everything that the finished pages refer to below `_static`, and removes what they do not."""
    if exception or app.builder.format != "html":
        return
    root, out = Path(app.srcdir), Path(app.outdir)
    static = out / "_static"
    pages = {path: path.read_text("utf-8") for path in out.rglob("*.html") if "_static" not in path.parts}
    everything = "".join(pages.values())

    look = css_source()
    (static / "book.css").write_text(
        stylesheets.minified(stylesheets.tokens(look) + (root / "book/assets/book.css").read_text("utf-8")), "utf-8"
    )
    (static / "figures.css").write_text(stylesheets.minified(look), "utf-8")
    design = (Path(sphinx_design.__file__).parent / "static/sphinx-design.min.css").read_text("utf-8")
    (static / "design.css").write_text(stylesheets.without_unused_classes(design, everything), "utf-8")

    fonts = static / "fonts"
    shutil.rmtree(fonts, ignore_errors=True)
    if 'class="katex' in everything:
        collector = EquationText()
        for html in pages.values():
            if 'class="katex' in html:
                collector.feed(html)
        write_equation_styles(root / "node_modules/katex", static, collector.characters, everything)

    (static / "widgets").mkdir(exist_ok=True)
    figures = figure_scripts(widgets_in(everything))
    for name, text in figures.items():
        (static / "widgets" / name).write_text(text, "utf-8")
    for name in ("book.js", "code.js", "search.js"):
        (static / name).write_text(
            stylesheets.minified_script((root / "book/assets" / name).read_text("utf-8")), "utf-8"
        )
    write_entrance(app, out)
    remove_unused(out, pages, KEPT | {f"widgets/{name}" for name in figures})
