"""Torch files: views, tied tensors, every kind of nesting, and the resulting names."""

import collections
import pickle
import sys
import types
from typing import Any

import numpy as np
import pytest

from jaxgen.interop.read import read
from tests.helpers.weight_samples import (
    FLOATS,
    ORDERED,
    TENSOR,
    legacy,
    mapping,
    module,
    number,
    refused,
    same,
    storage,
    tensor,
    text,
    tup,
    zipped,
)


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
        ({"state_dict": {"w": T}, "epoch": 3, "lr": {"state": {0: T}}}, ["state_dict.w", "lr.state.0"]),
        ({"epoch": 3, "net": {"w": T}, "optimizer": {"state": {0: {"step": T}}}}, ["net.w", "optimizer.state.0.step"]),
        ({"params": {"w": T}, "params_ema": {"w": T}}, ["params.w", "params_ema.w"]),
        (
            {"model": {"state_dict": {"module.w": T, "module.b": T}}},
            ["model.state_dict.module.w", "model.state_dict.module.b"],
        ),
        ({"a": {"_orig_mod.w": T}, "_orig_mod._fsdp_wrapped_module.b": T}, ["a.w", "b"]),
        ({"_orig_mod.w": T, "w": T}, ["_orig_mod.w", "w"]),
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
    names = ["scale", "mean", "first.weight"]
    assert list(read(path)) == [f"{part}.{name}" for part in ("model", "ema") for name in names]


def test_other_contents_of_checkpoints(tmp_path):
    """NumPy's numbers, options, containers of all kinds, and objects of a library that is not installed."""
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
            if protocol == 5:  # its arrays are made by an unknown function, which torch.save never uses
                refused(zipped(tmp_path / "5.pt", body[2:-1]), "_frombuffer")
                continue
            found = read(zipped(tmp_path / f"{protocol}.pt", body[2:-1]))
            wanted = {"extras.0.0": np.arange(2), "extras.1.a": np.zeros(1), "extras.2.w": np.ones(2)}
            wanted |= {"extras.4.#0": np.ones(1), "big": np.arange(2, dtype=">i2"), "f": TENSOR}
            same(found, wanted)
    finally:
        del sys.modules["nowhere_installed"]
