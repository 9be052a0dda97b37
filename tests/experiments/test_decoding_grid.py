"""The record of quality against diversity: what it holds, and that a small instance of the script makes the same."""

import dataclasses

import pytest

from llmlib.corpus import StoryWorld, stories
from llmlib.decoding import Sampling
from llmlib.experiments import decoding_numbers
from llmlib.experiments.decoding_grid import CROSS, SEEDS, SETTINGS, STORIES, measure_settings, quality_and_diversity


def test_the_record_has_every_setting_with_every_seed_and_says_how_it_was_made():
    record = decoding_numbers()
    names = [field.name for field in dataclasses.fields(Sampling)]
    of_model = [row for row in record["rows"] if "world" not in row]
    kept = [(Sampling(**{name: row[name] for name in names}), row["seed"]) for row in of_model]
    single, crossed = ([(setting, seed) for setting in group for seed in SEEDS] for group in (SETTINGS, CROSS))
    assert kept == single + crossed
    assert {"script", "date", "hardware", "minutes"} <= set(record)
    assert record["stories a seed"] == STORIES
    for row in record["rows"]:
        assert 0 <= row["valid"] <= row["grammatical"] <= 1
        assert 0 < row["distinct"] <= 1
        assert row["words counted"] == record["words"]


def test_the_worlds_own_stories_are_all_valid():
    assert {row["valid"] for row in decoding_numbers()["rows"] if row.get("world")} == {1.0}
    texts = [story.text for story in stories(7, 20)]
    measured = quality_and_diversity([*texts, texts[0] + " Oh!"], StoryWorld(), words=100)
    assert measured["valid"] == pytest.approx(20 / 21)
    assert measured["words counted"] == 100


def test_a_small_instance_is_made_and_is_the_same_again():
    settings = (Sampling(temperature=0.5), Sampling(min_p=0.1))
    once, again = (measure_settings(settings, n=4, seeds=(0, 1))["rows"] for _ in range(2))
    assert once == again
    assert len(once) == 6
    assert set(once[0]) == set(decoding_numbers()["rows"][0])
