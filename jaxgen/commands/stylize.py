"""python -m jaxgen stylize: style transfer to images and to folders of images."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from jaxgen.commands.shared import ImageFiles
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.progress import progress
from jaxgen.inference.stylization import StyleRequest, Stylist, open_stylist
from jaxgen.inference.tiled_stylization import TILE, stylized, tile_of
from jaxgen.media import tiling
from jaxgen.media.animation import ENCODINGS
from jaxgen.media.batch_files import BYTES, ImageJob, check_memory, check_memory_limit
from jaxgen.media.frames import by_frames
from jaxgen.media.marks import Mark
from jaxgen.media.photo import check_mask, quantised, read, size_of, write

PAINTED = ("fast-style", "fast-style-many")  # presets whose weights paint styles that have names
With = Annotated[str, tyro.conf.arg(name="with", metavar="gatys|wct|RUN|WEIGHTS|NAME")]


def stylize(
    content: ImageFiles,
    style: tuple[str, ...] = (),
    with_: With = "",
    how: Literal["adain", "wct"] | None = None,
    out: Path | None = None,
    weights: tuple[float, ...] = (),
    masks: tuple[Path, ...] = (),
    strength: float = 1.0,
    colours: Literal["style", "content", "luma"] = "style",
    steps: int | None = None,
    style_size: int = 512,
    style_weight: float | None = None,
    backbone: str | None = None,
    progress: bool = False,
    tile: int | None = None,
    overlap: int = 64,
    memory: float = 4.0,
    steady: float = 0.7,
    overwrite: bool = False,
):
    """Transfer the style of images to other images, and to all images of folders.

    Alpha, 16 bits (.png, .tif), colour profile and EXIF are kept. The image is written upright, in colour. A video is
    stylized frame by frame, consistently over time, and written as a .mp4 with its sound.

    Args:
        content: image files or folders
        style: the style images; or the names of styles that shipped weights paint; for a run of fast-style the names of
            the styles that it was trained on
        with_: the method; unset: shipped weights for names of styles, gatys for images. gatys optimises the image until
            its features match the style; wct does the same with whitened and coloured features as targets; a run of
            fast-style or adain; a file of weights of fast-style; or the name of trained weights, such as
            fast-style-wave, which are fetched and checked when they are first used
        how: the transform of features in a run of adain: unset: that of its training; wct: whitening and colouring
        out: the output file, or for several images the output folder; unset: IMAGE-stylized.png, FOLDER-stylized
        weights: the weight of each style; unset: equal weights
        masks: one mask per style, of the content's size, white where the style is used; pixels that are black in all
            masks keep the content. With one mask fewer than styles, the last style gets the rest
        strength: strength of the style, from 0 (the content itself) to 1
        colours: style uses the style's colours; content gives the output (and the style image beforehand) the mean and
            covariance of the content's colours; luma keeps the content's chroma
        steps: number of optimisation steps of gatys and wct; unset: 200
        style_size: largest longer side of a style image in pixels, larger ones are reduced; 0: no limit
        style_weight: weight of the style loss relative to the content loss, for gatys; unset: 1000
        backbone: the feature extractor of gatys and wct: vgg16, random, or a run folder of train.classifier; unset:
            vgg16
        progress: write the image to OUT-progress.png during the optimisation, for gatys and wct
        tile: side of the tiles that are stylized one after another, in pixels; 0: the whole image at once; unset: 0 if
            --memory is enough, else 512
        overlap: overlap of the tiles, in pixels
        memory: memory limit in GiB; an image that exceeds it even in tiles is refused before work begins
        steady: from 0 to 1: how far each frame of a video is pulled to the one before, along the optical flow
        overwrite: replace existing files
    """
    tiling.check(TILE if tile is None else tile, overlap)
    at_least(1, **{"--steps": steps})
    at_least(0, **{"--style-size": style_size, "--style-weight": style_weight})
    if not 0 <= strength <= 1:
        raise InputError(f"--strength must be from 0 to 1, not {strength:g}.")
    if not 0 <= steady <= 1:
        raise InputError(f"--steady must be from 0 to 1, not {steady:g}.")
    check_memory_limit(memory)
    with_ = with_ or method_for(style)
    inputs = [Path(name).expanduser() for name in (*style, *masks, with_)]
    outputs = lambda target: [target, progress_path(target)] if progress else [target]  # noqa: E731
    job = ImageJob(content, out, "stylized", outputs, overwrite, inputs, tuple(ENCODINGS))
    if progress and not job.single:
        raise InputError("--progress is for one image: leave it out for several.")
    request = StyleRequest(style, weights, style_size, strength)
    stylist = open_stylist(with_, request, how, steps, style_weight, backbone)
    check_masks(masks, stylist)
    if progress and not stylist.iterative:
        raise InputError(f"{stylist.name} works in one pass: leave out --progress.")
    stylizer = ImageStylizer(stylist, masks, colours, tile, overlap, memory, progress)

    def process(file: Path, target: Path):
        by_frames(file, target, job.outputs, stylizer.process, pull=steady)
        print(target, flush=True)

    job.run(process)


def method_for(styles: tuple[str, ...]) -> str:
    """Return the method for styles: gatys for images, or the name of shipped weights that paint all of these styles.

    Raises InputError for what is neither an image nor a style of shipped weights.
    """
    missing = [style for style in styles if not Path(style).expanduser().is_file()]
    if not missing:
        return "gatys"
    from jaxgen.pretrained import catalogue
    from jaxgen.tasks.style_transfer import names

    entries = [catalogue.entry_of(name) for name in catalogue.names(("translation",))]
    painted = {one.name: names(one.model().styles) for one in entries if one.shipped and one.preset in PAINTED}
    for name, known in painted.items():
        if set(styles) <= set(known):
            return name
    known = sorted({style for some in painted.values() for style in some})
    there = f"; the styles of shipped weights are {', '.join(known)}" if known else ""
    other = f"fast-style-{missing[0]}"
    there += f"; published weights for it are --with {other}" if catalogue.find(other) else ""
    raise InputError(f"There is no style image {missing[0]}{there}.")


def progress_path(target: Path) -> Path:
    """Return the path of the image that shows the progress."""
    return target.with_name(f"{target.stem}-progress.png")


def check_masks(masks: tuple[Path, ...], stylist: Stylist):
    """Raise InputError unless there are as many masks as styles, or one fewer, or none."""
    count = len(stylist.request.styles) or 1
    if masks and len(masks) not in (count, max(count - 1, 1)):
        raise InputError(f"There are {len(masks)} --masks for {count} styles: give one for each, or one fewer.")
    if masks and stylist.request.weights:
        raise InputError("--weights and --masks both combine styles: give only one of them.")


@dataclass
class ImageStylizer:
    """Stylizes image files."""

    stylist: Stylist
    masks: tuple[Path, ...]
    colours: str
    tile: int | None
    overlap: int
    memory: float
    progress: bool = False

    @property
    def mark(self) -> Mark | None:
        """The mark of outputs; None where they are the images themselves."""
        return self.stylist.mark if self.stylist.request.strength else None

    def process(self, file: Path, target: Path):
        """Stylize a file. Raises InputError if it can't be stylized."""
        self.check_size(file)
        photo = read(file)
        grey = photo.pixels.shape[2] == 1
        content = np.repeat(photo.pixels, 3, 2) if grey else photo.pixels
        masks = self.read_masks(file, content)
        made = self.stylized(content, masks, target)
        write(target, quantised(made, photo.bits), photo, photo.alpha, mark=self.mark)

    def stylized(self, content: np.ndarray, masks: np.ndarray | None, target: Path | None = None) -> np.ndarray:
        """Return a stylized image f32[h w 3]. The masks f32[n h w 1] add up to 1 at most."""
        tile = self.tile if self.tile is not None else tile_of(self.stylist, content, self.memory * BYTES)
        with self.progress_bar(target) as show:
            return stylized(self.stylist, content, masks, self.colours, tile, self.overlap, show)

    @contextmanager
    def progress_bar(self, target: Path | None) -> Iterator[Any]:
        """Yield the function that is called with the progress: (step, steps in all, canvas)."""
        if not self.stylist.iterative:
            yield lambda at, total, canvas: None
            return
        from jaxgen.media.image_grid import save_png

        with progress("stylizing") as move:

            def show(at: int, total: int, canvas: Any):
                move(at, total)
                if self.progress and target is not None:
                    save_png(progress_path(target), quantised(np.asarray(canvas), 8), self.mark)

            yield show

    def read_masks(self, file: Path, content: np.ndarray) -> np.ndarray | None:
        """Return the masks f32[n h w 1], which add up to 1 at most. Raises InputError for a mask of another size."""
        if not self.masks:
            return None
        found = []
        for path in self.masks:
            mask = (read(path).pixels.mean(2, keepdims=True) + 1) / 2
            check_mask(path, mask, file, content)
            found.append(mask)
        total = np.maximum(sum(found), 1)
        found = [mask / total for mask in found]
        if len(found) < len(self.stylist.request.styles):
            found.append(1 - sum(found))
        return np.stack(found).astype(np.float32)

    def check_size(self, file: Path):
        """Raise InputError if the image exceeds the memory limit. Only the file's header is read."""
        if (size := size_of(file)) is None:  # `read` reports the reason
            return
        height, width, bits = size
        # Bytes per number: the content, the output (twice while tiles are joined and recoloured), and the file.
        needed = 3 * height * width * (20 + (3 if bits == 8 else 12) + 4 * (len(self.masks) + 1))
        check_memory(file, (height, width), needed, self.memory)
