"""python -m jaxgen import: a run made from another framework's weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxgen import zoo


@dataclass(frozen=True)
class Import:
    """Make a run from another framework's weights. It can be sampled, evaluated and trained further.

    Reads safetensors, PyTorch files (new and old, also whole modules), Flax's msgpack and MATLAB v7.3. PyTorch is not
    needed, and no code in the files is run. Any setting of the training script may follow, such as --model.classes 37.
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """the file of weights"""
    model: str
    """the preset of the model; python -m jaxgen list shows all presets"""
    out: Path
    """the folder of the new run"""
    net: str | None = None
    """the net that the weights belong to; unset: the net that they fit"""
    take: str = ""
    """the part of the file to take, such as params or params_ema; unset: the weights' average if there is one"""


def import_(argv: Sequence[str]):
    """Make a run from another framework's weights."""
    prog = "python -m jaxgen import"
    given, settings = tyro.cli(Import, args=list(argv), prog=prog, return_unknown_args=True)
    from jaxgen.commands.parse import parse
    from jaxgen.interop.convert import import_weights

    zoo.load(given.model)
    family = zoo.family_of(given.model)
    parsed = parse(family, ["--preset", given.model, "--out", str(given.out), *settings], prog)
    made = import_weights(given.file, parsed.run, given.net, given.take)
    print(f"{made.folder} has the {made.nets} of {given.file}: {made.count:,} parameters.", *made.choices, sep="\n")
