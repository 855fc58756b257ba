"""The command line of a training script, parsed by tyro."""

import dataclasses
import re
import sys
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic

import tyro

from jaxgen import zoo
from jaxgen.commands.shared import ANY_PATH
from jaxgen.core import paths
from jaxgen.core.config import M, Run
from jaxgen.core.errors import InputError
from jaxgen.runs.config_io import RENAMED, load_config


@dataclass(frozen=True)
class Command(Generic[M]):
    """A training script's command line."""

    run: Annotated[Run[M], tyro.conf.arg(name="")]
    list: bool = False  # show the presets with their measured results, then exit
    dry_run: bool = False  # show the configuration, parameters, sharding, FLOPs, memory and time, then exit
    verbose: bool = False  # with --dry-run: list each array of the parameters, not the modules
    tiny: bool = False  # use the preset's tiny version, which trains in seconds; its folder is runs/<preset>-tiny
    resume: Path | None = None  # a run's folder: go on with its settings; --steps makes it longer


def parse(family: str, argv: Sequence[str], prog: str = "", model: Any = None) -> Command:
    """Return the parsed arguments of `python -m train.<family> *argv`. Exits with status 2 after a mistake.

    prog:  the command's name in the help; "{preset}" in it becomes the preset, if one is given
    model: the default of the model's settings; None: the preset's
    """
    names = zoo.family(family)
    preset = value_of(argv, "--preset")
    run = resumed(argv, names) or preset_run(preset or names[0], names, "--tiny" in argv)
    run = run if model is None else dataclasses.replace(run, model=model)
    command = tyro.cli(
        Command[type(run.model)],  # pyright: ignore[reportInvalidTypeArguments]
        args=renamed(argv),
        default=Command(run),
        prog=(prog or f"python -m train.{family}{{preset}}").format(preset=f" --preset {preset}" if preset else ""),
        description=f"Train a {family} model. The same command resumes, as --resume does. Presets: {', '.join(names)}.",
        config=(tyro.conf.FlagCreatePairsOff,),
        registry=ANY_PATH,
    )
    if value_of(argv, "--out") == "":
        raise InputError("--out is empty: name a folder for the run, or leave it out.")
    if command.resume and command.run.folder != run.folder:
        raise InputError(f"--resume goes on in the run's own folder, {run.folder}: leave out --out.")
    return command


def preset_run(name: str, names: Sequence[str], tiny: bool) -> Run:
    """Return the run of a preset, one of `names`, or its tiny run, which has a folder of its own."""
    preset = zoo.load(name, within=names)
    run = dataclasses.replace(preset.tiny, out=f"runs/{name}-tiny") if tiny else preset.run
    return dataclasses.replace(run, preset=name)


def resumed(argv: Sequence[str], names: Sequence[str]) -> Run | None:
    """Return the run of the folder that --resume names, whose preset is one of `names`; None without --resume."""
    if (folder := value_of(argv, "--resume")) is None:
        return None
    if value_of(argv, "--preset") or "--tiny" in argv:
        raise InputError("--resume reads the settings of the run: leave out --preset and --tiny.")
    run = load_config(paths.path(folder))
    zoo.load(run.preset, within=names)
    mesh = dataclasses.replace(run.mesh, coordinator=None, num_processes=None, process_id=None)  # of one start
    return dataclasses.replace(run, out=folder, mesh=mesh, data=dataclasses.replace(run.data, changed_ok=False))


def value_of(argv: Sequence[str], flag: str) -> str | None:
    """Return the value of a flag that is read before tyro runs, as the defaults of all others depend on it."""
    pairs = zip(argv, [*argv[1:], ""], strict=False)  # empty for no arguments
    found = [b if a == flag else a.removeprefix(f"{flag}=") for a, b in pairs if a.partition("=")[0] == flag]
    return found[-1] if found else None


def renamed(argv: Sequence[str]) -> list[str]:
    """Return the arguments with flags of older versions replaced by their current names."""
    old = re.compile(rf"(--(?:[\w-]+\.)*)({'|'.join(RENAMED).replace('_', '[-_]')})(?==|$)")
    now = lambda m: m[1] + RENAMED[m[2].replace("-", "_")]  # noqa: E731
    return [old.sub(now, arg, count=1) if old.match(arg) else arg for arg in argv]


def fail(error: Exception) -> typing.NoReturn:
    """Exit as after any mistake of the user: one sentence on stderr, status 2."""
    print(f"Error: {error}", file=sys.stderr)
    raise SystemExit(2)
