"""Ranges of settings as metadata of the fields' types, and the one check of types and ranges.

`steps: Count = 1000` is a whole number of at least 1. A number whose type says nothing must be finite and at least 0, a
whole number must also fit 32 bits: a new setting is checked without a word, and only exceptions are declared. The
command line, `--sampling` and config.json are all checked here.
"""

import dataclasses
import inspect
import reprlib
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

from jaxgen.core.errors import InputError, choose

LARGEST = {int: 2**31 - 1, float: sys.float_info.max}


@dataclass(frozen=True)
class Range:
    """From `low` to `high`; above, below: without that end. high=None: the largest number of the type."""

    low: float = 0
    high: float | None = None
    above: bool = False
    below: bool = False

    def check(self, name: str, value: float, kind: type):
        """Raise InputError where a value is outside."""
        high = LARGEST[kind] if self.high is None else self.high
        ends = f"{'above' if self.above else 'at least'} {self.low}", f"{'below' if self.below else 'at most'} {high}"
        fits = value > self.low if self.above else value >= self.low, value < high if self.below else value <= high
        if all(fits):  # never for NaN
            return
        if kind is float and not abs(value) <= LARGEST[float]:
            words = "a finite number"
        elif self.high is None:
            words = ends[fits[0]]
        else:
            words = " and ".join(ends) if self.above or self.below else f"from {self.low} to {high}"
        raise InputError(f"{name} must be {words}, not {reprlib.repr(value)}.")


ANY = Range(low=-LARGEST[float])
Count = Annotated[int, Range(1)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
Share = Annotated[float, Range(0, 1)]
Decay = Annotated[float, Range(0, 1, below=True)]  # of a moving average, or a share below 1
Positive = Annotated[float, Range(above=True)]
Signed = Annotated[float, ANY]
Parent = Annotated[int, Range(-1)]  # the number of a joint's parent; -1: the root

KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
}


def check_settings(settings: Any, at: str = ""):
    """Raise InputError for a setting of a dataclass, or of one inside it, of a wrong type or out of its range.

    at: the group's name with a dot, for the message
    """
    hints = typing.get_type_hints(type(settings), include_extras=True)
    for field in dataclasses.fields(settings):
        name, value = f"{at}{field.name}", getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            check_settings(value, f"{name}.")
        else:
            check_value(name, value, hints[field.name])


def check_arguments(function: Callable, arguments: dict[str, Any]):
    """Raise InputError for an argument of a command of a wrong type or out of its range, where one is declared."""
    hints = typing.get_type_hints(function, include_extras=True)
    for name in inspect.signature(function).parameters:
        if name in arguments and name in hints:
            check_value(f"--{name.replace('_', '-')}", arguments[name], hints[name], ANY)


def check_value(name: str, value: Any, hint: Any, bounds: Range = Range()):
    """Raise InputError where a value is not of a type, or out of the range of the type's metadata or `bounds`."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        check_value(name, value, args[0], next((x for x in args[1:] if isinstance(x, Range)), bounds))
    elif origin in (Union, types.UnionType):
        options = [one for one in args if one is not types.NoneType]
        if value is None and len(options) < len(args):
            return
        if len(options) == 1:
            check_value(name, value, options[0], bounds)
    elif origin is Literal:
        if value not in args or type(value) not in map(type, args):
            choose(str(value), map(str, args), name)
            raise InputError(f"{name} must be one of {', '.join(map(str, args))}, not {reprlib.repr(value)}.")
    elif origin is tuple:
        kinds = args[:1] * len(value) if isinstance(value, tuple) and args[-1] is Ellipsis else args
        if not isinstance(value, tuple) or len(value) != len(kinds):
            count = "values" if args[-1] is Ellipsis else f"{len(args)} values"
            raise InputError(f"{name} must be {count}, not {reprlib.repr(value)}.")
        for one, kind in zip(value, kinds, strict=True):
            check_value(name, one, kind, bounds)
    elif isinstance(hint, type) and (hint in KINDS or dataclasses.is_dataclass(hint)):
        accepted = (int, float) if hint is float else hint
        if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
            raise InputError(f"{name} must be {KINDS.get(hint, 'a group of settings')}, not {reprlib.repr(value)}.")
        if hint in LARGEST:
            bounds.check(name, value, hint)
