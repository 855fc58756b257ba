"""Images of a program that calls the library: NumPy and JAX arrays and Pillow images, as photos and back.

Integers u8 and u16 go from 0 to their largest value, with alpha in the last of 2 or 4 channels. Floats are in [-1, 1],
as everywhere in the library. An array is one image [h w] or [h w c], or a batch [b h w c]; a list is a batch of images
of any sizes.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import numpy as np
from PIL import Image

from jaxgen.core.errors import InputError
from jaxgen.core.spec import ArraySpec
from jaxgen.data.image_decoding import plain
from jaxgen.data.transforms import pixels_of
from jaxgen.media.array_files import stored
from jaxgen.media.photo import Photo, photo_of, quantised

BEYOND = 1.5  # of floats, which nets may leave a little beyond [-1, 1]; those from 0 to 255 go far beyond
Form = Literal["float", "uint8", "pil"]  # of images that nothing was given for
FORMS: tuple[str, ...] = get_args(Form)


class Taken(NamedTuple):
    """The images of a call as photos, and the way back: answers f32[h w c] and alphas to what was given."""

    photos: list[Photo]
    back: Callable[[Sequence[tuple[np.ndarray, np.ndarray | None]]], Any]


def taken(given: Any) -> Taken:
    """Return what a caller gives as photos. Raises InputError for what is no image, with what is."""
    if isinstance(given, list | tuple):
        parts = [taken(one) for one in given]
        if not parts or any(len(part.photos) != 1 for part in parts):
            raise InputError("A list must have one image or more, each a Pillow image or an array [h w c].")
        return Taken(
            [part.photos[0] for part in parts],
            lambda made: [part.back([one]) for part, one in zip(parts, made, strict=True)],
        )
    if isinstance(given, Image.Image):
        return of_pillow(given)
    if isinstance(given, np.ndarray | jax.Array):
        return of_array(given)
    hint = ": Image.open of Pillow opens a file" if isinstance(given, str) or hasattr(given, "__fspath__") else ""
    raise InputError(f"An image must be a NumPy or JAX array or a Pillow image, not a {type(given).__name__}{hint}.")


def of_pillow(image: Image.Image) -> Taken:
    """Return a Pillow image as a photo, upright."""
    if image.mode in ("I", "F"):
        raise InputError(f"An image of mode {image.mode} has no known black and white: convert it to L or RGB.")
    deep = image.mode.startswith("I;16")
    values = np.asarray(image).astype(np.uint16)[..., None] if deep else pixels_of(plain(image.copy()))
    kept = {name: image.info[name] for name in ("icc_profile", "dpi") if name in image.info}

    def back(made: Sequence[tuple[np.ndarray, np.ndarray | None]]) -> Image.Image:
        (x, alpha), *_ = made
        x = quantised(x, 16 if deep and x.shape[2] == 1 else 8)
        x = x if alpha is None else np.concatenate([x, alpha.astype(x.dtype)], 2)
        new = Image.fromarray(x[..., 0] if x.shape[2] == 1 else x)
        new.info.update(kept)
        return new

    return Taken([photo_of(values)], back)


def of_array(array: Any) -> Taken:
    """Return an array's images as photos."""
    values, dtype = np.asarray(array), array.dtype
    shape = values.shape
    if values.ndim == 2:
        values = values[None, ..., None]
    elif values.ndim == 3:
        values = values[None]
    if values.ndim != 4 or not values.shape[0] or values.shape[3] not in (1, 2, 3, 4):
        raise InputError(
            f"An array of images must have the shape [h w], [h w c] or [b h w c], with 1 to 4 channels last, not "
            f"{list(shape)}."
        )
    integer = dtype in (np.uint8, np.uint16)
    if integer:
        photos = [photo_of(x) for x in values]
    else:
        values = float_images(values, str(dtype))
        photos = [Photo(x) for x in values]

    def back(made: Sequence[tuple[np.ndarray, np.ndarray | None]]) -> Any:
        bits = 16 if dtype == np.uint16 else 8
        answers = [quantised(x, bits) if integer else np.clip(x, -1, 1).astype(dtype) for x, _ in made]
        answers = [x if a is None else np.concatenate([x, a], 2) for x, (_, a) in zip(answers, made, strict=True)]
        new = np.stack(answers)
        new = new if len(shape) == 4 else new[0]
        new = new[..., 0] if len(shape) == 2 and new.shape[2] == 1 else new
        return jax.numpy.asarray(new) if isinstance(array, jax.Array) else new

    return Taken(photos, back)


def float_images(values: np.ndarray, dtype: str) -> np.ndarray:
    """Return floats in [-1, 1] as f32. Raises InputError for other numbers, and for alpha."""
    if not jax.numpy.issubdtype(values.dtype, np.floating):
        raise InputError(f"Images must be uint8 or uint16, or floats in [-1, 1], not {dtype}.")
    if values.shape[-1] in (2, 4):
        raise InputError("Images in floats have 1 or 3 channels: alpha is for uint8 and uint16.")
    values = values.astype(np.float32)
    if not np.isfinite(values).all() or np.abs(values).max(initial=0) > BEYOND:
        found = f"{values.min():.3g} to {values.max():.3g}" if np.isfinite(values).all() else "infinite or no numbers"
        raise InputError(f"Images in floats must be in [-1, 1], not {found}: x / 127.5 - 1 for 0 to 255.")
    return values


def masks_of(given: Any, photos: Sequence[Photo]) -> list[np.ndarray]:
    """Return a mask f32[h w 1] for each photo, 1 where it is white: of one mask for all, or of one for each.

    Raises InputError for masks of other sizes, and for those that hide nothing or all.
    """
    given = [_white(x) for x in given] if isinstance(given, list) else _white(given)
    found = [photo.pixels for photo in taken(given).photos]
    if len(found) not in (1, len(photos)):
        raise InputError(f"There are {len(found)} masks for {len(photos)} images: give one for each, or one.")
    masks = []
    for x, photo in zip(found * (len(photos) // len(found)), photos, strict=True):
        if x.shape[:2] != photo.pixels.shape[:2]:
            sizes = ["x".join(map(str, some.shape[:2])) for some in (x, photo.pixels)]
            raise InputError(f"The mask is {sizes[0]}, the image is {sizes[1]}: they must have the same size.")
        mask = x.mean(2, keepdims=True) > 0
        if mask.all() or not mask.any():
            all_ = "all white: nothing of the image is known" if mask.all() else "all black: nothing is to be filled in"
            raise InputError(f"The mask is {all_}.")
        masks.append(mask.astype(np.float32))
    return masks


def _white(mask: Any) -> Any:
    """Return a mask of truth values as u8."""
    return np.asarray(mask).astype(np.uint8) * 255 if str(getattr(mask, "dtype", "")) == "bool" else mask


def is_pillow(given: Any) -> bool:
    """Return whether these are Pillow images."""
    return all(map(is_pillow, given)) if isinstance(given, list | tuple) else isinstance(given, Image.Image)


def like(given: Any, made: Any) -> Any:
    """Return arrays, or a dict of them, as JAX arrays where JAX arrays were given, else as NumPy's."""
    if isinstance(made, dict):
        return {name: like(given, x) for name, x in made.items()}
    return made if isinstance(given, jax.Array) else np.asarray(made)


def formed(made: np.ndarray, spec: ArraySpec, form: Form) -> Any:
    """Return samples [n ...] in [-1, 1] in a form. Raises InputError for Pillow images of what is no image."""
    if form == "float":
        return made
    if spec.kind != "image" and form == "pil":
        raise InputError(f"form='pil' is for images, and these are {spec.kind}.")
    values = stored(spec, made)
    if form == "uint8":
        return values
    return [Image.fromarray(x[..., 0] if x.shape[2] == 1 else x) for x in values]
