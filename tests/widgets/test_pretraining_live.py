"""TrainingReplay and AttentionView live in a real JupyterLab: with a run and a sentence of the reader's own."""

import re

from figures import wait_for_status

SETUP = """
from llmlib.widgets import AttentionView, TrainingReplay

def record(moments, prompts):
    place = lambda tokens, t, p: {
        "top": [[tokens[t + 1] if t + 1 < len(tokens) else " end", p], [" rival", 0.125]],
        "actual": p if t + 1 < len(tokens) else None}
    curve = dict(step=[1, 10], tokens=[8, 80], loss=[2.0, 1.5], gradient_norm=[1.0, 0.5], held_out=[[10, 1.5]])
    return dict(vocab_size=8, entropy=1.0, curve=curve, prompts=[{"tokens": t} for t in prompts], moments=[
        dict(step=step, tokens=8 * step, loss=None, held_out=1.75, gradient_norm=None, sample=f"Written at {step}.",
             predictions=[[place(tokens, t, p) for t in range(len(tokens))] for tokens in prompts])
        for step, p in moments])

run = record([(1, 0.25), (5, 0.5), (10, 0.75)], [["Once", " upon", " a", " time"], ["Tom", " ran"]])
replay = TrainingReplay(run, moment=2, position=1)
own = record([(3, 0.5), (7, 0.75)], [["My", " own", " words"]])

def attend(text):
    if not text.isascii():
        raise ValueError("Only ASCII, please.")
    tokens = text.split()
    return tokens, [[[[1 / (q + 1) if k <= q else 0 for k in range(len(tokens))] for q in range(len(tokens))]]]

view = AttentionView.of(*attend("The cat sat"), compute=attend)
"""


def test_both_figures_live_both_ways(open_lab):
    lab = open_lab(SETUP, "replay", "view", "replay")
    page = lab.page
    page.locator(".bw-status").nth(2).wait_for()
    first = page.locator(".bw").nth(0)

    # TrainingReplay: the reader's hand -> Python, and to the other view
    wait_for_status(page, "What follows “Once upon”?", "Training")
    first.get_by_label("Your guess").fill("a")
    lab.wait("replay.guess", "a")
    first.get_by_role("button", name="Reveal").click()
    lab.wait("(replay.revealed, replay.guesses)", [True, [[0, 1, "a"]]])
    wait_for_status(page, "The true token is “·a”: probability 0.75", "Training")
    first.locator(".bw-picture").focus()
    page.keyboard.press("ArrowLeft")
    lab.wait("(replay.moment, replay.prediction['actual'])", [1, 0.5])
    first.get_by_label("Prompt").select_option("1")
    lab.wait("(replay.prompt, replay.position, replay.revealed)", [1, 0, False])
    # Python -> the reader's eye
    lab.python("replay.prompt = 0; replay.position = 2; replay.moment = 0; replay.revealed = True; answer = None")
    wait_for_status(page, "Step 1, 8 tokens seen", "Training")
    wait_for_status(page, "The true token is “·time”: probability 0.25", "Training")
    lab.python("replay.moment = 2; replay.run = own; answer = None")
    lab.wait("(replay.moment, replay.position, replay.revealed, replay.guesses)", [1, 2, False, []])
    wait_for_status(page, "Step 7, 56 tokens seen: loss 1.75 nats", "Training")
    assert first.get_by_label("Prompt").locator("option").count() == 1
    first.get_by_role("button", name="Back").click()
    lab.wait("replay.moment", 0)
    first.get_by_role("button", name="Reset").click()  # to where the run of one's own began
    lab.wait("(replay.moment, replay.position)", [1, 2])
    refused = lab.python("replay.run = {}; answer = None")
    assert refused == "TraitError: run has no 'vocab_size'; add it."

    # AttentionView
    attention = page.locator(".bw").nth(1)
    wait_for_status(page, "“sat”, token 2, looks at “The” (0.33)", "Attention")
    attention.locator(".bw-picture").focus()
    page.keyboard.press("ArrowLeft")
    lab.wait("view.query", 1)
    attention.get_by_label("A sentence of your own").fill("one two three four")
    page.keyboard.press("Enter")
    wait_for_status(page, "“four”, token 3, looks at “one” (0.25)", "Attention")
    lab.wait("(view.sentence, view.text, view.query)", ["one two three four", 1, 3])
    attention.get_by_label("A sentence of your own").fill("né")
    attention.get_by_role("button", name="Look into it").click()
    attention.get_by_role("alert").get_by_text("This sentence cannot be shown: Only ASCII, please.").wait_for()
    attention.get_by_label("A sentence of your own").fill("fine")
    page.keyboard.press("Enter")
    wait_for_status(page, "Layer 0, head 0: “fine”, token 0", "Attention")
    assert attention.get_by_role("alert").count() == 0
    attention.get_by_role("button", name="Reset").click()
    lab.wait("(view.text, view.query)", [0, 2])
    lab.python("view.query = 0; answer = None")
    wait_for_status(page, "“The”, token 0, looks at itself (1.00)", "Attention")

    assert page.evaluate("[...document.querySelectorAll('.bw')].every((e) => e.scrollWidth <= e.clientWidth)")
    texts = page.locator(".bw-status").all_inner_texts()
    assert re.sub("[\u2068\u2069]", "", texts[0]) == re.sub("[\u2068\u2069]", "", texts[2])
