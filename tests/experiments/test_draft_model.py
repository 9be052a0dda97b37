"""The small model that drafts for the book's own: what its record says of it, and the script on a trial plan."""

import json

import pytest

from llmlib import checkpoints
from llmlib.corpus import stories
from llmlib.experiments import draft_model_numbers
from llmlib.experiments.held_out import held_out_losses
from llmlib.experiments.train_draft_model import DRAFT, TEST_SEED, ship
from llmlib.experiments.train_story_model import TRIAL, train


def test_the_shipped_draft_is_the_one_that_its_record_describes():
    numbers, (story_model, coder) = draft_model_numbers(), checkpoints.load()
    draft = checkpoints.load_model(checkpoints.DRAFT_MODEL)
    assert draft.config == DRAFT.size
    assert draft.config.vocab_size == story_model.config.vocab_size
    assert draft.config.count_parameters() == numbers["parameters"] < story_model.config.count_parameters() / 10
    assert (checkpoints.DRAFT_MODEL / "model.safetensors").stat().st_size <= 200_000
    tests, held = list(stories(TEST_SEED, 60)), numbers["held out"]
    again = held_out_losses(draft, coder, tests)
    error = held["standard error of the excess"] * (held["stories"] / len(tests)) ** 0.5
    assert again["excess"] == pytest.approx(held["excess"], abs=3 * error)
    assert numbers["steps"] == DRAFT.recipe.steps


def test_a_draft_is_trained_measured_and_stored(tmp_path):
    train(tmp_path / "run", TRIAL)
    numbers = ship(tmp_path / "run", TRIAL, tests=5, results=tmp_path, shipped=tmp_path / "draft")
    assert json.loads((tmp_path / "draft_model.json").read_text("utf-8")) == json.loads(json.dumps(numbers))
    assert numbers["steps"] == TRIAL.recipe.steps
    assert checkpoints.load_model(tmp_path / "draft").config == TRIAL.size
    assert not (tmp_path / "draft" / "tokenizer.json").exists()
