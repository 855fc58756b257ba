"""Prepared TensorFlow Datasets, read from disk without TensorFlow and without a network."""

import contextlib
import importlib.util
import io
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.core import paths
from jaxgen.core.errors import InputError, choose
from jaxgen.data import fetched
from jaxgen.data.arrays import check_labels, first_line

NAME = re.compile(r"\w+(/[\w.+-]+)?(:[\d.*]+)?")
DEFAULT_DIR = "~/tensorflow_datasets"
CHUNK = 10_000  # number of examples whose labels are read at once


class Tfds:
    """A prepared image set: {"image": u8[h w c], "label": int if it has a ClassLabel}. Raises InputError.

    Boolean "attributes" (celeb_a) are added under their names, as 0 or 1.
    """

    def __init__(self, name: str, folder: str | None, split: str):
        self.name = name
        builder = _builder(name, folder)
        info = builder.info
        if not builder.data_path.exists() or not info.splits:
            where = f" --dir {folder}" if folder else ""
            raise InputError(
                f"The TFDS set {name!r} is not prepared under {folder or DEFAULT_DIR}: "
                f"run pip install 'jaxgen[prepare]' and python -m jaxgen prepare {name}{where}."
            )
        features: Any = dict(info.features.items())
        if type(features.get("image")).__name__ != "Image":
            raise InputError(f"The TFDS set {name!r} has {', '.join(features)}: it needs an image named 'image'.")
        labelled = type(features.get("label")).__name__ == "ClassLabel"
        self.classes: tuple[str, ...] = tuple(features["label"].names) if labelled else ()
        attributes = features["attributes"].items() if "attributes" in features else ()
        self.attributes = [name for name, x in attributes if x.shape == () and np.dtype(x.np_dtype) == bool]
        self.builder, self.split = builder, split
        try:
            self.rows: Any = builder.as_data_source(split)
            if not len(self.rows):  # len() itself raises ValueError for a slice that ends before it begins
                raise ValueError("no example")
        except NotImplementedError as error:
            formats = ", ".join(sorted(known.value for known in info.available_file_formats()))
            raise InputError(
                f"The TFDS set {name!r} is prepared as {formats}, which has no random access: "
                f"prepare it again in another folder by python -m jaxgen prepare {name} --dir DIR."
            ) from error
        except (ValueError, AssertionError, KeyError) as error:
            known = f"it has {', '.join(info.splits)}, and slices of them"
            raise InputError(f"The TFDS set {name!r} holds no examples in {split!r}: {known}.") from error
        self[0]  # a deleted or truncated file fails here

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict]:
        """Return several examples, read together. Raises InputError for a damaged one or a label out of range."""
        rows = self._read(self.rows, indices)
        return [self._example(index, row) for index, row in zip(indices, rows, strict=True)]

    @property
    def labels(self) -> np.ndarray:
        """All labels i32[n], read without decoding images. Raises InputError like reading the examples."""
        from tensorflow_datasets.core.decode import SkipDecoding

        rows: Any = self.builder.as_data_source(self.split, decoders={"image": SkipDecoding()})
        found: list[int] = []
        for start in range(0, len(rows), CHUNK):
            some = range(start, min(start + CHUNK, len(rows)))
            found += [int(row["label"]) for row in self._read(rows, list(some))]
        labels = np.asarray(found, np.int32)
        check_labels(labels, len(self.classes), f"the TFDS set {self.name!r}")
        return labels

    def _read(self, rows: Any, indices: list[int]) -> list[dict]:
        try:
            return rows.__getitems__(indices)
        except Exception as error:  # array_record raises RuntimeError, decoders raise any type
            which = indices[0] if len(indices) == 1 else f"{min(indices)}..{max(indices)}"
            raise InputError(
                f"Example {which} of the TFDS set {self.name!r} cannot be read: {first_line(error)}."
            ) from error

    def _example(self, index: int, row: dict) -> dict:
        image = row["image"]
        if image.dtype == np.uint16:
            image = np.round(image / 257).astype(np.uint8)
        elif image.dtype != np.uint8:
            image = _unit(image, index, self.name)
        example = {"image": image, **{name: int(row["attributes"][name]) for name in self.attributes}}
        if not self.classes:
            return example
        label = int(row["label"])
        if not 0 <= label < len(self.classes):
            raise InputError(
                f"Label {label} of example {index} in the TFDS set {self.name!r} is outside 0..{len(self.classes) - 1}."
            )
        return {**example, "label": label}


def prepare(name: str, folder: str | None = None) -> Path:
    """Download a TFDS set and write it as array_record; return its folder. Needs jaxgen[prepare]; raises InputError."""
    if importlib.util.find_spec("tensorflow") is None:
        raise InputError("Preparing a TFDS set needs TensorFlow: run pip install 'jaxgen[prepare]'.")
    builder = _builder(name, folder, file_format="array_record")
    try:
        builder.download_and_prepare(file_format="array_record")
    except Exception as error:  # network, disk or manual download: reported in one sentence
        raise InputError(f"The TFDS set {name!r} could not be prepared: {first_line(error)}.") from error
    return Path(builder.data_path)


def _builder(name: str, folder: str | None, **options) -> Any:
    """Return the builder of a set. Raises InputError with the nearest set, version or configuration."""
    if not NAME.fullmatch(name):  # also rejects community names, which TFDS looks up over the network
        raise InputError(f"The TFDS set {name!r} must be named NAME, NAME/CONFIG or NAME:VERSION.")
    there = None if folder is None else paths.path(folder)
    if there is not None and not there.is_dir() and not options:
        raise InputError(f"There is no folder {folder} to read TFDS sets from.")
    if there is not None and paths.remote(there) and not options:
        there = fetched.here(there / re.split("[/:]", name)[0]).parent
    logging.getLogger("absl").addFilter(_no_advice)
    import tensorflow_datasets as tfds  # slow to import, so only here
    from tensorflow_datasets.core.registered import DatasetNotFoundError

    printed = io.StringIO()  # TFDS prints a banner when a set's own code needs TensorFlow
    path = None if there is None else str(there)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            return tfds.builder(name, data_dir=path, try_gcs=False, **options)
    except DatasetNotFoundError as error:
        here = Path(path or Path(DEFAULT_DIR).expanduser())
        local = [entry.name for entry in here.iterdir() if entry.is_dir()] if here.is_dir() else []
        base = re.split("[/:]", name)[0]
        choose(base, [*local, *tfds.list_builders(with_community_datasets=False)], "TFDS set")
        raise InputError(f"The TFDS set {name!r} is not prepared under {here}.") from error
    except ImportError as error:
        raise InputError(
            f"The TFDS set {name!r} is not prepared, and its code needs TensorFlow: "
            f"run pip install 'jaxgen[prepare]' and python -m jaxgen prepare {name}."
        ) from error
    except Exception as error:
        text = first_line(error).split('": ')[-1]
        raise InputError(f"The TFDS set {name!r} cannot be opened: {text}.") from error


def _no_advice(record: logging.LogRecord) -> bool:
    """Drop the advice of TFDS to install OpenCV; Pillow is used on purpose."""
    return "OpenCV is not installed" not in str(record.msg)


def _unit(image: np.ndarray, index: int, name: str) -> np.ndarray:
    if not np.issubdtype(image.dtype, np.floating) or not (image.min() >= 0 and image.max() <= 1):
        raise InputError(f"Example {index} of the TFDS set {name!r} holds {image.dtype} outside [0, 1].")
    return np.round(image * 255).astype(np.uint8)
