"""Writes weights for other frameworks: safetensors, and the files of torch.save without torch."""

import struct
import zipfile
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from jaxgen.core import paths
from jaxgen.core.errors import InputError
from jaxgen.data.arrays import first_line
from jaxgen.interop.pickles import DTYPES, STORAGES
from jaxgen.media import output_files

ALIGNMENT = 64  # bytes: torch starts the contents of every record at a multiple of it
CLASSES = {dtype: f"{name}Storage" for name, dtype in STORAGES.items() if name != "Untyped"}
SAFETENSORS = CLASSES.keys() - {"complex128"} | {"uint16", "uint32", "uint64"}
# What distinguishes files whose layouts follow from layers from older exports (weight_names.table).
METADATA, LAYOUTS_RECORD = {"layouts": "2"}, ".jaxgen_layouts"
NO_HOOKS = b"ccollections\nOrderedDict\n)R"


def write_safetensors(
    path: str | Path, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None, overwrite: bool = False
):
    """Write arrays, and texts about them.

    Raises InputError for what cannot be written, and if the file exists and `overwrite` is not set.
    """
    arrays = {name: _plain(name, tensor, SAFETENSORS, "safetensors") for name, tensor in tensors.items()}
    texts = (
        {**metadata, **METADATA} if metadata else None
    )  # its header is no JSON if metadata and tensors are both empty
    _write(paths.path(path), overwrite, lambda part: save_file(arrays, part, texts))


def write_torch(path: str | Path, tensors: Mapping[str, Any], overwrite: bool = False):
    """Write arrays as torch.save writes a state dict, so that torch.load(path, weights_only=True) gives them back.

    Raises InputError for what cannot be written, and if the file exists and `overwrite` is not set.
    """
    arrays = {name: _plain(name, tensor, DTYPES, "torch") for name, tensor in tensors.items()}
    records = {
        "data.pkl": _pickle(arrays),
        ".format_version": b"1",
        ".storage_alignment": str(ALIGNMENT).encode(),
        LAYOUTS_RECORD: METADATA["layouts"].encode(),
        "byteorder": b"little",
        **{f"data/{i}": a.reshape(-1).view(np.uint8).data for i, a in enumerate(arrays.values())},
        "version": b"3\n",
    }
    _write(paths.path(path), overwrite, lambda part: _zip(part, records))


def _plain(name: str, tensor: Any, dtypes: Container[str], target: str) -> np.ndarray:
    array = np.asarray(tensor, order="C")
    if array.dtype.name not in dtypes:
        raise InputError(f"The array {name!r} can't be written: {target} has no type {array.dtype.name}.")
    return array.astype(array.dtype.newbyteorder("<")) if array.dtype.byteorder == ">" else array


def _write(path: Path, overwrite: bool, write: Callable[[Path], None]):
    """Have the file written whole, and over another one only with `overwrite`."""
    check_new(path, overwrite)
    with output_files.whole(path) as part:
        try:
            write(part)
        except SafetensorError as error:
            raise InputError(f"{path} can't be written: {first_line(error)}.") from error


def check_new(path: Path, overwrite: bool = False):
    """Raise InputError if an exported file can't be written there, or exists and `overwrite` is not set."""
    output_files.check(path, (path.suffix.lower(),), overwrite)


def _zip(path: Path, records: Mapping[str, bytes | memoryview]):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in records.items():
            info = zipfile.ZipInfo(f"archive/{name}")  # dated 1980: equal weights are equal files
            info.file_size = len(data)
            # The local header is 30 bytes, the name, and an extra field that we make as long as the alignment needs.
            start = archive.start_dir + 30 + len(info.filename) + 4
            info.extra = b"FB" + struct.pack("<H", -start % ALIGNMENT) + b"Z" * (-start % ALIGNMENT)
            with archive.open(info, "w") as file:
                file.write(data)


# --- the pickle ---


def _pickle(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the pickle (protocol 2) of an OrderedDict of calls that each rebuild a tensor from a storage."""
    items = [_text(name) + _tensor(str(i), array) for i, (name, array) in enumerate(arrays.items())]
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + b"".join(items) + b"u."


def _tensor(key: str, array: np.ndarray) -> bytes:
    name = array.dtype.name
    old = name in CLASSES  # torch stopped making a storage class for each new dtype
    kind, count = (
        (f"ctorch\n{CLASSES[name]}\n", array.size) if old else ("ctorch.storage\nUntypedStorage\n", array.nbytes)
    )
    storage = _tuple(_text("storage"), kind.encode(), _text(key), _text("cpu"), _int(count)) + b"Q"
    strides = [_int(stride // array.itemsize) for stride in array.strides]
    view = (storage, _int(0), _tuple(*map(_int, array.shape)), _tuple(*strides), b"\x89", NO_HOOKS)
    if old:
        return b"ctorch._utils\n_rebuild_tensor_v2\n" + _tuple(*view) + b"R"
    return b"ctorch._utils\n_rebuild_tensor_v3\n" + _tuple(*view, f"ctorch\n{name}\n".encode()) + b"R"


def _tuple(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def _text(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def _int(n: int) -> bytes:
    if n < 2**31:
        return b"J" + struct.pack("<i", n)
    return b"\x8a\x09" + n.to_bytes(9, "little")
