"""python -m jaxgen import: a run made of another framework's weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxgen import zoo


@dataclass(frozen=True)
class Import:
    """Make a run of another framework's weights, to be sampled, evaluated or trained on.

    Reads safetensors, PyTorch files (new, old, whole modules; without PyTorch, and running nothing that is in them) and
    MATLAB v7.3. Any setting of the training script may follow, such as --model.classes 37 or --data.source tfds:mnist.
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """the weights"""
    model: str
    """which preset they are of; python -m jaxgen list shows them"""
    out: Path
    """the folder of the run that is made"""
    net: str | None = None
    """which of its nets; unset: the one that fits"""


def import_(argv: Sequence[str]):
    """Make a run of another framework's weights, to be sampled, evaluated or trained on."""
    prog = "python -m jaxgen import"
    given, settings = tyro.cli(Import, args=list(argv), prog=prog, return_unknown_args=True)
    from jaxgen.commands.parse import parse
    from jaxgen.interop.convert import import_weights

    zoo.load(given.model)
    family = zoo.family_of(given.model)
    parsed = parse(family, ["--preset", given.model, "--out", str(given.out), *settings], prog)
    folder, net, count = import_weights(given.file, parsed.run, given.net)
    print(f"{folder} has the {net} of {given.file}: {count:,} numbers.")
