"""The curriculum experiment on its trial scale: one truth per run, whatever interrupts the queue."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from llmlib.curriculum import difficulty_cdf
from llmlib.experiments import curriculum_arms, curriculum_runs
from llmlib.experiments.curriculum_arms import (
    ARMS,
    FULL,
    LONG_ARMS,
    MEASURES,
    TRIAL,
    Arm,
    Run,
    compared_runs,
    tuned,
    tuning_runs,
)
from llmlib.experiments.curriculum_corpus import mixed_stories, with_noise
from llmlib.experiments.curriculum_runs import Laboratory, PacedRecipe, plan_steps, read_runs, run_all
from llmlib.training import Recipe, token_losses

SMALL = replace(TRIAL, tokens=3_000, long=1.5, learning_rates=(1e-2,))
FEW, FEW_LONG = (*ARMS[:3], ARMS[-1]), LONG_ARMS[:2]


@pytest.fixture(autouse=True, scope="module")
def few_arms():
    """Of the queue's arms a few of each kind: the whole queue is tested without training."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (curriculum_arms, curriculum_runs):
            patch.setattr(module, "ARMS", FEW)
            patch.setattr(module, "LONG_ARMS", FEW_LONG)
        yield


def timeless(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def laboratory():
    torch.set_num_threads(1)
    return Laboratory(SMALL)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    run_all(folder, SMALL)
    return folder


def test_an_interrupted_queue_loses_at_most_the_run_it_fell_into(finished, tmp_path, monkeypatch):
    train, calls = Laboratory.train, []

    def interrupted(self, run, follow=lambda tokens: None):
        calls.append(run)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return train(self, run, follow)

    monkeypatch.setattr(Laboratory, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_all(tmp_path, SMALL)
    whole = timeless(finished / "runs.csv")
    assert timeless(tmp_path / "runs.csv") == whole[: 8 * len(SMALL.moments)]
    text = (tmp_path / "runs.csv").read_text()
    (tmp_path / "runs.csv").write_text(text[:-20])  # as if the power had failed while the last line was written
    calls[:] = [None] * 100
    run_all(tmp_path, SMALL)
    assert len(calls) - 100 == len(tuning_runs(SMALL)) + len(FEW) + len(FEW_LONG) - 7
    assert timeless(tmp_path / "runs.csv") == whole


def test_a_record_can_be_made_again_from_its_row(finished, laboratory):
    rows = timeless(finished / "runs.csv")[-len(SMALL.moments) :]
    first = rows[0]
    arm = Arm(
        first["condition"],
        first["measure"],
        first["pacing"],
        first["hard_first"] == "True",
        float(first["softness"]),
        int(first["stories"]),
    )
    again = laboratory.train(Run(first["purpose"], int(first["seed"]), arm, float(first["learning_rate"])))
    assert [{name: str(row[name]) for name in rows[0]} for row in again] == rows


def test_all_arms_read_the_same_tokens_and_short_stories_take_more_steps(laboratory):
    corpus = laboratory.corpus(0.0)
    budget = int(corpus.lengths.sum())
    plans = {arm: plan_steps(corpus, arm, budget, SMALL, np.random.default_rng(0)) for arm in ARMS}
    for plan in plans.values():
        read = [int(corpus.lengths[chosen].sum()) for chosen in plan]
        assert sum(read[:-1]) < budget <= sum(read)
        assert {len(chosen) for chosen in plan} == {2}
    assert len(plans[Arm("clean", "length", "root")]) > len(plans[Arm("clean")])
    assert len(plans[Arm("clean", "length", "root", hard_first=True)]) < len(plans[Arm("clean")])
    ones = plan_steps(corpus, Arm("clean", stories=1), budget, SMALL, np.random.default_rng(0))
    assert len(ones) == pytest.approx(2 * len(plans[Arm("clean")]), rel=0.2)


@pytest.mark.parametrize("hard_first", [False, True])
def test_no_step_of_a_plan_reads_what_is_not_open_yet(laboratory, hard_first):
    corpus, arm = laboratory.corpus(0.0), Arm("clean", "length", "linear", hard_first)
    budget = int(corpus.lengths.sum())
    d = difficulty_cdf(-corpus.scores["length"] if hard_first else corpus.scores["length"])
    read = 0
    for chosen in plan_steps(corpus, arm, budget, SMALL, np.random.default_rng(0)):
        c = min(1, read / (SMALL.growing * budget) * (1 - SMALL.start) + SMALL.start)
        assert (d[chosen] <= max(c, d.min())).all()
        read += int(corpus.lengths[chosen].sum())


def test_perplexity_is_the_reference_models_mean_surprise(laboratory):
    corpus, model = laboratory.corpus(0.0), laboratory.reference(0.0)[0]
    for number in (0, 17, 59):
        with torch.no_grad():
            slow = token_losses(model, corpus.documents.batch_of(np.array([number]))).mean().item()
        assert corpus.scores["perplexity"][number] == pytest.approx(slow, rel=1e-5)


def test_noise_changes_the_order_of_words_alone():
    texts = [story.text for story in mixed_stories(0, 60)]
    noisy = with_noise(texts, 0.3, Random(0))
    changed = [i for i, (a, b) in enumerate(zip(texts, noisy, strict=True)) if a != b]
    assert 8 <= len(changed) <= 28
    assert all(sorted(texts[i].split(" ")) == sorted(noisy[i].split(" ")) for i in changed)


def test_the_schedule_follows_tokens():
    """A run whose steps are all alike has the plain recipe's schedule; otherwise the share of tokens decides."""
    plain = Recipe(40, 1e-2, warm_up=4)
    even = PacedRecipe(40, 1e-2, warm_up=4, shares=tuple(n / 40 for n in range(41)))
    assert [even.learning_rate_at(n) for n in range(40)] == pytest.approx(
        [plain.learning_rate_at(n) for n in range(40)]
    )
    uneven = PacedRecipe(40, 1e-2, warm_up=4, shares=(0.5,) * 41)
    assert uneven.learning_rate_at(3) == plain.learning_rate_at(20)


def test_the_queue_tunes_fairly_and_goes_seed_by_seed(monkeypatch):
    monkeypatch.setattr(curriculum_arms, "ARMS", ARMS)
    monkeypatch.setattr(curriculum_arms, "LONG_ARMS", LONG_ARMS)
    loss = {2.5e-3: 2.0, 5e-3: 1.0, 1e-2: 1.5, 2e-2: 3.0}
    runs = {run.key: [{"loss_all": loss[run.learning_rate] + 0.1 * run.seed}] for run in tuning_runs(FULL)}
    for run in tuning_runs(FULL):  # with a curriculum, another rate is best
        if run.arm.measure == "length":
            runs[run.key] = [{"loss_all": -loss[run.learning_rate]}]
    assert tuned(runs, Arm("clean"), FULL) == 5e-3
    queue = list(compared_runs(runs, FULL))
    n = sum(run.seed == 0 and run.arm in ARMS for run in queue)
    assert [run.seed for run in queue if run.arm in ARMS] == [seed for seed in FULL.seeds for _ in range(n)]
    assert queue.index(next(run for run in queue if run.arm in LONG_ARMS)) == n * len(FULL.seeds)
    first = [run for run in queue if run.seed == 0]
    assert {run.arm for run in first} == {*ARMS, *LONG_ARMS}
    twice = [Arm(condition, "length", "root") for condition in ("clean", "short", "long")]
    for arm in (*ARMS, *LONG_ARMS):
        assert [run.learning_rate for run in first if run.arm == arm] == ([5e-3, 2e-2] if arm in twice else [5e-3])
    grids = {}
    for run in tuning_runs(FULL):
        grids.setdefault((run.arm.condition, run.arm.stories), {}).setdefault(run.arm, set()).add(
            (run.seed, run.learning_rate)
        )
    assert all(len({frozenset(grid) for grid in arms.values()}) == 1 for arms in grids.values())


def test_every_measure_is_tried_with_both_pacings():
    tried = {(arm.measure, arm.pacing) for arm in ARMS if arm.condition == "clean" and not arm.hard_first}
    assert {(measure, pacing) for measure in MEASURES for pacing in ("linear", "root")} <= tried
    assert len(set(ARMS)) == len(ARMS)


def test_the_records_hold_every_run_of_the_queue():
    """And no others: each at the rate that the recorded tuning gives it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curriculum_arms, "ARMS", ARMS)
        patch.setattr(curriculum_arms, "LONG_ARMS", LONG_ARMS)
        runs = read_runs(Path(curriculum_runs.__file__).parent / "results" / "curriculum_runs.csv")
        assert {run.key for run in [*tuning_runs(FULL), *compared_runs(runs, FULL)]} == runs.keys()
    assert {run.arm.condition for run in tuning_runs(FULL)} == {"clean", "short", "long", "noisy"}


def test_about_says_on_what_and_when(finished):
    about = json.loads((finished / "about.json").read_text())
    assert {"date", "hardware", "torch", "scale", "parameters", "entropies", "teacher_flops"} <= about.keys()
    assert list(about["entropies"]) == ["easy", "medium", "hard"]
    assert all(0 < nats < 5 for nats in about["entropies"].values())
    assert read_runs(finished / "nothing.csv") == {}
    assert curriculum_runs.KEY[0] == "purpose"
