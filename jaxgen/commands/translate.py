"""python -m jaxgen translate: images and folders of images, translated into another domain."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgen.commands.shared import Folder, ImageFiles
from jaxgen.core.class_names import class_number
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Seed
from jaxgen.data.derived_sources import DERIVED_SOURCES, luma
from jaxgen.media import output_files
from jaxgen.media.batch_files import ImageJob, check_image, check_memory, check_memory_limit, numbered
from jaxgen.media.frames import by_frames
from jaxgen.media.photo import Photo, check_made, quantised, read, write

if TYPE_CHECKING:
    from jaxgen.core.capabilities import Transform
    from jaxgen.core.spec import ArraySpec

EACH = 48  # bytes that a pixel takes until it has its size: the file, its colours in f32, and a copy of them


def translate(
    run: Folder,
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
    descriptive EXIF are kept. The image is written upright.

    Args:
        run: the run folder of a model of train.translation
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
    job = ImageJob(image, out, "translated", lambda target: numbered(target, answers), overwrite)
    translator = open_translator(run, to, side, pair, answers, memory, seed)

    def process(file: Path, target: Path):
        by_frames(file, target, job.outputs, translator.process)
        print(f"{target}" + (f" and {answers - 1} more" if answers > 1 else ""), flush=True)

    job.run(process)


@dataclass
class ImageTranslator:
    """Translates image files into domain number `to`."""

    transform: "Transform"
    nets: tuple[Any, Any]
    to: int
    side: int | None = None
    make: Callable[[np.ndarray], np.ndarray] | None = None
    answers: int = 1
    memory: float = 4.0
    seed: int = 0

    def __post_init__(self):
        import jax

        self.translate = jax.jit(self.transform.apply)
        self.programs: dict[tuple[int, ...], Any] = {}  # by the shape of the image

    def process(self, file: Path, target: Path):
        """Translate a file. Raises InputError if it can't be translated."""
        check_image(file, EACH, self.memory)
        photo = read(file)
        x = self.prepared(photo, file)
        with output_files.together():
            for number, path in enumerate(numbered(target, self.answers)):
                write(path, quantised(self.made(x, number, file), photo.bits), photo)

    def prepared(self, photo: Photo, file: Path) -> np.ndarray:
        """Return an image as the model takes it, f32[h w c]."""
        x, (channels,) = photo.pixels, self.transform.source.sizes(-1)
        if photo.alpha is not None:
            share = photo.alpha.astype(np.float32) / np.iinfo(photo.alpha.dtype).max
            x = x * share + (1 - share)  # white is 1
        if channels == 1 and x.shape[2] == 3:
            x = luma(x[None])[0][..., None]
        elif channels != x.shape[2]:
            x = np.repeat(x[..., :1], channels, 2)
        if self.side:
            ratio = self.side / min(x.shape[:2])
            check_made(f"{file} with --side {self.side}", x.shape[0] * ratio, x.shape[1] * ratio)
            x = shrunk(x, self.side)
        height, width = x.shape[:2]
        if min(height, width) < (least := self.transform.source.multiple):
            raise InputError(
                f"{file} is {height}x{width}: this model has stride-2 stages and needs at least {least}x{least}. Write "
                f"--side {least}."
            )
        return x if self.make is None else self.make(quantised(x, 8)[None])[0] / np.float32(127.5) - 1

    def made(self, x: np.ndarray, number: int, file: Path) -> np.ndarray:
        """Return an output f32[h w c]. Meanwhile mirrored pixels pad the sides to multiples that the net takes."""
        import jax
        import jax.numpy as jnp

        from jaxgen.core import rng

        height, width, _ = x.shape
        grain = self.transform.source.multiple
        grown = np.pad(x, ((0, -height % grain), (0, -width % grain), (0, 0)), "symmetric")
        keys = rng.sample_keys(jax.random.key(self.seed), jnp.arange(number, number + 1))
        inputs = {"source": grown[None].astype(np.float32), "to": jnp.full(1, self.to, jnp.int32)}
        if grown.shape not in self.programs:
            self.programs[grown.shape] = self.translate.lower(*self.nets, inputs, keys).compile()
        program = self.programs[grown.shape]
        if (plan := program.memory_analysis()) is not None:
            needed = plan.temp_size_in_bytes + plan.output_size_in_bytes
            check_memory(file, (height, width), needed, self.memory, "Write --side to make it smaller first")
        return np.asarray(program(*self.nets, inputs, keys)["image"], np.float32)[0, :height, :width]


def shrunk(x: np.ndarray, side: int) -> np.ndarray:
    """Return an image f32[h w c] resized to a shorter side of `side` pixels, with antialiasing."""
    import jax.numpy as jnp

    from jaxgen.nn.resample import resize_image

    height, width = x.shape[:2]
    scale = side / min(height, width)
    size = max(round(height * scale), side), max(round(width * scale), side)
    return np.asarray(resize_image(jnp.asarray(x), size))


def open_translator(
    folder: Path, to: str | None, side: int | None, pair: bool, answers: int, memory: float, seed: int
) -> ImageTranslator:
    """Return the translator of a run. Raises InputError if the run's model can't do what the settings ask for."""
    from jaxgen.core.capabilities import Transform
    from jaxgen.core.config import Mesh
    from jaxgen.core.types import averaged
    from jaxgen.runs.load import open_run

    opened = open_run(folder, Mesh(data=1))
    transform, data = opened.task.find(Transform), opened.run.data
    if transform is None or "to" not in transform.inputs:
        raise InputError(
            f"{folder} is a run of {opened.run.preset}, not of a translation model: see train.translation."
        )
    if transform.conditions:
        raise InputError(
            f"{opened.run.preset} also needs {', '.join(transform.conditions)}, which this command can't give it."
        )
    if answers > 1 and not transform.stochastic:
        raise InputError(f"{opened.run.preset} is deterministic: leave out --answers.")
    if pair and data.making == "none":
        raise InputError(f"{folder} was trained on images of both domains, not on edges or the like: leave out --pair.")
    return ImageTranslator(
        transform,
        averaged(opened.state, opened.frozen),
        number_of(transform.inputs["to"], to),
        side,
        DERIVED_SOURCES[data.making] if pair else None,
        answers,
        memory,
        seed,
    )


def number_of(domains: "ArraySpec", to: str | None) -> int:
    """Return the number of a domain, by default that of "image". Raises InputError for an unknown domain."""
    names, count = domains.names, domains.count
    if to is None and "image" not in names:
        known = " or ".join(names or map(str, range(count)))
        raise InputError(f"This model translates into {count} domains: write --to {known}.")
    return class_number("image" if to is None else to, names, "--to", count, "domain")
