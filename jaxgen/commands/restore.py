"""python -m jaxgen restore: an image, or a folder of them, mended by a trained model or by interpolation."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from jaxgen.commands.shared import Picture, With
from jaxgen.core.errors import InputError, at_least, check_seed
from jaxgen.inference.restoration import Model, open_model
from jaxgen.media import tiling
from jaxgen.media.batch_files import BYTES, ImageJob, check_memory_limit, numbered
from jaxgen.media.photo import Photo, find, quantised, read, size_of, write

SMALL = re.compile(r"x\d+$")  # how the names of a data set's small images end
Check = Callable[[float], None]


def restore(
    picture: Picture,
    with_: With,
    out: Path | None = None,
    preset: str = "",
    scale: float | None = None,
    sigma: float | None = None,
    mask: Path | None = None,
    original: Path | None = None,
    degrade: bool = False,
    ensemble: bool = False,
    tile: int = 384,
    overlap: int = 32,
    memory: float = 4.0,
    seed: int = 0,
    answers: int = 1,
    sheet: bool = False,
    overwrite: bool = False,
):
    """Mend an image, or all images of a folder: enlarge, take noise out, fill in, whatever the model is trained for.

    Alpha, 16 bits (.png), colour profile and EXIF are kept; the image is written upright.

    Args:
        picture: a file, or a folder
        with_: the folder of a run of train.restoration or train.super_resolution, or, to fill in images of its own
            size, of train.diffusion; a file of weights of the first two, ours or PyTorch's; or bicubic, lanczos3,
            bilinear, nearest; or deep-image-prior, which learns the image itself
        out: a file, or for a folder a folder; unset: PICTURE-restored.png, FOLDER-restored
        preset: whose net a file of weights is; unset: the one that they fit
        scale: how much larger the answer is; unset: what the model was trained for, 2 by interpolation
        sigma: how strong the noise is, of 255, for models that are told; a deep image prior stops there
        mask: white where the image is to be filled in, for models that are told
        original: the undamaged image, or the folder of them under the same names: scores are printed
        degrade: the images are undamaged: damage them first, as in training, and print scores
        ensemble: the mean over the image turned and mirrored in eight ways: better, and eight times as slow
        tile: pixels of a side of the parts that are mended one by one; 0: whole
        overlap: pixels that parts share
        memory: GiB that images and the net's work on them may take; a larger one is refused before it is begun
        seed: of the damage, and of models with several answers
        answers: how many, of models that have several: the others are OUT-2.png, OUT-3.png, ...
        sheet: write before and after beside each other, and a crop, to OUT-sheet.png
        overwrite: replace what is there
    """
    tiling.check(tile, overlap)
    if sigma is not None and not 0 <= sigma <= 255:
        raise InputError(f"--sigma must be from 0 to 255, not {sigma:g}.")
    check_seed(seed)
    at_least(1, answers=answers)
    check_memory_limit(memory)
    if degrade and original:
        raise InputError("--degrade makes the degraded images from the given ones: leave out --original.")
    job = ImageJob(picture, out, "restored", lambda target: written(target, answers, sheet), overwrite)
    originals = dict(zip(job.files, pairs_of(picture, job.files, original), strict=True))
    model = open_model(with_, preset, scale)
    model.check(sigma, mask, answers, degrade, ensemble)
    restorer, scores = ImageRestorer(model, tile, overlap, ensemble, memory, seed, sigma, degrade, answers), []

    def process(file: Path, target: Path):
        clean = originals[file]
        restorer.text = f"restoring {job.files.index(file) + 1} of {len(job.files)}"
        if original is not None and clean is None:
            read(file)  # a file that is no image is reported first
            raise InputError(f"{original} has no image for {file}.")
        name = "" if job.single else str(file.relative_to(picture))
        found = restorer.process(file, target, clean, mask, sheet, name)
        scores.extend([found] if found else [])
        more = f" and {answers - 1} more" if answers > 1 else ""
        print(f"{target}{more}" + "".join(f", {name} {value:.4g}" for name, value in found.items()), flush=True)

    job.run(process, lambda: print_means(scores))


def print_means(scores: list[dict[str, float]]):
    """Print the mean of each score of several images."""
    if len(scores) > 1:
        names = [name for name in scores[0] if all(name in one for one in scores)]
        means = ", ".join(f"{name} {np.mean([one[name] for one in scores]):.4f}" for name in names)
        print(f"mean of {len(scores)}: {means}")


def sheet_path(target: Path) -> Path:
    return target.with_name(f"{target.stem}-sheet.png")


def written(target: Path, answers: int, sheet: bool) -> list[Path]:
    """Return all the files of an image."""
    return [*numbered(target, answers), *([sheet_path(target)] if sheet else [])]


def pairs_of(picture: Path, files: list[Path], original: Path | None) -> list[Path | None]:
    """Return the undamaged image of each file, or None: a.png of a.jpg, and of ax4.jpg where there is no other.

    Raises InputError for a file beside a folder.
    """
    if original is None:
        return [None] * len(files)
    if picture.is_file() and original.is_file():
        return [original]
    if not original.exists():
        raise InputError(f"--original: there is no image or folder {original}.")
    if not original.is_dir() or picture.is_file():
        raise InputError("--original must be a file for a file, or a folder for a folder.")
    by_stem = {p.relative_to(original).with_suffix(""): p for p in find(original)}
    names = [file.relative_to(picture).with_suffix("") for file in files]
    return [by_stem.get(name) or by_stem.get(name.with_name(SMALL.sub("", name.name) or name.name)) for name in names]


@dataclass
class ImageRestorer:
    """Restores image files with a model."""

    model: Model
    tile: int
    overlap: int
    ensemble: bool
    memory: float
    seed: int
    sigma: float | None
    degrade: bool
    answers: int = 1
    text: str = "restoring"  # beside the progress bar

    def __post_init__(self):
        import jax

        self.damage = jax.jit(self.model.degrade, static_argnums=2)
        self.tile = 0 if self.model.by or self.model.transform.whole else self.tile

    def process(
        self, file: Path, target: Path, clean: Path | None, mask: Path | None, sheet: bool, name: str = ""
    ) -> dict[str, float]:
        """Mend a file and return its scores; the name says which damage. Raises InputError for what can't be mended."""
        compared = self.degrade or sheet or clean is not None
        check = self.check_size(file, compared)
        photo = read(file)
        truth = read(clean).pixels if clean else None
        given, told = photo.pixels, {}
        if self.degrade:
            given, told = self.damaged(photo.pixels, name)
            truth = photo.pixels[: round(len(given) * self.model.scale), : round(given.shape[1] * self.model.scale)]
        told |= {} if self.sigma is None else {"sigma": np.float32(self.sigma)}
        told |= {} if mask is None else {"mask": read_mask(mask, file, photo)}
        given = np.where(told["mask"] > 0, 0, given) if "mask" in told else given
        paths, parts = (
            numbered(target, self.answers),
            [self.mended(given, told, i, check) for i in range(self.answers)],
        )
        if not compared:  # an answer is never whole in f32
            for path, lines in zip(paths, parts, strict=True):
                values = np.concatenate([quantised(some, photo.bits) for some in lines])
                write(path, values, photo, self.alpha(photo))
            return {}
        from jaxgen.media import comparison_sheet as comparing

        found = [np.concatenate(list(lines)) for lines in parts]
        alpha = self.alpha(photo)
        if self.degrade and truth is not None:  # a factor that is no whole number rounds the sides up
            height, width = truth.shape[:2]
            found = [each[:height, :width] for each in found]
            alpha = None if photo.alpha is None else photo.alpha[:height, :width]
        answer = found[0]
        if truth is not None and truth.shape[:2] != answer.shape[:2]:
            sizes = [f"{x.shape[0]}x{x.shape[1]}" for x in (answer, truth)]
            raise InputError(f"{file}: the answer is {sizes[0]}, the original {sizes[1]}: they must be of one size.")
        for path, each in zip(paths, found, strict=True):
            write(path, quantised(each, photo.bits), photo, alpha)
        border, channels = int(self.model.scale), self.model.transform.source.sizes(-1)
        scores = lambda made: {} if truth is None else comparing.measured(truth, made, border, channels)  # noqa: E731
        if sheet:
            before = enlarge(given, self.model.scale)[: answer.shape[0], : answer.shape[1]]
            comparing.write_sheet(sheet_path(target), before, found, truth, scores)
        return scores(answer)

    def check_size(self, file: Path, compared: bool) -> Check | None:
        """Raise InputError where the image and its answer don't fit the memory, by the file's first bytes.

        Return what raises it where the bytes that the model takes at a time don't fit beside them.
        """
        if (size := size_of(file)) is None:  # reading it says what is wrong
            return None
        height, width, bits = size
        numbers = 3 * height * width
        # Of an answer there are whole numbers and what is made of them to be written, measured; of what is compared
        # f32 as well, and the maps of SSIM.
        each = (3 if bits == 8 else 12) + (30 + 4 * self.answers if compared else 0)
        grown = 1 if self.degrade else self.model.scale**2
        lines = 28 * width * min(self.tile or height, height)  # joined: colours, weights and what they are divided to
        needed = (4 * numbers + (each * numbers + lines) * grown) / BYTES
        if needed > self.memory:
            raise InputError(
                f"{file} is {height}x{width}: mended at scale {self.model.scale:g} it takes {needed:.3g} GiB, "
                f"more than --memory {self.memory:g}."
            )

        def check(taken: float):
            if needed + taken / BYTES > self.memory:
                whole = self.model.by or self.model.transform.whole or not tiling.can_join(self.model.scale)
                way = "" if whole else "set a smaller --tile, or "
                raise InputError(
                    f"{file} is {height}x{width}: {self.model.name} takes {needed + taken / BYTES:.3g} GiB to mend it, "
                    f"more than --memory {self.memory:g}: {way}make it smaller first."
                )

        return check

    def mended(
        self, picture: np.ndarray, told: Mapping[str, Any], number: int = 0, check: Check | None = None
    ) -> Iterator[np.ndarray]:
        """Yield an answer's lines f32[n W c]; `check` hears the bytes that a tile takes."""
        transform, channels = self.model.transform, picture.shape[2]
        takes = transform.source.sizes(-1)
        many = channels not in takes
        if many and channels == 1:
            picture = np.repeat(picture, takes[0], 2)
        elif many:
            raise InputError(f"{self.model.name} restores images of {takes[0]} channel, not colour.")
        ways = range(8) if self.ensemble else range(1)

        def mend(part: np.ndarray, place: tuple[slice, slice]) -> np.ndarray:
            given = {"degraded": part} | {k: v[place] if np.ndim(v) == 3 else v for k, v in told.items()}
            turns = ({k: turned(v, way) for k, v in given.items()} for way in ways)
            total = sum(
                back(self.model.padded(turn, self.seed, number, check), way)
                for turn, way in zip(turns, ways, strict=True)
            )
            down, across = place
            done = down.start * picture.shape[1] + (down.stop - down.start) * across.stop  # pixels, and a few twice
            bar.update(row, completed=done)
            return np.asarray(total) / len(ways)

        # A deep image prior has a bar of its own.
        with Progress(transient=True, disable=bool(self.model.by) or not sys.stdout.isatty()) as bar:
            row = bar.add_task(self.text, total=picture.shape[0] * picture.shape[1])
            for lines in tiling.rows(
                picture, mend, self.model.scale, self.tile, self.overlap, transform.source.multiple
            ):
                yield (
                    lines.mean(2, keepdims=True)
                    if many and isinstance(transform.outputs["image"].shape[-1], str)
                    else lines
                )

    def damaged(self, clean: np.ndarray, name: str = "") -> tuple[np.ndarray, dict[str, Any]]:
        """Return a damaged image, by the seed and the image's name, and what the model is told of the damage."""
        import jax

        from jaxgen.core import rng

        scale = self.model.scale
        if scale == int(scale):
            clean = clean[: len(clean) - len(clean) % int(scale), : clean.shape[1] - clean.shape[1] % int(scale)]
        keys = jax.random.split(rng.fold(rng.fold(jax.random.key(self.seed), "damage"), name), 1)
        made = self.damage(clean[None], keys, scale)
        found = {name: np.asarray(value)[0] for name, value in made.items()}
        return found["degraded"], {name: found[name] for name in self.model.transform.conditions}

    def alpha(self, photo: Photo) -> np.ndarray | None:
        if photo.alpha is None or self.model.scale == 1:
            return photo.alpha
        top = np.float32(np.iinfo(photo.alpha.dtype).max / 2)
        return quantised(enlarge(photo.alpha.astype(np.float32) / top - 1, self.model.scale), photo.bits)


def turned(x: Any, way: int) -> Any:
    """Return an image mirrored where way is 4 or more, then turned by way modulo 4 right angles."""
    if np.ndim(x) != 3:
        return x
    return np.rot90(x[:, ::-1] if way >= 4 else x, way % 4)


def back(x: np.ndarray, way: int) -> np.ndarray:
    """Undo `turned`."""
    x = np.rot90(x, -(way % 4))
    return x[:, ::-1] if way >= 4 else x


def enlarge(picture: np.ndarray, scale: float) -> np.ndarray:
    """Return an image [h w c] enlarged by bicubic interpolation."""
    import jax.numpy as jnp

    from jaxgen.nn.resample import resize

    size = round(picture.shape[0] * scale), round(picture.shape[1] * scale)
    return picture if scale == 1 else np.asarray(resize(jnp.asarray(picture), size, "bicubic", edges="reflect"))


def read_mask(path: Path, file: Path, photo: Photo) -> np.ndarray:
    """Return f32[h w 1], 1 where a mask is white. Raises InputError where it does not fit the image."""
    found = read(path).pixels.mean(2, keepdims=True) > 0
    if found.shape[:2] != photo.pixels.shape[:2]:
        mask, picture = ("x".join(map(str, x.shape[:2])) for x in (found, photo.pixels))
        raise InputError(f"The mask {path} is {mask}, {file} is {picture}: they must be of one size.")
    if not found.any():
        raise InputError(f"The mask {path} is all black: nothing is to be filled in.")
    if found.all():
        raise InputError(f"The mask {path} is all white: nothing of the image is known.")
    return found.astype(np.float32)
