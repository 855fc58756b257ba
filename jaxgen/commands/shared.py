"""What several commands share: the types of their arguments, and checks before a run is opened."""

from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from jaxgen.core.errors import InputError, at_least

PNG = (".png",)
BYTES = 2**30  # of a GiB, in which memory is given
Folder = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
Picture = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PICTURE")]
With = Annotated[str, tyro.conf.arg(name="with", metavar="RUN|WEIGHTS|METHOD")]


def check_walk(seed: int, strength: float):
    """Raise InputError for what no sample can be moved by."""
    at_least(0, seed=seed)
    if not np.isfinite(strength):
        raise InputError(f"strength must be a number, not {strength}.")
