"""Types of arguments and checks that several commands share."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from PIL import Image

from jaxgen.core import paths
from jaxgen.core.errors import InputError
from jaxgen.media import marks

if TYPE_CHECKING:
    from jaxgen.core.task import Task

ANY_PATH = tyro.constructors.ConstructorRegistry()
PNG = (".png",)
Folder = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
Named = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN|NAME")]
ImageFile = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="IMAGE")]
ImageFiles = Annotated[
    tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE ...", help_behavior_hint="(one or more)")
]
With = Annotated[str, tyro.conf.arg(name="with", metavar="RUN|WEIGHTS|NAME|METHOD")]


@ANY_PATH.primitive_rule
def _path(kind: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Path] | None:
    """Have arguments that are paths name objects in stores as well: s3://bucket/run."""
    if kind.type is not Path:
        return None
    read = lambda words: paths.path(words[0])  # noqa: E731
    return tyro.constructors.PrimitiveConstructorSpec(1, "PATH", read, paths.is_path, lambda x: [str(x)])


def general_options(argv: Sequence[str]) -> list[str]:
    """Set what --max-pixels and --no-mark ask for, which all commands accept, and return the other arguments."""
    rest = limit_pixels(argv)
    marks.wanted = not set(rest) & {"--no-mark", "--no_mark"}
    return [each for each in rest if each not in ("--no-mark", "--no_mark")]


def limit_pixels(argv: Sequence[str]) -> list[str]:
    """Set the largest number of pixels of an image to that of --max-pixels, and return the other arguments.

    It is a limit of the process: it holds for data, inputs and masks alike, and no run keeps it.
    """
    rest = list(argv)
    for i in reversed(range(len(rest))):
        name, equals, value = rest[i].partition("=")
        if name not in ("--max-pixels", "--max_pixels"):
            continue
        value = value if equals else rest[i + 1] if i + 1 < len(rest) else ""
        if not re.fullmatch("[1-9][0-9]{0,17}", value):
            raise InputError(f"--max-pixels must be a number of pixels, at least 1, not {value!r}.")
        Image.MAX_IMAGE_PIXELS = int(value)
        del rest[i : i + (1 if equals else 2)]
    return rest


def class_of(task: "Task", label: str | None) -> tuple[int, ...]:
    """Return the class of --label in a tuple, by default the first, () for a model without classes.

    Raises InputError for an unknown class, and for several.
    """
    from jaxgen.inference.sampling import class_named, classes_of

    return classes_of(task, None)[:1] if label is None else (class_named(task, label),)
