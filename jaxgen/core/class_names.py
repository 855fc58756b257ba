"""Names of classes: their order, which determines the classes' numbers, and what a user writes for them."""

import re
from collections.abc import Iterable, Sequence

from jaxgen.core.errors import InputError, choose, numbers

WHOLE = re.compile(r"-?\d{1,18}")  # a name that is a whole number
RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
SHOWN = 12  # names in a message


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Return different names in order: whole numbers by their value (2 before 10), then the others as text."""
    key = lambda name: (0, int(name), name) if WHOLE.fullmatch(name) else (1, 0, name)  # noqa: E731
    return tuple(sorted(set(names), key=key))


def listed(names: Sequence[str]) -> str:
    """Return names for a message, the first ones of many."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def class_numbers(text: str, names: Sequence[str], what: str, count: int = 0, kind: str = "class") -> tuple[int, ...]:
    """Return the numbers of the classes in "cat,dog", "3" or "0-4,9".

    names: of the classes 0, 1, ...; there may be none. Where some are whole numbers themselves, such as folders 1 to
           26, a whole number is a name.
    count: the number of classes, if there are more than names
    kind:  what the names are names of
    Raises InputError for a class that there is not.
    """
    count = count or len(names)
    if text in names:
        return (list(names).index(text),)
    if all(name == str(i) for i, name in enumerate(names)):
        return numbers(text, count, what)
    by_name, found = any(WHOLE.fullmatch(name) for name in names), []
    for part in map(str.strip, text.split(",")):
        match = RANGE.fullmatch(part)
        if part in names or not match:
            found.append(index_of(part, names, kind))
        elif by_name:
            found += [index_of(str(i), names, kind) for i in range(int(match[1]), int(match[2] or match[1]) + 1)]
        else:
            found += numbers(part, count, what)
    return tuple(found)


def class_number(text: str, names: Sequence[str], what: str, count: int = 0, kind: str = "class") -> int:
    """Return the number of one class by its name or number. Raises InputError for several and for an unknown one."""
    found = class_numbers(text, names, what, count, kind)
    if len(found) != 1:
        raise InputError(f"{what} must be one {kind}, not {text!r}.")
    return found[0]


def index_of(name: str, names: Sequence[str], kind: str = "class") -> int:
    """Return the number of a class by its name. Raises InputError for an unknown one."""
    return list(names).index(choose(name, names, kind))


def check_fit(found: Sequence[str], names: Sequence[str], where: str):
    """Raise InputError if a set has classes that are not among those of a run."""
    if unknown := [name for name in found if name not in set(names)]:
        raise InputError(
            f"The source {where} has the classes {listed(unknown)}, and the run's classes are {listed(names)}: the "
            "names must be the same."
        )
