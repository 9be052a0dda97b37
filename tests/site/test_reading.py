"""What a reader does on a page: search, switch the theme, use the keyboard alone, copy code, print, follow links."""

import json
import re
from urllib.parse import parse_qsl

import pytest

CHAPTER = "book/tokenization.html"


@pytest.mark.parametrize("over", ["http", "file"])
def test_search_finds_a_word_and_leads_to_its_section(specimen, serve, visit, over):
    start = serve(specimen) if over == "http" else specimen.as_uri()
    with visit() as tab:
        page = tab.go(f"{start}/search.html?q=likeli")
        page.locator(".search-status", has_text="Nothing found").wait_for()
        page.locator("#search-words").fill("margi sourc")
        first = page.locator(".search-results li").first
        assert "Equations" in first.inner_text()
        assert first.locator("mark").count() >= 1
        first.locator("a").click()
        page.wait_for_load_state()
        assert page.url.endswith("tokenization.html#equations")
        assert tab.problems == []


def test_search_finds_a_term_of_the_glossary(built_site, visit):
    with visit() as tab:
        page = tab.go((built_site / "search.html").as_uri() + "?q=kv%20cache")
        found = page.locator(".search-results a")
        assert sorted(found.nth(i).inner_text() for i in range(2)) == ["Glossary: KV cache", "KV cache"]
        found.get_by_text("Glossary: KV cache", exact=True).click()
        assert page.locator("dt:target").inner_text().startswith("KV cache")


def test_search_shows_what_is_typed_as_text(specimen, visit):
    with visit() as tab:
        page = tab.go((specimen / "search.html").as_uri())
        page.locator("#search-words").fill('<img src=x onerror="console.log(1)">')
        page.locator(".search-status", has_text="<img").wait_for()
        assert page.locator("main img").count() == 0
        assert tab.problems == []


def background(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_theme_follows_the_system_until_the_reader_chooses(specimen, visit):
    address = (specimen / CHAPTER).as_uri()
    with visit(theme="dark") as tab:
        page = tab.go(address)
        dark = background(page)
        page.emulate_media(color_scheme="light")
        light = background(page)
        assert dark != light
        button = page.locator(".theme-button")
        assert button.get_attribute("aria-pressed") == "false"
        button.click()
        assert background(page) == dark
        assert button.get_attribute("aria-pressed") == "true"
        page.reload()
        assert background(page) == dark, "the choice is remembered"
        page.emulate_media(color_scheme="dark")
        page.locator(".theme-button").click()
        assert background(page) == light
        page.locator(".theme-button").click()
        assert page.evaluate("localStorage.getItem('book-theme')") is None, "the system's own theme needs no memory"
        assert tab.problems == []


def test_colours_of_figures_change_with_the_theme(specimen, visit):
    with visit() as tab:
        page = tab.go((specimen / CHAPTER).as_uri())
        stroke = "getComputedStyle(document.querySelector('.plot path')).stroke"
        light = page.evaluate(stroke)
        page.locator(".theme-button").click()
        assert light == "rgb(0, 114, 178)", "--focus of the light palette"
        assert page.evaluate(stroke) == "rgb(86, 180, 233)", "--focus of the dark palette"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_in_a_plot_can_be_read_on_the_page(specimen, visit, theme):
    """WCAG 2.1, 1.4.3: small text has a contrast of 4.5 to 1; the formula is its definition of contrast ratio."""
    contrasts = """() => {
        const paint = document.createElement("canvas").getContext("2d");
        const light = (colour) => {
            paint.fillStyle = colour;
            paint.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...paint.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
                .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
        };
        const paper = light(getComputedStyle(document.body).backgroundColor);
        return [...document.querySelectorAll(".plot text")].map((text) => {
            const ink = light(getComputedStyle(text).fill);
            return [text.textContent, Math.max(ink, paper) / Math.min(ink, paper)];
        });
    }"""
    with visit(theme=theme) as tab:
        found = tab.go((specimen / CHAPTER).as_uri()).evaluate(contrasts)
        assert len(found) == 6
        assert [(name, contrast) for name, contrast in found if contrast < 4.5] == []


def test_keyboard_skips_to_the_text_and_shows_where_it_is(specimen, visit):
    with visit() as tab:
        page = tab.go((specimen / CHAPTER).as_uri())
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        seen = []
        for _ in range(60):
            page.keyboard.press("Tab")
            state = page.evaluate(
                """() => { const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
                return [e.tagName, e.className, parseFloat(s.outlineWidth), s.outlineStyle, r.width > 0]; }"""
            )
            if state[0] == "BODY":
                break
            seen.append(state)
        assert len(seen) > 15
        assert [state for state in seen if state[2] < 2 or state[3] == "none" or not state[4]] == []
        assert any(tag == "SUMMARY" for tag, *_ in seen)
        assert any(tag in ("PRE", "DIV", "SPAN") for tag, *_ in seen), "what scrolls can be reached"


def test_contents_on_a_narrow_screen_open_and_close_by_keyboard(specimen, visit):
    with visit(width=360) as tab:
        page = tab.go((specimen / CHAPTER).as_uri())
        contents, button = page.locator("#contents"), page.locator(".menu-button")
        assert not contents.is_visible()
        button.focus()
        page.keyboard.press("Enter")
        assert contents.is_visible()
        assert button.get_attribute("aria-expanded") == "true"
        assert page.evaluate("document.getElementById('contents').contains(document.activeElement)")
        page.keyboard.press("Escape")
        assert not contents.is_visible()
        assert "menu-button" in page.evaluate("document.activeElement.className")


def test_slash_goes_to_the_search_but_not_while_typing(specimen, visit):
    with visit() as tab:
        page = tab.go((specimen / CHAPTER).as_uri())
        page.keyboard.press("/")
        page.wait_for_url("**/search.html")
        page.locator("#search-words:focus").wait_for()
        page.keyboard.type("a/b")
        assert page.locator("#search-words").input_value() == "a/b"


def test_code_is_copied_as_it_stands(specimen, serve, visit):
    with visit(permissions=["clipboard-read", "clipboard-write"]) as tab:
        page = tab.go(f"{serve(specimen)}/{CHAPTER}")
        block = page.locator("div.highlight", has_text="def merge")
        block.locator("button.copy").click()
        block.locator("button.copy", has_text="Copied").wait_for()  # the clipboard answers when it is ready
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied.startswith("def merge(ids")
        assert copied.endswith("# a comment")
        assert page.locator(".cell_output button.copy").count() == 0


def test_long_output_scrolls_inside(specimen, visit):
    with visit() as tab:
        page = tab.go((specimen / CHAPTER).as_uri())
        output = page.locator(".cell_output .output", has_text="79 xxx")
        assert output.evaluate("e => e.clientHeight") < 500
        assert output.evaluate("e => e.scrollHeight") > 1000
        assert output.get_attribute("tabindex") == "0"


def test_folds_need_no_script(specimen, visit):
    with visit(java_script_enabled=False) as tab:
        tab.page.goto((specimen / CHAPTER).as_uri())
        answer = tab.page.get_by_text("There are four.")
        assert not answer.is_visible()
        tab.page.locator("summary", has_text="Solution").click()
        assert answer.is_visible()
        assert tab.page.locator("#contents").is_visible()


def test_deep_link_opens_a_moment_of_a_figure(specimen, visit):
    with visit() as tab:
        page = tab.go((specimen / CHAPTER).as_uri() + "#fig-bpe-merges?step=2")
        page.wait_for_selector(".book-widget .bw")
        assert page.locator(".book-widget-fallback").is_hidden()
        figure = page.locator("#fig-bpe-merges")
        figure.locator(".bw-status", has_text="Merge 2 of 3").wait_for()
        assert abs(figure.evaluate("e => e.getBoundingClientRect().top")) < 400
        assert tab.problems == []


def test_links_of_the_teaching_page_open_their_moments(built_site, visit):
    """Each of them: the figure is there, has these settings, and looks different where they are not its own."""
    looks = """(id) => {
        const box = document.getElementById(id);
        if (!box.querySelector(".bw[aria-busy=false]")) return "";
        const fields = [...box.querySelectorAll("input, select, textarea")].map((f) => f.value + f.checked);
        return box.innerText + fields + [...box.querySelectorAll("svg")].map((svg) => svg.innerHTML);
    }"""
    first = """(id) => JSON.parse(document.querySelector(`#${id} > script[type="application/json"]`).textContent)"""
    with visit() as tab:
        page = tab.go((built_site / "book/teach.html").as_uri())
        links = page.eval_on_selector_all('main a[href*="#fig-"]', "links => links.map(link => link.href)")
        assert len(links) > 15
        for link in links:
            figure, settings = link.split("?", 1)
            name = figure.split("#")[1]
            page.goto("about:blank")  # from one moment to another of the same page, nothing would be loaded
            page.goto(figure)
            page.wait_for_function(looks, arg=name)
            plain, state = page.evaluate(looks, name), page.evaluate(first, name)
            wanted = parse_qsl(settings, strict_parsing=True)
            changed = [
                value != state[key] if isinstance(state[key], str) else json.loads(value) != state[key]
                for key, value in wanted
            ]
            page.goto("about:blank")
            page.goto(link)
            page.wait_for_function(looks, arg=name)
            if any(changed):
                page.wait_for_function(f"([id, plain]) => ![plain, ''].includes(({looks})(id))", arg=[name, plain])
        assert tab.problems == []


def test_a_click_on_the_teaching_page_opens_a_figure_at_that_moment(built_site, visit):
    with visit() as tab:
        page = tab.go((built_site / "book/teach.html").as_uri())
        page.get_by_role("link", name="#fig-bpe-merges?step=3").click()
        page.locator("#fig-bpe-merges .bw-status", has_text="Merge 3 of 3").wait_for()
        assert tab.problems == []


def test_print_leaves_the_text_and_nothing_around_it(specimen, visit, tmp_path):
    with visit(theme="dark") as tab:
        page = tab.go((specimen / CHAPTER).as_uri())
        assert len(page.pdf()) > 20_000
        page.emulate_media(media="print")
        for gone in (".bar", "#contents", ".turn", ".copy", ".page-tools", ".foot"):
            assert page.locator(gone).first.is_hidden(), gone
        assert page.locator("h1").is_visible()
        assert page.locator("#fig-bpe-merges").is_visible()
        assert page.get_by_text("There are four.").is_hidden(), "a solution stays folded"
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert re.sub(r"\s", "", background(page)) == "rgb(255,255,255)"
        ink = page.evaluate("getComputedStyle(document.querySelector('.katex')).color")
        assert ink in ("rgb(0, 0, 0)", "rgb(31, 35, 40)")
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.evaluate("document.documentElement.dataset.theme") is None
