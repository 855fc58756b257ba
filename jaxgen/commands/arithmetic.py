"""python -m jaxgen arithmetic: latent arithmetic, decoded."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxgen.commands.shared import PNG, Folder, class_of
from jaxgen.core.class_names import class_number
from jaxgen.core.errors import InputError, at_least
from jaxgen.media import marks, output_files

if TYPE_CHECKING:
    from jaxgen.core.config import Data, Run
    from jaxgen.core.task import Task
    from jaxgen.data import Source
    from jaxgen.inference.autoencoding import Autoencoder


def arithmetic(
    run: Folder,
    start: str,
    minus: str,
    plus: str,
    out: Path = Path("arithmetic.png"),
    examples: int = 100,
    steps: int = 7,
    label: str | None = None,
    overwrite: bool = False,
):
    """Decode start - minus + plus. Each term is the mean latent of images (Radford et al. 2016).

    The output shows start, minus and plus, and after a gap the steps from start to the result.

    Args:
        run: the run's folder
        start: comma-separated image files or label:K, which stands for the training examples of class K, its name or
            number
        minus: the term to subtract, in the same form
        plus: the term to add, in the same form
        out: the output file, a .png
        examples: largest number of examples of a label:K
        steps: number of images from start to the result
        label: the class of image files and of decoded images, by name or number (unset: the first), for a
            class-conditional model
        overwrite: replace existing files
    """
    from jaxgen.inference import autoencoding, latent_space
    from jaxgen.media.image_grid import grid, save_png
    from jaxgen.runs.config_io import load_config, task_of
    from jaxgen.runs.load import open_run

    at_least(1, examples=examples)
    at_least(2, steps=steps)
    parts = [part for text in (start, minus, plus) for part in text.split(",")]
    if "" in parts:
        raise InputError("--start, --minus and --plus are comma-separated image files or label:K: one part is empty.")
    output_files.check(out, PNG, overwrite, given=[Path(part) for part in parts])
    task = task_of(run)
    autoencoding.check_vectors(task)
    classes = class_of(task, label)
    config = load_config(run)
    terms = [sources_of(config, task, text, examples, *classes) for text in (start, minus, plus)]
    opened = open_run(run)
    nets = autoencoding.Autoencoder(opened)
    z, less, more = (mean_latent(nets, term, config.data) for term in terms)
    line = np.stack([latent_space.lerp(z, z - less + more, t) for t in np.linspace(0, 1, steps)])
    images = nets.decode(np.concatenate([[z, less, more], line]), latent_space.conditions(3 + steps, classes))
    mark = marks.of_run(marks.EDITED, run, opened)  # a net decodes what it encoded
    save_png(out, grid(np.insert(images, 3, np.float32(1), 0), 4 + steps), mark)
    print(f"{start} - {minus} + {plus} at step {opened.step}: {out}")


def sources_of(run: "Run", task: "Task", text: str, examples: int, label: int = 0) -> list["Source"]:
    """Return a source for each part of "label:3,image.png". Raises InputError if one can't be read."""
    from jaxgen import data
    from jaxgen.core.spec import image_of
    from jaxgen.data.arrays import Arrays
    from jaxgen.inference.inversion import read_image
    from jaxgen.media.image_grid import to_u8

    found: list[Source] = []
    for part in text.split(","):
        if part.startswith("label:"):
            whole = data.open_source(run.data, task.example)
            data.check_source(whole, run.data, task.example)
            if not whole.classes:
                raise InputError(f"The run's data have no labels, so {part} is unknown: name image files.")
            number = class_number(part.removeprefix("label:"), whole.classes, "label:K")
            places = np.flatnonzero(data.labels_of(whole) == number)
            if not len(places):
                raise InputError(f"The run's data have no example of {part}.")
            found.append(data.RandomSubset(data.Subset(whole, places), examples))
        else:
            image = to_u8(read_image(Path(part), image_of(task), run.data))
            found.append(Arrays(image, np.full(1, label, np.int32), ("",)))
    return found


def mean_latent(nets: "Autoencoder", sources: Sequence["Source"], about: "Data") -> np.ndarray:
    """Return the mean of the sources' mean latents, f32[d]."""
    return np.mean([nets.encode(source, about).mean(0) for source in sources], 0)
