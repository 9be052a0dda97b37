"""The model in a real page: in its worker, over http and from disk, in parts with progress; and how it fails."""

import json

import pytest
import torch

from llmlib import checkpoints
from llmlib.widgets.modules import host_source, module_source
from llmlib.widgets.page_model import STORY_MODEL, ModelWidget, model_manifest, model_part, model_scripts

# A page as the site has it: the host is a script of its own, and the model's parts lie beside it.
PAGE = """<!doctype html><html lang="en"><title>Model</title><link rel="icon" href="data:,">
<div class="book-widget" data-widget="probe" id="fig-probe"><script type="application/json">{}</script></div>
<script src="widgets/probe.js"></script><script src="widgets/host.js"></script>"""
PROBE = "\nexport default { render({ model }) { window.probe = { model, openModel }; } };"
OPEN = "probe.openModel({ model: probe.model, onProgress: (p) => (window.progress ??= []).push(p) })"


@pytest.fixture
def open_probe(browser, serve, tmp_path):
    """Open a page with window.probe = {model, openModel}: open_probe(over="http", edit={file: text or None})."""
    opened = []

    def open_(over="file", edit=None, before=""):
        folder = tmp_path / "widgets"
        folder.mkdir()
        module = json.dumps(module_source("runtime") + PROBE).replace("<", "\\u003c")
        scripts = {"host.js": host_source(), "probe.js": f'(window.bookWidgets ??= {{}})["probe"] = {module};'}
        for name, text in (scripts | model_scripts() | (edit or {})).items():
            if text is not None:
                (folder / name).write_text(text, "utf-8")
        (tmp_path / "index.html").write_text(PAGE, "utf-8")
        page = browser.new_context().new_page()
        page.faults = []
        page.on("console", lambda message: page.faults.append(message.text))
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.add_init_script(before)
        page.goto(f"{serve(tmp_path)}/index.html" if over == "http" else (tmp_path / "index.html").as_uri())
        page.wait_for_function("window.probe")
        opened.append(page)
        return page

    yield open_
    for page in opened:
        page.context.close()


@pytest.mark.parametrize("over", ["http", "file"])
def test_it_answers_as_torch_does_and_tells_how_far_it_has_come(open_probe, over):
    page = open_probe(over)
    assert page.evaluate("document.querySelectorAll('script[src*=story_model]').length") == 0, (
        "not before it is asked for"
    )
    found = page.evaluate(f"""async () => {{
        window.session = await {OPEN};  // calls are answered in order
        const ids = [session.tokenizer.end, ...session.tokenizer.encode("Once upon a time, there was")];
        const asked = [session.logits(ids), session.inspect(ids), session.logits(ids.slice(0, 3))];
        const [logits, seen, short] = await Promise.all(asked);
        return {{ ids, logits: [...logits], short: [...short], seen: [...seen.logits], layers: seen.layers.length }};
    }}""")
    model, coder = checkpoints.load()
    assert found["ids"] == [coder.special_tokens["<|endoftext|>"], *coder.encode("Once upon a time, there was")]
    with torch.no_grad():
        expected = model(torch.tensor([found["ids"]]))[0]
    for name, logits in (("logits", expected[-1]), ("seen", expected[-1]), ("short", expected[2])):
        torch.testing.assert_close(torch.tensor(found[name]), logits, atol=7e-4, rtol=0)
    assert found["layers"] == 5
    progress = page.evaluate("progress")
    assert [step["loaded"] for step in progress] == sorted({step["loaded"] for step in progress})
    size = (STORY_MODEL / "model.safetensors").stat().st_size
    assert (progress[0]["loaded"], progress[-1]["loaded"], {step["total"] for step in progress}) == (0, size, {size})
    assert page.evaluate("session.logits([2048]).catch((error) => error.message)").startswith(
        "The token 2048 is unknown"
    )
    assert page.evaluate("(session.close(), session.logits([1]).catch((error) => error.message))") == (
        "The model was closed; open it again."
    )
    assert page.faults == []


FAILURES = {
    "no workers": (
        {},
        "delete window.Worker",
        "This browser has no workers, so that the model cannot run in this page.",
    ),
    "no file": (
        {"story_model.2.js": None},
        "",
        "A file of the model could not be loaded; check the connection, and try",
    ),
    "no memory": (  # no browser has the room for the cache of such a context: a RangeError, in the worker
        {"story_model.js": model_scripts()["story_model.js"].replace(":384,", f":{2**40},", 1)},
        "",
        "There is not enough memory for the model in this page; close other pages or programs, and try again.",
    ),
    "a worker that stops": (
        {},
        """window.Worker = class {
          postMessage() { setTimeout(() => this.onerror({ message: 'it was ended' })); }
          terminate() {}
        }""",
        "The model's worker has stopped (it was ended), so that the model cannot run in this page.",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_is_told_in_a_sentence(open_probe, case):
    edit, before, sentence = FAILURES[case]
    page = open_probe(edit=edit, before=before)
    told = page.evaluate(f"{OPEN}.then(() => 'opened', (error) => error.message)")
    assert told.startswith(sentence)


def test_a_failed_file_can_be_tried_again(open_probe, tmp_path):
    page = open_probe(edit={"story_model.3.js": None})
    assert page.evaluate(f"{OPEN}.then(() => 'opened', (error) => error.message)").startswith("A file of the model")
    (tmp_path / "widgets" / "story_model.3.js").write_text(model_scripts()["story_model.3.js"], "utf-8")
    assert page.evaluate(f"{OPEN}.then(async (s) => (await s.logits([5])).length)") == 2048


BEST = {"longest": min, "first": min, "perSecond": max}


@pytest.mark.alone
def test_the_page_never_waits_and_the_first_token_comes_soon(open_probe):
    page = open_probe()
    script = f"""async () => {{
        let longest = 0;
        const note = (entry) => (longest = Math.max(longest, entry.duration));
        const observer = new PerformanceObserver((list) => list.getEntries().forEach(note));
        observer.observe({{ entryTypes: ["longtask"] }});
        const session = await {OPEN};
        const start = performance.now();
        const ids = [session.tokenizer.end, ...session.tokenizer.encode("Once upon a time, there was a little fox")];
        await session.logits(ids);
        const first = performance.now() - start;
        for (let i = 0; i < 100; i += 1) {{
          const logits = await session.logits(ids);
          ids.push(logits.indexOf(Math.max(...logits)));
        }}
        await new Promise((done) => setTimeout(done, 200));
        return {{ longest, first, perSecond: 100_000 / (performance.now() - start - first - 200) }};
    }}"""
    rounds = []
    for _ in range(3):  # another program may hold up any one of them
        rounds.append(page.evaluate(script))
        page.reload()
        page.wait_for_function("window.probe")
    measured = {name: pick(r[name] for r in rounds) for name, pick in BEST.items()}
    assert measured["longest"] <= 50  # ms; 0 where no task took that long
    assert measured["first"] <= 300
    assert measured["perSecond"] >= 100  # with other programs beside it; bench/page_model.py has the real figure


class Probe(ModelWidget):
    _module = "runtime"


def test_python_gives_the_parts_by_message_and_keeps_them_out_of_the_twin(monkeypatch, tmp_path):
    figure, sent = Probe(), []
    monkeypatch.setattr(figure, "send", lambda content, buffers=None: sent.append((content, buffers)))
    for part in (0, 1, 5):
        figure._answer(figure, {"kind": "model", "part": part}, [])
    assert sent[0] == ({"kind": "model", "part": 0, "manifest": model_manifest()}, None)
    weights = (STORY_MODEL / "model.safetensors").read_bytes()
    assert sent[1][1] == [weights[:480_000]]
    assert b"".join(model_part(part) for part in range(1, 6)) == weights
    figure._answer(figure, {"kind": "another"}, [])
    figure._answer(figure, "nothing", [])
    assert len(sent) == 3
    figure.folder = tmp_path
    figure._answer(figure, {"kind": "model", "part": 0}, [])
    assert sent[3][0]["problem"].startswith(f"{tmp_path} has no model.safetensors; a page runs a model saved by")
    figure.folder = STORY_MODEL
    assert len(json.dumps(figure.state())) < 1000
    assert STORY_MODEL == checkpoints.STORY_MODEL


def test_the_models_scripts_are_small_enough():
    import gzip

    assert sum(len(gzip.compress(text.encode(), 9)) for text in model_scripts().values()) <= 3.2 * 2**20
