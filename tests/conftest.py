"""What all tests share: the browser, and --chapter, which keeps the tests of one chapter, its page and its figures."""

import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from setup import find_browser

CHROMIUM_FLAGS = [
    "--no-sandbox",  # the tests open only the book's own pages, and may run as root in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_addoption(parser):
    parser.addoption("--chapter", help="keep only the tests of this chapter, its page and its figures")


def widgets_of(chapter: str) -> set[str]:
    """The figures that a chapter shows: the names in data-widget="..." of its stored outputs."""
    notebook = nbformat.read(ROOT / "book" / f"{chapter}.ipynb", as_version=4)
    html = (
        output.get("data", {}).get("text/html", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    return {part.split('"')[0] for text in html for part in text.split('data-widget="')[1:]}


def pytest_collection_modifyitems(config, items):
    chapter = config.getoption("--chapter")
    if not chapter:
        return
    names = {chapter} | widgets_of(chapter)
    # The specimen is a chapter of the site's own tests; it stands in for each chapter, and is none.
    kept = [item for item in items if any(name in item.nodeid for name in names) and "specimen" not in item.nodeid]
    dropped = [item for item in items if item not in kept]
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept


@pytest.fixture(scope="module")
def one_thread():
    """Torch on one thread: for models too small to share out among cores, and for sums in one order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def browser():
    """One headless Chromium for a worker's tests; each test opens its own context."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def serve():
    """A function from a folder to the address where it is served, on this host."""
    servers = {}

    def start(folder):
        if folder not in servers:
            server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            servers[folder] = server
        return f"http://127.0.0.1:{servers[folder].server_address[1]}"

    yield start
    for server in servers.values():
        server.shutdown()
        server.server_close()
