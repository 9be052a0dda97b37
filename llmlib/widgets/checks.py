"""What a reader may set in a figure: the value, or a sentence that says what is allowed."""

from collections.abc import Iterable
from typing import Any

import traitlets


def one_of(name: str, value: Any, allowed: Iterable[Any]) -> Any:
    """The value, if it is one of these.

    >>> one_of("rule", "best", ["drawn"])
    Traceback (most recent call last):
    traitlets.traitlets.TraitError: rule is 'best'; choose one of 'drawn'.
    """
    if value not in allowed:
        raise traitlets.TraitError(f"{name} is {value!r}; choose one of {', '.join(map(repr, allowed))}.")
    return value


def place_in(name: str, value: int, count: int, having: str = "") -> int:
    """The value, if it counts one of so many things, from 0; `having` says what there is, such as "there are {} texts".

    >>> place_in("text", 2, 2, "there are {} texts")
    Traceback (most recent call last):
    traitlets.traitlets.TraitError: text is 2; there are 2 texts, so choose one from 0 to 1.
    """
    if not 0 <= value < count:
        reason = f"{having.format(count)}, so " if having else ""
        raise traitlets.TraitError(f"{name} is {value}; {reason}choose one from 0 to {count - 1}.")
    return value


def short_prompt(prompt: str, most: int) -> str:
    """The prompt, if it has at most so many characters.

    >>> short_prompt("Once", 3)
    Traceback (most recent call last):
    traitlets.traitlets.TraitError: The prompt has 4 characters; the figure takes up to 3.
    """
    if len(prompt) > most:
        raise traitlets.TraitError(f"The prompt has {len(prompt)} characters; the figure takes up to {most}.")
    return prompt
