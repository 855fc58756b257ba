"""The MNIST file family: big-endian arrays with a magic number, gzipped or not."""

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

from jaxgen.core.errors import InputError, choose
from jaxgen.core.memory import check_size
from jaxgen.data.arrays import Arrays, check_levels, first_line, numbered
from jaxgen.data.split_names import file_of, split_files, split_named

PARTS = {"train": "train", "test": "t10k"}  # split -> prefix of its files
IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"


def idx(path: Path, split: str, labels_path: Path | None = None) -> Arrays:
    """Return the images and labels of a folder of idx files, or of a file of images and one of labels.

    A folder holds train-images-idx3-ubyte[.gz] ("train") or t10k-images-idx3-ubyte[.gz] ("test") and their labels. A
    single file has its labels in `labels_path`, or beside it under the name with "labels" for "images". Files of other
    splits are beside it, named alike; without a split in its name it is any split. The number of classes is that of
    all splits. Raises InputError for a missing, damaged or mismatched file.
    """
    file = _in_folder(path, split) if path.is_dir() else _of_split(path, split)
    images = read(file, 3)
    if not images.size:
        raise InputError(f"{file} holds no images: its dimensions are {' x '.join(map(str, images.shape))}.")
    check_levels(int(images.max()), f"idx file {file}")
    labels_file = _of_split(labels_path, split) if labels_path else _labels_beside(file)
    if labels_file is None:
        return Arrays(images[..., None])
    labels = read(labels_file, 1)
    if len(labels) != len(images):
        raise InputError(f"{file} holds {len(images)} images and {labels_file.name} {len(labels)} labels.")
    others = [read(other, 1) for other in split_files(labels_file).values() if other != labels_file]
    return Arrays(images[..., None], *numbered(labels, others, f"idx file {labels_file}"))  # [n h w] -> [n h w 1]


def read(file: Path, dims: int) -> np.ndarray:
    """Return the u8 array of an idx file of `dims` dimensions; no more is read than it declares. Raises InputError."""
    header = 4 + 4 * dims
    try:
        with file.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            opened = gzip.GzipFile(fileobj=raw) if packed else raw
            start = opened.read(header)
            if len(start) < header or start[:4] != bytes([0, 0, 8, dims]):
                raise InputError(
                    f"{file} is not an idx file of bytes with {dims} dimensions: it begins with 0x{start[:4].hex()}."
                )
            shape = tuple(int(n) for n in np.frombuffer(start, ">u4", dims, 4))
            size, stored = math.prod(shape), os.fstat(raw.fileno()).st_size
            if packed:
                check_size(size, stored, str(file))
            elif stored - header != size:
                raise InputError(f"{file} should hold {size:,} bytes of data and holds {stored - header:,}.")
            data = opened.read(size)
            rest = opened.read(1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file} cannot be read: {first_line(error)}.") from error
    if len(data) != size or rest:
        holds = f"{len(data):,}" if len(data) != size else "more"
        raise InputError(f"{file} should hold {size:,} bytes of data and holds {holds}.")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _of_split(file: Path, split: str) -> Path:
    """Return the file of a split beside a file, which is itself any split unless its name says otherwise."""
    if (found := file_of(file, split)) is None and split_files(file):
        raise InputError(f"There is no file of the split {split!r} beside {file}.")
    return found or file


def _in_folder(folder: Path, split: str) -> Path:
    found = {name: file for name, start in PARTS.items() if (file := _either(folder / f"{start}-{IMAGES}"))}
    if not found:
        raise InputError(f"The folder {folder} has neither train-{IMAGES} nor t10k-{IMAGES} (nor their .gz).")
    split = split_named(split)
    if split in PARTS and split not in found:
        raise InputError(f"The folder {folder} has only the split {', '.join(map(repr, found))}, not {split!r}.")
    return found[choose(split, found, f"split of {folder}")]


def _labels_beside(images: Path) -> Path | None:
    name = images.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    return _either(images.with_name(name)) if name != images.name.removesuffix(".gz") else None


def _either(file: Path) -> Path | None:
    """Return the file or its gzipped form, whichever exists; else None."""
    return next((path for path in (file, file.with_name(file.name + ".gz")) if path.exists()), None)
