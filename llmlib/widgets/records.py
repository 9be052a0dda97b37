"""The record of a training run as the figures take it: checked once, and made small."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

DIGITS = 4  # significant; a loss is shown with two decimals, a probability with two
TOP_DIGITS = 3  # of the probabilities of a distribution, which are most of the data
MAX_POINTS = 1000  # of a curve; more are thinned


class WrongRecord(ValueError):
    """A record that cannot be shown: one sentence says where, what was given and what is allowed."""


def compact_run(run: Any) -> dict[str, Any]:
    """Check a run, see TrainingReplay for its shape, and give it with short numbers and nothing else in it.

    Raises WrongRecord.
    """
    if not isinstance(run, Mapping):
        raise WrongRecord(
            f"run is a {type(run).__name__}; it has to be a dictionary of vocab_size, entropy, curve, prompts, moments."
        )
    V = _integer(_get(run, "vocab_size", "run"), "run['vocab_size']", least=2)
    prompts = [
        {"tokens": _texts(_get(prompt, "tokens", where), f"{where}['tokens']")}
        for where, prompt in _items(_get(run, "prompts", "run"), "run['prompts']")
    ]
    moments = [
        _moment(moment, where, prompts, V) for where, moment in _items(_get(run, "moments", "run"), "run['moments']")
    ]
    _increasing([moment["step"] for moment in moments], "The steps of run['moments']")
    return {
        "vocab_size": V,
        "entropy": _number(_get(run, "entropy", "run"), "run['entropy']", missing=True),
        "curve": _curve(_get(run, "curve", "run")),
        "prompts": prompts,
        "moments": moments,
    }


def _curve(curve: Any) -> dict[str, list]:
    names = ("step", "tokens", "loss", "gradient_norm")
    where = "run['curve']"
    columns = {name: list(_get(curve, name, where)) for name in names}
    sizes = {name: len(column) for name, column in columns.items()}
    if len(set(sizes.values())) > 1 or not sizes["step"]:
        raise WrongRecord(f"The columns of {where} have {sizes} entries; each needs one a recorded step, at least one.")
    kept = _thinned(sizes["step"])
    thin = {}
    for name in names:
        checked = _integer if name in ("step", "tokens") else _number
        thin[name] = [checked(columns[name][i], f"{where}['{name}'][{i}]") for i in kept]
    _increasing(thin["step"], f"The steps of {where}")
    held_out = list(_get(curve, "held_out", where))
    pairs = []
    for i in _thinned(len(held_out)):
        place, pair = f"{where}['held_out'][{i}]", held_out[i]
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise WrongRecord(f"{place} is {pair!r}; it has to be [step, loss].")
        pairs.append([_integer(pair[0], f"{place}[0]"), _number(pair[1], f"{place}[1]")])
    _increasing([step for step, _ in pairs], f"The steps of {where}['held_out']")
    return {**thin, "held_out": pairs}


def _moment(moment: Any, where: str, prompts: list[dict], V: int) -> dict[str, Any]:
    predictions = _get(moment, "predictions", where)
    if len(predictions) != len(prompts):
        raise WrongRecord(
            f"{where}['predictions'] has {len(predictions)} entries for {len(prompts)} prompts: give one for each."
        )
    found = []
    for p, (prompt, places) in enumerate(zip(prompts, predictions, strict=True)):
        T, here = len(prompt["tokens"]), f"{where}['predictions'][{p}]"
        if len(places) != T:
            raise WrongRecord(
                f"{here} has {len(places)} entries; prompt {p} has {T} tokens: give one after each token."
            )
        found.append([_prediction(place, f"{here}[{t}]", t + 1 == T) for t, place in enumerate(places)])
    sample = _get(moment, "sample", where)
    if not isinstance(sample, str):
        raise WrongRecord(f"{where}['sample'] is a {type(sample).__name__}; it has to be a text, if only an empty one.")
    return {
        "step": _integer(_get(moment, "step", where), f"{where}['step']"),
        "tokens": _integer(_get(moment, "tokens", where), f"{where}['tokens']"),
        **{
            name: _number(_get(moment, name, where), f"{where}['{name}']", missing=True)
            for name in ("loss", "held_out", "gradient_norm")
        },
        "sample": _sound(sample),
        "predictions": found,
    }


def _prediction(place: Any, where: str, last: bool) -> dict[str, Any]:
    top = []
    for here, pair in _items(_get(place, "top", where), f"{where}['top']"):
        if not isinstance(pair, Sequence) or len(pair) != 2 or not isinstance(pair[0], str):
            raise WrongRecord(f"{here} is {pair!r}; it has to be [token, probability].")
        top.append([_sound(pair[0]), _probability(pair[1], f"{here}[1]", TOP_DIGITS)])
    if sum(p for _, p in top) > 1.01 or any(left[1] < right[1] for left, right in pairwise(top)):
        raise WrongRecord(
            f"{where}['top'] is no part of a distribution: sort it, most probable first; its sum is at most 1."
        )
    actual = _get(place, "actual", where)
    if last != (actual is None):
        raise WrongRecord(
            f"{where}['actual'] is {actual!r}; give the probability of the token that follows, None after the last one."
        )
    return {"top": top, "actual": None if last else _probability(actual, f"{where}['actual']", DIGITS)}


def _get(record: Any, key: str, where: str) -> Any:
    if not isinstance(record, Mapping):
        raise WrongRecord(f"{where} is a {type(record).__name__}; it has to be a dictionary.")
    if key not in record:
        raise WrongRecord(f"{where} has no {key!r}; add it.")
    return record[key]


def _items(values: Any, where: str) -> list[tuple[str, Any]]:
    if isinstance(values, str | Mapping) or not isinstance(values, Sequence) or len(values) == 0:
        raise WrongRecord(f"{where} has to be a list with at least one entry.")
    return [(f"{where}[{i}]", value) for i, value in enumerate(values)]


def _texts(values: Any, where: str) -> list[str]:
    for here, value in _items(values, where):
        if not isinstance(value, str):
            raise WrongRecord(f"{here} is {value!r}; it has to be a token's text.")
    return [_sound(value) for value in values]


def _sound(text: str) -> str:
    """A text that UTF-8 can hold: half a character becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _integer(value: Any, where: str, least: int = 0) -> int:
    number = _number(value, where, digits=None)
    if number != int(number) or number < least:
        raise WrongRecord(f"{where} is {value!r}; it has to be a whole number of at least {least}.")
    return int(number)


def _number(value: Any, where: str, digits: int | None = DIGITS, missing: bool = False) -> Any:
    if value is None and missing:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, str | bool) or not math.isfinite(number):
        raise WrongRecord(f"{where} is {value!r}; it has to be a finite number: leave out what could not be measured.")
    return number if digits is None else float(f"{number:.{digits}g}")


def _probability(value: Any, where: str, digits: int) -> float:
    number = _number(value, where, digits)
    if not 0 <= number <= 1:
        raise WrongRecord(f"{where} is {value!r}; a probability lies between 0 and 1.")
    return number


def _increasing(steps: list[int], what: str) -> None:
    if any(left >= right for left, right in pairwise(steps)):
        raise WrongRecord(f"{what} have to increase, each step once: sort the records.")


def _thinned(count: int) -> list[int]:
    """Evenly spread places out of `count`, at most MAX_POINTS, the last one among them."""
    every = -(-count // MAX_POINTS) or 1
    return list(range((count - 1) % every, count, every))
