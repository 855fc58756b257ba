"""python -m jaxgen stylize: an image, or a folder of them, painted in the style of others."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from jaxgen.core.errors import InputError, at_least
from jaxgen.inference.stylization import StyleRequest, Stylist, open_stylist
from jaxgen.media import tiling
from jaxgen.media.batch_files import BYTES, ImageJob, check_memory_limit
from jaxgen.media.photo import quantised, read, size_of, write

TILE = 512

Pictures = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CONTENT")]
With = Annotated[str, tyro.conf.arg(name="with", metavar="gatys|wct|RUN|WEIGHTS")]


def stylize(
    picture: Pictures,
    style: tuple[str, ...] = (),
    with_: With = "gatys",
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
    overwrite: bool = False,
):
    """Paint an image, or all images of a folder, in the style of others.

    Alpha, 16 bits (.png), colour profile and EXIF are kept; the image is written upright, in colour.

    Args:
        picture: a file, or a folder
        style: the images whose style is wanted; for a run of `fast-style` the names of styles that it was trained for
        with_: gatys, which paints until features agree; wct, which does the same with whitened and coloured features;
            the folder of a run of `fast-style` or `adain`; or a file of weights of `fast-style`
        how: what a run of `adain` does to its code: unset: as it was trained; wct: whitening and colouring
        out: a file, or for a folder a folder; unset: CONTENT-stylized.png, FOLDER-stylized
        weights: how much of each style; unset: as much of each
        masks: where each style is wanted, white in an image of the content's size; where all are black the content
            stays. One fewer than styles: the last has the rest
        strength: how much of the style, from 0, the content itself, to 1
        colours: the style's, or the content's: content gives the answer the mean and covariance of the content's
            colours (and the style image before it is looked at), luma keeps the content's chroma
        steps: of gatys and wct; unset: 200
        style_size: pixels of a style image's longer side, a larger one is made small; 0: as it is
        style_weight: of gatys, beside the content's; unset: 1000
        backbone: the net whose features gatys and wct compare: vgg16 (unset), random, or the folder of a run of
            train.classifier
        progress: of gatys and wct, write the canvas to OUT-progress.png as it is painted
        tile: pixels of a side of the parts that are painted one by one; 0: whole; unset: whole where --memory is
            enough for that, else 512
        overlap: pixels that parts share
        memory: GiB that an image may take; one that is larger even in parts is refused before it is begun
        overwrite: replace what is there
    """
    tiling.check(TILE if tile is None else tile, overlap)
    at_least(1, **{"--steps": steps})
    at_least(0, **{"--style-size": style_size, "--style-weight": style_weight})
    if not 0 <= strength <= 1:
        raise InputError(f"--strength must be from 0 to 1, not {strength:g}.")
    check_memory_limit(memory)
    inputs = [Path(name).expanduser() for name in (*style, *masks, with_)]
    outputs = lambda target: [target, progress_path(target)] if progress else [target]  # noqa: E731
    job = ImageJob(picture, out, "stylized", outputs, overwrite, inputs)
    if progress and not job.single:
        raise InputError("--progress shows one image being painted: leave it out for a folder.")
    request = StyleRequest(style, weights, style_size, strength)
    stylist = open_stylist(with_, request, how, steps, style_weight, backbone)
    check_masks(masks, stylist)
    if progress and not stylist.iterative:
        raise InputError(f"{stylist.name} paints in one pass: leave out --progress.")
    stylizer = ImageStylizer(stylist, masks, colours, tile, overlap, memory, progress)

    def process(file: Path, target: Path):
        stylizer.process(file, target)
        print(target, flush=True)

    job.run(process)


def progress_path(target: Path) -> Path:
    return target.with_name(f"{target.stem}-progress.png")


def check_masks(masks: tuple[Path, ...], stylist: Stylist):
    """Raise InputError where there are not as many masks as styles, or one fewer."""
    count = len(stylist.request.styles) or 1
    if masks and len(masks) not in (count, max(count - 1, 1)):
        raise InputError(f"There are {len(masks)} --masks for {count} styles: give one for each, or one fewer.")
    if masks and stylist.request.weights:
        raise InputError("--weights and --masks are two ways to have several styles: give one of them.")


@dataclass
class ImageStylizer:
    """Paints image files in a style."""

    stylist: Stylist
    masks: tuple[Path, ...]
    colours: str
    tile: int | None
    overlap: int
    memory: float
    progress: bool = False

    def process(self, file: Path, target: Path):
        """Paint a file. Raises InputError for what can't be painted."""
        self.check_size(file)
        photo = read(file)
        grey = photo.pixels.shape[2] == 1
        content = np.repeat(photo.pixels, 3, 2) if grey else photo.pixels
        masks = self.read_masks(file, content)
        made = self.painted(content, masks, target)
        write(target, quantised(made, photo.bits), photo, photo.alpha)

    def painted(self, content: np.ndarray, masks: np.ndarray | None, target: Path | None = None) -> np.ndarray:
        """Return an image f32[h w 3] painted; masks f32[n h w 1] add up to 1 at most."""
        stylist, (height, width) = self.stylist, content.shape[:2]
        if stylist.request.strength == 0:
            return content
        fits = stylist.each * height * width <= self.memory * BYTES
        tile = self.tile if self.tile is not None else 0 if fits else TILE
        sides = (height, width) if tile else ()
        parts = math.prod(len(tiling.starts(side, tile, self.overlap)) for side in sides)
        with self.shown(target) as show:
            stylist.begin(content, tile, parts, self.colours == "content", masks, show)

            def mend(part: np.ndarray, place: tuple[slice, slice]) -> np.ndarray:
                return stylist.answer(part, place, None if masks is None else masks[:, *place], show)

            made = np.concatenate(list(tiling.rows(content, mend, 1, tile, self.overlap, stylist.multiple)))
        return recoloured(made, content, self.colours)

    @contextmanager
    def shown(self, target: Path | None) -> Iterator[Any]:
        """Give what is told of the progress: (how far, of how much, canvas)."""
        if not self.stylist.iterative:
            yield lambda at, total, canvas: None
            return
        from rich.progress import Progress

        from jaxgen.media.image_grid import save_png

        with Progress(transient=True) as bar:
            task = bar.add_task("painting", total=None)

            def show(at: int, total: int, canvas: Any):
                bar.update(task, completed=at, total=total)
                if self.progress and target is not None:
                    save_png(progress_path(target), quantised(np.asarray(canvas), 8))

            yield show

    def read_masks(self, file: Path, content: np.ndarray) -> np.ndarray | None:
        """Return f32[n h w 1], adding up to 1 at most. Raises InputError where one is of another size."""
        if not self.masks:
            return None
        found = []
        for path in self.masks:
            mask = (read(path).pixels.mean(2, keepdims=True) + 1) / 2
            if mask.shape[:2] != content.shape[:2]:
                sizes = ["x".join(map(str, x.shape[:2])) for x in (mask, content)]
                raise InputError(f"The mask {path} is {sizes[0]}, {file} is {sizes[1]}: they must be of one size.")
            found.append(mask)
        total = np.maximum(sum(found), 1)
        found = [mask / total for mask in found]
        if len(found) < len(self.stylist.request.styles):
            found.append(1 - sum(found))
        return np.stack(found).astype(np.float32)

    def check_size(self, file: Path):
        """Raise InputError where the image doesn't fit the memory, by the file's first bytes."""
        if (size := size_of(file)) is None:  # reading it says what is wrong
            return
        height, width, bits = size
        # Of each number the content, what is made of it, twice while tiles are joined and recoloured, and the file's.
        needed = 3 * height * width * (20 + (3 if bits == 8 else 12) + 4 * (len(self.masks) + 1)) / BYTES
        if needed > self.memory:
            raise InputError(f"{file} is {height}x{width}: it takes {needed:.2g} GiB, over --memory {self.memory:g}.")


def recoloured(made: np.ndarray, content: np.ndarray, colours: str) -> np.ndarray:
    """Return an answer f32[h w 3] with the colours that are wanted."""
    if colours == "style":
        return made
    import jax.numpy as jnp

    from jaxgen.nn.colour import rgb, ycbcr
    from jaxgen.nn.colour_transport import transfer_colours

    made, content = np.clip(made, -1, 1), np.asarray(content)
    if colours == "content":
        return np.asarray(transfer_colours(jnp.asarray(made), jnp.asarray(content)))
    luma, chroma = ycbcr(jnp.asarray(made))[..., :1], ycbcr(jnp.asarray(content))[..., 1:]
    return np.asarray(rgb(jnp.concatenate([luma, chroma], -1)))
