"""Weight files: round trips, real files, broken bytes and other errors."""

import os
import pickle
import stat
import struct
import subprocess
import sys
import zipfile

import flax.serialization
import h5py
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxgen.core.errors import InputError
from jaxgen.interop import pickles
from jaxgen.interop.read import read
from jaxgen.interop.write import write_safetensors, write_torch
from tests.helpers.weight_samples import (
    TENSOR,
    arrays,
    legacy,
    mapping,
    matlab,
    module,
    number,
    refused,
    same,
    tensor,
    zipped,
)

# --- round trips ---


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
def test_the_written_file(tmp_path, write):
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
    with pytest.raises(InputError, match="a is a file, not a folder: deep can't be written into it"):
        write(tmp_path / "a" / "deep", {"x": np.zeros(3)})
    with pytest.raises(InputError, match=r"'x' can't be written.*str"):
        write(tmp_path / "b", {"x": np.array(["text"])})
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("write", [write_torch, write_safetensors])
def test_the_users_umask_decides_who_may_read(tmp_path, write):
    before = os.umask(0o027)
    try:
        write(tmp_path / "a", {"x": np.zeros(3)})
        write(tmp_path / ("b" * 250), {"x": np.zeros(3)})
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}


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


# --- other errors ---


def test_no_weights(tmp_path):
    path = tmp_path / "a.pt"
    refused(path, "No such file")
    refused(tmp_path, "Is a directory")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "is no regular file")
    for content, part in {
        b"": "is empty",
        b"hello": "safetensors",
        b"version https://git-lfs.github.com/spec/v1\noid": "git lfs pull",
        b"<!DOCTYPE html><title>404": "is a web page",
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
    (folder / "msgpack").write_bytes(flax.serialization.to_bytes({"a": {"w": TENSOR}, "b": np.zeros(2, np.float16)}))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


FORMATS = ["zip", "safetensors", "legacy", "matlab", "msgpack"]


@pytest.mark.parametrize("kind", FORMATS)
def test_cut_short(tmp_path, samples, kind):
    """Every proper prefix of a file is refused."""
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
    assert next(iter(vdsr)) == "model.residual_layer.0.conv.weight" and vdsr["model.output.weight"].shape == (
        1,
        64,
        3,
        3,
    )


def test_the_tables_are_consistent():
    assert set(pickles.STORAGES.values()) <= pickles.DTYPES.keys()
    assert not pickles.INERT & (pickles.CALLS.keys() | pickles.REFUSED.keys())


def test_reading_needs_no_torch():
    code = (
        "import sys; import jaxgen.interop.read, jaxgen.interop.write; assert not {'torch', 'h5py'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
