"""Transforms of images to the model's size: channels, crop, antialiased resize, flip, f32 in [-1, 1]."""

from collections.abc import Iterable

import numpy as np
from PIL import Image

from jaxgen.core.config import Data
from jaxgen.core.errors import InputError

Shape = tuple[int, int, int]  # height, width, channels
RANDOM_CROPS = ("random", "area", "patch", "jitter")  # random crops, drawn in each epoch
SCALED_CROPS = ("area", "jitter")  # crops that also change images of the model's size
HELD_OUT_CROPS = {
    "random": "center",
    "area": "center",
    "jitter": "none",
}  # replacements for held-out images
JITTER = 286 / 256  # Isola et al. 2017, appendix 6.2


def transform(example: dict, image: Shape, data: Data, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the example as model input: image f32[h w c] in [-1, 1], label i32[], other arrays unchanged.

    `data.crop`: "none" resizes without keeping the aspect ratio; "center" and "random" resize to cover the frame and
    crop; "area" crops 8 to 100 % of the area with an aspect ratio of 3/4 to 4/3 (Szegedy et al. 2015); "patch" crops
    without resizing; "jitter" crops from the image resized to 286/256 of the frame (Isola et al. 2017). `data.shift`
    shifts, `data.flip` flips half of the images, `data.turn` rotates, `data.grey` leaves out colour.
    Raises InputError if the channels cannot be converted or the image is smaller than a patch.
    """
    mirror, *cut, down, right = rng.random(7)
    pixels = to_size(example["image"], image, data.crop, *cut)
    if data.shift:
        pixels = shift_pixels(pixels, data.shift, down, right)
    if data.flip and mirror < 0.5:
        pixels = pixels[:, ::-1]
    if data.turn:
        pixels = np.rot90(pixels, quarter_turns(mirror))
    if data.grey and rng.random() < data.grey:
        pixels = np.repeat(reduce_channels(pixels, 1), image[2], 2)
    return {**{name: to_number(value) for name, value in example.items()}, "image": to_float(pixels)}


def quarter_turns(mirror: float) -> int:
    """Return the number of quarter turns of an image, from the draw in [0, 1) that also decides on the flip."""
    return int(mirror * 8) % 4


def patch(whole: np.ndarray | Image.Image, image: Shape, top: float, left: float) -> np.ndarray:
    """Return a crop u8[h w c] of an image without resizing, at relative positions `top` and `left` in [0, 1).

    Raises InputError if the image is smaller, or its channels cannot be converted.
    """
    (h, w, channels), planes = image, pixels_of(whole)
    height, width = planes.shape[:2]
    if height < h or width < w:
        raise InputError(
            f"An image of {height}x{width} is smaller than the patches of {h}x{w}: "
            "remove it, or make --model.image smaller."
        )
    y, x = int(top * (height - h + 1)), int(left * (width - w + 1))
    cut = reduce_channels(planes[y : y + h, x : x + w], channels)
    return cut if cut.shape[2] == channels else np.repeat(cut, channels, axis=2)


def shift_pixels(pixels: np.ndarray, most: int, down: float, right: float) -> np.ndarray:
    """Return u8[h w c] shifted by -most ... most pixels, by `down` and `right` in [0, 1), filled with black."""
    y, x = int(down * (2 * most + 1)), int(right * (2 * most + 1))
    padded = np.pad(pixels, ((most, most), (most, most), (0, 0)))
    return padded[y : y + pixels.shape[0], x : x + pixels.shape[1]]


def to_size(whole: np.ndarray | Image.Image, image: Shape, crop: str, *draws: float) -> np.ndarray:
    """Convert u8[H W C] or a Pillow image to u8[h w c]; `draws` are four numbers in [0, 1) for a random crop.

    They are the relative top and left, and for "area" the size and the aspect ratio. Raises InputError if the channels
    cannot be converted.
    """
    height, width, channels = image
    if crop == "patch":
        return patch(whole, image, *(draws[:2] or (0.5, 0.5)))
    if isinstance(whole, Image.Image):
        if whole.mode in ("L", "RGB") and channels in (1, 3):
            band = whole.convert("L") if channels == 1 else whole
            planes = resize(band, height, width, crop, *draws)
            return planes if planes.shape[2] == channels else np.repeat(planes, channels, axis=2)
        whole = pixels_of(whole)
    if whole.shape == image and crop not in SCALED_CROPS:
        return whole
    planes = resize(reduce_channels(whole, channels), height, width, crop, *draws)
    return planes if planes.shape[2] == channels else np.repeat(planes, channels, axis=2)  # grey to colour comes last


def clip_to_size(frames: Iterable[np.ndarray], image: Shape, crop: str, *draws: float) -> np.ndarray:
    """Return the frames u8[H W C] of a clip at the model's size, u8[t h w c], all with the crop of `draws`."""
    return np.stack([to_size(frame, image, crop, *draws) for frame in frames])


def all_to_size(images: list[np.ndarray], image: Shape, crop: str) -> list[np.ndarray] | np.ndarray:
    """Return `to_size` of each image with central crops, u8[n h w c]. Raises InputError (channels)."""
    height, width, channels = image
    shape = images[0].shape
    if (
        shape[2] != 1
        or shape == image
        or crop == "patch"
        or channels not in (1, 3)
        or any(p.shape != shape for p in images)
    ):
        return [to_size(pixels, image, crop) for pixels in images]
    # Grey images of equal size are resized as channels of one image, in a third of the time.
    planes = resize(np.concatenate(images, axis=2), height, width, crop)  # [h w n]
    return np.repeat(np.moveaxis(planes, 2, 0)[..., None], channels, axis=3)  # -> [n h w c]


def resize(whole: np.ndarray | Image.Image, height: int, width: int, crop: str, *draws: float) -> np.ndarray:
    """Crop and resize u8[H W C], or an image in mode L or RGB, to u8[height width C]: antialiased bicubic."""
    top, left, size, aspect = draws or (0.5, 0.5, 1.0, 0.5)
    old_width, old_height = whole.size if isinstance(whole, Image.Image) else whole.shape[1::-1]
    # The crop: the whole image, or its largest part with the aspect ratio of the frame.
    scale = min(old_height / height, old_width / width)
    cut_height, cut_width = old_height, old_width
    if crop != "none":  # rounding must not exceed the image: 28 * (29 / 28) > 29
        cut_height, cut_width = min(height * scale, old_height), min(width * scale, old_width)
    if crop == "area":
        area = old_height * old_width * (0.08 + 0.92 * size)
        frame = width / height
        ratio = frame * (3 / 4) ** (1 - 2 * aspect)  # 3/4 to 4/3 of the frame's
        cut_height, cut_width = min((area / ratio) ** 0.5, old_height), min((area * ratio) ** 0.5, old_width)
        # Clipping to the image could make the crop of an elongated image too elongated.
        cut_height, cut_width = min(cut_height, cut_width * 4 / 3 / frame), min(cut_width, cut_height * 4 / 3 * frame)
    if crop == "jitter":
        cut_height, cut_width = (old * n / round(n * JITTER) for old, n in ((old_height, height), (old_width, width)))
    room_y, room_x = old_height - cut_height, old_width - cut_width
    if (cut_height, cut_width) == (height, width):  # no resampling: whole pixels are copied
        y, x = (
            (int(top * (room_y + 1)), int(left * (room_x + 1))) if crop in RANDOM_CROPS else (room_y // 2, room_x // 2)
        )
        return pixels_of(whole)[int(y) : int(y) + height, int(x) : int(x) + width]
    y, x = (top * room_y, left * room_x) if crop in RANDOM_CROPS else (room_y / 2, room_x / 2)
    box = (x, y, min(x + cut_width, old_width), min(y + cut_height, old_height))  # rounding must not exceed the image
    if isinstance(whole, np.ndarray) and whole.shape[2] in (1, 3):
        whole = Image.fromarray(whole[..., 0] if whole.shape[2] == 1 else whole)
    if isinstance(whole, Image.Image):
        return pixels_of(whole.resize((width, height), Image.Resampling.BICUBIC, box))
    # Other channels are resized four at a time as "CMYK", whose bands Pillow resizes separately ("RGBA" would be
    # mixed).
    padded = np.pad(whole, ((0, 0), (0, 0), (0, -whole.shape[2] % 4)))
    out = np.empty((height, width, padded.shape[2]), np.uint8)
    for i in range(0, padded.shape[2], 4):
        bands = np.ascontiguousarray(padded[..., i : i + 4])
        part = Image.frombuffer("CMYK", (old_width, old_height), bands, "raw", "CMYK", 0, 1)
        out[..., i : i + 4] = np.asarray(part.resize((width, height), Image.Resampling.BICUBIC, box))
    return out[..., : whole.shape[2]]


def reduce_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Return u8[h w k], k = `channels` or 1: alpha is blended with white, colour is converted to ITU-R 601 luma."""
    count = pixels.shape[2]
    if count == channels:
        return pixels
    if channels not in (1, 3) or count not in (1, 2, 3, 4):
        raise InputError(f"An image of {count} channels cannot be converted to {channels} channels.")
    if count in (2, 4):  # round(alpha * colour + (1 - alpha) * white)
        alpha, colour = pixels[..., -1:].astype(np.uint32), pixels[..., :-1].astype(np.uint32)
        pixels = ((alpha * colour + (255 - alpha) * 255 + 127) // 255).astype(np.uint8)
    if channels == 1 and pixels.shape[2] == 3:
        return np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    return pixels


def pixels_of(image: np.ndarray | Image.Image) -> np.ndarray:
    """Return an image or an array as u8[h w c], grey with c = 1."""
    values = np.asarray(image)
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
