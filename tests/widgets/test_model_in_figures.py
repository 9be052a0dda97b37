"""The three figures that run the model: a prompt from an address or from Python, and memory that does not suffice."""

import pytest
import torch
from figures import best_beam, press, status

from llmlib import checkpoints, decoding
from llmlib.inspection import record_writing
from llmlib.widgets import Autoregression, BeamTree, SamplingExplorer
from llmlib.widgets.decoding_records import recorded_predictions

NO_MEMORY = "There is not enough memory for the model in this page; close other pages or programs, and try again."
OWN = "Tom was a cat"  # of no record


@pytest.fixture(scope="module")
def figures():
    """A new figure of each kind: figures("sampling", **state)."""
    records = recorded_predictions()
    makers = {
        "writing": lambda **state: Autoregression(record_writing(*checkpoints.load(), "Once upon", n=1), **state),
        "sampling": lambda **state: SamplingExplorer(records["sampling"][:1], **state),
        "beams": lambda **state: BeamTree(records["beams"][:1], width=2, length=3, alpha=0.0, **state),
    }
    return lambda kind, **state: makers[kind](**state)


def says(page, words, where=".bw-status"):
    page.wait_for_function(
        """([where, words]) => document.querySelector(where)?.textContent.replace(/[\\u2068\\u2069]/g, "")
            .replace(/\\u2009/g, " ").includes(words)""",
        arg=[where, words],
        timeout=20_000,
    )


# A context for which no browser has the room: the arrays of the cache are refused with a RangeError, in the worker.
def too_long(page):
    assert page.count('"max_position_embeddings":384') == 1
    return page.replace('"max_position_embeddings":384', f'"max_position_embeddings":{2**40}')


# The worker's own memory ends once the model is open: its logits find no room any more.
STARVED = """
const Plain = Blob;
window.Blob = function (parts, options) {
  const starve = `const Room = Float32Array;
    self.Float32Array = new Proxy(Room, { construct(made, [size, ...more]) {
      if (size === 2048) throw new RangeError("Array buffer allocation failed");
      return new made(size, ...more);
    } });`;
  return new Plain(parts[0].includes("serve(self)") ? [starve, ...parts] : parts, options);
};
"""
SHOWN = {
    "writing": (".bw-load", "The recorded run is shown."),
    "sampling": (".bw-guess .bw-problem", "The recorded texts are shown instead."),
    "beams": (".bw-guess .bw-problem", "The recorded texts are shown instead."),
}
ASK = {"writing": "Load the model", "sampling": "Use it", "beams": "Search on from here"}


@pytest.mark.parametrize("when", ["opening", "answering"])
@pytest.mark.parametrize("kind", SHOWN)
def test_missing_memory_is_told_in_words_and_the_record_is_shown(open_page, figures, kind, when):
    edit = too_long if when == "opening" else lambda page: page.replace("<script>", f"<script>{STARVED}", 1)
    page = open_page(figures(kind), edit=edit)
    page.locator(".bw[aria-busy=false]").wait_for()
    before = status(page)
    if kind == "writing":
        press(page, "Step")
        before = status(page)
    else:
        page.get_by_label("A beginning of your own").fill(OWN)
    press(page, ASK[kind])
    where, shown = SHOWN[kind]
    says(page, f"{NO_MEMORY} {shown}", where)
    page.locator(".bw[aria-busy=false]").wait_for()
    lacking = f"A recorded text is shown, for “{OWN}” needs the model. "
    assert status(page).removeprefix(lacking if when == "answering" else "") == before
    if kind != "writing":  # the figure goes on with its record
        press(page, ASK[kind])  # and the reader may try again
        says(page, f"{NO_MEMORY} {shown}", where)
    else:
        press(page, "Step")
        assert status(page).startswith("Token 1, logits: one for each of 2 048 tokens.")


def test_sampling_follows_a_prompt_of_the_address_and_takes_back_what_python_had_set(open_page, figures):
    page = open_page(figures("sampling"), hash=f"#fig-sampling-explorer?prompt={OWN}&top_k=3&temperature=3")
    says(page, "After “Tom·was·a·cat”: 3 of 2 048 tokens are kept")
    assert page.get_by_label("A beginning of your own").input_value() == OWN
    python = figures("sampling", prompt=OWN, top_k=3, temperature=3.0)
    shown = [float(row.split("\t")[-1]) for row in page.locator(".bw-sampled tbody tr").all_inner_texts()[:3]]
    assert shown == pytest.approx(sorted(python.probabilities.tolist(), reverse=True)[:3], abs=0.006)
    page.evaluate("location.hash = '#fig-sampling-explorer?top_k=2'")
    says(page, f"After “{recorded_end()}”: 2 of")


def recorded_end():
    """The end of the first recorded prompt, as the status line shows it."""
    return recorded_predictions()["sampling"][0]["prompt"][-30:].replace(" ", "·")


def test_beams_follow_a_prompt_of_the_address(open_page, figures):
    page = open_page(figures("beams"), hash=f"#fig-beam-tree?prompt={OWN}&step=3")
    says(page, "Step 3 of 3")
    page.wait_for_function("document.querySelector('.bw-beam-token').textContent.includes('cat')")
    best = figures("beams", prompt=OWN).hypotheses[0]
    row = page.locator(".bw-panel", has_text="Texts that stand").locator("tbody tr").first.inner_text().split("\t")
    _, coder = checkpoints.load()
    assert row[0] == coder.decode(best.tokens).replace(" ", "·")
    assert row[4] == f"{best.score:.2f}".replace("-", "−")


@pytest.mark.parametrize("kind", ["sampling", "beams"])
def test_without_workers_a_prompt_of_the_address_leaves_the_record_and_says_so(open_page, figures, kind):
    name = {"sampling": "fig-sampling-explorer", "beams": "fig-beam-tree"}[kind]
    page = open_page(
        figures(kind),
        hash=f"#{name}?prompt={OWN}",
        edit=lambda page: page.replace("<script>", "<script>delete window.Worker;", 1),
    )
    says(page, f"A recorded text is shown, for “{OWN}” needs the model. ")
    says(page, "This browser has no workers, so that the model cannot run in this page. The recorded", ".bw-problem")
    page.evaluate(f"location.hash = '#{name}?prompt={'x' * 70}'")
    says(page, f"A recorded text is shown, for “{'x' * 40}")


def test_a_prompt_that_is_the_records_own_fetches_nothing(open_page, figures):
    prompt = recorded_predictions()["sampling"][0]["prompt"]
    page = open_page(figures("sampling", prompt=prompt))
    assert status(page).startswith(f"After “{recorded_end()}”: all 2 048")
    assert page.locator(".bw-problem").inner_text().endswith("its 2.4 MB are fetched first.")


# ------------------------------------------------------------------------------------------------------------ Python


def test_python_reads_the_readers_prompt_with_the_model(story_model):
    model, coder = story_model
    figure = SamplingExplorer(recorded_predictions()["sampling"][:1], top_k=3, temperature=0.5)
    recorded = figure.probabilities
    figure.prompt = OWN
    ids = [coder.special_tokens["<|endoftext|>"], *coder.encode(OWN)]
    sampling = decoding.Sampling(0.5, 3)

    def expected(ids):
        with torch.no_grad():
            return sampling.probabilities(model(torch.tensor([ids]))[:, -1].double(), torch.tensor([ids]))[0]

    torch.testing.assert_close(figure.probabilities, expected(ids), atol=0.01, rtol=0)  # logits of two digits
    assert "after <q>Tom was a cat</q>" in figure.fallback()
    figure.written = coder.encode(" called")
    torch.testing.assert_close(figure.probabilities, expected([*ids, *figure.written]), atol=0.01, rtol=0)
    assert "after <q>Tom was a cat called</q>" in figure.fallback()
    figure.prompt, figure.written = "", []
    torch.testing.assert_close(figure.probabilities, recorded)


def test_beams_in_python_search_on_from_the_readers_prompt(story_model):
    model, coder = story_model
    figure = BeamTree(recorded_predictions()["beams"][:1], width=3, length=4, alpha=0.0, prompt=OWN)
    start = [coder.special_tokens["<|endoftext|>"], *coder.encode(OWN)]
    best = best_beam(model, start, 3, 4, penalty=0.0)
    assert figure.hypotheses[0].tokens == best.tokens
    assert figure.hypotheses[0].score == pytest.approx(best.score, abs=1e-3)
    assert "<q>Tom was a cat</q>" in figure.fallback()


@pytest.mark.parametrize("kind", ["sampling", "beams"])
def test_without_the_models_files_the_fallback_says_that_a_record_is_shown(figures, tmp_path, kind):
    figure = figures(kind)
    record, figure.folder, figure.prompt = figure.fallback(), tmp_path, "<b>"
    fallback = figure.fallback()
    assert fallback.endswith(record)
    assert fallback.startswith("<p>A recorded text is shown, for <q>&lt;b&gt;</q> needs the model: ")
    with pytest.raises(OSError, match=r"config\.json"):
        _ = figure.probabilities if kind == "sampling" else figure.hypotheses
