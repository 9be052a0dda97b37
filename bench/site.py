"""What a chapter's page weighs and how soon it shows on a slow phone, against an untouched Jupyter Book.

    python bench/site.py            print the table
    python bench/site.py --write    and keep it in bench/results/site.json

The untouched book has the same content and Jupyter Book's own settings. Both are served by this machine, compressed, to
a fresh browser with an empty cache: 1.44 Mbit/s, 562 ms of latency, a processor four times slower. What the untouched
book asks of a public CDN is taken from the npm packages of the same version and served from here as well, which spares
it the look-up of another host and a second handshake; what is in no such package is not counted, and is named. Rounds
alternate between the two; figures are medians.
"""

import argparse
import functools
import gzip
import http.server
import json
import mimetypes
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.parse
from importlib.metadata import version
from pathlib import Path

import yaml
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
sys.path.insert(0, str(ROOT / "tools"))

import records
from setup import find_browser

NETWORK = {
    "offline": False,
    "latency": 562.5,
    "downloadThroughput": 1.44e6 / 8,
    "uploadThroughput": 0.675e6 / 8,
}
CPU_SLOWDOWN = 4
CDN = re.compile(r"https://(?:cdn\.jsdelivr\.net/npm|unpkg\.com)/((?:@[^/\"']+/)?[^@/\"']+)@([^/\"']+)/")
ELSEWHERE = re.compile(r"""<(?:script|link|img)[^>]+(?:src|href)=["'](https?://[^"']+)""")


class Compressed(http.server.SimpleHTTPRequestHandler):
    """Serves a folder as a web host would: text compressed, nothing cached."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = Path(self.translate_path(urllib.parse.urlsplit(self.path).path))
        if not path.is_file():
            self.send_error(404)
            return
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        body = path.read_bytes()
        self.send_response(200)
        if kind.startswith("text/") or "javascript" in kind or "json" in kind or "svg" in kind:
            body = gzip.compress(body, 9, mtime=0)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def jupyter_book(source, output):
    """Builds the book in `source`; the folder of its pages."""
    command = [BIN / "jupyter-book", "build", source, "--path-output", output, "--all"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return Path(output) / "_build" / "html"


def chapter_of(toc):
    """The first notebook of the contents; where there is none yet, the page of the notation."""
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return next((file for file in files if (ROOT / f"{file}.ipynb").exists()), "book/notation")


def untouched(folder, chapter):
    """Builds the chapter, and the pages that it refers to, with Jupyter Book's own settings; the pages' folder."""
    book = folder / "book"
    book.mkdir(parents=True)
    source = next(path for path in (ROOT / "book").iterdir() if path.stem == Path(chapter).name)
    names = {source.name, "notation.md", "glossary.md", "bibliography.md", "benchmarks.md", "references.bib"}
    for name in names:
        shutil.copy(ROOT / "book" / name, book / name)
    (book / "index.md").write_text("# The book\n\nThe same content.\n", "utf-8")
    pages = dict.fromkeys([Path(chapter).name, "notation", "glossary", "bibliography", "benchmarks"])
    toc = {"format": "jb-book", "root": "book/index", "chapters": [{"file": f"book/{name}"} for name in pages]}
    ours = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    config = {  # what the content needs to be read at all; all else as it comes
        "title": ours["title"],
        "execute": ours["execute"],
        "parse": ours["parse"],
        "bibtex_bibfiles": ours["bibtex_bibfiles"],
    }
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), "utf-8")
    (folder / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
    return jupyter_book(folder, folder)


def bring_home(site):
    """Takes what a built site asks of a CDN from the npm packages. Gives (packages taken, addresses left out)."""
    taken, missing, left_out = {}, set(), set()

    def fetch(match):
        name, wanted = match.groups()
        target = site / "cdn" / f"{name}@{wanted}"
        if match.group() in missing:
            return match.group()
        if not target.exists():
            target.mkdir(parents=True)
            with tempfile.TemporaryDirectory() as box:
                command = [
                    BIN / "npm",
                    "pack",
                    f"{name}@{urllib.parse.unquote(wanted)}",
                    "--json",
                    "--pack-destination",
                    box,
                ]
                packed = subprocess.run(command, check=False, capture_output=True, text=True, cwd=box)
                if packed.returncode:  # no such version: the address stays as it is, and is reported
                    target.rmdir()
                    missing.add(match.group())
                    return match.group()
                entry = json.loads(packed.stdout)
                entry = entry[0] if isinstance(entry, list) else next(iter(entry.values()))
                taken[name] = entry["version"]
                archive = next(Path(box).glob("*.tgz"))
                shutil.unpack_archive(archive, box, filter="data")
                shutil.copytree(Path(box) / "package", target, dirs_exist_ok=True)
        return f"/cdn/{name}@{wanted}/"

    for page in site.rglob("*.html"):
        text = CDN.sub(fetch, page.read_text("utf-8"))
        left_out.update(ELSEWHERE.findall(text))
        page.write_text(text, "utf-8")
    return taken, sorted(left_out)


def visit(browser, address):
    """Opens a page once in a fresh context: (bytes received, requests, first and largest contentful paint in ms)."""
    context = browser.new_context(viewport={"width": 412, "height": 823})
    page = context.new_page()
    protocol = context.new_cdp_session(page)
    received = []
    protocol.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    protocol.send("Network.enable")
    protocol.send("Network.emulateNetworkConditions", NETWORK)
    protocol.send("Emulation.setCPUThrottlingRate", {"rate": CPU_SLOWDOWN})
    page.goto(address, wait_until="networkidle", timeout=120_000)
    paints = page.evaluate(
        """() => new Promise((done) => {
          new PerformanceObserver((list) => done({
            first: performance.getEntriesByName("first-contentful-paint")[0].startTime,
            largest: list.getEntries().at(-1).startTime,
          })).observe({ type: "largest-contentful-paint", buffered: true });
        })"""
    )
    context.close()
    return {"bytes": sum(received), "requests": len(received), **paints}


def serve(folder):
    """Serves `folder` on a free port of this machine; gives its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Compressed, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    chapter = chapter_of(yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8")))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        sites = {
            "this book": jupyter_book(ROOT, Path(folder) / "ours"),
            "untouched": untouched(Path(folder) / "theirs", chapter),
        }
        taken, left_out = bring_home(sites["untouched"])
        addresses = {name: f"{serve(site)}/{chapter}.html" for name, site in sites.items()}
        browser = playwright.chromium.launch(
            executable_path=find_browser(),
            args=["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )
        rounds = [{name: visit(browser, address) for name, address in addresses.items()} for _ in range(given.rounds)]
        chromium = browser.version
        browser.close()
    table = {
        name: {key: round(statistics.median(one[name][key] for one in rounds)) for key in rounds[0][name]}
        for name in addresses
    }
    ours, theirs = table["this book"], table["untouched"]
    ratios = {key: round(theirs[key] / ours[key], 1) for key in ours}
    print(f"{chapter}, {given.rounds} rounds, medians; slow 4G (1.44 Mbit/s, 562 ms), CPU / {CPU_SLOWDOWN}")
    print(f"{'':12}{'kB':>9}{'requests':>10}{'first paint':>14}{'largest paint':>15}")
    for name, row in table.items():
        print(f"{name:12}{row['bytes'] / 1000:9.1f}{row['requests']:10}{row['first']:11} ms{row['largest']:12} ms")
    print(f"{'ratio':12}{ratios['bytes']:9}{ratios['requests']:10}{ratios['first']:14}{ratios['largest']:15}")
    print(f"From npm instead of the CDN: {taken or 'nothing'}. Not counted: {', '.join(left_out) or 'nothing'}.")
    if given.write:
        record = {
            "chromium": chromium,
            "versions": {name: version(name) for name in ("jupyter-book", "sphinx-book-theme", "sphinx")},
            "page": chapter,
            "rounds": given.rounds,
            "network": "1.44 Mbit/s, 562 ms",
            "cpu_slowdown": CPU_SLOWDOWN,
            "from_npm": taken,
            "not_counted": left_out,
            "median": table,
            "ratio": ratios,
        }
        records.write("site", record)


if __name__ == "__main__":
    main()
