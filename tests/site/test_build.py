"""What the build makes of the sources: links that resolve, equations, launch links, the map, folds, fonts, styles."""

import doctest
import importlib
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pytest
from book_site import equations, fonts, stylesheets
from fontTools.ttLib import TTFont
from sphinx.errors import ExtensionError

ROOT = Path(__file__).resolve().parents[2]
KATEX = ROOT / "node_modules/katex"


class Links(HTMLParser):
    """The addresses that a page refers to, and the anchors that it offers."""

    def __init__(self):
        super().__init__()
        self.links, self.anchors, self.twice = [], {"", "top"}, []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src") and value is not None and tag != "use":
                self.links.append(value)
            if name == "id":
                if value in self.anchors:
                    self.twice.append(value)
                self.anchors.add(value)


def broken_links(site):
    """Internal links of a built site that lead nowhere, and ids that a page gives twice."""
    pages = {}
    for path in site.rglob("*.html"):
        pages[path.as_uri()] = parsed = Links()
        parsed.feed(path.read_text("utf-8"))
    broken = []
    for here, parsed in pages.items():
        broken += [f"{here}: id {name!r} is given twice" for name in parsed.twice]
        for link in parsed.links:
            address, fragment = urldefrag(urljoin(here, link))
            if not address.startswith("file:"):
                continue
            target = Path(unquote(address.removeprefix("file://")))
            anchor = unquote(fragment).split("?")[0]  # what follows ? is the state of a figure
            if not target.is_file() or (address in pages and anchor not in pages[address].anchors):
                broken.append(f"{here}: {link}")
    return broken


@pytest.mark.parametrize("which", ["built_site", "specimen", "specimen_with_repository"])
def test_internal_links_resolve(which, request):
    assert broken_links(request.getfixturevalue(which)) == []


@pytest.mark.parametrize("which", ["built_site", "specimen"])
def test_no_page_holds_an_equation_that_failed(which, request):
    """KaTeX prints what it cannot read in red, with this class."""
    for path in request.getfixturevalue(which).rglob("*.html"):
        text = path.read_text("utf-8")
        assert "katex-error" not in text, path
        assert text.count('class="katex-html" aria-hidden="true"') == text.count("<math xmlns"), "each has its MathML"


def test_equation_is_html_and_mathml_and_an_error_is_told():
    renderer = equations.Renderer(KATEX)
    try:
        html, error = renderer.render(r"\frac{1}{2}", True)
        assert error == ""
        assert "<mfrac>" in html
        assert 'class="katex-html"' in html
        html, error = renderer.render(r"\frac{1}{", False)
        assert html == ""
        assert "end of input" in error.lower()
        assert renderer.render("x^2", False)[1] == "", "an error does not stop the renderer"
    finally:
        renderer.close()


def test_missing_packages_are_said_in_one_sentence(tmp_path):
    with pytest.raises(ExtensionError, match="npm ci"):
        equations.Renderer(tmp_path / "katex").render("x", False)
    with pytest.raises(ExtensionError, match="npm ci"):
        fonts.write_equation_styles(tmp_path / "katex", tmp_path, {"x"}, "")


def test_subset_font_draws_what_is_asked_and_little_else():
    data = (KATEX / "dist/fonts/KaTeX_Main-Regular.woff2").read_bytes()
    small = fonts.subset_font(data, set("p(w∣)=∏語"))
    drawn = set(TTFont(BytesIO(small)).getBestCmap())
    assert drawn == {ord(character) for character in "p(w∣)="}, "the product sign is in another of the fonts"
    assert len(small) < len(data) / 8
    assert fonts.subset_font(data, {"語"}) is None


def test_launch_links_only_where_a_repository_is_set(specimen, specimen_with_repository):
    without = (specimen / "book/tokenization.html").read_text("utf-8")
    assert "data-launch" not in without
    assert 'class="source"' not in without
    assert "mybinder" not in without
    assert "colab" not in without
    page = (specimen_with_repository / "book/tokenization.html").read_text("utf-8")
    repository, path = "someone/some-book", "book/tokenization.ipynb"
    assert f'href="https://colab.research.google.com/github/{repository}/blob/main/{path}"' in page
    assert f'href="https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/{path}"' in page
    assert f'href="https://github.com/{repository}/blob/main/{path}"' in page
    first = (specimen_with_repository / "book/index.html").read_text("utf-8")
    assert "data-launch" not in first, "only a notebook can be launched"


def test_plain_links_lead_to_the_glossary_and_the_bibliography(specimen):
    page = (specimen / "book/tokenization.html").read_text("utf-8")
    assert re.search(r'href="#term-token"[^>]*>(?:<span[^>]*>)+plain link<', page)
    anchor = re.search(r'href="#([^"]+)"[^>]*>(?:<span[^>]*>)+Gage 1994<', page)[1]
    entry = re.search(rf'<div class="citation" id="{anchor}".*?</div>', page, re.DOTALL)[0]
    assert "A new algorithm for data compression" in entry


def test_notebook_can_be_downloaded(specimen):
    page = (specimen / "book/tokenization.html").read_text("utf-8")
    assert 'href="../_sources/book/tokenization.ipynb"' in page
    assert (specimen / "_sources/book/tokenization.ipynb").read_text("utf-8").startswith("{")


def test_map_links_what_exists_and_calls_the_rest_coming(specimen):
    page = (specimen / "book/index.html").read_text("utf-8")
    assert page.count('class="map-card') == 8
    assert page.count("map-coming") == 7
    assert '<a href="tokenization.html">Tokenization</a>' in page
    assert "kv_cache.html" not in page


def test_output_shows_the_twin_of_a_figure_and_its_scripts(specimen):
    page = (specimen / "book/tokenization.html").read_text("utf-8")
    assert 'data-widget="bpe_merges"' in page
    assert page.index("_static/widgets/bpe_merges.js") < page.index("_static/widgets/host.js")
    assert "require.js" not in page
    assert "html-manager" not in page
    assert 'type="module"' not in page, "no module loads from disk"


def test_only_used_files_are_published(specimen):
    names = {path.relative_to(specimen / "_static").as_posix() for path in (specimen / "_static").rglob("*.*")}
    assert not [name for name in names if "awesome" in name or "bootstrap" in name or "jquery" in name]
    assert {"book.css", "book.js", "search.js", "searchdata.js", "fonts/LICENSE.txt"} <= names


def test_style_sheet_keeps_every_rule_that_can_match():
    css = ".katex .a{top:0}.gone{top:1px}.gone,.a:not(.gone){left:0}@media print{.gone{top:0}.a{top:2px}}"
    kept = stylesheets.without_unused_classes(css, '<i class="katex a">')
    assert kept == ".katex .a{top:0}.gone,.a:not(.gone){left:0}@media print{.a{top:2px}}"


@pytest.mark.parametrize("rule", [".x:not(.gone,.gone2){top:0}", ":is(.gone,.x) .x{top:0}", '.x[a=".gone,.z"]{top:0}'])
def test_style_sheet_keeps_a_rule_whose_brackets_name_what_is_not_there(rule):
    assert stylesheets.without_unused_classes(rule + ".gone:not(.x){top:0}", '<p class="x">') == rule


def test_minified_styles_keep_their_strings():
    css = """a::after { content: "a,  b; /* c */ \\" }";  color: red; }  /* it's "gone */ b { content: ' ; '; }"""
    assert stylesheets.minified(css) == """a::after{content:"a,  b; /* c */ \\" }";color:red}b{content:' ; '}"""


@pytest.mark.parametrize(
    "module",
    [
        "assets",
        "chapter_map",
        "equations",
        "folds",
        "fonts",
        "navigation",
        "pages",
        "portable_links",
        "search",
        "stylesheets",
    ],
)
def test_examples_in_the_extension(module):
    assert doctest.testmod(importlib.import_module(f"book_site.{module}")).failed == 0
