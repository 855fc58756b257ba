"""The MNIST file family: big-endian arrays with a magic number, gzipped or not."""

import gzip
import zlib
from pathlib import Path

import numpy as np

from jaxgen.core.errors import InputError, choose
from jaxgen.data.arrays import Arrays, first_line

PARTS = {"train": "train", "test": "t10k"}  # split -> prefix of its files
IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"


def idx(path: Path, split: str) -> Arrays:
    """Return the images and labels of a folder of idx files, or of one images file and its labels file.

    A folder holds train-images-idx3-ubyte[.gz] ("train") or t10k-images-idx3-ubyte[.gz] ("test") and their labels; a
    single file is a whole split. Raises InputError for a missing, damaged or mismatched file.
    """
    file = _in_folder(path, split) if path.is_dir() else path
    images = read(file, 3)
    if not images.size:
        raise InputError(f"{file} holds no images: its dimensions are {' x '.join(map(str, images.shape))}.")
    labels_file = _labels_beside(file)
    if labels_file is None:
        return Arrays(images[..., None])
    labels = read(labels_file, 1)
    if len(labels) != len(images):
        raise InputError(f"{file} holds {len(images)} images and {labels_file.name} {len(labels)} labels.")
    classes = tuple(str(i) for i in range(int(labels.max()) + 1))
    return Arrays(images[..., None], labels.astype(np.int32), classes)  # [n h w] -> [n h w 1]


def read(file: Path, dims: int) -> np.ndarray:
    """Return the u8 array of an idx file of `dims` dimensions. Raises InputError."""
    try:
        data = file.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file} cannot be read: {first_line(error)}.") from error
    header = 4 + 4 * dims
    if len(data) < header or data[:4] != bytes([0, 0, 8, dims]):
        raise InputError(
            f"{file} is not an idx file of bytes with {dims} dimensions: it begins with 0x{data[:4].hex()}."
        )
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", dims, 4))
    size = int(np.prod(shape, dtype=object))
    if len(data) - header != size:
        raise InputError(f"{file} should hold {size:,} bytes of data and holds {len(data) - header:,}.")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _in_folder(folder: Path, split: str) -> Path:
    found = {name: file for name, start in PARTS.items() if (file := _either(folder / f"{start}-{IMAGES}"))}
    if not found:
        raise InputError(f"The folder {folder} has neither train-{IMAGES} nor t10k-{IMAGES} (nor their .gz).")
    if split in PARTS and split not in found:
        raise InputError(f"The folder {folder} has only the split {', '.join(map(repr, found))}, not {split!r}.")
    return found[choose(split, found, f"split of {folder}")]


def _labels_beside(images: Path) -> Path | None:
    name = images.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    return _either(images.with_name(name)) if name != images.name.removesuffix(".gz") else None


def _either(file: Path) -> Path | None:
    """Return the file or its gzipped form, whichever exists; else None."""
    return next((path for path in (file, file.with_name(file.name + ".gz")) if path.exists()), None)
