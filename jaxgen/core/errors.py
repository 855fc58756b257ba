"""Errors that a user can correct, and checks that raise them."""

import difflib
import re
from collections.abc import Container, Iterable


class InputError(ValueError):
    """A user's mistake, as one sentence: what is wrong and what would be right. Commands exit with status 2."""


class Incomplete(Exception):
    """A part of the work failed. Commands exit with status 1."""


def choose(name: str, names: Iterable[str], what: str) -> str:
    """Return `name` if it is one of `names`; otherwise raise InputError naming the nearest one."""
    names = list(names)
    if name in names:
        return name
    near = nearest(name, names, 0.4)
    hint = f"did you mean {near!r}?" if near else f"choose one of {', '.join(names) or 'none'}."
    raise InputError(f"Unknown {what} {name!r}: {hint}")


def nearest(name: str, names: Iterable[str], likeness: float = 0.6) -> str:
    """Return the one of `names` that is most like a name, or "" where none is so much like it, from 0 to 1."""
    return next(iter(difflib.get_close_matches(name, list(names), 1, likeness)), "")


def at_least(low: float, **values: float | None):
    """Raise InputError for the first of the named values that is below `low`; a double underscore reads as a dot."""
    for name, value in values.items():
        if value is not None and not value >= low:
            raise InputError(f"{name.replace('__', '.')} must be at least {low}, not {value}.")


def numbers(text: str, count: int, name: str) -> tuple[int, ...]:
    """Return the numbers of "3", "0,2" or "0-4,9". Raises InputError where one is not from 0 to count - 1."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(-?\d{1,9})(?:-(\d{1,9}))?\s*", part)
        if not match:
            raise InputError(f"{name} must be numbers such as 1, 0,1 or 0-{count - 1}, not {text!r}.")
        low, high = int(match[1]), int(match[2] or match[1])
        for number in (low, high):
            if not 0 <= number < count:
                raise InputError(f"{name} must be from 0 to {count - 1}, not {number}.")
        if high < low:
            raise InputError(f"{name} must run upwards: {high}-{low}, not {part.strip()}.")
        found += range(low, high + 1)
    return tuple(found)


def check_labels(classes: int, given: Container[str]):
    """Raise InputError where `given` has no "label" and the model needs one, or has one and the model takes none."""
    if classes and "label" not in given:
        raise InputError(f"This model is conditional: give labels, from 0 to {classes - 1}.")
    if not classes and "label" in given:
        raise InputError("This model is unconditional: it takes no labels.")
