"""Reads the arrays of a weights file: safetensors, torch.save's, Flax's, MATLAB v7.3's, ncnn's, deeplearn.js's."""

import json
import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 -- safetensors finds bfloat16 there
import numpy as np
from safetensors import SafetensorError, safe_open

from jaxgen.core import paths
from jaxgen.core.errors import InputError
from jaxgen.data.arrays import first_line
from jaxgen.interop.flax_msgpack import is_msgpack, read_msgpack
from jaxgen.interop.matconvnet import as_torch
from jaxgen.interop.ncnn import BINARY, graph_of, is_graph, read_ncnn
from jaxgen.interop.pickles import Placeholder, Tensor, Unreadable, numpy_array, shown, torch_pickle, torch_zip
from jaxgen.interop.write import LAYOUTS_RECORD, METADATA

HOLDERS = Tensor, np.ndarray, dict, list, tuple
NOT_THE_FILE = {
    b"version https:": "is a pointer of Git LFS in place of the file: `git lfs pull` fetches that",
    b"<!doctype html": "is a web page: download the file itself",
    b"<html": "is a web page: download the file itself",
}
NODES, DEPTH, LETTERS = 300_000, 64, 1000  # a small file that shares or holds its own parts could unfold without end
SLACK = 2**28  # bytes that a small file's tensors may expand to
MANIFEST = 2**20  # bytes of a list of arrays
RATIO = 100  # how many times its size an HDF5 file may unpack to
WRAPPED = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")  # of compiled modules
NUMERIC = {"single": "float32", "double": "float64", "logical": "bool"}  # MATLAB's names where they are not NumPy's
NUMERIC |= {f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


class Weights(dict[str, np.ndarray]):
    """Arrays by their names.

    old: whether jaxgen exported them before layouts followed from layers
    graph: whether they are in the order in which a net's layers run, whatever their names
    """

    old = graph = False


def read(path: str | Path) -> Weights:
    """Return the arrays of a weights file by their names, in the order of the file.

    Reads safetensors, files of torch.save (a zip file, before 1.6 a pickle), Flax's msgpack and MATLAB v7.3,
    distinguished by their first bytes, a zip of raw f32 arrays with a manifest.json, as deeplearn.js takes them, and
    the two files of ncnn (.param and .bin, ncnn.py), of which either is given. No code of a file is ever run. State
    dicts and whole modules have their parameters under the names of the state dict; names of nested parts are joined by
    dots (entries.py finds the part with a net's weights). The arrays may be read-only and share memory, as tied tensors
    do. Raises InputError for a file that cannot be read or has no array.
    """
    path = paths.path(path)
    try:
        path = graph_of(path) or path
        with paths.local(path) as here:
            arrays = _read(here)
        cleaned = Weights({WRAPPED.sub("", name): array for name, array in arrays.items()})
        if len(cleaned) == len(arrays):
            cleaned.old, cleaned.graph, arrays = arrays.old, arrays.graph, cleaned
        size = sum(array.nbytes for array in arrays.values())
        if not arrays:
            raise Unreadable("holds no tensor")
        if size > SLACK + 16 * path.stat().st_size and not arrays.graph:
            raise Unreadable(f"repeats its values so often that {size:,} bytes would come of it")
        return arrays
    except Unreadable as error:
        raise InputError(f"{path} {error}.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {shown(first_line(error))}.") from error
    except Exception as error:  # broken bytes can break the parsers, ours and others', in more ways than a list names
        raise InputError(f"{path} is damaged: {shown(first_line(error))}.") from error


def _read(path: Path) -> Weights:
    if path.exists() and not path.is_file() and not path.is_dir():  # a pipe is never read to its end
        raise Unreadable("is no regular file")
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise Unreadable("is empty")
    if head.startswith(b"PK\x03\x04"):
        return manifest if (manifest := _manifest(path)) is not None else _torch_zip(path)
    if head[4:9] == b"\0\0\0\0{":  # the header's size in eight bytes, then JSON
        return _safetensors(path)
    if is_graph(head):
        arrays = Weights(read_ncnn(path))
        arrays.graph = True
        return arrays
    if head.startswith(BINARY):
        raise Unreadable("is a graph of ncnn in binary form: give the one in text, whose name ends in .param")
    if head.startswith(b"\x80"):
        return _named(torch_pickle(path))
    if is_msgpack(head):
        return _named(read_msgpack(path))
    if head.startswith(b"MATLAB 7.3"):
        return Weights(as_torch(_matlab(path)))
    if head.startswith(b"MATLAB"):
        raise Unreadable("is a MATLAB file older than v7.3: save it in MATLAB with -v7.3")
    for start, fault in NOT_THE_FILE.items():
        if head.lower().startswith(start):
            raise Unreadable(fault)
    raise Unreadable(
        "is no weights file: read are safetensors, .zip of arrays, torch.save's files, Flax's msgpack, MATLAB v7.3 and "
        "ncnn's .bin with its .param beside it"
    )


def notes(path: Path) -> dict[str, str]:
    """Return the texts beside the arrays of a safetensors file; {} for other files. Raises nothing."""
    try:
        with safe_open(path, "numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return {}


def _torch_zip(path: Path) -> Weights:
    with zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2] for name in archive.namelist()}
    arrays = _named(torch_zip(path))
    # Ours have no serialization_id, which torch writes wherever it writes a .format_version.
    ours = ".format_version" in names and ".data/serialization_id" not in names
    arrays.old = ours and LAYOUTS_RECORD not in names
    return arrays


def _safetensors(path: Path) -> Weights:
    try:
        with safe_open(path, "numpy") as file:
            arrays = Weights({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            texts = file.metadata() or {}
    except AttributeError as error:  # its NumPy interface looks in vain for types such as float8
        raise Unreadable(f"holds values of a type that is not read ({shown(first_line(error))})") from None
    arrays.old = {"preset", "net", "model", "step"} <= texts.keys() and not METADATA.keys() <= texts.keys()
    return arrays


def _manifest(path: Path) -> Weights | None:
    """Return the arrays that a zip's manifest.json lists, {name: {"filename", "shape"}}; None where it has none."""
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        if "manifest.json" not in sizes or any(name.endswith("data.pkl") for name in sizes):
            return None
        if sum(sizes.values()) > SLACK + 16 * path.stat().st_size or sizes["manifest.json"] > MANIFEST:
            raise Unreadable("unpacks to far more than it holds")
        listed = json.loads(archive.read("manifest.json"))
        arrays = Weights()
        for name, entry in listed.items():
            shape = tuple(int(n) for n in entry["shape"])
            file, size = entry["filename"], 4 * math.prod(shape)
            if min(shape, default=1) < 0 or sizes.get(file) != size:
                raise Unreadable(f"says that {shown(name)} is of shape {shape}, and {shown(file)} is not")
            arrays[name] = np.frombuffer(archive.read(file), "<f4").reshape(shape)
    return arrays


# --- names ---


def _named(tree: Any) -> Weights:
    """Return the arrays of what a pickle or a msgpack made."""
    arrays = Weights()
    for name, leaf in _leaves(tree):
        if name in arrays:
            raise Unreadable(f"holds two tensors named {shown(name)}")
        arrays[name] = leaf.array() if isinstance(leaf, Tensor) else leaf
    return arrays


def _leaves(tree: Any) -> Iterator[tuple[str, Tensor | np.ndarray]]:
    todo = [("", tree, 0)]
    for _ in range(NODES):
        if not todo:
            return
        name, node, depth = todo.pop()
        if depth > DEPTH or len(name) > LETTERS:
            break
        if isinstance(node, Tensor):
            yield name or "tensor", node
        elif isinstance(node, np.ndarray):
            yield name or "array", node
        elif (array := numpy_array(node)) is not None:
            yield name or "array", array
        else:
            children = [
                item for item in _children(node) if isinstance(item[1], Tensor | np.ndarray | dict | list | tuple)
            ]
            todo.extend((f"{name}.{k}" if name else str(k), child, depth + 1) for k, child in reversed(children))
    raise Unreadable("is nested too deeply to hold weights")


def _children(node: Any) -> list[tuple[Any, Any]]:
    if isinstance(node, Placeholder) and isinstance(node.get("_modules"), dict):  # an nn.Module, as its state_dict
        parts = [part for name in ("_parameters", "_buffers", "_modules") if isinstance(part := node.get(name), dict)]
        hidden = node.get("_non_persistent_buffers_set") or ()
        return [item for part in parts for item in part.items() if part is node["_modules"] or item[0] not in hidden]
    if isinstance(node, dict):
        return list(node.items())
    return list(enumerate(node)) if isinstance(node, list | tuple) else []


# --- MATLAB ---


def _matlab(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an HDF5 file of MATLAB: structs are groups, cells are datasets of references."""
    try:
        import h5py
    except ImportError:
        raise Unreadable("is a MATLAB v7.3 file, and to read it h5py is needed: pip install h5py") from None

    arrays: dict[str, np.ndarray] = {}
    left = RATIO * path.stat().st_size
    with h5py.File(path, "r") as file:
        todo: list[tuple[str, Any]] = [("", file)]
        for _ in range(NODES):
            if not todo:
                return arrays
            name, node = todo.pop()
            if len(name) > LETTERS:
                break
            if "MATLAB_sparse" in node.attrs:
                raise Unreadable(f"holds the sparse matrix {shown(name)}, and only full ones are read")
            children: list[tuple[Any, Any]] = []
            if isinstance(node, h5py.Group):
                keys = [key for key in map(str, node) if not key.startswith("#")]  # "#refs#" is what cells refer to
                if not all(isinstance(node.get(key, getlink=True), h5py.HardLink) for key in keys):
                    raise Unreadable("links to another place, which is not followed")
                children = [(key, node[key]) for key in keys]
            elif isinstance(node, h5py.Dataset):
                left -= node.dtype.itemsize * max(node.size or 0, math.prod(node.chunks or ()))
                if left < 0 or node.is_virtual or node.external:
                    raise Unreadable(f"says that {shown(name)} is far larger than the file")
                if h5py.check_ref_dtype(node.dtype) is h5py.Reference:
                    children = [(i, file[ref]) for i, ref in enumerate(np.ravel(node[()])) if ref]
                elif (array := _matrix(node)) is not None:
                    arrays[name] = array
            todo.extend((f"{name}.{key}" if name else str(key), child) for key, child in reversed(children))
    raise Unreadable("is nested too deeply to hold weights")


def _matrix(node: Any) -> np.ndarray | None:
    """Return MATLAB's array of numbers, or None for one of characters or objects."""
    kind, parts = node.attrs.get("MATLAB_class"), node.dtype.names
    kind = kind.decode() if isinstance(kind, bytes) else kind
    if (kind is not None and kind not in NUMERIC) or (node.dtype.kind not in "biufc" and parts != ("real", "imag")):
        return None
    values = np.asarray(node[()])
    if node.attrs.get("MATLAB_empty"):  # then the file has its shape in place of its values
        shape = tuple(int(n) for n in values.ravel())
        if math.prod(shape):
            raise Unreadable(f"says that {shown(node.name)} is empty and of shape {shape}")
        return np.zeros(shape, NUMERIC[kind or "double"])
    values = values["real"] + 1j * values["imag"] if parts else values
    return np.asarray(values.astype(bool) if kind == "logical" else values).T  # column-major in MATLAB
