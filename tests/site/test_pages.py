"""Every page of the book, served and from disk, in a browser that may ask no other host: quiet, light, fitting."""

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
KIB = 1024


def pages_of_the_book():
    """The pages in the order of the contents, and the search page."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    return [toc["root"], *[chapter["file"] for part in toc["parts"] for chapter in part["chapters"]], "search"]


PAGES = pages_of_the_book()
SPECIMEN = ["book/index", "book/tokenization", "search"]


def address_of(site, page, over, serve):
    return f"{serve(site)}/{page}.html" if over == "http" else (site / f"{page}.html").as_uri()


def assert_sound(visit, address):
    """The page is quiet and complete when read to its end: no request to another host, no 404, an empty console."""
    with visit() as tab:
        page = tab.go(address)
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        page.wait_for_timeout(50)
        assert tab.problems == []
        assert page.title()
        assert page.locator("html").get_attribute("lang") == "en"
        assert page.locator("h1").count() == 1
        levels = page.eval_on_selector_all("main h1, main h2, main h3, main h4", "all => all.map(h => +h.tagName[1])")
        jumps = [(a, b) for a, b in pairwise(levels) if b > a + 1]
        assert jumps == [], "a heading skips a level"
        assert page.locator('meta[name="description"]').count() <= 1


@pytest.mark.parametrize("over", ["http", "file"])
@pytest.mark.parametrize("name", PAGES)
def test_page_is_sound(built_site, serve, visit, name, over):
    assert_sound(visit, address_of(built_site, name, over, serve))


@pytest.mark.parametrize("over", ["http", "file"])
@pytest.mark.parametrize("name", SPECIMEN)
def test_specimen_is_sound(specimen, serve, visit, name, over):
    assert_sound(visit, address_of(specimen, name, over, serve))


def assert_fits(visit, address):
    """At 360 px and at 1280 px, light and dark: no sideways scrolling of the page, and nothing for axe to report.

    Axe looks at everything at both widths, once in each theme. What is left is the colours of the other two pairs, and
    there only of what stands around the text: the text itself has the same elements at each width.
    """
    with visit() as tab:
        page = tab.go(address)
        page.eval_on_selector_all("details", "folds => folds.forEach(fold => { fold.open = true })")
        for width, theme, other in ((1280, "light", "dark"), (360, "dark", "light")):
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_timeout(200)  # the page looks again at what scrolls when its size has settled
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, width
            page.emulate_media(color_scheme=theme)
            assert tab.axe() == [], (width, theme)
            page.emulate_media(color_scheme=other)
            assert tab.axe(colours_outside="main") == [], (width, other)


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_and_is_accessible(built_site, visit, name):
    assert_fits(visit, (built_site / f"{name}.html").as_uri())


def test_specimen_fits_and_is_accessible(specimen, visit):
    assert_fits(visit, (specimen / "book/tokenization.html").as_uri())


def assert_light(visit, address):
    """Before the reader touches anything: at most 300 kB compressed in all, 100 kB for the shell, without the page."""
    with visit() as tab:
        tab.go(address).wait_for_load_state("networkidle")
        sizes = tab.weights()
    content = (".html", "searchdata.js")  # what is searched is the book's text, not its shell
    page = {url: size for url, size in sizes.items() if url.endswith(content) or "/_images/" in url}
    shell = {url: size for url, size in sizes.items() if url not in page}
    assert shell, "the weights were not seen"
    assert sum(sizes.values()) <= 300 * KIB, sizes
    assert sum(shell.values()) <= 100 * KIB, shell


@pytest.mark.parametrize("name", PAGES)
def test_page_is_light(built_site, serve, visit, name):
    assert_light(visit, f"{serve(built_site)}/{name}.html")


def test_specimen_is_light(specimen, serve, visit):
    assert_light(visit, f"{serve(specimen)}/book/tokenization.html")


@pytest.mark.parametrize("name", PAGES)
def test_page_loads_no_script_it_does_not_use(built_site, serve, visit, name):
    """Figures' scripts only where there is a figure, the search's on its page, copying where there is code."""
    with visit() as tab:
        page = tab.go(f"{serve(built_site)}/{name}.html")
        has = {
            "code.js": page.locator("div.highlight").count() > 0,
            "host.js": page.locator("[data-widget]").count() > 0,
            "searchdata.js": name == "search",
            "equations.css": page.locator(".katex").count() > 0,
        }
        for file, used in has.items():
            loaded = any(url.endswith(file) for url in tab.loaded)
            assert loaded == used, file
        figures = {url.rsplit("/", 1)[1] for url in tab.loaded if "/_static/widgets/" in url} - {"host.js"}
        shown = page.eval_on_selector_all("[data-widget]", "boxes => boxes.map(box => box.dataset.widget)")
        assert figures == {f"{name}.js" for name in shown}
