"""python -m jaxgen prepare: a TFDS data set in a format that is read without TensorFlow."""

from pathlib import Path
from typing import Annotated

import tyro


def prepare(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")],
    dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None,
):
    """Download a TFDS image data set, and write it in a format that training reads without TensorFlow.

    This command itself needs TensorFlow: pip install 'jaxgen[prepare]'.

    Args:
        name: the TFDS name, such as mnist
        dir: the output folder; unset: the default folder of TFDS
    """
    from jaxgen.data import prepare

    prepare(name, None if dir is None else str(dir))
