"""python -m jaxgen import: a run made from another framework's weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxgen import zoo
from jaxgen.commands.shared import ANY_PATH
from jaxgen.core.errors import InputError, nearest
from jaxgen.pretrained import catalogue


@dataclass(frozen=True)
class Import:
    """Make a run from another framework's weights. It can be sampled, evaluated and trained further.

    Reads safetensors, PyTorch files (new and old, also whole modules), Flax's msgpack and MATLAB v7.3. PyTorch is not
    needed, and no code in the files is run. Any setting of the training script may follow, such as --model.classes 37.
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE|NAME")]
    """the file of weights; or the name of trained weights, such as vae-mnist, which are fetched and checked when they
    are first used"""
    out: Path
    """the folder of the new run"""
    model: str = ""
    """the preset of the model, needed for a file; python -m jaxgen list shows all presets"""
    net: str | None = None
    """the net that the weights belong to; unset: the net that they fit"""
    take: str = ""
    """the part of the file to take, such as params or params_ema; unset: the weights' average if there is one"""


def import_(argv: Sequence[str]):
    """Make a run from another framework's weights."""
    prog = "python -m jaxgen import"
    given, settings = tyro.cli(Import, args=list(argv), prog=prog, return_unknown_args=True, registry=ANY_PATH)
    from jaxgen.commands.parse import parse
    from jaxgen.interop.convert import import_weights

    known = None if given.file.exists() else catalogue.find(str(given.file))
    preset = given.model or (known.preset if known else "")
    if not preset and not given.file.exists():
        near = nearest(str(given.file), catalogue.names())
        hint = f": did you mean the weights {near!r}?" if near else ", and no trained weights have this name."
        raise InputError(f"There is no file {given.file}{hint}")
    if not preset:
        raise InputError(f"--model is missing: the preset that {given.file} is of, such as --model vae.")
    zoo.load(preset)
    model = known.model() if known and known.preset == preset else None
    arguments = ["--preset", preset, "--out", str(given.out), *settings]
    parsed = parse(zoo.family_of(preset), arguments, prog, model)
    made = import_weights(catalogue.file_of(known.name) if known else given.file, parsed.run, given.net, given.take)
    print(f"{made.folder} has the {made.nets} of {given.file}: {made.count:,} parameters.", *made.choices, sep="\n")
