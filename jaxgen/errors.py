"""The one kind of error that is the user's to mend, and the nearest name to a mistyped one."""

import difflib
from collections.abc import Container, Iterable


class InputError(ValueError):
    """A user's mistake, told in one sentence: what is wrong and what would be right. Commands exit with status 2."""


def choose(name: str, names: Iterable[str], what: str) -> str:
    """Return `name` if it is one of `names`; otherwise raise InputError naming the nearest one."""
    names = list(names)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, 1, 0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(names) or 'none'}."
    raise InputError(f"Unknown {what} {name!r}: {hint}")


def at_least(low: float, **values: float | None):
    """Raise InputError for the first of the named values that is below `low`; a double underscore reads as a dot."""
    for name, value in values.items():
        if value is not None and not value >= low:
            raise InputError(f"{name.replace('__', '.')} must be at least {low}, not {value}.")


def check_labels(classes: int, given: Container[str]):
    """Raise InputError where `given` has no "label" and the model needs one, or has one and the model takes none."""
    if classes and "label" not in given:
        raise InputError(f"This model is conditional: give labels, from 0 to {classes - 1}.")
    if not classes and "label" in given:
        raise InputError("This model is unconditional: it takes no labels.")
