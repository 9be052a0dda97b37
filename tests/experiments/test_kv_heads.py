"""The script that compares models by their heads of keys and values: equal sizes, and the record that it made."""

import json
import math
from dataclasses import asdict

import pytest

from llmlib.experiments import kv_heads_record
from llmlib.experiments.compare_kv_heads import TRIAL, Plan, compare


def test_all_models_of_the_plan_have_one_size():
    sizes = [Plan().size(kv_heads) for kv_heads in Plan().kv_heads]
    counts = [size.count_parameters() for size in sizes]
    assert max(counts) / min(counts) < 1.001
    assert [size.kv_bytes() // sizes[-1].kv_bytes() for size in sizes] == [8, 2, 1]


def test_a_trial_is_repeatable_and_measures_every_model():
    first, second = (compare(TRIAL, progress=False) for _ in range(2))
    assert first["runs"] == second["runs"]
    assert [run["kv_heads"] for run in first["runs"]] == [2, 1]
    for run in first["runs"]:
        assert [step for step, _ in run["held_out"]] == [1, 2, 3]
        assert all(loss == pytest.approx(math.log(300), rel=0.05) for _, loss in run["held_out"])


def test_the_record_is_of_the_plan_in_the_script():
    record, plan = kv_heads_record(), Plan()
    assert record["plan"] == json.loads(json.dumps(asdict(plan)))
    assert record["kv_bytes"] == {str(k): plan.size(k).kv_bytes() for k in plan.kv_heads}
    assert record["parameters"] == {str(k): plan.size(k).count_parameters() for k in plan.kv_heads}
    assert {(run["kv_heads"], run["seed"]) for run in record["runs"]} == {
        (k, seed) for k in plan.kv_heads for seed in plan.seeds
    }
    for run in record["runs"]:
        assert run["held_out"][-1][0] == plan.recipe.steps
        assert run["held_out"][0][1] > run["held_out"][-1][1] > 0
