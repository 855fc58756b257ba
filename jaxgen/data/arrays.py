"""Sources held in memory: scikit-learn's digits and .npz files."""

import gzip
import math
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.core.errors import InputError, choose
from jaxgen.core.memory import check_size
from jaxgen.core.spec import Example
from jaxgen.data.split_names import file_of, split_files

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
    parts = {"train": slice(0, DIGITS_TRAIN), "test": slice(DIGITS_TRAIN, None)}
    part = parts.get(split, slice(None))
    if part == slice(None):
        choose(split, [*parts, "all", "train+test"], "split of digits")
    rows = _digits()[part]
    images = np.round(rows[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return Arrays(images, rows[:, 64].astype(np.int32), tuple(str(i) for i in range(10)))


@cache
def _digits() -> np.ndarray:
    """Return 64 pixels from 0 to 16 and the label of each digit, i64[n 65]. Importing scikit-learn takes a second."""
    package = find_spec("sklearn")
    places = package.submodule_search_locations if package else None
    path = Path(places[0], "datasets", "data", "digits.csv.gz") if places else None
    if path is None or not path.is_file():  # a version that keeps it elsewhere
        from sklearn.datasets import load_digits

        found: Any = load_digits()
        return np.concatenate([found["data"], found["target"][:, None]], 1).astype(np.int64)
    with gzip.open(path, "rt") as file:
        return np.fromstring(file.read().replace("\n", ","), np.float64, sep=",").astype(np.int64).reshape(-1, 65)


def npz(path: Path, split: str, labels_path: Path | None = None) -> Arrays:
    """Return the images of a .npz file, `image`, `images`, `x`, `x_SPLIT` or `arr_0`, and its labels, if any.

    u8[n h w] or u8[n h w c]; float images are in [-1, 1] if any value is negative, else in [0, 1]; they are
    rounded to 8 bits. Labels are integers counted from 0 under `label`, `labels`, `y` or `y_SPLIT`, or in the file
    `labels_path` under such a name or `arr_0`; their number is that of all splits. Class names are under `classes`.

    Splits are arrays of one file, or files beside it that are named alike, such as kmnist-test-imgs.npz beside
    kmnist-train-imgs.npz. Raises InputError.
    """
    several = any(name.startswith("x_") for name in npz_names(path))
    if several or (file := file_of(path, split)) is None:  # without such a file, the reading below says so
        return _labelled(path, split, labels_path, [labels_path or path])
    of_split = labels_path and file_of(labels_path, split)
    if labels_path and not of_split:
        raise InputError(f"There are no labels of the split {split!r} beside {labels_path}.")
    return _labelled(file, "train", of_split, split_files(labels_path or path).values() or [labels_path or path])


def _labelled(path: Path, split: str, labels_path: Path | None, every: Iterable[Path]) -> Arrays:
    """Return the images and labels of one split; `every` file may hold labels of a split."""
    image = _image_name(npz_names(path), split, path)
    names = [f"y_{split}"] if image.startswith("x_") else LABELS
    names = [f"y_{split}", *LABELS, "arr_0"] if labels_path else names
    images = _eight_bit_images(load_npz(path, [image])[image], f"array {image!r} of {path}")
    file = labels_path or path
    if (label := next((name for name in names if name in npz_names(file)), None)) is None:
        if labels_path:
            raise InputError(f"{file} holds {', '.join(npz_names(file)) or 'nothing'}: labels must be named 'label'.")
        return Arrays(images)
    where = f"array {label!r} of {file}"
    labels = load_npz(file, [label])[label]
    if labels.shape in ((len(images), 1), (len(images),)):
        labels = labels.reshape(len(images))
    else:
        raise InputError(f"The {where} has shape {labels.shape}: {len(images)} images need {len(images)} labels.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"The {where} holds {labels.dtype}: labels are integers counted from 0.")
    if "classes" in npz_names(file):
        classes = tuple(str(name) for name in load_npz(file, ["classes"])["classes"].ravel())
        if len(set(classes)) < len(classes):
            raise InputError(f"Array 'classes' of {file} has a name twice: classes need different names.")
        check_labels(labels, len(classes), where)
        return Arrays(images, labels.astype(np.int32), classes)
    others = [load_npz(other, [name])[name] for other in every for name in npz_names(other) if _of_labels(name, names)]
    return Arrays(images, *numbered(labels, others, where))


LABELS = ["label", "labels", "y"]


def _of_labels(name: str, names: list[str]) -> bool:
    """Return whether an array holds the labels of some split, if those of one split have one of the names."""
    return name in names or (name.startswith("y_") and any(known.startswith("y_") for known in names))


def numbered(labels: np.ndarray, others: Iterable[np.ndarray], where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels i32[n], and the names 0, 1, ... of the classes, of which other splits may have more.

    Raises InputError for a label below 0, and for labels that are no numbers counted from 0.
    """
    values = np.unique(np.concatenate([np.unique(x).ravel() for x in (labels, *others)]))
    check_labels(labels, count := int(values[-1]) + 1, where)
    if count > 2 * len(values) + SPARSE:
        raise InputError(
            f"The {where} has labels up to {count - 1}, but only {len(values)} different ones: count them from 0."
        )
    return labels.astype(np.int32), tuple(map(str, range(count)))


SPARSE = 1000  # numbers that labels may skip


def npz_names(path: Path) -> list[str]:
    """Return the names of a .npz file's arrays. Raises InputError."""
    return _read_npz(path, lambda file: file.files)


def load_npz(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return arrays of a .npz file by name. Their declared sizes are checked first. Raises InputError."""

    def load(file: np.lib.npyio.NpzFile) -> dict[str, np.ndarray]:
        archive: Any = file.zip
        for name in names:
            _check_declared(path, name, archive)
        return {name: file[name] for name in names}

    return _read_npz(path, load)


def _read_npz(path: Path, read: Callable[[np.lib.npyio.NpzFile], Any]) -> Any:
    try:
        with open(path, "rb") as opened:  # numpy.load would leave its own file open if it raises
            if opened.read(6) == b"\x93NUMPY":
                raise InputError(f"{path} is a single .npy array: save it with numpy.savez(path, image=array).")
            opened.seek(0)
            file = np.load(opened, allow_pickle=False)
            return read(file)
    except (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        why = (
            "it is not an array file, or it holds Python objects" if "allow_pickle" in str(error) else first_line(error)
        )
        raise InputError(f"{path} cannot be read as .npz: {why}.") from error


def _check_declared(path: Path, name: str, archive: zipfile.ZipFile):
    """Raise InputError if an array declares more than its file holds, or than fits into memory."""
    info = archive.getinfo(f"{name}.npy" if f"{name}.npy" in archive.namelist() else name)
    check_size(info.file_size, info.compress_size, f"Array {name!r} of {path}")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
    need = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and need > info.file_size:
        raise InputError(f"Array {name!r} of {path} declares {need:,} bytes and holds at most {info.file_size:,}.")


@dataclass(frozen=True)
class Named:
    """Arrays [n ...] by name, read by index."""

    arrays: Mapping[str, np.ndarray]
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index: int) -> dict:
        return {name: values[index] for name, values in self.arrays.items()}


def named(path: Path, split: str, specs: Example) -> Named:
    """Return the arrays [n ...] of a .npz file by their names in the model, for videos, audio, poses and others.

    The array of a split is named NAME_SPLIT; NAME alone is "train". Raises InputError.
    """
    keys, has = {}, npz_names(path)
    for name in specs:
        known = [f"{name}_{split}", *([name] if split in ("train", "all") else [])]
        if (key := next((key for key in known if key in has), None)) is None:
            raise InputError(
                f"{path} holds {', '.join(has) or 'nothing'}: the model needs {' or '.join(map(repr, known))}."
            )
        keys[name] = key
    arrays = load_npz(path, keys.values())
    found = {name: arrays[key] for name, key in keys.items()}
    counts = {name: len(values) if values.ndim else 0 for name, values in found.items()}
    if len(set(counts.values())) != 1 or not min(counts.values()):
        raise InputError(f"The arrays of {path} must have equal numbers of examples, at least one, not {counts}.")
    for name, values in found.items():
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise InputError(f"Array {name!r} of {path} has a value that is not finite.")
        if count := specs[name].count:
            low, high = values.min(), values.max()
            if not np.issubdtype(values.dtype, np.integer) or low < 0 or high >= count:
                held = f"holds {values.dtype} from {low} to {high}"
                raise InputError(f"Array {name!r} of {path} {held}: the model takes integers from 0 to {count - 1}.")
    return Named(found)


def check_labels(labels: np.ndarray, count: int, where: str) -> None:
    """Raise InputError naming the first label outside 0..count-1."""
    bad = np.flatnonzero((labels < 0) | (labels >= count))
    if len(bad):
        raise InputError(f"Label {labels[bad[0]]} of example {bad[0]} in {where} is outside 0..{count - 1}.")


def check_levels(high: int, where: str):
    """Raise InputError if the largest of the integers that are levels of 0..255 is 1."""
    if high == 1:
        raise InputError(
            f"The {where} holds integers from 0 to 1, almost black as levels of 0..255: save it as bool, or times 255."
        )


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
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    low, high = values.min(), values.max()
    if np.issubdtype(values.dtype, np.integer):
        check_levels(high, where)
        if values.dtype == np.uint8:
            return values
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
