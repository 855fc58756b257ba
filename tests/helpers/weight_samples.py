"""Weight files made by hand, opcode by opcode, and checks of their refusals."""

import pickle
import struct
import zipfile
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest

from jaxgen.core.errors import InputError
from jaxgen.interop.read import read

MAGIC = [pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
ORDERED = b"ccollections\nOrderedDict\n)R"
TYPES = ["float32", "float16", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def refused(path, *parts):
    """Check that the file is refused in one sentence that begins with its path and holds the parts; return it."""
    with pytest.raises(InputError) as error:
        read(path)
    text = str(error.value)
    assert text.startswith(f"{path} ") and text.endswith(".") and text.isprintable(), text
    for part in parts:
        assert part in text, (part, text)
    return text


def same(found, wanted):
    """Check names, order, types, shapes and bytes."""
    assert list(found) == list(wanted)
    for name, array in found.items():
        want = np.asarray(wanted[name])
        assert (array.dtype, array.shape, array.tobytes()) == (want.dtype, want.shape, want.tobytes()), name


# --- files made by hand ---


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(n):
    return pickle.dumps(n, 2)[2:-1]


def tup(*items):
    return b"(" + b"".join(items) + b"t"


def storage(key="0", count=6, kind="torch\nFloatStorage", *view):
    return tup(text("storage"), f"c{kind}\n".encode(), text(key), text("cpu"), number(count), *view) + b"Q"


def tensor(place=None, offset=0, size=(2, 3), stride=(3, 1), more=b"", call="_rebuild_tensor_v2"):
    dims = [tup(*map(number, n)) for n in (size, stride)]
    args = tup(place or storage(), number(offset), *dims, b"\x89", ORDERED, more)
    return f"ctorch._utils\n{call}\n".encode() + args + b"R"


def mapping(**items):
    return b"}(" + b"".join(text(name) + value for name, value in items.items()) + b"u"


FLOATS = np.arange(6, dtype="<f4")
TENSOR = FLOATS.reshape(2, 3)


def zipped(path, body, records=None, root="archive/", compression=zipfile.ZIP_STORED):
    """Write a torch zip file around the opcodes of one object."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{root}data.pkl", b"\x80\x02" + body + b".")
        for name, data in (records or {"data/0": FLOATS.tobytes()}).items():
            archive.writestr(f"{root}{name}", data)
    return path


def legacy(path, body, storages=None):
    """Write a torch file of before 1.6; a storage is its size and its bytes."""
    storages = {"0": (6, FLOATS.tobytes())} if storages is None else storages
    data = [struct.pack("<q", count) + content for count, content in storages.values()]
    path.write_bytes(b"".join([*MAGIC, b"\x80\x02" + body + b".", pickle.dumps(list(storages), 2), *data]))
    return path


def dumped(path, value: Any):
    """Write a torch zip file with the pickle of an object."""
    return zipped(path, pickle.dumps(value, 2)[2:-1])


def matlab(path):
    """Write a file as MATLAB does: column-major, structs as groups, cells as references, a header of 512 bytes."""
    with h5py.File(path, "w", userblock_size=512) as file:

        def put(where, name, array, kind="single"):
            item = where.create_dataset(name, data=array)
            item.attrs["MATLAB_class"] = np.bytes_(kind)
            return item

        put(file, "weights", TENSOR.T)
        net = file.create_group("net")
        net.attrs["MATLAB_class"] = np.bytes_("struct")
        put(net, "bias", np.arange(3.0)[:, None], "double")  # 1 x 3 in MATLAB
        put(net, "name", np.frombuffer(b"n\0e\0t\0", np.uint16), "char")
        put(net, "flags", np.array([[1, 0]], np.uint8), "logical")
        put(net, "none", np.array([0, 5], np.uint64), "double").attrs["MATLAB_empty"] = 1
        parts = np.zeros(2, [("real", "f4"), ("imag", "f4")])
        parts["imag"] = [1, 2]
        put(net, "phase", parts[None])
        refs = file.create_group("#refs#")
        cells = [put(refs, name, np.full((3, 2), i, np.float32)).ref for i, name in enumerate("ab")]
        put(file, "kernels", np.array([cells], h5py.ref_dtype), "cell")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def arrays():
    made = {name: np.arange(-3, 3).astype(name).reshape(2, 3) for name in TYPES}
    made["bool"] = np.array([True, False])
    made["bf16"] = np.array([1, -2.5, np.inf, np.nan], ml_dtypes.bfloat16)
    made["scalar"] = np.array(2.5, np.float32)
    made["empty"] = np.zeros((0, 3), np.float32)
    made["dotted.näme"] = np.array([np.nan, -0.0, 1e-45], np.float32)
    return made


def module(kind=b"cnet\nNet\n", parameters=b"}", buffers=b"}", modules=b"}", **more):
    state = mapping(training=b"\x88", _parameters=parameters, _buffers=buffers, _modules=modules, **more)
    return kind + b")\x81" + state + b"b"


EVIL = b"cevil\nrun\n"
