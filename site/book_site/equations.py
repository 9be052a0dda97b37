"""Equations rendered while the book is built: HTML to see and MathML to hear, so that no page carries a renderer.

One `node` process renders them all with the npm package katex. What it cannot read is a warning that names the place.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)
SCRIPT = Path(__file__).with_name("render_equations.js")


class Renderer:
    """A `node` process that renders TeX; starts with the first equation, ends with `close`."""

    def __init__(self, katex):
        self.katex = Path(katex)
        self.process = None
        self.known = {}

    def start(self):
        """Starts the process. Raises ExtensionError where node or the package katex is missing."""
        node = shutil.which("node")
        if node is None:
            raise ExtensionError(
                "The equations need `node`, which is not on the PATH: install the packages of requirements.txt."
            )
        if not (self.katex / "package.json").exists():
            raise ExtensionError(
                f"The equations need the npm package katex, which is not in {self.katex.parent}: run `npm ci`."
            )
        self.process = subprocess.Popen(
            [node, str(SCRIPT), str(self.katex)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def render(self, tex, display):
        """TeX -> (HTML, error); one of the two is ""."""
        if (tex, display) not in self.known:
            if self.process is None:
                self.start()
            self.process.stdin.write(json.dumps({"tex": tex, "display": display}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
            if not line:
                raise ExtensionError(f"`node` ended while rendering the equation {tex!r}.")
            answer = json.loads(line)
            self.known[tex, display] = answer.get("html", ""), answer.get("error", "")
        return self.known[tex, display]

    def close(self):
        """Ends the process, if one was started."""
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait(timeout=10)
            self.process.stdout.close()
            self.process = None


def unnumbered(tex):
    r"""TeX whose environments number no lines: the book's own numbers are beside the equation.

    >>> unnumbered(r"\begin{align} a &= b \end{align}")
    '\\begin{align*} a &= b \\end{align*}'
    """
    return re.sub(r"\\(begin|end)\{(align|gather|equation|alignat)\}", r"\\\1{\2*}", tex)


def rendered(translator, node, display):
    """The HTML of an equation; where it cannot be rendered, a warning and its source."""
    tex = node.astext().strip()
    html, error = translator.builder.app.book_equations.render(unnumbered(tex), display)
    if error:
        logger.warning("This equation cannot be rendered (%s): %s", error, tex, location=node, type="book")
        return f"<code>{translator.encode(tex)}</code>"
    return html


def visit_inline(self, node):
    self.body.append(self.starttag(node, "span", "", CLASS="math") + rendered(self, node, False) + "</span>")
    raise nodes.SkipNode


def visit_display(self, node):
    self.body.append(self.starttag(node, "div", CLASS="math"))
    self.body.append(rendered(self, node, True))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>\n")
    raise nodes.SkipNode


def open_renderer(app):
    app.book_equations = Renderer(Path(app.srcdir) / "node_modules/katex")


def close_renderer(app, exception):
    app.book_equations.close()


def setup(app):
    """Registers the renderer of equations under the name `book`."""
    app.add_html_math_renderer("book", inline_renderers=(visit_inline, None), block_renderers=(visit_display, None))
    app.connect("builder-inited", open_renderer)
    app.connect("build-finished", close_renderer, priority=100)
