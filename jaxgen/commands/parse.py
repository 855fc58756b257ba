"""The command line of a training script, parsed by tyro."""

import dataclasses
import re
import sys
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Generic

import tyro

from jaxgen import zoo
from jaxgen.core.config import M, Run
from jaxgen.runs.config_io import RENAMED


@dataclass(frozen=True)
class Command(Generic[M]):
    """A training script's command line."""

    run: Annotated[Run[M], tyro.conf.arg(name="")]
    list: bool = False  # show the presets with their measured results, then exit
    dry_run: bool = False  # show the configuration, parameters, sharding, FLOPs and memory, then exit
    tiny: bool = False  # use the preset's tiny version, which trains in seconds


def parse(family: str, argv: Sequence[str], prog: str = "") -> Command:
    """Return the parsed arguments of `python -m train.<family> *argv`. Exits with status 2 after a mistake.

    prog: the command's name in the help; "{preset}" in it becomes the preset, if one is given
    """
    names = zoo.family(family)
    # The preset determines the type and defaults of all other settings, so it is read before tyro runs.
    given = [b if a == "--preset" else a.removeprefix("--preset=") for a, b in _pairs(argv) if a.startswith("--preset")]
    preset = zoo.load(given[-1] if given else names[0], within=names)
    name = given[-1] if given else names[0]
    run = dataclasses.replace(preset.tiny if "--tiny" in argv else preset.run, preset=name)
    return tyro.cli(
        Command[type(run.model)],  # pyright: ignore[reportInvalidTypeArguments]
        args=renamed(argv),
        default=Command(run),
        prog=(prog or f"python -m train.{family}{{preset}}").format(preset=f" --preset {name}" if given else ""),
        description=f"Train a {family} model. Running the same command again resumes. Presets: {', '.join(names)}.",
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def renamed(argv: Sequence[str]) -> list[str]:
    """Return the arguments with flags of older versions replaced by their current names."""
    old = re.compile(rf"(--(?:[\w-]+\.)*)({'|'.join(RENAMED).replace('_', '[-_]')})(?==|$)")
    now = lambda m: m[1] + RENAMED[m[2].replace("-", "_")]  # noqa: E731
    return [old.sub(now, arg, count=1) if old.match(arg) else arg for arg in argv]


def _pairs(argv: Sequence[str]):
    return zip(argv, [*argv[1:], ""], strict=False)  # empty for no arguments


def fail(error: Exception) -> typing.NoReturn:
    """Exit as after any mistake of the user: one sentence on stderr, status 2."""
    print(f"Error: {error}", file=sys.stderr)
    raise SystemExit(2)
