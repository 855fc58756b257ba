"""From an image of any size to the model's: channels, crop, antialiased resize, mirror, f32 in [-1, 1]."""

import numpy as np
from PIL import Image

from jaxgen.core.config import Data
from jaxgen.core.errors import InputError

Shape = tuple[int, int, int]  # height, width, channels
RANDOM_CROPS = ("random", "area", "patch", "jitter")  # cuts that are drawn anew each epoch
SCALED_CROPS = ("area", "jitter")  # those that cut images of the model's size, too
HELD_OUT_CROPS = {
    "random": "center",
    "area": "center",
    "jitter": "none",
}  # what is done in their place to held-out images
JITTER = 286 / 256  # Isola et al. 2017, appendix 6.2


def transform(example: dict, image: Shape, data: Data, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the example as the model reads it: image f32[h w c] in [-1, 1], label i32[], other arrays untouched.

    `data.crop` "none" squashes, "center" and "random" keep the aspect, cover the frame and cut, "area" cuts 8 to 100 %
    of the area in an aspect from 3/4 to 4/3 (Szegedy et al. 2015), "patch" a part as it is, "jitter" the frame out of
    the image squashed to 286/256 of it (Isola et al. 2017); `data.shift` moves, `data.flip` mirrors half of the time,
    `data.turn` turns. Raises InputError where the channels cannot be converted or the image is smaller than a patch.
    """
    mirror, *cut, down, right = rng.random(7)
    pixels = to_size(example["image"], image, data.crop, *cut)
    if data.shift:
        pixels = shift_pixels(pixels, data.shift, down, right)
    if data.flip and mirror < 0.5:
        pixels = pixels[:, ::-1]
    if data.turn:
        pixels = np.rot90(pixels, quarter_turns(mirror))
    return {**{name: to_number(value) for name, value in example.items()}, "image": to_float(pixels)}


def quarter_turns(mirror: float) -> int:
    """Return by how many right angles an image is turned, of the draw in [0, 1) that mirrors it, too."""
    return int(mirror * 8) % 4


def patch(whole: np.ndarray | Image.Image, image: Shape, top: float, left: float) -> np.ndarray:
    """Return u8[h w c] cut out of an image as it is; `top` and `left` in [0, 1) say where.

    Raises InputError where it is smaller, or its channels cannot be converted.
    """
    (h, w, channels), planes = image, pixels_of(whole)
    height, width = planes.shape[:2]
    if height < h or width < w:
        raise InputError(
            f"An image of {height}x{width} is smaller than the patches of {h}x{w} that are cut out of it: "
            "leave it out, or make --model.image smaller."
        )
    y, x = int(top * (height - h + 1)), int(left * (width - w + 1))
    cut = reduce_channels(planes[y : y + h, x : x + w], channels)
    return cut if cut.shape[2] == channels else np.repeat(cut, channels, axis=2)


def shift_pixels(pixels: np.ndarray, most: int, down: float, right: float) -> np.ndarray:
    """Return u8[h w c] moved by -most ... most pixels, black behind it, as `down` and `right` in [0, 1) say."""
    y, x = int(down * (2 * most + 1)), int(right * (2 * most + 1))
    padded = np.pad(pixels, ((most, most), (most, most), (0, 0)))
    return padded[y : y + pixels.shape[0], x : x + pixels.shape[1]]


def to_size(whole: np.ndarray | Image.Image, image: Shape, crop: str, *draws: float) -> np.ndarray:
    """Bring u8[H W C] or a Pillow image to u8[h w c]; `draws` are four numbers in [0, 1) for a random cut.

    They say where its top and its left are, and for "area" its size and its aspect. Raises InputError where the
    channels cannot be converted.
    """
    height, width, channels = image
    if crop == "patch":
        return patch(whole, image, *(draws[:2] or (0.5, 0.5)))
    if isinstance(whole, Image.Image):
        if whole.mode in ("L", "RGB") and channels in (1, 3):
            picture = whole.convert("L") if channels == 1 else whole
            planes = resize(picture, height, width, crop, *draws)
            return planes if planes.shape[2] == channels else np.repeat(planes, channels, axis=2)
        whole = pixels_of(whole)
    if whole.shape == image and crop not in SCALED_CROPS:
        return whole
    planes = resize(reduce_channels(whole, channels), height, width, crop, *draws)
    return planes if planes.shape[2] == channels else np.repeat(planes, channels, axis=2)  # grey to colour comes last


def all_to_size(pictures: list[np.ndarray], image: Shape, crop: str) -> list[np.ndarray] | np.ndarray:
    """Return `to_size` of each image, u8[n h w c], the cut in the middle. Raises InputError (channels)."""
    height, width, channels = image
    shape = pictures[0].shape
    if (
        shape[2] != 1
        or shape == image
        or crop == "patch"
        or channels not in (1, 3)
        or any(p.shape != shape for p in pictures)
    ):
        return [to_size(pixels, image, crop) for pixels in pictures]
    # Grey images of one size are resized as the channels of one image: a third of the time.
    planes = resize(np.concatenate(pictures, axis=2), height, width, crop)  # [h w n]
    return np.repeat(np.moveaxis(planes, 2, 0)[..., None], channels, axis=3)  # -> [n h w c]


def resize(whole: np.ndarray | Image.Image, height: int, width: int, crop: str, *draws: float) -> np.ndarray:
    """Cut and resample u8[H W C], or an image in mode L or RGB, to u8[height width C]: antialiased bicubic."""
    top, left, size, aspect = draws or (0.5, 0.5, 1.0, 0.5)
    old_width, old_height = whole.size if isinstance(whole, Image.Image) else whole.shape[1::-1]
    # The cut: all of the image, or the largest part of it with the frame's aspect.
    scale = min(old_height / height, old_width / width)
    cut_height, cut_width = (old_height, old_width) if crop == "none" else (height * scale, width * scale)
    if crop == "area":
        area = old_height * old_width * (0.08 + 0.92 * size)
        frame = width / height
        ratio = frame * (3 / 4) ** (1 - 2 * aspect)  # from 3/4 to 4/3 of the frame's
        cut_height, cut_width = min((area / ratio) ** 0.5, old_height), min((area * ratio) ** 0.5, old_width)
        # What doesn't fit is cut off: by that alone a long image's cut would become long.
        cut_height, cut_width = min(cut_height, cut_width * 4 / 3 / frame), min(cut_width, cut_height * 4 / 3 * frame)
    if crop == "jitter":
        cut_height, cut_width = (old * n / round(n * JITTER) for old, n in ((old_height, height), (old_width, width)))
    room_y, room_x = old_height - cut_height, old_width - cut_width
    if (cut_height, cut_width) == (height, width):  # nothing to resample: whole pixels, left as they are
        y, x = (
            (int(top * (room_y + 1)), int(left * (room_x + 1))) if crop in RANDOM_CROPS else (room_y // 2, room_x // 2)
        )
        return pixels_of(whole)[int(y) : int(y) + height, int(x) : int(x) + width]
    y, x = (top * room_y, left * room_x) if crop in RANDOM_CROPS else (room_y / 2, room_x / 2)
    box = (x, y, min(x + cut_width, old_width), min(y + cut_height, old_height))  # rounding must not leave the image
    if isinstance(whole, np.ndarray) and whole.shape[2] in (1, 3):
        whole = Image.fromarray(whole[..., 0] if whole.shape[2] == 1 else whole)
    if isinstance(whole, Image.Image):
        return pixels_of(whole.resize((width, height), Image.Resampling.BICUBIC, box))
    # Other channels go four at a time, as a mode of four bands that Pillow resizes one by one ("RGBA" it would mix).
    padded = np.pad(whole, ((0, 0), (0, 0), (0, -whole.shape[2] % 4)))
    out = np.empty((height, width, padded.shape[2]), np.uint8)
    for i in range(0, padded.shape[2], 4):
        bands = np.ascontiguousarray(padded[..., i : i + 4])
        picture = Image.frombuffer("CMYK", (old_width, old_height), bands, "raw", "CMYK", 0, 1)
        out[..., i : i + 4] = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC, box))
    return out[..., : whole.shape[2]]


def reduce_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Return u8[h w k], k being `channels` or 1: alpha is laid on white, colour becomes ITU-R 601 luma."""
    count = pixels.shape[2]
    if count == channels:
        return pixels
    if channels not in (1, 3) or count not in (1, 2, 3, 4):
        raise InputError(f"An image of {count} channels cannot be turned into one of {channels}.")
    if count in (2, 4):  # round(alpha * colour + (1 - alpha) * white)
        alpha, colour = pixels[..., -1:].astype(np.uint32), pixels[..., :-1].astype(np.uint32)
        pixels = ((alpha * colour + (255 - alpha) * 255 + 127) // 255).astype(np.uint8)
    if channels == 1 and pixels.shape[2] == 3:
        return np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    return pixels


def pixels_of(picture: np.ndarray | Image.Image) -> np.ndarray:
    """Return u8[h w c] of an image or an array, grey with c = 1."""
    values = np.asarray(picture)
    return values[..., None] if values.ndim == 2 else values


def to_float(pixels: np.ndarray) -> np.ndarray:
    """Return x / 127.5 - 1 in f32."""
    values = np.divide(pixels, np.float32(127.5), dtype=np.float32)
    values -= np.float32(1)
    return values


def to_number(value) -> np.ndarray:
    """Return a label or a factor as i32 or f32."""
    array = np.asarray(value)
    return array.astype(np.float32 if np.issubdtype(array.dtype, np.floating) else np.int32)
