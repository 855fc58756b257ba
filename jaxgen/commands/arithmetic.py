"""python -m jaxgen arithmetic: sums and differences of mean latents, decoded."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxgen.commands.shared import PNG, Folder
from jaxgen.core.errors import InputError, at_least
from jaxgen.media import output_files

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
    label: int = 0,
    overwrite: bool = False,
):
    """Decode start - minus + plus, each the mean code of images (Radford et al. 2016).

    The strip shows start, minus and plus, and after a gap the steps from start to the result.

    Args:
        run: the folder of the run
        start: image files or label:K, the mean code of training examples of that class, with commas between
        minus: the same
        plus: the same
        out: a .png
        examples: how many examples a label:K is the mean of, at most
        steps: images from start to the result
        label: the class that a conditional model is told of files, and of what it paints
        overwrite: replace what is there
    """
    from jaxgen.inference import autoencoding, latent_space
    from jaxgen.inference.sampling import classes_of
    from jaxgen.media.image_grid import grid, save_png
    from jaxgen.runs.config_io import load_config, task_of
    from jaxgen.runs.load import open_run

    at_least(1, examples=examples)
    at_least(2, steps=steps)
    parts = [part for text in (start, minus, plus) for part in text.split(",")]
    if "" in parts:
        raise InputError("--start, --minus and --plus are image files or label:K with commas between: one is empty.")
    output_files.check(out, PNG, overwrite, given=[Path(part) for part in parts])
    task = task_of(run)
    autoencoding.check_vectors(task)
    classes = classes_of(task, str(label) if "label" in task.example or label else None)
    config = load_config(run)
    terms = [sources_of(config, task, text, examples, label) for text in (start, minus, plus)]
    opened = open_run(run)
    nets = autoencoding.Autoencoder(opened)
    z, less, more = (mean_code(nets, term, config.data) for term in terms)
    way = np.stack([latent_space.lerp(z, z - less + more, t) for t in np.linspace(0, 1, steps)])
    images = nets.decode(np.concatenate([[z, less, more], way]), latent_space.conditions(3 + steps, classes))
    save_png(out, grid(np.insert(images, 3, np.float32(1), 0), 4 + steps))
    print(f"{start} - {minus} + {plus} at step {opened.step}: {out}")


def sources_of(run: "Run", task: "Task", text: str, examples: int, label: int) -> list["Source"]:
    """Return the images of each part of "label:3,picture.png". Raises InputError for what can't be read."""
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
                raise InputError(f"The run's data have no labels, so there is no {part}: name image files.")
            if not (text := part.removeprefix("label:")).isdecimal() or int(text) >= len(whole.classes):
                raise InputError(f"{part} is no class: write label:K, K from 0 to {len(whole.classes) - 1}.")
            number = int(text)
            places = np.flatnonzero(data.labels_of(whole) == number)
            if not len(places):
                raise InputError(f"The run's data have no example of {part}.")
            found.append(data.RandomSubset(data.Subset(whole, places), examples))
        else:
            picture = to_u8(read_image(Path(part), image_of(task), run.data))
            found.append(Arrays(picture, np.full(1, label, np.int32), ("",)))
    return found


def mean_code(nets: "Autoencoder", sources: Sequence["Source"], about: "Data") -> np.ndarray:
    """Return the mean of the sources' mean codes, f32[d]."""
    return np.mean([nets.encode(source, about).mean(0) for source in sources], 0)
