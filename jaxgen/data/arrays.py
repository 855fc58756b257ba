"""Sources held in memory: scikit-learn's digits and .npz files."""

import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.core.errors import InputError, choose

DIGITS_TRAIN = 1500  # the first 1,500 of the 1,797 digits are "train", the other 297 "test"


@dataclass(frozen=True)
class Arrays:
    """Images u8[n h w c] and labels i32[n] (or None), read by index; the loader gathers from `images` directly."""

    images: np.ndarray
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        label = {} if self.labels is None else {"label": int(self.labels[index])}
        return {"image": self.images[index], **label}

    def __getitems__(self, indices: list[int]) -> list[dict]:
        return [self[index] for index in indices]


def digits(split: str) -> Arrays:
    """Return scikit-learn's 8x8 handwritten digits, 0..16 mapped to 0..255; "train" (first 1,500), "test" or "all"."""
    from sklearn.datasets import load_digits  # slow to import, so only here

    parts = {"train": slice(0, DIGITS_TRAIN), "test": slice(DIGITS_TRAIN, None)}
    part = parts.get(split, slice(None))
    if part == slice(None):
        choose(split, [*parts, "all", "train+test"], "split of digits")
    data: Any = load_digits()
    images = np.round(data["images"] * (255 / 16)).astype(np.uint8)[..., None]  # f64[n 8 8] -> u8[n 8 8 1]
    return Arrays(images[part], data["target"][part].astype(np.int32), tuple(str(i) for i in range(10)))


def npz(path: Path, split: str) -> Arrays:
    """Return the images of a .npz file, `image`, `images`, `x`, `x_SPLIT` or `arr_0`, and its labels, if any.

    u8[n h w] or u8[n h w c]; float images are in [-1, 1] if any value is negative, else in [0, 1]; they are
    rounded to 8 bits. Labels are integers from 0 under `label`, `labels`, `y` or `y_SPLIT`; optional class names are
    under `classes`. Raises InputError.
    """
    try:
        with open(path, "rb") as opened:  # numpy.load would leave its own file open if it raises
            file = np.load(opened, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise InputError(f"{path} is a single .npy array: save it with numpy.savez(path, image=array).")
            names = {_image_name(file.files, split, path)}
            names |= {name for name in (f"y_{split}", "label", "labels", "y", "classes") if name in file.files}
            arrays = {name: file[name] for name in names}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        why = (
            "it is not an array file, or it holds Python objects" if "allow_pickle" in str(error) else first_line(error)
        )
        raise InputError(f"{path} cannot be read as .npz: {why}.") from error
    image = _image_name(list(arrays), split, path)
    images = _eight_bit_images(arrays[image], f"array {image!r} of {path}")
    suffix = image.startswith("x_")
    label = next((name for name in ([f"y_{split}"] if suffix else ["label", "labels", "y"]) if name in arrays), None)
    if label is None:
        return Arrays(images)
    labels = arrays[label]
    if labels.shape in ((len(images), 1), (len(images),)):
        labels = labels.reshape(len(images))
    else:
        raise InputError(
            f"Array {label!r} of {path} has shape {labels.shape}: {len(images)} images need {len(images)} labels."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"Array {label!r} of {path} holds {labels.dtype}: labels are integers counted from 0.")
    names = arrays.get("classes")
    count = len(names) if names is not None else max(int(labels.max()) + 1, 1)
    check_labels(labels, count, f"array {label!r} of {path}")
    classes = tuple(str(name) for name in names) if names is not None else tuple(str(i) for i in range(count))
    return Arrays(images, labels.astype(np.int32), classes)


@dataclass(frozen=True)
class Named:
    """Arrays [n ...] by name, read by index."""

    arrays: Mapping[str, np.ndarray]
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index: int) -> dict:
        return {name: values[index] for name, values in self.arrays.items()}


def named(path: Path, split: str, names: Iterable[str]) -> Named:
    """Return the arrays [n ...] of a .npz file by their names in the model, for videos, audio, poses and others.

    The array of a split is named NAME_SPLIT; NAME alone is "train". Raises InputError.
    """
    found = {}
    try:
        with open(path, "rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise InputError(f"{path} is a single .npy array: save it with numpy.savez(path, NAME=array).")
            for name in names:
                known = [f"{name}_{split}", *([name] if split in ("train", "all") else [])]
                if (key := next((key for key in known if key in file.files), None)) is None:
                    has = ", ".join(file.files) or "nothing"
                    raise InputError(f"{path} holds {has}: the model needs {' or '.join(map(repr, known))}.")
                found[name] = file[key]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as .npz: {first_line(error)}.") from error
    counts = {name: len(values) if values.ndim else 0 for name, values in found.items()}
    if len(set(counts.values())) != 1 or not min(counts.values()):
        raise InputError(f"The arrays of {path} must have equal numbers of examples, at least one, not {counts}.")
    for name, values in found.items():
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise InputError(f"Array {name!r} of {path} has a value that is not finite.")
    return Named(found)


def check_labels(labels: np.ndarray, count: int, where: str) -> None:
    """Raise InputError naming the first label outside 0..count-1."""
    bad = np.flatnonzero((labels < 0) | (labels >= count))
    if len(bad):
        raise InputError(f"Label {labels[bad[0]]} of example {bad[0]} in {where} is outside 0..{count - 1}.")


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message without the full stop, for use inside a sentence."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.strip().splitlines()[0].rstrip(".")


def _image_name(names: list[str], split: str, path: Path) -> str:
    known = [f"x_{split}", "image", "images", "x", "arr_0"]
    found = next((name for name in known if name in names), None)
    if found is None:
        parts = [name[2:] for name in names if name.startswith("x_")]
        if parts:
            choose(split, parts, f"split of {path}")
        raise InputError(f"{path} holds {', '.join(names) or 'nothing'}: the images must be named 'image'.")
    if not found.startswith("x_") and split not in ("train", "all"):
        raise InputError(f"{path} has no split {split!r}: a .npz file with {found!r} has only 'train'.")
    return found


def _eight_bit_images(values: np.ndarray, where: str) -> np.ndarray:
    """Return images as u8[n h w c]; raise InputError for another shape, type or range."""
    if values.ndim == 3:
        values = values[..., None]  # [n h w] -> [n h w 1]
    if values.ndim != 4:
        raise InputError(f"The {where} has shape {values.shape}: images are [n h w] or [n h w c].")
    if 0 in values.shape:
        raise InputError(f"The {where} has shape {values.shape}: it holds no image.")
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    low, high = values.min(), values.max()
    if np.issubdtype(values.dtype, np.integer):
        if low < 0 or high > 255:
            raise InputError(f"The {where} holds integers from {low} to {high}: images are 0..255.")
        return values.astype(np.uint8)
    if not np.issubdtype(values.dtype, np.floating):
        raise InputError(f"The {where} holds {values.dtype}: images are uint8 or float.")
    if not np.isfinite(low) or not np.isfinite(high):  # any NaN makes both NaN
        index = int(np.flatnonzero(~np.isfinite(values).all(axis=(1, 2, 3)))[0])
        raise InputError(f"Image {index} of the {where} has a value that is not finite.")
    if low < -1 or high > 1:
        raise InputError(f"The {where} holds floats from {low:g} to {high:g}: images are in [-1, 1] or [0, 1].")
    unit = (values + 1) / 2 if low < 0 else values
    return np.round(unit * 255).astype(np.uint8)
