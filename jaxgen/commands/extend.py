"""python -m jaxgen extend: outpainting, and seamless tiles."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgen.commands.shared import ImageFile, With
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.progress import progress
from jaxgen.core.ranges import Seed
from jaxgen.media import output_files
from jaxgen.media.batch_files import check_image, check_memory, check_memory_limit, numbered
from jaxgen.media.photo import WRITTEN, check_made, quantised, read, write

if TYPE_CHECKING:
    from jaxgen.inference.restoration import Model

EACH, TILE = 60, 230  # bytes that a pixel takes beside a model, and in a tile without one, by measurement
WINDOWS = 1_000_000  # largest number of windows of an output


def extend(
    image: ImageFile,
    with_: With = "",
    by: tuple[int, ...] = (),
    tile: bool = False,
    seam: int | None = None,
    out: Path | None = None,
    preset: str = "",
    seed: Seed = 0,
    answers: int = 1,
    memory: float = 4.0,
    overwrite: bool = False,
):
    """Extend an image beyond its border (outpainting), or turn it into a seamless tile.

    The image's own pixels do not change, except those of a tile's seam. To enlarge an image in more detail, use
    `restore` with a super-resolution model, or `upscale`.

    Args:
        image: an image file
        with_: the model: an inpainting run (train.restoration), a run of a diffusion model, which fills windows of its
            own size, a file of weights, or deep-image-prior; unset, for a tile: the smoothest image that joins the
            borders is subtracted, and no new content is made
        by: pixels above, right, below and left; two numbers: above and below, right and left; one number: all sides
        tile: make a seamless tile of the same size
        seam: pixels on both sides of the border that are replaced in a tile; unset: an eighth of the shorter side
        out: the output file; unset: IMAGE-extended.png, IMAGE-tile.png
        preset: the preset of a file of weights; unset: found by the weights
        seed: the random seed of a stochastic model
        answers: number of results of a stochastic model; further results are OUT-2.png, OUT-3.png, ...
        memory: memory limit in GiB for the image and the net; a larger image is refused before work begins
        overwrite: replace existing files
    """
    check_memory_limit(memory)
    at_least(1, answers=answers, seam=seam)
    if min(by, default=0) < 0:
        raise InputError(f"--by must be 0 or more pixels, not {min(by)}.")
    if not image.is_file():
        raise InputError(f"There is no image {image}: name a file.")
    if tile == bool(by) or (by and len(by) not in (1, 2, 4)) or (by and not any(by)):
        raise InputError("Write either --by with one, two or four numbers, or --tile.")
    if seam is not None and not (tile and with_):
        raise InputError("--seam is for --tile with a model: name the model with --with.")
    if not tile and not with_:
        raise InputError("--by needs a model: name it with --with.")
    target = out or image.with_name(f"{image.stem}-{'tile' if tile else 'extended'}.png")
    targets = numbered(target, answers)
    for path in targets:
        output_files.check(path, WRITTEN, overwrite, given=[image])
    check_image(image, EACH if with_ else TILE, memory)
    photo = read(image)
    if tile and photo.alpha is not None and (photo.alpha != photo.alpha.flat[0]).any():
        raise InputError(f"{image} is partly transparent, and its alpha would have a seam: remove the alpha first.")
    if not with_:
        if answers > 1 or preset:
            raise InputError("Without --with there is one result and no model: leave out --answers and --preset.")
        from jaxgen.media.poisson_blending import periodic

        write(target, quantised(periodic(photo.pixels), photo.bits), photo, photo.alpha, mark=None)  # no net
        print(f"a seamless tile: {target}")
        return
    height, width = photo.pixels.shape[:2]
    above, right, below, left = sides(by) if by else (0, 0, 0, 0)
    check_made("The output", height + above + below, width + left + right)
    if tile:
        given, hidden = rolled(photo.pixels, seam if seam is not None else max(min(height, width) // 8, 1))
    else:
        pads = (above, below), (left, right), (0, 0)
        given = np.pad(photo.pixels, pads)
        hidden = np.pad(np.zeros((height, width, 1), np.float32), pads, constant_values=1)
    model = open_inpainter(with_, preset, answers, given)
    check = lambda taken: check_memory(image, given.shape[:2], taken + EACH * hidden.size, memory)  # noqa: E731
    mark, alpha = model.mark and model.mark.with_seed(seed), photo.alpha
    if alpha is not None and by:  # new pixels are opaque
        alpha = np.pad(alpha, ((above, below), (left, right), (0, 0)), constant_values=np.iinfo(alpha.dtype).max)
    with output_files.together():
        for number, path in enumerate(targets):
            made = inpainted(model, given, hidden, seed, number, check)
            if tile:
                made = np.roll(made, (-(height // 2), -(width // 2)), (0, 1))
            made = made.mean(2, keepdims=True) if made.shape[2] != given.shape[2] == 1 else made
            write(path, quantised(np.clip(made, -1, 1), photo.bits), photo, alpha, mark=mark)
    for path in targets:
        print(f"{given.shape[0]}x{given.shape[1]}, {hidden.mean():.0%} of it filled in: {path}", flush=True)


def sides(by: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return pixels above, right, below and left from one, two or four numbers, in the order of CSS margins."""
    above, right = by[0], by[1 % len(by)]
    return (above, right, above, right) if len(by) < 4 else (above, right, by[2], by[3])


def rolled(image: np.ndarray, seam: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image shifted so that its border forms a cross in the middle, and the mask f32[h w 1] of the cross."""
    height, width = image.shape[:2]
    if 2 * seam >= min(height, width):
        raise InputError(f"--seam {seam} on both sides covers the whole image of {height}x{width}.")
    hidden = np.zeros((height, width, 1), np.float32)
    hidden[height // 2 - seam : height // 2 + seam] = 1
    hidden[:, width // 2 - seam : width // 2 + seam] = 1
    return np.roll(image, (height // 2, width // 2), (0, 1)), hidden


def open_inpainter(name: str, preset: str, answers: int, given: np.ndarray) -> "Model":
    """Return a model that fills in masked pixels. Raises InputError if the model or the image does not fit."""
    from jaxgen.inference.restoration import open_model

    model = open_model(name, preset, None)
    if "mask" not in (*model.transform.inputs, *model.may):
        raise InputError(f"{name} can't fill in masked pixels: name an inpainting run or a diffusion model.")
    model.check(None, Path("mask"), answers)
    source = model.transform.source
    channels, size = source.sizes(-1), source.fixed
    if given.shape[2] not in channels and given.shape[2] != 1:
        raise InputError(f"{name} takes images of {channels[0]} channel: give it a grey image, or name another model.")
    if size and (given.shape[0] < size[0] or given.shape[1] < size[1]):
        sizes = [f"{h}x{w}" for h, w in (size, given.shape[:2])]
        raise InputError(f"{name} fills windows of {sizes[0]}, but the output is {sizes[1]}: write a larger --by.")
    return model


def inpainted(
    model: "Model",
    given: np.ndarray,
    hidden: np.ndarray,
    seed: int,
    number: int,
    check: Callable[[float], object] | None = None,
) -> np.ndarray:
    """Return the filled image f32[h w c]. A model of a fixed size fills one window after another.

    check: called with the bytes that the net takes, before it is run
    """
    source = model.transform.source
    if given.shape[2] not in source.sizes(-1):
        given = np.repeat(given, source.sizes(-1)[0], 2)
    if not source.fixed:
        return model.padded({"degraded": given, "mask": hidden}, seed, number, check)
    given, hidden, size = given.copy(), hidden.copy(), source.fixed
    count, total = 0, float(hidden.sum())
    with progress("filling windows", total) as show:
        while hidden.any():
            part = fullest(hidden, size)
            window: dict[str, Any] = {"degraded": given[part], "mask": hidden[part]}
            # Each window of each result has its own noise.
            given[part], hidden[part] = model.padded(window, seed, number * WINDOWS + count, check), 0
            count += 1
            show(total - float(hidden.sum()))
    return given


def fullest(hidden: np.ndarray, size: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the window with the fewest hidden pixels, but at least one. Windows are half a window apart.

    So the filled region grows from the known pixels, and a window without known pixels is filled last.
    """
    ys, xs = (
        np.unique([*range(0, n - side + 1, max(side // 2, 1)), n - side])
        for n, side in zip(hidden.shape, size, strict=False)
    )
    sums = np.pad((hidden[..., 0] > 0).cumsum(0).cumsum(1), ((1, 0), (1, 0)))  # integers
    (h, w), at = size, lambda i, j: sums[np.ix_(i, j)]
    counts = at(ys + h, xs + w) - at(ys, xs + w) - at(ys + h, xs) + at(ys, xs)
    y, x = np.unravel_index(np.where(counts > 0, counts, counts.max() + 1).argmin(), counts.shape)
    return slice(ys[y], ys[y] + h), slice(xs[x], xs[x] + w)
