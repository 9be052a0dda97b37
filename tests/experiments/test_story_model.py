"""The script that trains the book's own model, and the one that measures it: on its trial plan, in seconds."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from llmlib import checkpoints
from llmlib.corpus import StoryWorld, stories
from llmlib.experiments import describe_story_model, story_model_numbers, story_model_run, train_story_model
from llmlib.experiments.describe_story_model import describe, judge, unrounded
from llmlib.experiments.held_out import held_out_losses, loss_of_rounding
from llmlib.experiments.train_story_model import END_OF_TEXT, TRIAL, train
from llmlib.training import Trainer


def records(folder: Path) -> list[dict[str, str]]:
    with open(folder / "records.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What one process makes of the trial plan."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("story")
    train(folder, TRIAL)
    return folder


def test_two_processes_learn_what_one_does(trained, tmp_path):
    """The command of the book's own run, on two processes: the sums differ in their order, so in the last digits."""
    command = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", train_story_model.__name__]
    done = subprocess.run(
        [sys.executable, "-m", *command, str(tmp_path), "--trial", "--distributed"],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for one, two in zip(records(trained), records(tmp_path), strict=True):
        assert float(one["loss"]) == pytest.approx(float(two["loss"]), rel=1e-3)
        assert one["tokens"] == two["tokens"]
    alone, together = (load_file(folder / "model.safetensors") for folder in (trained, tmp_path))
    for name, weight in alone.items():
        torch.testing.assert_close(weight, together[name], rtol=0, atol=5e-3)  # half precision, and Adam's small steps


def test_an_interrupted_run_goes_on_to_the_same_weights(trained, tmp_path, monkeypatch):
    take_step = Trainer._take_step

    def interrupted(trainer):
        if trainer.step == 7:
            raise KeyboardInterrupt
        return take_step(trainer)

    monkeypatch.setattr(Trainer, "_take_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, TRIAL)
    assert [row["step"] for row in records(tmp_path)] == [str(step) for step in range(1, 8)]
    monkeypatch.setattr(Trainer, "_take_step", take_step)
    train(tmp_path, TRIAL)
    assert [row["loss"] for row in records(tmp_path)] == [row["loss"] for row in records(trained)]
    straight, resumed = (load_file(folder / "model.safetensors") for folder in (trained, tmp_path))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_a_trial_is_measured_and_described(trained, tmp_path):
    numbers = describe(trained, plan=TRIAL, samples=3, tests=5, results=tmp_path, shipped=tmp_path / "model")
    assert numbers["parameters"] == sum(weight.numel() for weight in load_file(trained / "model.safetensors").values())
    assert numbers["held out"]["loss"] > numbers["held out"]["floor of these stories"] > 0
    assert numbers["samples"]["1.0"]["grammatical"] == 0  # after twenty steps
    replay = json.loads((tmp_path / "story_model_moments.json").read_text("utf-8"))
    assert [moment["step"] for moment in replay["moments"]] == list(TRIAL.moments)
    card = (tmp_path / "model" / "README.md").read_text("utf-8")
    assert f"{numbers['held out']['loss']:.4f}" in card
    assert "{numbers" not in card
    model, coder = checkpoints.load(tmp_path / "model")
    assert coder.special_tokens.keys() == {END_OF_TEXT}
    assert model.config == TRIAL.size


def test_the_loss_of_16_bits_is_measured_and_in_the_card(trained, tmp_path):
    """Against the difference of two losses."""
    numbers = describe(trained, plan=TRIAL, samples=3, tests=5, results=tmp_path, shipped=tmp_path / "model")
    rounded, coder = checkpoints.load(tmp_path / "model")
    exact, tests = unrounded(trained, rounded), list(stories(describe_story_model.TEST_SEED, 5))
    assert any(not torch.equal(a, b) for a, b in zip(exact.parameters(), rounded.parameters(), strict=True))
    losses = [held_out_losses(model, coder, tests)["loss"] for model in (exact, rounded)]
    cost = numbers["rounding"]
    assert cost["exact loss"] == pytest.approx(losses[0], rel=1e-6)
    assert cost["difference"] == pytest.approx(losses[1] - losses[0], abs=1e-6)
    assert 0 < abs(cost["difference"]) < 1e-3
    card = (tmp_path / "model" / "README.md").read_text("utf-8")
    assert f"by {1e6 * cost['difference']:+.1f} ± {1e6 * cost['standard error']:.1f} millionths" in card
    with torch.no_grad():
        rounded.head.weight.mul_(1.01)
    assert unrounded(trained, rounded) is None  # a state of other weights


def test_rounding_that_is_coarse_costs_what_can_be_seen():
    exact, coder = checkpoints.load()
    coarse = checkpoints.load_model()
    with torch.no_grad():
        for weight in coarse.parameters():
            weight.copy_((weight * 8).round() / 8)  # half a step of 1/8 is a fifth of the weights' spread
    cost = loss_of_rounding(exact, coarse, coder, list(stories(describe_story_model.TEST_SEED, 10)))
    assert cost["difference"] > max(0.3, 3 * cost["standard error"])


def test_a_run_goes_on_from_a_finished_model_and_is_described_after_it(trained, tmp_path):
    results, shipped, further = tmp_path / "results", tmp_path / "model", tmp_path / "further"
    plan = replace(TRIAL, story_seed=TRIAL.story_seed + 1, moments=(20,))
    sizes = {"samples": 3, "tests": 5, "results": results, "shipped": shipped}
    first = describe(trained, plan=TRIAL, **sizes)
    train(further, plan, after=shipped)
    assert float(records(further)[0]["loss"]) < float(records(trained)[10]["loss"]) < float(records(trained)[0]["loss"])
    both = describe(further, plan=plan, further=True, **sizes)
    assert (both["steps"], both["tokens"]) == (40, first["tokens"] + int(records(further)[-1]["tokens"]))
    assert both["curve"]["step"][: len(first["curve"]["step"])] == first["curve"]["step"]
    assert both["curve"]["step"][-1] == 40
    assert all(a < b for key in ("step", "tokens") for a, b in pairwise(both["curve"][key]))
    replay = json.loads((results / "story_model_moments.json").read_text("utf-8"))
    assert [moment["step"] for moment in replay["moments"]] == [0, 20, 40]
    card = (shipped / "README.md").read_text("utf-8")
    for words in ("| steps 1 to 20 |", "| steps 21 to 40 |", "runs/further --after runs/story", "(seeds 1 and 2)"):
        assert words in card
    with pytest.raises(ValueError, match="itself went on from another"):
        describe(further, plan=plan, further=True, **sizes)


def test_the_judge_knows_stories_of_the_world_from_others():
    texts = [story.text for story in stories(seed=9, n=20)]
    shares = judge([*texts, None, "A story that is none."], StoryWorld())
    assert shares["grammatical"] == shares["right in every respect"] == 20 / 22
    assert shares["ended"] == 21 / 22
    assert shares["attributes right"] == shares["references right"] == 1


def test_the_shipped_model_is_the_one_that_its_card_describes():
    """Its loss on some of the test stories again, and the curve and moments that the figure replays."""
    numbers = story_model_numbers()
    model, coder = checkpoints.load()
    tests = list(stories(describe_story_model.TEST_SEED, 100))
    again = held_out_losses(model, coder, tests)
    held = numbers["held out"]
    error = held["standard error of the excess"] * (held["stories"] / len(tests)) ** 0.5
    assert again["excess"] == pytest.approx(held["excess"], abs=3 * error)
    assert model.config.count_parameters() == numbers["parameters"]
    run = story_model_run()
    assert run["moments"][-1]["step"] == numbers["steps"] == run["curve"]["step"][-1]
    assert run["moments"][0]["loss"] == pytest.approx(torch.tensor(2048.0).log().item(), rel=0.02)
