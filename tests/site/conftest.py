"""The built book, a specimen chapter that holds one of everything, and a tab that may ask no other host."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "site"))


def build(source, output):
    """Builds the book in `source` with warnings as errors; the folder of its pages."""
    command = [Path(sys.executable).parent / "jupyter-book", "build", source, "--path-output", output]
    done = subprocess.run([*command, "--all", "-W", "-n", "--keep-going"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"The book does not build:\n{done.stdout}\n{done.stderr}"
    return Path(output) / "_build" / "html"


@pytest.fixture(scope="session")
def built_site(tmp_path_factory):
    """The folder of the built book's pages; BOOK_SITE names one that is already built."""
    if os.environ.get("BOOK_SITE"):
        return Path(os.environ["BOOK_SITE"]).resolve()
    return build(ROOT, tmp_path_factory.mktemp("site"))


def make_specimen(folder, repository):
    """A small book in `folder` with the real settings and one chapter that holds one of everything."""
    folder.mkdir(parents=True)
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    config["repository"]["url"] = repository
    (folder / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
    for name in ("site", "node_modules"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "book").mkdir()
    (folder / "book/assets").symlink_to(ROOT / "book/assets")
    shutil.copy(ROOT / "book/references.bib", folder / "book/references.bib")
    here = Path(__file__).parent
    shutil.copy(here / "specimen_index.md", folder / "book/index.md")
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nparts:\n  - caption: 'Part I: Pre-training'\n    numbered: 1\n"
        "    chapters:\n      - file: book/tokenization\n",
        "utf-8",
    )
    from llmlib.widgets.bpe_merges import BPEMerges

    cells = []
    for text in (here / "specimen_chapter.md").read_text("utf-8").split("\n%%%\n"):
        cells.append(nbformat.v4.new_markdown_cell(text))
    output = partial(nbformat.v4.new_output, "execute_result", execution_count=1)
    long_text = "\n".join(f"{n} " + "x" * 3 * n for n in range(80))
    plot = (
        '<div class="plot" role="img" tabindex="0" aria-label="A line." style="overflow-x: auto">'
        '<svg viewBox="0 0 60 20" style="width: 100%; min-width: 27rem">'
        '<path d="M0 0L60 20" stroke="var(--focus)"/>'
        + "".join(
            f'<text style="font-size: 3px; fill: var(--{name})" x="9" y="{y}">{name}</text>'
            for y, name in enumerate(["focus", "new", "kept", "back", "warn", "idle"])
        )
        + "</svg></div>"
    )
    cells.append(
        nbformat.v4.new_code_cell("print(long)", execution_count=1, outputs=[output({"text/plain": long_text})])
    )
    cells.append(
        nbformat.v4.new_code_cell(
            "plot", execution_count=2, outputs=[output({"text/html": plot, "text/plain": "Plot"})]
        )
    )
    twin = BPEMerges(text="aaabdaaabac", caption="An example.").twin()
    cells.append(
        nbformat.v4.new_code_cell(
            "BPEMerges()", execution_count=3, outputs=[output({"text/html": twin, "text/plain": "BPEMerges()"})]
        )
    )
    book = nbformat.v4.new_notebook(cells=cells)
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for number, cell in enumerate(book.cells):
        cell["id"] = f"cell-{number}"
    nbformat.write(book, folder / "book/tokenization.ipynb")
    return folder


@pytest.fixture(scope="session")
def specimen(tmp_path_factory):
    """The specimen book, built without a repository."""
    folder = make_specimen(tmp_path_factory.mktemp("specimen") / "plain", "")
    return build(folder, folder)


@pytest.fixture(scope="session")
def specimen_with_repository(tmp_path_factory):
    """The specimen book, built with a repository."""
    folder = make_specimen(tmp_path_factory.mktemp("specimen") / "linked", "https://github.com/someone/some-book")
    return build(folder, folder)


class Visit:
    """One browser tab that lets no request leave this host, and remembers what went wrong and what was loaded."""

    def __init__(self, browser, width=1280, theme="light", **options):
        self.context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=theme, reduced_motion="reduce", **options
        )
        self.page = self.context.new_page()
        self.problems, self.loaded = [], {}
        self.page.on("console", lambda message: self.problems.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("requestfailed", self._failed)
        self.page.on("response", self._remember)
        self.page.route("**/*", self._guard)

    def _guard(self, route):
        url = route.request.url
        if url.startswith(("http://127.0.0.1:", "file:", "data:", "blob:")):
            route.continue_()
        else:
            self.problems.append(f"left the host: {url}")
            route.abort()

    def _failed(self, request):
        """A request that the browser itself gave up because the reader went on to another page did not fail."""
        if request.failure != "net::ERR_ABORTED":
            self.problems.append(f"failed: {request.url}: {request.failure}")

    def _remember(self, response):
        if response.status >= 400:
            self.problems.append(f"{response.status}: {response.url}")
        if response.url.startswith("http"):
            self.loaded[response.url] = response

    def go(self, address):
        self.page.goto(address)
        self.page.evaluate("document.fonts.ready.then(() => true)")
        return self.page

    def weights(self):
        """Bytes of what was loaded, each file compressed as a server would (fonts are already): {address: bytes}."""
        sizes = {}
        for url, response in list(self.loaded.items()):  # reading a body lets more arrive
            body = response.body()
            sizes[url] = len(body) if url.endswith(".woff2") else min(len(body), len(gzip.compress(body, 9)))
        return sizes

    def axe(self, colours_outside=None):
        """What axe-core finds wrong with the page, or only with the colours of what stands outside an element."""
        if not self.page.evaluate("typeof axe === 'object'"):
            self.page.evaluate((ROOT / "node_modules/axe-core/axe.min.js").read_text("utf-8"))
        context = {"exclude": [[colours_outside]] if colours_outside else []}
        options = {"resultTypes": ["violations"]} | ({"runOnly": ["color-contrast"]} if colours_outside else {})
        result = self.page.evaluate("([context, options]) => axe.run(context, options)", [context, options])
        return [
            f"{rule['id']}: {rule['help']}: {json.dumps([node['target'] for node in rule['nodes']][:3])}"
            for rule in result["violations"]
        ]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()


@pytest.fixture
def visit(browser):
    return partial(Visit, browser)
