"""ncnn's two files: values of 16 and 32 bits in the order of the graph, and one sentence for what is wrong in them."""

import struct

import numpy as np
import pytest

from jaxgen.core.errors import InputError
from jaxgen.interop.read import read

HALF, INT8 = 0x01306B47, 0x000D4B38
GRAPH = [
    "Input in0 0 1 in0",
    "Convolution /a/a.0/Conv 1 1 in0 1 0=4 1=3 4=1 5=1 6=108",
    "PReLU /a/a.1/PRelu 1 1 1 2 0=4",
    "Deconvolution up 1 1 2 3 0=2 1=2 3=2 5=0 6=32",
    "PixelShuffle more 1 1 3 4 0=1",
    "Interp last 1 1 4 out0 0=1 1=2.000000e+00 2=2.000000e+00",
]
RNG = np.random.default_rng(0)
KERNEL, BIAS, SLOPE = (RNG.normal(size=shape).astype(np.float32) for shape in ((4, 3, 3, 3), (4,), (4,)))
UP = RNG.normal(size=(2, 4, 2, 2)).astype(np.float32)  # ncnn's order: out, in, height, width


def values(half: bool = True) -> bytes:
    flag, dtype = (HALF, "<f2") if half else (0, "<f4")
    kernel = struct.pack("<I", flag) + KERNEL.astype(dtype).tobytes()
    return kernel + BIAS.tobytes() + SLOPE.tobytes() + struct.pack("<I", 0) + UP.tobytes()


@pytest.fixture
def pair(tmp_path):
    def write(graph=GRAPH, data=None, magic="7767517", count=None):
        path = tmp_path / "net.param"
        path.write_text("\n".join([magic, f"{len(graph) if count is None else count} 4", *graph]) + "\n")
        path.with_suffix(".bin").write_bytes(values() if data is None else data)
        return path

    return write


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("suffix", [".param", ".bin"])
def test_the_values_come_under_pytorchs_names_and_in_its_layouts(pair, half, suffix):
    arrays = read(pair(data=values(half)).with_suffix(suffix))
    assert list(arrays) == ["a.0.weight", "a.0.bias", "a.1.weight", "up.weight"]
    np.testing.assert_allclose(arrays["a.0.weight"], KERNEL, atol=2e-3 if half else 0)
    np.testing.assert_array_equal(arrays["a.0.bias"], BIAS)
    np.testing.assert_array_equal(arrays["a.1.weight"], SLOPE)
    np.testing.assert_array_equal(arrays["up.weight"], UP.swapaxes(0, 1))  # ConvTranspose2d: in, out, height, width


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": values()[:-1]}, "ends before the"),
        ({"data": values() + b"more"}, "has 4 more bytes than it names"),
        ({"data": struct.pack("<I", INT8) + values()[4:]}, "quantised or damaged"),
        ({"graph": [*GRAPH[:1], GRAPH[1] + " 8=2", *GRAPH[2:]]}, "quantised to int8"),
        ({"graph": [*GRAPH[:1], GRAPH[1].replace("6=108", "6=109"), *GRAPH[2:]]}, "said to have 109 values"),
        ({"graph": [*GRAPH[:1], GRAPH[1].replace("0=4", "0=999999999"), *GRAPH[2:]]}, "said to have 108 values"),
        ({"graph": [*GRAPH, "LSTM memory 1 1 out0 out1 0=8"]}, "LSTM"),
        (
            {"graph": [*GRAPH, "Interp half 1 1 out0 out1 0=3 1=5.000000e-01 2=5.000000e-01"]},
            "images smaller .* by 0.5",
        ),
        ({"graph": [*GRAPH, "Interp less 1 1 out0 out1 0=3 1=0.75 2=0.75"]}, "images smaller .* by 0.75"),
        ({"count": 9}, "it says that it has 9 layers, and it has 6"),
        ({"graph": ["Input"]}, "is no layer"),
    ],
)
def test_what_is_wrong_is_named(pair, changes, words):
    with pytest.raises(InputError, match=words):
        read(pair(**changes))


def test_the_other_file_is_missed(pair):
    path = pair()
    path.with_suffix(".bin").unlink()
    with pytest.raises(InputError, match=r"net\.bin"):
        read(path)
