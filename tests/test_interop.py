"""Weight files: real ones, round trips, every shape of nesting, every attack we could think of, and broken bytes."""

import collections
import os
import pickle
import shutil
import struct
import subprocess
import sys
import types
import zipfile
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxgen.errors import InputError
from jaxgen.interop import pickles
from jaxgen.interop.read import read
from jaxgen.interop.write import write_safetensors, write_torch

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
    """Write a torch zip file of what pickle makes of an object."""
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


# --- round trips ---


def arrays():
    made = {name: np.arange(-3, 3).astype(name).reshape(2, 3) for name in TYPES}
    made["bool"] = np.array([True, False])
    made["bf16"] = np.array([1, -2.5, np.inf, np.nan], ml_dtypes.bfloat16)
    made["scalar"] = np.array(2.5, np.float32)
    made["empty"] = np.zeros((0, 3), np.float32)
    made["dotted.näme"] = np.array([np.nan, -0.0, 1e-45], np.float32)
    return made


def test_torch_round_trip(tmp_path):
    extra = {"c128": np.array([1 + 2j]), "f8": np.array([1, 2], ml_dtypes.float8_e4m3fn)}
    write_torch(tmp_path / "a.pt", arrays() | extra)
    same(read(tmp_path / "a.pt"), arrays() | extra)
    write_torch(tmp_path / "b.pt", arrays() | extra)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
    data = (tmp_path / "a.pt").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        for info in archive.infolist():
            name, extra = struct.unpack("<HH", data[info.header_offset + 26 : info.header_offset + 30])
            assert (info.header_offset + 30 + name + extra) % 64 == 0 and info.compress_type == zipfile.ZIP_STORED


def test_safetensors_round_trip(tmp_path):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, arrays(), {"made by": "a test"})
    found = read(path)
    same({name: found[name] for name in arrays()}, arrays())
    assert b'"made by":"a test"' in path.read_bytes()


@pytest.mark.parametrize("write", [write_torch, lambda path, tensors: write_safetensors(path, tensors, None)])
def test_what_is_written(tmp_path, write):
    strided = np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::-3]
    write(tmp_path / "a", {"x": strided, "y": np.arange(3, dtype=">f4"), "z": [[1.0, 2.0]]})
    same(
        dict(sorted(read(tmp_path / "a").items())),
        {"x": strided.copy(), "y": np.arange(3, dtype="f4"), "z": np.array([[1.0, 2]])},
    )
    before = (tmp_path / "a").read_bytes()
    with pytest.raises(InputError, match="exists already"):
        write(tmp_path / "a", {"x": np.zeros(3)})
    assert (tmp_path / "a").read_bytes() == before
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "no" / "folder", {"x": np.zeros(3)})
    with pytest.raises(InputError, match=r"'x' cannot be written.*str"):
        write(tmp_path / "b", {"x": np.array(["text"])})
    assert os.listdir(tmp_path) == ["a"]


def test_matlab(tmp_path):
    wanted = {
        "kernels.0": np.zeros((2, 3), np.float32),
        "kernels.1": np.ones((2, 3), np.float32),
        "net.bias": np.arange(3.0)[None],
        "net.flags": np.array([[True], [False]]),
        "net.none": np.zeros((0, 5)),
        "net.phase": np.array([[1j], [2j]], np.complex64),
        "weights": TENSOR,
    }
    same(read(matlab(tmp_path / "a.mat")), wanted)


# --- torch files ---


@pytest.mark.parametrize("write", [zipped, legacy])
def test_views_ties_and_nesting(tmp_path, write):
    body = mapping(
        a=tensor(),
        transposed=tensor(size=(3, 2), stride=(1, 3)),
        last=tensor(offset=5, size=(), stride=()),
        expanded=tensor(size=(4, 2), stride=(0, 1)),
        parameter=b"ctorch._utils\n_rebuild_parameter\n" + tup(tensor(), b"\x88", ORDERED) + b"R",
        attributes=b"ctorch._utils\n_rebuild_parameter_with_state\n" + tup(tensor(), b"\x88", ORDERED, b"}") + b"R",
        more=b"](" + tensor() + mapping(b=tensor()) + number(3) + b"e",
        words=text("no tensor"),
    )
    found = read(write(tmp_path / "a.pt", body))
    wanted = {"a": TENSOR, "transposed": TENSOR.T, "last": np.float32(5), "expanded": np.tile(TENSOR[0, :2], (4, 1))}
    wanted |= {"parameter": TENSOR, "attributes": TENSOR, "more.0": TENSOR, "more.1.b": TENSOR}
    same(found, wanted)
    assert np.shares_memory(found["a"], found["more.1.b"])


def test_storage_views_of_legacy_files(tmp_path):
    view = storage("0", 6, "torch\nFloatStorage", tup(text("v"), number(2), number(3)))
    body = mapping(a=tensor(view, offset=1, size=(2,), stride=(1,)))
    same(read(legacy(tmp_path / "a.pt", body)), {"a": FLOATS[3:5]})
    refused(legacy(tmp_path / "b.pt", mapping(a=tensor(view, offset=1, size=(3,), stride=(1,)))), "out of its storage")


def test_big_endian(tmp_path):
    records = {
        "data/0": FLOATS.astype(">f4").tobytes(),
        "data/1": np.array([1 + 2j], ">c8").tobytes(),
        "byteorder": b"big",
    }
    body = mapping(a=tensor(), b=tensor(storage("1", 1, "torch\nComplexFloatStorage"), size=(1,), stride=(1,)))
    same(read(zipped(tmp_path / "a.pt", body, records)), {"a": TENSOR, "b": np.array([1 + 2j], np.complex64)})


T = b"T"  # stands for a tensor in the trees below


def tree(value):
    """The opcodes of nested dicts and lists of tensors."""
    if value is T:
        return tensor()
    if isinstance(value, dict):
        return (
            b"}("
            + b"".join(number(k) + tree(v) if isinstance(k, int) else text(k) + tree(v) for k, v in value.items())
            + b"u"
        )
    return b"](" + b"".join(map(tree, value)) + b"e" if isinstance(value, list) else number(value)


@pytest.mark.parametrize(
    "value,names",
    [
        ({"w": T, "b": T}, ["w", "b"]),
        ({"state_dict": {"w": T}, "epoch": 3, "optimizer": {"state": {0: T}}}, ["w"]),
        ({"epoch": 3, "net": {"w": T}, "optimizer": {"state": {0: {"step": T}}}}, ["net.w", "optimizer.state.0.step"]),
        ({"params": {"w": T}, "params_ema": {"w": T}}, ["params.w", "params_ema.w"]),
        ({"params": {}, "params_ema": {"w": T}}, ["w"]),
        ({"model": {"state_dict": {"module.w": T, "module.b": T}}}, ["w", "b"]),
        ({"module.w": T, "w": T}, ["module.w", "w"]),
        ({"model": T}, ["model"]),
        ([T, [T]], ["0", "1.0"]),
        (T, ["tensor"]),
    ],
)
def test_names(tmp_path, value, names):
    assert list(read(zipped(tmp_path / "a.pt", tree(value)))) == names


def test_a_name_twice(tmp_path):
    refused(zipped(tmp_path / "a.pt", tree({"a": {"b": T}, "a.b": T})), "two tensors named a.b")


def module(kind=b"cnet\nNet\n", parameters=b"}", buffers=b"}", modules=b"}", **more):
    state = mapping(training=b"\x88", _parameters=parameters, _buffers=buffers, _modules=modules, **more)
    return kind + b")\x81" + state + b"b"


@pytest.mark.parametrize("write", [zipped, legacy])
def test_whole_modules(tmp_path, write):
    inner = module(b"ctorch.nn.modules.linear\nLinear\n", mapping(weight=tensor(), bias=b"N"))
    hidden = b"c__builtin__\nset\n](" + text("scratch") + b"e\x85R"
    function = b"ctorch.nn.functional\nrelu\n"  # named, never called
    source = tup(text("module"), b"cnet\nNet\n", text("net.py"), text("import os")) + b"Q"
    body = module(
        b"cnet\nNet\n" if write is zipped else source,
        b"ccollections\nOrderedDict\n](]" + b"(" + text("scale") + tensor() + b"ee\x85R",  # Python 2's, of pairs
        mapping(mean=tensor(), scratch=tensor()),
        mapping(first=inner, none=b"N"),
        _non_persistent_buffers_set=hidden,
        act=function,
        plain=tensor(),
    )
    path = write(tmp_path / "a.pt", body)
    assert list(read(path)) == ["scale", "mean", "first.weight"]
    path = write(tmp_path / "b.pt", mapping(epoch=number(3), model=body, ema=body))
    assert list(read(path)) == ["scale", "mean", "first.weight"]


def test_what_checkpoints_hold_beside_tensors(tmp_path):
    """Numbers of NumPy, options, containers of all kinds and objects of a library that is not here."""
    here: Any = types.ModuleType("nowhere_installed")
    here.Config = type("Config", (dict,), {"__module__": "nowhere_installed"})
    here.Items = type("Items", (list,), {"__module__": "nowhere_installed"})
    here.Slots = type("Slots", (), {"__module__": "nowhere_installed", "__slots__": ("a",)})
    sys.modules["nowhere_installed"] = here
    try:
        slots: Any = here.Slots()
        config: Any = here.Config(lr=1, w=np.ones(2))
        slots.a, config.note = np.zeros(1), {1, 2}
        extras = [here.Items([np.arange(2)]), slots, config, types.SimpleNamespace(seed=1), {(1, (2, 3)): np.ones(1)}]
        extras += [collections.Counter("ab"), collections.defaultdict(list, a=[1]), collections.deque([1])]
        extras += [1 + 2j, bytearray(b"ab"), b"ab", frozenset([1]), range(3), 10**30, -1, 2.5, None, np.float64(3)]
        fortran = np.asfortranarray(TENSOR)
        for protocol in range(2, 6):
            body = pickle.dumps({"extras": extras, "big": np.arange(2, dtype=">i2"), "f": fortran}, protocol)
            if protocol == 5:  # its arrays are made by a function that is not known, and torch.save never asks for it
                refused(zipped(tmp_path / "5.pt", body[2:-1]), "_frombuffer")
                continue
            found = read(zipped(tmp_path / f"{protocol}.pt", body[2:-1]))
            wanted = {"extras.0.0": np.arange(2), "extras.1.a": np.zeros(1), "extras.2.w": np.ones(2)}
            wanted |= {"extras.4.#0": np.ones(1), "big": np.arange(2, dtype=">i2"), "f": TENSOR}
            same(found, wanted)
    finally:
        del sys.modules["nowhere_installed"]


# --- attacks ---


class Call:
    """Pickled as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


CALLS = [(os.system, "posix.system"), (eval, "builtins.eval"), (subprocess.Popen, "subprocess.Popen")]
CALLS += [(getattr, "builtins.getattr"), (__import__, "builtins.__import__"), (shutil.rmtree, "shutil.rmtree")]
NAMES = ["os system", "nt system", "posix system", "sys exit", "__builtin__ eval", "os.path join", "commands getoutput"]
NAMES += ["webbrowser open", "builtins exec", "copyreg _reconstructor", "codecs encode", "operator attrgetter"]


@pytest.mark.parametrize("write", [zipped, legacy])
@pytest.mark.parametrize("function,name", CALLS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_calls_are_refused_by_name(tmp_path, monkeypatch, write, function, name, protocol):
    monkeypatch.chdir(tmp_path)
    body = pickle.dumps({"w": Call(function, "touch owned")}, protocol)[2:-1]
    refused(write(tmp_path / "a.pt", body), f" names {name}, which is no tensor; it was not run.")
    assert os.listdir(tmp_path) == ["a.pt"]


@pytest.mark.parametrize("name", NAMES)
def test_the_standard_library_is_not_even_named(tmp_path, name):
    module, function = name.split()
    shown = f"{ {'__builtin__': 'builtins', 'commands': 'subprocess'}.get(module, module) }.{function}"
    refused(zipped(tmp_path / "a.pt", f"c{module}\n{function}\n".encode()), f"names {shown},")
    refused(zipped(tmp_path / "b.pt", text(module) + text(function) + b"\x93"), f"names {shown},")
    refused(zipped(tmp_path / "c.pt", f"(i{module}\n{function}\n".encode()), f"names {shown},")


EVIL = b"cevil\nrun\n"
OPCODES = {  # every way by which a pickle could run something
    "REDUCE": (EVIL + b")R", "calls evil.run"),
    "INST": (b"(" + text("x") + b"ievil\nrun\n", "calls evil.run"),
    "OBJ": (b"(" + EVIL + text("x") + b"o", "calls evil.run"),
    "dotted": (text("torch") + text("hub.os.system") + b"\x93)R", "calls torch.hub.os.system"),
    "torch.load": (b"ctorch\nload\n" + text("x") + b"\x85R", "calls torch.load"),
    "from bytes": (b"ctorch.storage\n_load_from_bytes\n" + text("x") + b"\x85R", "calls torch.storage._load"),
    "through a subclass": (
        b"ctorch._tensor\n_rebuild_from_type_v2\n" + tup(EVIL, EVIL, b")", b"}") + b"R",
        "calls evil.run",
    ),
    "of what was called": (b"ccollections\nOrderedDict\n)R)R", "no function"),
    "of a tensor": (tensor() + b")R", "no function"),
    "of a placeholder": (EVIL + b")\x81)R", "no function"),
    "of a text": (text("os.system") + b")R", "no function"),
    "EXT1": (b"\x82\x01", "EXT1"),
    "EXT2": (b"\x83\x01\x00", "EXT2"),
    "EXT4": (b"\x84\x01\x00\x00\x00", "EXT4"),
    "NEXT_BUFFER": (b"\x97", "NEXT_BUFFER"),
    "PERSID": (b"Pos.system\n", "PERSID"),
    "names by a number": (number(1) + number(2) + b"\x93", "no text"),
    "a name to break the terminal": (
        text("evil\x1b[2J\n") + text("x" * 999) + b"\x93)R",
        r"calls evil\x1b[2J\nxxx"[:18],
    ),
}


@pytest.mark.parametrize("write", [zipped, legacy])
@pytest.mark.parametrize("name", OPCODES)
def test_every_opcode_that_calls(tmp_path, write, name):
    body, part = OPCODES[name]
    refused(write(tmp_path / "a.pt", mapping(a=tensor(), b=body)), part)


INERT = {
    "NEWOBJ": EVIL + b")\x81" + mapping(x=number(1)) + b"b",
    "NEWOBJ_EX": EVIL + b")" + mapping(x=number(1)) + b"\x92",
    "setstate": EVIL + b")\x81" + mapping(__setstate__=EVIL, __class__=EVIL, __dict__=b"}") + b"b",
    "slots": EVIL + b")\x81" + tup(b"N", mapping(__class__=EVIL)) + b"b",
    "slots as text": EVIL + b")\x81" + text("state") + b"b",
    "a tensor's state": tensor() + mapping(array=EVIL, storage=EVIL) + b"b",
    "a class's state": EVIL + mapping(name=text("os.system")) + b"b",
    "as hooks": tensor(call="_rebuild_tensor_v2", more=b"").replace(ORDERED, EVIL),
    "as a factory": b"ccollections\ndefaultdict\n" + EVIL + b"\x85R",
    "as a key": b"}" + EVIL + tup(EVIL) + b"s",
    "partial": b"cfunctools\npartial\n" + EVIL + b"\x85R" + tup(EVIL, tup(text("x")), b"}", b"N") + b"b",
}


@pytest.mark.parametrize("name", INERT)
def test_what_stays_inert(tmp_path, name, monkeypatch):
    evil: Any = types.ModuleType("evil")

    class Run:
        def __new__(cls, *_, **__):
            raise AssertionError("made")

        def __setstate__(self, state):
            raise AssertionError("built")

    evil.run = Run
    monkeypatch.setitem(sys.modules, "evil", evil)
    assert next(iter(read(zipped(tmp_path / "a.pt", mapping(a=tensor(), b=INERT[name]))))) == "a"


def test_nothing_is_imported(tmp_path, monkeypatch):
    (tmp_path / "hostile.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    same(read(zipped(tmp_path / "a.pt", mapping(a=tensor(), b=b"chostile\nNet\n)\x81"))), {"a": TENSOR})
    assert "hostile" not in sys.modules


TEN_TB = 10 * 2**40
LIES = {
    "storage": (tensor(storage(count=TEN_TB)), "cut short"),
    "size": (tensor(size=(TEN_TB,), stride=(1,)), "out of its storage"),
    "expanded": (tensor(size=(TEN_TB,), stride=(0,)), "repeats its values"),
    "none, but large": (tensor(size=(0, TEN_TB, TEN_TB), stride=(1, 1, 1)), "out of its storage"),
    "stride": (tensor(stride=(4, 1)), "out of its storage"),
    "huge stride": (tensor(stride=(2**70, 1)), "out of its storage"),
    "negative stride": (tensor(stride=(-3, 1)), "out of its storage"),
    "offset": (tensor(offset=1), "out of its storage"),
    "negative offset": (tensor(offset=-1), "out of its storage"),
    "negative size": (tensor(size=(-2, 3)), "out of its storage"),
    "dimensions": (tensor(size=(1,) * 100, stride=(1,) * 100), "out of its storage"),
    "strides": (tensor(stride=(1,)), "cannot be"),
    "no storage": (tensor(EVIL), "cannot be"),
    "no number": (tensor(storage(count=6)).replace(number(3), text("3"), 1), "cannot be"),
    "no such storage": (tensor(storage("7")), "cut short"),
    "path as key": (tensor(storage("../../a")), "cut short"),
    "negative count": (tensor(storage(count=-1)), "out of storage"),
    "kind of storage": (tensor(storage(kind="torch\nOddStorage")), "torch.OddStorage"),
    "storage of others": (tensor(storage(kind="evil\nFloatStorage")), "evil.FloatStorage"),
    "conjugated": (tensor(more=mapping(conj=b"\x88")), "conjugated or negated"),
    "quantised storage": (tensor(storage(kind="torch\nQInt8Storage")), "quantised tensor (torch.QInt8Storage)"),
    "quantised": (tensor(call="_rebuild_qtensor"), "quantised tensor (torch._utils._rebuild_qtensor)"),
    "sparse": (tensor(call="_rebuild_sparse_tensor"), "sparse tensor"),
    "type": (tensor(call="_rebuild_tensor_v3", more=b"ctorch\nquint4x2\n"), "torch.quint4x2"),
    "persistent text": (text("storage") + b"Q", "no storage"),
    "persistent none": (b")Q", "no storage"),
    "persistent short": (tup(text("storage")) + b"Q", "no storage"),
    "persistent call": (tup(text("storage"), ORDERED, text("0"), text("cpu"), number(6)) + b"Q", "no storage"),
}


@pytest.mark.parametrize("name", LIES)
def test_sizes_that_lie(tmp_path, name):
    body, part = LIES[name]
    refused(zipped(tmp_path / "a.pt", mapping(a=body)), part)


def test_legacy_sizes_that_lie(tmp_path):
    for count in (7, TEN_TB, -1, 5):
        refused(legacy(tmp_path / "a.pt", mapping(a=tensor()), {"0": (count, FLOATS.tobytes())}), "cut short")
    refused(legacy(tmp_path / "a.pt", mapping(a=tensor()), {}), "cut short")


BOMBS = {
    "shares itself": b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60)),
    "holds itself": b"]q\x00h\x00a",
    "is deep": b"]" * 100_000 + b"a" * 99_999,
    "copies without end": (
        b"}("
        + b"".join(number(i) + b"N" for i in range(20_000))
        + b"uq\x01"
        + b"("
        + b"ccollections\nCounter\nh\x01\x85R" * 3000
        + b"t"
    ),
    "deep key": b"}" + b")" + b"\x85" * 200_000 + b"K\x01s",
    "long text": b"\x8d" + struct.pack("<Q", 2**62),
    "long bytes": b"\x96" + struct.pack("<Q", TEN_TB),
    "far memo": b"Nr\xff\xff\xff\xff0",
    "long names": text("x" * 2000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_pickles_that_grow(tmp_path, name):
    refused(zipped(tmp_path / "a.pt", b"}(" + text("x" * 2000 if name == "long names" else "x") + BOMBS[name] + b"u"))


def test_zip_bombs(tmp_path):
    body, bomb = mapping(a=tensor()), bytes(10**7)
    compressed = zipped(tmp_path / "a.pt", body, {"data/0": bomb}, compression=zipfile.ZIP_DEFLATED)
    refused(compressed, "compressed records")
    whole = zipped(tmp_path / "b.pt", body).read_bytes()
    for field in (20, 24):  # the sizes of the last record in the directory of the archive
        data = bytearray(whole)
        at = data.rindex(b"PK\x01\x02") + field
        data[at : at + 4] = struct.pack("<I", 2**31)
        (tmp_path / "c.pt").write_bytes(data)
        refused(tmp_path / "c.pt", "larger than the whole file")


def test_paths_in_a_zip_are_not_followed(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    records = {"data/0": FLOATS.tobytes(), "../../../owned": b"x", "/owned": b"x"}
    same(read(zipped(folder / "a.pt", mapping(a=tensor()), records, root="../")), {"a": TENSOR})
    assert os.listdir(tmp_path) == ["folder"] and os.listdir(folder) == ["a.pt"]


def test_matlab_attacks(tmp_path):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["secret"] = np.arange(3)

    def changed(change):
        path = matlab(tmp_path / "a.mat")
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    layout = h5py.VirtualLayout((3,), "i8")
    layout[:] = h5py.VirtualSource(str(other), "secret", (3,))
    changes = {
        lambda file: file.__setitem__("x", h5py.ExternalLink(str(other), "secret")): "links to another place",
        lambda file: file.__setitem__("x", h5py.SoftLink("/weights")): "links to another place",
        lambda file: file.create_virtual_dataset("x", layout): "larger than the file",
        lambda file: file.create_dataset("x", (3,), "i8", external=[(str(other), 0, 24)]): "larger than the file",
        lambda file: file.create_dataset("x", (2**40,), "f4", chunks=(2**20,)): "larger than the file",
        lambda file: file["net"].__setitem__("again", file["/"]): "nested too deeply",
        lambda file: file["net"].attrs.__setitem__("MATLAB_sparse", 5): "sparse matrix net",
    }
    for change, part in changes.items():
        refused(changed(change), part)


# --- what else can be wrong ---


def test_no_weights(tmp_path):
    path = tmp_path / "a.pt"
    refused(path, "No such file")
    refused(tmp_path, "Is a directory")
    for content, part in {
        b"": "is empty",
        b"hello": "safetensors",
        b"\x89HDF\r\n\x1a\n": "safetensors",
        b"MATLAB 5.0 MAT-file, Platform": "-v7.3",
        b"MATLAB 7.3 MAT-file, Platform": "cannot be read",
        pickle.dumps({"a": 1}): "torch.save did not write",
        b"\x80": "damaged",
        b"PK\x03\x04": "is damaged",
    }.items():
        path.write_bytes(content)
        refused(path, part)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.onnx", b"")
    refused(path, "data.pkl")
    refused(zipped(path, mapping(a=number(1))), "holds no tensor")
    path.unlink()
    write_safetensors(path, {})
    refused(path, "holds no tensor")
    with h5py.File(path, "w", userblock_size=512) as file:
        file["name"] = "text"
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    refused(path, "holds no tensor")


def test_without_h5py(tmp_path, monkeypatch):
    path = matlab(tmp_path / "a.mat")
    monkeypatch.setitem(sys.modules, "h5py", None)
    refused(path, "pip install h5py")


def test_safetensors_of_a_type_that_numpy_lacks(tmp_path):
    save_file({"a": np.ones(3, ml_dtypes.float8_e4m3fn)}, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "a type that is not read (", "float8")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """The bytes of a small file of each format."""
    folder = tmp_path_factory.mktemp("samples")
    write_torch(folder / "zip", {name: arrays()[name] for name in ("float32", "bf16", "uint16")})
    write_safetensors(folder / "safetensors", {"a": TENSOR, "b": np.zeros(2, ml_dtypes.bfloat16)})
    legacy(folder / "legacy", mapping(model=module(parameters=mapping(w=tensor(), b=tensor()))))
    matlab(folder / "matlab")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


FORMATS = ["zip", "safetensors", "legacy", "matlab"]


@pytest.mark.parametrize("kind", FORMATS)
def test_cut_short(tmp_path, samples, kind):
    """Whatever is left of a file, it is refused: no format is whole before its last byte."""
    data = samples[kind]
    for size in [*range(0, min(len(data), 64), 7), *range(64, len(data), max(1, len(data) // 40)), len(data) - 1]:
        (tmp_path / "a").write_bytes(data[:size])
        refused(tmp_path / "a")


@pytest.mark.parametrize("kind", FORMATS)
def test_broken_bytes(tmp_path, samples, kind):
    """Any bytes give arrays or an InputError."""
    rng = np.random.default_rng(0)
    for _ in range(150):
        data = np.frombuffer(samples[kind], np.uint8).copy()
        places = rng.integers(0, len(data), rng.integers(1, 8))
        data[places] = (
            rng.integers(0, 256, len(places)) if rng.random() < 0.5 else data[places] ^ 1 << rng.integers(0, 8)
        )
        (tmp_path / "a").write_bytes(data[: len(data) if rng.random() < 0.8 else rng.integers(0, len(data))].tobytes())
        try:
            found = read(tmp_path / "a")
        except InputError as error:
            assert str(error).isprintable()
        else:
            assert found and all(isinstance(array.sum(dtype=object), object) for array in found.values())


def test_broken_pickles(tmp_path):
    """Opcodes at random, of which more are valid than of flipped bytes."""
    rng = np.random.default_rng(0)
    parts = [bytes([i]) for i in range(256)] + [
        tensor(),
        storage(),
        EVIL,
        ORDERED,
        text("a"),
        number(3),
        b")\x81",
        b"}b",
    ] * 12
    for _ in range(300):
        body = b"".join(parts[i] for i in rng.integers(0, len(parts), rng.integers(1, 30)))
        try:
            assert read(zipped(tmp_path / "a.pt", body))
        except InputError as error:
            assert str(error).isprintable()


# --- real files ---

COUNTS = {
    "vdsr_model_epoch_50.pth": 664_704,
    "dncnn_25.pth": 555_137,
    "IMDN_x4.pth": 715_176,
    "mnist_lenet_epoch=12_test_acc=0.991.pth": 61_706,
    "mnist_gan_mlp_G--300.ckpt": 283_920,
    "mnist_gan_mlp_D--300.ckpt": 267_009,
    "mnist_vae_epoch_25.pth": 652_824,
    "stlpips_alex_shift_tolerant.pth": 2_473_734,
}


def test_real_files(real_data):
    folder = real_data / "weights"
    files = [file for end in ("pth", "th", "ckpt") for file in folder.glob(f"*.{end}")]
    assert COUNTS.keys() <= {file.name for file in files}
    for file in [*files, *(folder / "lpips_lin" / "v0.1").glob("*.pth")]:
        found = read(file)
        assert found and all(np.isfinite(array).all() for array in found.values()), file
        assert sum(array.size for array in found.values()) == COUNTS.get(file.name, sum(a.size for a in found.values()))
    vdsr = read(folder / "vdsr_model_epoch_50.pth")
    assert next(iter(vdsr)) == "residual_layer.0.conv.weight" and vdsr["output.weight"].shape == (1, 64, 3, 3)


def test_the_tables_are_consistent():
    assert set(pickles.STORAGES.values()) <= pickles.DTYPES.keys()
    assert not pickles.INERT & (pickles.CALLS.keys() | pickles.REFUSED.keys())


def test_reading_needs_no_torch():
    code = (
        "import sys; import jaxgen.interop.read, jaxgen.interop.write; assert not {'torch', 'h5py'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
