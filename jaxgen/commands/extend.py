"""python -m jaxgen extend: what lies beyond an image's border, and images that can be laid beside themselves."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgen.commands.shared import Picture, With
from jaxgen.core.errors import InputError, at_least, check_seed
from jaxgen.media import output_files
from jaxgen.media.batch_files import numbered
from jaxgen.media.photo import WRITTEN, check_made, quantised, read, write

if TYPE_CHECKING:
    from jaxgen.inference.restoration import Model

WINDOWS = 1_000_000  # of an answer, at most


def extend(
    picture: Picture,
    with_: With = "",
    by: tuple[int, ...] = (),
    tile: bool = False,
    seam: int | None = None,
    out: Path | None = None,
    preset: str = "",
    seed: int = 0,
    answers: int = 1,
    overwrite: bool = False,
):
    """Paint what lies beyond an image's border, or make it a tile: laid beside itself it has no seam.

    The pixels that were there stay as they are (of a tile those of the seam do not). For more detail, not more image,
    there are `restore` with a net that enlarges and `upscale`.

    Args:
        picture: a file
        with_: what paints: a run that fills in what a mask hides (train.restoration), a diffusion model's run, which
            paints in windows of its own size, a file of weights, or deep-image-prior; for a tile it may be left out:
            then the smoothest image that joins the borders is taken away, and no pixel is invented
        by: pixels above, right, below and left; or two numbers, above and below, right and left; or one for all
        tile: make a tile of the same size
        seam: pixels on both sides of the border that are painted anew for a tile; unset: an eighth of the shorter side
        out: a file; unset: PICTURE-extended.png, PICTURE-tile.png
        preset: whose net a file of weights is; unset: the one that they fit
        seed: of models with several answers
        answers: how many, of models that have several: the others are OUT-2.png, OUT-3.png, ...
        overwrite: replace what is there
    """
    at_least(1, answers=answers, seam=seam)
    if min(by, default=0) < 0:
        raise InputError(f"--by is pixels that are added, not {min(by)}.")
    check_seed(seed)
    if not picture.is_file():
        raise InputError(f"There is no image {picture}: name a file.")
    if tile == bool(by) or (by and len(by) not in (1, 2, 4)) or (by and not any(by)):
        raise InputError("Say how far with --by and one, two or four numbers, or write --tile.")
    if seam is not None and not (tile and with_):
        raise InputError("--seam is for --tile with a model: --with names it.")
    if not tile and not with_:
        raise InputError("--with names the model that paints beyond the border.")
    target = out or picture.with_name(f"{picture.stem}-{'tile' if tile else 'extended'}.png")
    targets = numbered(target, answers)
    for path in targets:
        output_files.check(path, WRITTEN, overwrite, given=[picture])
    photo = read(picture)
    if tile and photo.alpha is not None and (photo.alpha != photo.alpha.flat[0]).any():
        raise InputError(f"{picture} is transparent in parts, which has a seam of its own: lay it on a ground first.")
    if not with_:
        if answers > 1 or preset:
            raise InputError("Without --with there is one answer and no net: leave out --answers and --preset.")
        from jaxgen.media.poisson_blending import periodic

        write(target, quantised(periodic(photo.pixels), photo.bits), photo, photo.alpha)
        print(f"a tile without a seam: {target}")
        return
    height, width = photo.pixels.shape[:2]
    above, right, below, left = sides(by) if by else (0, 0, 0, 0)
    check_made("The answer", height + above + below, width + left + right)
    if tile:
        given, hidden = rolled(photo.pixels, seam if seam is not None else max(min(height, width) // 8, 1))
    else:
        pads = (above, below), (left, right), (0, 0)
        given = np.pad(photo.pixels, pads)
        hidden = np.pad(np.zeros((height, width, 1), np.float32), pads, constant_values=1)
    work = painter(with_, preset, answers, given)
    alpha = photo.alpha
    if alpha is not None and by:  # what is painted can be seen
        alpha = np.pad(alpha, ((above, below), (left, right), (0, 0)), constant_values=np.iinfo(alpha.dtype).max)
    for number, path in enumerate(targets):
        made = painted(work, given, hidden, seed, number)
        if tile:
            made = np.roll(made, (-(height // 2), -(width // 2)), (0, 1))
        made = made.mean(2, keepdims=True) if made.shape[2] != given.shape[2] == 1 else made
        write(path, quantised(np.clip(made, -1, 1), photo.bits), photo, alpha)
        print(f"{given.shape[0]}x{given.shape[1]}, {hidden.mean():.0%} of it painted: {path}", flush=True)


def sides(by: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return pixels above, right, below and left of one, two or four numbers, as style sheets read them."""
    above, right = by[0], by[1 % len(by)]
    return (above, right, above, right) if len(by) < 4 else (above, right, by[2], by[3])


def rolled(picture: np.ndarray, seam: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image whose border has come to lie as a cross in its middle, and where that is hidden f32[h w 1]."""
    height, width = picture.shape[:2]
    if 2 * seam >= min(height, width):
        raise InputError(f"--seam {seam} on both sides leaves nothing of an image of {height}x{width}.")
    hidden = np.zeros((height, width, 1), np.float32)
    hidden[height // 2 - seam : height // 2 + seam] = 1
    hidden[:, width // 2 - seam : width // 2 + seam] = 1
    return np.roll(picture, (height // 2, width // 2), (0, 1)), hidden


def painter(name: str, preset: str, answers: int, given: np.ndarray) -> "Model":
    """Return what paints under masks. Raises InputError where this model or this image does not allow it."""
    from jaxgen.inference.restoration import open_model

    model = open_model(name, preset, None)
    if "mask" not in (*model.transform.inputs, *model.may):
        raise InputError(f"{name} paints nothing under a mask: it needs one that fills in, or a diffusion model.")
    model.check(None, Path("mask"), answers)
    source = model.transform.source
    channels, size = source.sizes(-1), source.fixed
    if given.shape[2] not in channels and given.shape[2] != 1:
        raise InputError(f"{name} paints images of {channels[0]} channel: give it a grey image, or a net of colour.")
    if size and (given.shape[0] < size[0] or given.shape[1] < size[1]):
        sizes = [f"{h}x{w}" for h, w in (size, given.shape[:2])]
        raise InputError(f"{name} paints windows of {sizes[0]}; the answer has {sizes[1]} only: write a larger --by.")
    return model


def painted(model: "Model", given: np.ndarray, hidden: np.ndarray, seed: int, number: int) -> np.ndarray:
    """Return an answer f32[h w c]: a model that has a size of its own paints one window after the other."""
    source = model.transform.source
    if given.shape[2] not in source.sizes(-1):
        given = np.repeat(given, source.sizes(-1)[0], 2)
    if not source.fixed:
        return model.padded({"degraded": given, "mask": hidden}, seed, number)
    from rich.progress import Progress

    given, hidden, size = given.copy(), hidden.copy(), source.fixed
    with Progress(transient=True) as bar:
        task, count = bar.add_task("painting windows", total=int(hidden.sum())), 0
        while hidden.any():
            part = fullest(hidden, size)
            bar.advance(task, float(hidden[part].sum()))
            window: dict[str, Any] = {"degraded": given[part], "mask": hidden[part]}
            # Each window of each answer has noise of its own.
            given[part], hidden[part] = model.padded(window, seed, number * WINDOWS + count), 0
            count += 1
    return given


def fullest(hidden: np.ndarray, size: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the window with something to be painted of which most is known, half a window apart from its neighbours.

    It grows from what is known: no window is painted without anything to go by where that can be helped.
    """
    ys, xs = (
        np.unique([*range(0, n - side + 1, max(side // 2, 1)), n - side])
        for n, side in zip(hidden.shape, size, strict=False)
    )
    sums = np.pad((hidden[..., 0] > 0).cumsum(0).cumsum(1), ((1, 0), (1, 0)))  # whole numbers
    (h, w), at = size, lambda i, j: sums[np.ix_(i, j)]
    counts = at(ys + h, xs + w) - at(ys, xs + w) - at(ys + h, xs) + at(ys, xs)
    y, x = np.unravel_index(np.where(counts > 0, counts, counts.max() + 1).argmin(), counts.shape)
    return slice(ys[y], ys[y] + h), slice(xs[x], xs[x] + w)
