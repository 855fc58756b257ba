"""python -m jaxgen prepare: a TFDS set written so that training needs no TensorFlow."""

from pathlib import Path
from typing import Annotated

import tyro


def prepare(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")],
    dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None,
):
    """Download a TFDS image set and write it so that training needs no TensorFlow (the extra jaxgen[prepare] has it).

    Args:
        name: the TFDS name, such as mnist
        dir: where to; unset: TFDS's own folder
    """
    from jaxgen.data import prepare

    prepare(name, None if dir is None else str(dir))
