"""python -m jaxgen compose: several pictures become one."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from jaxgen import outputs, photos
from jaxgen.errors import InputError
from jaxgen.photos import Photo

MOST = 2_000_000  # unknowns of Poisson's equation: some GiB, and minutes
DRAWN = 1 << 18  # of the background's pixels, where there are more, for its palette

Background = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="BACKGROUND")]
Foregrounds = Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FOREGROUND ...")]
With = Annotated[str, tyro.conf.arg(name="with", metavar="RUN")]
How = Literal["paste", "poisson", "mixed", "colours", "palette", "harmonise"]


def compose(
    background: Background,
    foregrounds: Foregrounds,
    masks: tuple[Path, ...] = (),
    at: tuple[str, ...] = (),
    size: tuple[float, ...] = (),
    how: How = "poisson",
    with_: With = "",
    out: Path | None = None,
    overwrite: bool = False,
):
    """Lay pictures, one on the other, into a background so that they look as one.

    Args:
        background: a picture; the answer has its size, bits, alpha and EXIF
        foregrounds: the pictures that are laid on it, in this order
        masks: white where a foreground is kept, grey where it shines through, one for each, of its size; unset: its
            alpha, or all of it
        at: where the upper left corner of each comes to lie, down and right in pixels, such as 20,100; unset: in the
            middle
        size: how much larger each becomes; unset: 1
        how: poisson keeps the foreground's differences between neighbours, and at its border the background's colours:
            for photographs that are cut out loosely, where the others are for what is cut out sharply; mixed keeps the
            larger of both pictures' differences; colours gives it the background's colours by optimal transport, their
            mean and covariance, palette all of them, each as often as it is there, which suits photographs more than
            what has few colours; harmonise asks a net; paste leaves it as it is
        with_: the run of a harmonisation net (train.translation --preset harmonisation), for harmonise
        out: a file; unset: BACKGROUND-composed.png
        overwrite: replace what is there
    """
    target = out or background.with_name(f"{background.stem}-composed.png")
    outputs.check(target, photos.WRITTEN, overwrite, given=[background, *foregrounds, *masks])
    if not foregrounds:
        raise InputError("Name the background and at least one foreground.")
    for name, given in (("masks", masks), ("at", at), ("size", size)):
        if given and len(given) != len(foregrounds):
            hint = ", as 20,100 is" if name == "at" else ""
            raise InputError(f"--{name} needs one{hint}, for each foreground: {len(foregrounds)}, not {len(given)}.")
    if (how == "harmonise") != bool(with_):
        raise InputError("--with names the net of --how harmonise: give both or neither.")
    if not all(each > 0 for each in size):
        raise InputError(f"--size must be above 0, not {min(size):g}.")
    places = [corner(text) for text in at] or [None] * len(foregrounds)
    below = photos.read(background)
    layers = [
        layer(file, masks[i] if masks else None, size[i] if size else 1.0, places[i], below)
        for i, file in enumerate(foregrounds)
    ]
    blend = blender(how, with_)
    picture = below.pixels
    for one in layers:
        picture = blend(one.like(picture), one)
    photos.write(target, photos.quantised(picture, below.bits), below, opaque(below, layers))
    print(f"{len(layers)} on {background}, by {how}: {target}")


def corner(text: str) -> tuple[int, int]:
    """Return the pixels down and right of "20,100". Raises InputError for anything else."""
    try:
        down, right = map(int, text.split(","))
    except ValueError:
        raise InputError(f"--at is pixels down and right, such as 20,100, not {text!r}.") from None
    return down, right


@dataclass(frozen=True)
class Layer:
    """A foreground's part within the background.

    pixels: f32[h w c] in [-1, 1]
    alpha:  f32[h w 1] in [0, 1], how much of it is seen
    known:  bool[h w 1], where its colours are known: a mask may show less
    place:  where it lies
    """

    pixels: np.ndarray
    alpha: np.ndarray
    known: np.ndarray
    place: tuple[slice, slice]

    def like(self, picture: np.ndarray) -> np.ndarray:
        """Return the background in as many channels as both need."""
        return coloured(picture) if self.pixels.shape[2] == 3 else picture

    def whole(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the foreground laid on the background, its alpha not heeded, and its alpha, of all the picture."""
        pixels = picture.copy()
        pixels[self.place] = self.pixels if self.pixels.shape[2] == picture.shape[2] else coloured(self.pixels)
        alpha = np.zeros((*picture.shape[:2], 1), np.float32)
        alpha[self.place] = self.alpha
        return pixels, alpha


def opaque(below: Photo, layers: list[Layer]) -> np.ndarray | None:
    """Return the answer's alpha: what is laid on a transparent background can be seen."""
    if below.alpha is None:
        return None
    top = np.iinfo(below.alpha.dtype).max
    alpha = below.alpha.astype(np.float32) / top
    for one in layers:
        alpha[one.place] = 1 - (1 - alpha[one.place]) * (1 - one.alpha)
    return np.rint(alpha * top).astype(below.alpha.dtype)


def coloured(picture: np.ndarray) -> np.ndarray:
    return np.repeat(picture, 3, 2) if picture.shape[2] == 1 else picture


def layer(file: Path, mask: Path | None, scale: float, place: tuple[int, int] | None, background: Photo) -> Layer:
    """Return a foreground's part within the background. Raises InputError where nothing of it is to be seen."""
    photo = photos.read(file)
    height, width = photo.pixels.shape[:2]
    if mask is not None:
        alpha = (photos.read(mask).pixels.mean(2, keepdims=True) + 1) / 2
        if alpha.shape[:2] != (height, width):
            sizes = [f"{h}x{w}" for h, w in (alpha.shape[:2], (height, width))]
            raise InputError(f"The mask {mask} is {sizes[0]}, {file} is {sizes[1]}: they must be of one size.")
    elif photo.alpha is not None:
        alpha = photo.alpha.astype(np.float32) / np.iinfo(photo.alpha.dtype).max
    else:
        alpha = np.ones((height, width, 1), np.float32)
    if not (alpha > 0).any():
        why = "its alpha is 0" if mask is None else f"{mask} is black"
        raise InputError(f"Nothing of {file} is to be seen: {why} all over.")
    pixels = photo.pixels
    if scale != 1:
        photos.check_made(f"{file} with --size {scale:g}", height * scale, width * scale)
        # What is hidden has no colour: pixels are weighed by their alpha, of which a mask knows nothing.
        weight = alpha if mask is None else np.ones_like(alpha)
        pixels, weight = resized(pixels * weight, scale), np.clip(resized(weight, scale), 0, 1)
        pixels = np.clip(pixels / np.maximum(weight, 1e-3), -1, 1)
        alpha = weight if mask is None else np.clip(resized(alpha, scale), 0, 1)
        alpha = np.where(alpha < 1 / 512, 0, alpha)  # less than a file of 8 bits could tell
    tall, wide = background.pixels.shape[:2]
    height, width = pixels.shape[:2]
    y, x = place or ((tall - height) // 2, (wide - width) // 2)
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + height, tall), min(x + width, wide)
    inside = slice(top - y, bottom - y), slice(left - x, right - x)
    if bottom <= top or right <= left or not (alpha[inside] > 0).any():
        raise InputError(f"Nothing of {file} is to be seen: it is {height}x{width} at {y},{x} of {tall}x{wide} pixels.")
    known = alpha > 0 if mask is None else np.ones_like(alpha, bool)
    return Layer(pixels[inside], alpha[inside], known[inside], (slice(top, bottom), slice(left, right)))


def resized(picture: np.ndarray, scale: float) -> np.ndarray:
    """Return a picture [h w c] by bicubic interpolation, antialiased where it is made smaller."""
    import jax.numpy as jnp

    from jaxgen.nn.resample import resize

    size = max(round(picture.shape[0] * scale), 1), max(round(picture.shape[1] * scale), 1)
    return np.asarray(resize(jnp.asarray(picture), size, "bicubic"))


Blend = Callable[[np.ndarray, Layer], np.ndarray]
Move = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def blender(how: How, with_: str) -> Blend:
    """Return (background f32[h w c], layer) -> f32[h w c]. Raises InputError where a net is needed and is none."""
    if how == "harmonise":
        return partial(harmonised, opened(with_))
    ways = {"paste": pasted, "poisson": solved, "mixed": partial(solved, mixed=True)}
    return {**ways, "colours": partial(transported, moved), "palette": partial(transported, spread)}[how]


def pasted(picture: np.ndarray, one: Layer) -> np.ndarray:
    """Return the foreground laid over the background by its alpha."""
    above, alpha = one.whole(picture)
    return np.where(alpha > 0, alpha * above + (1 - alpha) * picture, picture).astype(np.float32)


def solved(picture: np.ndarray, one: Layer, mixed: bool = False) -> np.ndarray:
    """Return Poisson blending of what is seen, laid on the background by its alpha."""
    from jaxgen.blending import poisson

    above, alpha = one.whole(picture)
    if (count := int((alpha > 0).sum())) > MOST:
        raise InputError(f"Of a foreground {MOST:,} pixels at most can be blended, not {count:,}: write --how paste.")
    known = np.zeros(alpha.shape, bool)
    known[one.place] = one.known
    made = np.clip(poisson(picture, above, alpha > 0, mixed, known), -1, 1)
    return alpha * made + (1 - alpha) * picture


def transported(move: Move, picture: np.ndarray, one: Layer) -> np.ndarray:
    """Return the foreground in the background's colours laid on it; the colours are those of what is seen of it."""
    above, alpha = one.whole(picture)
    seen = alpha[..., 0] > 0
    above[seen] = np.clip(move(above[seen], alpha[seen][:, 0], picture.reshape(-1, picture.shape[2])), -1, 1)
    return np.where(alpha > 0, alpha * above + (1 - alpha) * picture, picture).astype(np.float32)


def moved(colours: np.ndarray, weights: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return colours f32[n c] with the mean and covariance of others f32[m c]."""
    import jax.numpy as jnp

    from jaxgen.nn.transport import transfer

    del weights
    return np.asarray(transfer(jnp.asarray(colours)[None], jnp.asarray(like)[None]))[0]


def spread(colours: np.ndarray, weights: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return colours f32[n c], each counted by its weight f32[n], with the distribution of others f32[m c].

    What is of one colour stays so: each colour is moved once, however often it is there.
    """
    import jax

    from jaxgen.nn.transport import sliced

    if len(like) > DRAWN:
        like = np.random.default_rng(0).choice(like, DRAWN, replace=False)
    each, which = np.unique(colours, axis=0, return_inverse=True)
    counts = np.bincount(which.ravel(), weights).astype(np.float32)
    return np.asarray(jax.jit(sliced)(each, like, jax.random.key(0), counts))[which.ravel()]


def opened(name: str) -> Any:
    """Return the work of a harmonisation net. Raises InputError for any other."""
    from jaxgen.restorers import open_model

    if not Path(name).is_dir():
        raise InputError(
            f"There is no run folder {name}: --with names one of train.translation --preset harmonisation."
        )
    model = open_model(name, "", None)
    if "region" not in model.restorer.told:
        raise InputError(f"{name} does not harmonise: it needs a run of train.translation --preset harmonisation.")
    return model


def harmonised(model: Any, picture: np.ndarray, one: Layer) -> np.ndarray:
    """Return the foreground pasted, then its colours as the net would have them."""
    _, alpha = one.whole(picture)
    given = {"degraded": coloured(pasted(picture, one)), "region": (alpha > 0).astype(np.float32)}
    made = np.clip(model.padded(given), -1, 1)
    return made.mean(2, keepdims=True) if picture.shape[2] == 1 else made
