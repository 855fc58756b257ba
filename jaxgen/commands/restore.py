"""python -m jaxgen restore: images, folders of images and videos, restored by a trained model or by interpolation."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from jaxgen.commands.purpose import NONE, Purpose, resolved
from jaxgen.commands.restore_clips import check_options, is_clip, restore_clip
from jaxgen.commands.shared import ImageFiles, With
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.progress import progress
from jaxgen.core.ranges import Range, Seed
from jaxgen.inference.restoration import Model, open_model
from jaxgen.inference.tiled_restoration import TILE, enlarged, enlarged_alpha, restored_lines
from jaxgen.media import output_files, tiling
from jaxgen.media.animation import ANIMATIONS
from jaxgen.media.batch_files import ImageJob, check_memory, check_memory_limit, numbered
from jaxgen.media.frames import by_frames
from jaxgen.media.photo import Photo, check_mask, find, quantised, read, size_of, write

CLIPS = (*ANIMATIONS, ".webp", ".png")  # what is written of clips
SMALL = re.compile(r"x\d+$")  # the end of the names of a data set's small images
Check = Callable[[float], None]


def restore(
    image: ImageFiles,
    with_: With = "",
    purpose: Annotated[tyro.conf.FlagCreatePairsOff[Purpose], tyro.conf.arg(name="")] = NONE,
    out: Path | None = None,
    preset: str = "",
    scale: float | None = None,
    sigma: Annotated[float, Range(0, 255)] | None = None,
    steps: int | None = None,
    mask: Path | None = None,
    original: Path | None = None,
    degrade: bool = False,
    ensemble: bool = False,
    tile: int | None = None,
    overlap: int = 32,
    memory: float = 4.0,
    seed: Seed = 0,
    answers: int = 1,
    sheet: bool = False,
    overwrite: bool = False,
):
    """Restore images, all images of folders, and videos: enlarge, denoise, colour, fill in, ...

    Without --with the weights that ship with the package are taken, for --scale 2, 3 or 4, or for another purpose of
    the list below; it says for which none ship yet.

    Alpha, 16 bits (.png, .tif), colour profile and EXIF are kept. The image is written upright. An animated GIF, WebP
    or PNG is restored frame by frame and written as one. So is a video, with its sound; a model of videos, such
    as basicvsr, sees many frames at once. A clip can be written as .mp4, .webm, .mkv (lossless), .gif or .apng.

    Args:
        image: image files, videos or folders of images
        with_: another model: a run of train.restoration or train.super_resolution; a run of train.video that restores;
            a run of train.diffusion, to fill in images of its own size; a file of weights of a net that restores, of
            jaxgen or PyTorch; the name of trained weights, such as imdn-x4, which are fetched and checked when they are
            first used; bicubic, lanczos3, bilinear or nearest; or deep-image-prior, which is fitted to the image itself
        out: the output file, or for several images the output folder; unset: IMAGE-denoised.png,
            IMAGE-enlarged-x4.png, FOLDER-filled, ... by what was asked for; with --with IMAGE-restored.png
        preset: the preset of a file of weights; unset: found by the weights
        scale: the scale factor; unset: that of the model's training, 2 for interpolation
        sigma: standard deviation of the noise on the scale 0-255, for models conditioned on it; deep-image-prior stops
            at this error; with --degrade noise of it is added, in place of that of training
        steps: number of steps of deep-image-prior; unset: 1800. Ctrl-C ends it sooner, with the answer so far
        mask: an image of the same size, white in the part to fill in, for inpainting models
        original: the original image, or a folder of originals with the same names; prints scores. An enlarged image's
            original may have a few more pixels, which are cropped: fewer than the factor
        degrade: the images are originals: degrade them first, as in training, and print scores
        ensemble: average over eight rotations and reflections of the image: better, and eight times slower
        tile: side of the tiles that are restored one after another, in pixels; 0: the whole image at once; unset: 384,
            of clips 192
        overlap: overlap of the tiles, in pixels
        memory: memory limit in GiB for the image and the net; a larger image is refused before work begins
        seed: the random seed of the degradation, and of a stochastic model
        answers: number of results of a stochastic model; further results are OUT-2.png, OUT-3.png, ...
        sheet: also write OUT-sheet.png, with input, outputs and an enlarged detail side by side
        overwrite: replace existing files
    """
    with_, mask, done = resolved(purpose, with_, scale, mask)
    tiling.check(TILE if tile is None else tile, overlap)
    at_least(1, answers=answers)
    check_memory_limit(memory)
    if degrade and original:
        raise InputError("--degrade takes the given images as originals: leave out --original.")
    job = ImageJob(image, out, done, lambda target: written(target, answers, sheet), overwrite, clips=CLIPS)
    originals = pairs_of(job, original)
    model = open_model(with_, preset, scale, steps)
    model.check(sigma, mask, answers, degrade, ensemble)
    if degrade and sigma is not None and model.adds_noise:
        model = model.with_noise(sigma)
        sigma = sigma if "sigma" in (*model.transform.inputs, *model.may) else None
    clips = [file for file, target in zip(job.files, job.targets, strict=True) if is_clip(model, file, target)]
    if clips:
        alone = {"mask": mask, "original": original, "degrade": degrade, "ensemble": ensemble, "sheet": sheet}
        check_options(str(clips[0]), **alone, answers=answers > 1)
    side = TILE if tile is None else tile
    restorer, scores = ImageRestorer(model, side, overlap, ensemble, memory, seed, sigma, degrade, answers), []
    unscored: list[str] = []

    def truth(file: Path, folder: Path, photo: Photo) -> np.ndarray | None:
        try:
            return original_of(originals[file], folder, file, photo, model.scale)
        except InputError as error:
            if job.single:
                raise
            unscored.append(str(error))  # no reason to restore it less

    def process(file: Path, target: Path):
        restorer.text = f"restoring {job.files.index(file) + 1} of {len(job.files)}"
        name = "" if job.single else str(job.names[file])
        if file in clips:
            restore_clip(model, restorer.mark, file, target, tile, overlap, memory, seed, sigma, restorer.text)
            return print(target, flush=True)
        truth_of = None if original is None else partial(truth, file, original)
        work = lambda file, target: restorer.process(file, target, truth_of, mask, sheet, name)  # noqa: E731
        each = [found for found in by_frames(file, target, job.outputs, work) if found]
        found = {name: float(np.mean([one[name] for one in each])) for name in each[0]} if each else {}
        scores.extend([found] if found else [])
        more = f" and {answers - 1} more" if answers > 1 else ""
        print(f"{target}{more}" + "".join(f", {name} {value:.4g}" for name, value in found.items()), flush=True)

    def finish() -> list[str]:
        print_means(scores)
        return [f"{len(unscored)} of {len(job.files)} were restored, but not scored:", *unscored] if unscored else []

    job.run(process, finish)


def print_means(scores: list[dict[str, float]]):
    """Print the mean of each score of several images."""
    if len(scores) > 1:
        names = [name for name in scores[0] if all(name in one for one in scores)]
        means = ", ".join(f"{name} {np.mean([one[name] for one in scores]):.4f}" for name in names)
        print(f"mean of {len(scores)}: {means}")


def sheet_path(target: Path) -> Path:
    """Return the path of an output's comparison sheet."""
    return target.with_name(f"{target.stem}-sheet.png")


def written(target: Path, answers: int, sheet: bool) -> list[Path]:
    """Return all files that are written for one image."""
    return [*numbered(target, answers), *([sheet_path(target)] if sheet else [])]


def pairs_of(job: ImageJob, original: Path | None) -> dict[Path, Path | None]:
    """Return the original of each file, or None. For a.jpg it is a.jpg, or a.png; for ax4.jpg also ax4.png or a.png.

    Raises InputError if there is one image and `original` is a folder, or several images and it is none.
    """
    if original is None:
        return dict.fromkeys(job.files)
    if not original.exists():
        raise InputError(f"--original: there is no image or folder {original}.")
    if original.is_dir() == job.single:
        raise InputError("--original must be a file for one image, and a folder for several or for a folder.")
    if job.single:
        return {job.files[0]: original}
    found = {path.relative_to(original): path for path in reversed(find(original))}
    found = {name.with_suffix(""): path for name, path in found.items()} | found
    small = {file: name.with_name(SMALL.sub("", name.stem) or name.stem) for file, name in job.names.items()}
    return {
        file: found.get(name) or found.get(name.with_suffix("")) or found.get(small[file])
        for file, name in job.names.items()
    }


def original_of(path: Path | None, folder: Path, file: Path, photo: Photo, scale: float) -> np.ndarray:
    """Return the original f32[h w c] of an image. Raises InputError if it can't be compared with the output.

    It may be larger than the output by less than the factor, as originals of published sets are: they are cropped to a
    multiple of the factor before they are made small. It may be as much smaller, where a fractional factor rounds up.
    """
    if path is None:
        raise InputError(f"{folder} has no image for {file}.")
    truth = read(path).pixels
    sides = [(side, round(small * scale)) for side, small in zip(truth.shape[:2], photo.pixels.shape[:2], strict=True)]
    if any(abs(side - made) >= scale for side, made in sides):
        whole, output = ("x".join(map(str, some)) for some in zip(*sides, strict=True))
        raise InputError(f"The original {path} is {whole}, but the output for {file} is {output}.")
    return truth


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
    text: str = "restoring"  # of the progress bar

    def __post_init__(self):
        import jax

        random = self.model.transform.stochastic or self.model.by
        self.mark = self.model.mark and self.model.mark.with_seed(self.seed if random else None)
        self.degrade_batch = jax.jit(self.model.degrade, static_argnums=2)
        self.tile = self.model.tile(self.tile)

    def process(
        self,
        file: Path,
        target: Path,
        truth_of: Callable[[Photo], np.ndarray | None] | None,
        mask: Path | None,
        sheet: bool,
        name: str = "",
    ) -> dict[str, float]:
        """Restore a file and return its scores. Raises InputError if it can't be restored.

        truth_of: returns the original f32[h w c], of nearly the output's size, or None if there is none
        name:     with the seed, it determines the random degradation
        """
        compared = self.degrade or sheet or truth_of is not None
        check = self.check_size(file, compared)
        photo = read(file)
        truth = truth_of(photo) if truth_of else None
        given, conditioning, alpha = photo.pixels, {}, self.alpha(photo)
        if self.degrade:
            given, conditioning = self.degraded(photo.pixels, name)
            truth = photo.pixels[: round(len(given) * self.model.scale), : round(given.shape[1] * self.model.scale)]
            alpha = None if photo.alpha is None else photo.alpha[: len(truth), : truth.shape[1]]
        conditioning |= {} if self.sigma is None else {"sigma": np.float32(self.sigma)}
        conditioning |= {} if mask is None else {"mask": read_mask(mask, file, photo)}
        given = np.where(conditioning["mask"] > 0, 0, given) if "mask" in conditioning else given
        paths, parts = (
            numbered(target, self.answers),
            [self.restored(given, conditioning, i, check) for i in range(self.answers)],
        )
        if not compared:  # the whole output is never in memory as f32
            with output_files.together():
                for path, lines in zip(paths, parts, strict=True):
                    values = np.concatenate([quantised(some, photo.bits) for some in lines])
                    write(path, values, photo, alpha, mark=self.mark)
            return {}
        from jaxgen.media import comparison_sheet as comparing

        found = [np.concatenate(list(lines)) for lines in parts]
        if self.degrade and truth is not None:  # a fractional scale rounds the sides up
            found = [each[: len(truth), : truth.shape[1]] for each in found]
        with output_files.together():  # before they are scored, which may fail
            for path, each in zip(paths, found, strict=True):
                write(path, quantised(each, photo.bits), photo, alpha, mark=self.mark)
        height, width = np.min([x.shape[:2] for x in (found[0], found[0] if truth is None else truth)], axis=0)
        found, truth = [each[:height, :width] for each in found], None if truth is None else truth[:height, :width]
        scores = lambda made: {} if truth is None else comparing.measured(truth, made, int(self.model.scale))  # noqa: E731
        if sheet:
            before = enlarged(given, self.model.scale)[:height, :width]
            comparing.write_sheet(sheet_path(target), before, found, truth, scores, self.mark)
        return scores(found[0])

    def check_size(self, file: Path, compared: bool) -> Check | None:
        """Raise InputError if the image and its output exceed the memory limit. Only the file's header is read.

        Returns bytes -> None, which raises InputError if the model's memory exceeds the limit as well.
        """
        if (size := size_of(file)) is None:  # `read` reports the reason
            return None
        height, width, bits = size
        numbers = 3 * height * width
        # Measured bytes per number of the output: integers and the encoded file; for scores also f32 and SSIM's maps.
        each = (3 if bits == 8 else 12) + (30 + 4 * self.answers if compared else 0)
        grown = 1 if self.degrade else self.model.scale**2
        lines = 28 * width * min(self.tile or height, height)  # the band of joined tiles: colours, weights, quotients
        needed = 4 * numbers + (each * numbers + lines) * grown  # bytes
        check_memory(file, (height, width), needed, self.memory)

        def check(taken: float):
            whole = self.model.by or self.model.transform.whole or not tiling.can_join(self.model.scale)
            advice = "Make the image smaller" if whole else "Set a smaller --tile, or make the image smaller"
            check_memory(file, (height, width), needed + taken, self.memory, advice)

        return check

    def restored(
        self, image: np.ndarray, conditioning: Mapping[str, Any], number: int = 0, check: Check | None = None
    ) -> Iterator[np.ndarray]:
        """Yield an output's lines f32[n W c]. `check` is called with the bytes that a tile needs."""
        pixels = image.shape[0] * image.shape[1]
        # A deep image prior shows its own progress.
        bar = nullcontext(lambda done: None) if self.model.by else progress(self.text, pixels)
        with bar as show:
            yield from restored_lines(
                self.model,
                image,
                conditioning,
                self.tile,
                self.overlap,
                self.ensemble,
                self.seed,
                number,
                check,
                show,
            )

    def degraded(self, clean: np.ndarray, name: str = "") -> tuple[np.ndarray, dict[str, Any]]:
        """Return the degraded image, and the model's conditioning inputs. The seed and the name are its randomness."""
        import jax

        from jaxgen.core import rng

        scale = self.model.scale
        if scale == int(scale):
            clean = clean[: len(clean) - len(clean) % int(scale), : clean.shape[1] - clean.shape[1] % int(scale)]
        stream = rng.fold(jax.random.key(self.seed), "damage")  # the word is a part of the key
        keys = jax.random.split(rng.fold(stream, name), 1)
        made = self.degrade_batch(clean[None], keys, scale)
        found = {name: np.asarray(value)[0] for name, value in made.items()}
        return found["degraded"], {name: found[name] for name in self.model.transform.conditions}

    def alpha(self, photo: Photo) -> np.ndarray | None:
        """Return the alpha of the output."""
        return photo.alpha if photo.alpha is None else enlarged_alpha(photo.alpha, self.model.scale)


def read_mask(path: Path, file: Path, photo: Photo) -> np.ndarray:
    """Return a mask f32[h w 1], 1 for white. Raises InputError if it does not fit the image."""
    found = read(path).pixels.mean(2, keepdims=True) > 0
    check_mask(path, found, file, photo.pixels)
    if not found.any():
        raise InputError(f"The mask {path} is all black: nothing is to be filled in.")
    if found.all():
        raise InputError(f"The mask {path} is all white: nothing of the image is known.")
    return found.astype(np.float32)
