"""python -m jaxgen translate: images and folders of images, translated into another domain."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxgen.commands.shared import ImageFiles, Named
from jaxgen.core import paths
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Seed
from jaxgen.data.derived_sources import DERIVED_SOURCES
from jaxgen.inference.image_translation import Translator, number_of, translation_of
from jaxgen.media import marks, output_files
from jaxgen.media.animation import ENCODINGS
from jaxgen.media.batch_files import ImageJob, check_image, check_memory, check_memory_limit, numbered
from jaxgen.media.frames import by_frames
from jaxgen.media.photo import Photo, check_made, quantised, read, write

EACH = 48  # bytes that a pixel takes until it has its size: the file, its colours in f32, and a copy of them


def translate(
    run: Named,
    image: ImageFiles,
    to: str | None = None,
    out: Path | None = None,
    side: int | None = None,
    pair: bool = False,
    answers: int = 1,
    memory: float = 4.0,
    seed: Seed = 0,
    overwrite: bool = False,
):
    """Translate images, and all images of folders, into another domain.

    Images can have any size. Transparent pixels become white, as in training. 16 bits (.png, .tif), colour profile and
    descriptive EXIF are kept. The image is written upright. A video is translated frame by frame, and written as a .mp4
    with its sound.

    Args:
        run: the run folder of a model of train.translation; or the name of trained weights (python -m jaxgen list
            weights); or a file of weights that states its model, as export writes it
        image: image files or folders
        to: the output domain: source or image for models that translate both ways, the name or number of a class for
            models of many domains; unset: the domain that the model was trained to make
        out: the output file, or for several images the output folder; unset: IMAGE-translated.png, FOLDER-translated
        side: resize the image first, so that its shorter side has this many pixels; unset: no resizing
        pair: the image is of the output domain: turn it into edges, grey, ... first, as in training
        answers: number of results of a stochastic model; further results are OUT-2.png, OUT-3.png, ...
        memory: memory limit in GiB; a larger image is refused before work begins
        seed: the random seed of a stochastic model
        overwrite: replace existing files
    """
    at_least(1, answers=answers, side=side)
    check_memory_limit(memory)
    job = ImageJob(
        image, out, "translated", lambda target: numbered(target, answers), overwrite, clips=tuple(ENCODINGS)
    )
    translator = open_translator(run, to, side, pair, answers, memory, seed)

    def process(file: Path, target: Path):
        by_frames(file, target, job.outputs, translator.process)
        print(f"{target}" + (f" and {answers - 1} more" if answers > 1 else ""), flush=True)

    job.run(process)


@dataclass
class ImageTranslator:
    """Translates image files."""

    translator: Translator
    mark: marks.Mark | None
    side: int | None = None
    make: Callable[[np.ndarray], np.ndarray] | None = None
    answers: int = 1
    memory: float = 4.0

    def process(self, file: Path, target: Path):
        """Translate a file. Raises InputError if it can't be translated."""
        check_image(file, EACH, self.memory)
        photo = read(file)
        x = self.prepared(photo, file)
        size = x.shape[0], x.shape[1]
        advice = "Write --side to make it smaller first"
        check = lambda needed: check_memory(file, size, needed, self.memory, advice)  # noqa: E731
        with output_files.together():
            for number, path in enumerate(numbered(target, self.answers)):
                made = self.translator.translated(x, number, check)
                write(path, quantised(made, photo.bits), photo, mark=self.mark)

    def prepared(self, photo: Photo, file: Path) -> np.ndarray:
        """Return an image as the model takes it, f32[h w c]: an image of the output domain turned into a source."""
        if self.side:
            height, width = photo.pixels.shape[:2]
            ratio = self.side / min(height, width)
            check_made(f"{file} with --side {self.side}", height * ratio, width * ratio)
        x = self.translator.prepared(photo, str(file), self.side)
        return x if self.make is None else self.make(quantised(x, 8)[None])[0] / np.float32(127.5) - 1


def open_translator(
    name: str, to: str | None, side: int | None, pair: bool, answers: int, memory: float, seed: int
) -> ImageTranslator:
    """Return the translator of a run or of trained weights. Raises InputError if it can't do what is asked for."""
    from jaxgen.core.config import Mesh
    from jaxgen.core.types import averaged
    from jaxgen.inference.opening import configured, mark_of, open_trained, task_of

    task, run = task_of(name), configured(name)
    assert run is not None  # as there is a task
    transform = translation_of(task, run.preset, name)
    if pair and not paths.path(name).is_dir():
        raise InputError(f"--pair does what a run's training did, and {name} is no run's folder: leave it out.")
    if answers > 1 and not transform.stochastic:
        raise InputError(f"{run.preset} is deterministic: leave out --answers.")
    if pair and run.data.making == "none":
        raise InputError(f"{name} was trained on images of both domains, not on edges or the like: leave out --pair.")
    to_number = number_of(transform.inputs["to"], to)
    opened = open_trained(name, mesh=Mesh(data=1))
    transform, nets = translation_of(opened.task, run.preset, name), averaged(opened.state, opened.frozen)
    mark = mark_of(marks.EDITED, name, opened, seed if transform.stochastic else None)
    make = DERIVED_SOURCES[run.data.making] if pair else None
    return ImageTranslator(Translator(transform, nets, to_number, seed), mark, side, make, answers, memory)
