"""The book's own model in the published pages: a reader asks for it, its files arrive, and it answers."""

import re

import pytest

MODEL_FILES = ["story_model.js", *(f"story_model.{part}.js" for part in range(1, 6))]
OWN = "Tom was a cat who lived in"  # no figure of the book has a record of it


def status_of(page, figure, words):
    """A figure's status line once it holds these words, as plain text."""
    page.wait_for_function(
        """([figure, words]) => {
            const status = document.querySelector(`${figure} .bw-status`)?.textContent ?? "";
            return status.replace(/[\\u2068\\u2069]/g, "").replace(/\\u2009/g, " ").includes(words);
        }""",
        arg=[figure, words],
        timeout=15_000,
    )
    return re.sub("[\u2068\u2069]", "", page.locator(f"{figure} .bw-status").inner_text()).replace("\u2009", " ")


def opened(tab, built_site, serve, over, chapter, figure):
    address = f"{serve(built_site)}/book/{chapter}.html" if over == "http" else None
    page = tab.go((address or (built_site / f"book/{chapter}.html").as_uri()) + figure)
    page.locator(f"{figure} .bw[aria-busy=false]").wait_for()
    return page


def assert_fetched(tab, page):
    """All of the model's files came, from beside the page, and nothing was complained of."""
    names = page.evaluate("performance.getEntriesByType('resource').map(({ name }) => name.split('/').at(-1))")
    if page.url.startswith("http"):  # a browser lists no files that it reads from disk
        assert sorted(name for name in names if name.startswith("story_model")) == sorted(MODEL_FILES)
    assert tab.problems == []


@pytest.mark.parametrize("over", ["http", "file"])
def test_the_chapter_on_inference_loads_the_model(built_site, serve, visit, over):
    figure = "#fig-autoregression"
    with visit() as tab:
        page = opened(tab, built_site, serve, over, "inference", figure)
        page.locator(figure).get_by_role("button", name="Load the model").click()
        page.locator(figure).get_by_text("The model runs in this page.").wait_for(timeout=15_000)
        page.locator(figure).get_by_label("Prompt").fill(OWN)
        page.locator(figure).get_by_role("button", name="Next token").click()
        status_of(page, figure, "Token 1, append: the text has")
        assert page.locator(f"{figure} .bw-written").count() == 1
        tiles = page.locator(f"{figure} .bw-prompt .bw-token").all_inner_texts()
        assert "".join(tiles[1:-1]) == OWN.replace(" ", "·")
        assert_fetched(tab, page)


@pytest.mark.parametrize("over", ["http", "file"])
def test_the_chapter_on_decoding_reads_a_beginning_of_the_readers_own(built_site, serve, visit, over):
    figure = "#fig-sampling-explorer"
    with visit() as tab:
        page = opened(tab, built_site, serve, over, "decoding", figure)
        page.locator(figure).get_by_label("A beginning of your own").fill(OWN)
        page.locator(figure).get_by_role("button", name="Use it").click()
        assert "2 048 tokens" in status_of(page, figure, f"After “{OWN.replace(' ', '·')}”: ")
        page.locator(figure).get_by_role("button", name="Write one token").click()
        page.wait_for_function("document.querySelector('.bw-story-new').textContent !== ''", timeout=15_000)
        assert_fetched(tab, page)
