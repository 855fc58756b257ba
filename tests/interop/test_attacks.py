"""Attacks by weight files: no code runs, no memory grows, no path is followed."""

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
import numpy as np
import pytest

from jaxgen.core.errors import InputError
from jaxgen.interop.read import read
from tests.helpers.weight_samples import (
    EVIL,
    FLOATS,
    ORDERED,
    TENSOR,
    legacy,
    mapping,
    matlab,
    number,
    refused,
    same,
    storage,
    tensor,
    text,
    tup,
    zipped,
)


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
def test_functions_of_the_standard_library_are_refused(tmp_path, name):
    module, function = name.split()
    shown = f"{ {'__builtin__': 'builtins', 'commands': 'subprocess'}.get(module, module) }.{function}"
    refused(zipped(tmp_path / "a.pt", f"c{module}\n{function}\n".encode()), f"names {shown},")
    refused(zipped(tmp_path / "b.pt", text(module) + text(function) + b"\x93"), f"names {shown},")
    refused(zipped(tmp_path / "c.pt", f"(i{module}\n{function}\n".encode()), f"names {shown},")


OPCODES = {  # every opcode by which a pickle could run code
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
def test_names_that_stay_inert(tmp_path, name, monkeypatch):
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
def test_wrong_sizes(tmp_path, name):
    body, part = LIES[name]
    refused(zipped(tmp_path / "a.pt", mapping(a=body)), part)


def test_wrong_legacy_sizes(tmp_path):
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


def test_broken_pickles(tmp_path):
    """Random opcodes: more of them are valid than of flipped bytes."""
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
