"""ncnn's files: a graph in text (.param) and its values (.bin), as SPAN and Real-ESRGAN publish their nets.

A line of the graph is a layer: its type, its name, and settings such as 0=48 by numbers. The values follow each other
in the order of the layers and have no names. How many a layer has and in which order is ncnn's
(https://github.com/Tencent/ncnn, src/layer and src/modelbin.cpp); here they get PyTorch's names and layouts.
"""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxgen.interop.pickles import Unreadable, shown

MAGIC = b"7767517"
BINARY = int(MAGIC).to_bytes(4, "little")  # how a graph in binary form begins
HALF, RAW = 0x01306B47, (0, 0x0002C056)  # what stands before values of 16 and of 32 bits
GRAPH = 2**24  # bytes of a graph
EPSILON = 1e-5  # of PyTorch's batch norm

# Layers without values.
PLAIN = """
AbsVal ArgMax BNLL BinaryOp CELU Cast Clip Concat CopyTo Crop CumulativeSum DeepCopy DetectionOutput Diag
Dropout ELU Einsum Eltwise Erf Exp ExpandDims Flatten Flip Fold GELU GLU GridSample HardSigmoid HardSwish
Input Interp InverseSpectrogram LRN Log MVN MatMul Mish Noop PSROIPooling Packing Permute PixelShuffle Pooling
Pooling1D Pooling3D Power PriorBox Proposal ROIAlign ROIPooling ReLU Reduction Reorg Reshape RotaryEmbed SDPA
SELU SPP Shrink ShuffleChannel Sigmoid Slice Softmax Softplus Spectrogram Split Squeeze StatisticsPooling
Swish TanH Threshold Tile UnaryOp Unfold YoloDetectionOutput Yolov3DetectionOutput
""".split()  # noqa: SIM905 -- a list of one name a line would be ten times as long


QUANTISED = "Convolution", "InnerProduct", "Embed"  # layers that may have values of 8 bits


class Block(NamedTuple):
    """Values of a layer as they follow in the file.

    shape: in ncnn's order
    flagged: whether four bytes before the values say how they are stored
    torch: the same values in PyTorch's layout
    """

    name: str
    shape: tuple[int, ...]
    flagged: bool = False
    torch: Callable[[np.ndarray], np.ndarray] = np.asarray


class Layer(NamedTuple):
    """One line of a graph."""

    kind: str
    name: str
    settings: dict[str, str]

    @property
    def title(self) -> str:
        return f"the {shown(self.kind)} layer {shown(self.name)}"

    def number(self, place: int, default: int = 0) -> int:
        """Return a setting that is a count. Raises Unreadable for one that can't be."""
        text = self.settings.get(str(place), str(default))
        if not re.fullmatch(r"-?\d{1,9}", text):
            raise Unreadable(f"is damaged: setting {place} of {self.title} is {shown(text)}")
        return int(text)


def is_graph(head: bytes) -> bool:
    """Return whether a file's first bytes are those of a graph in text."""
    return head.startswith(MAGIC) and head[len(MAGIC) :][:1] in (b"\n", b"\r", b" ")


def graph_of(path: Path) -> Path | None:
    """Return the graph of a file of ncnn, which may be the file itself; None for other files."""
    graph = path.with_suffix(".param") if path.suffix == ".bin" else path
    if not graph.is_file():
        return None
    with graph.open("rb") as file:
        return graph if is_graph(file.read(16)) else None


def read_ncnn(graph: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a graph and of the .bin beside it, in the order of the layers, in PyTorch's layouts.

    The names are the layers', and where a graph was exported from PyTorch through ONNX, PyTorch's: of the layer
    /upsampler/upsampler.0/Conv they are upsampler.0.weight and upsampler.0.bias. Constants are called NAME.data.
    Raises Unreadable where the files don't fit each other, or have values in a form that is not read.
    """
    layers = _layers(graph)
    values = graph.with_suffix(".bin")
    if not values.is_file():
        raise Unreadable(f"is the graph of a net, and its values are not there: put {values.name} beside it")
    data, start = memoryview(values.read_bytes()), 0
    arrays: dict[str, np.ndarray] = {}
    for layer in layers:
        _check_shrinks_nothing(layer)
        for block in _blocks(layer):
            array, start = _values(layer, block, data, start, values.name)
            name = f"{_torch_name(layer)}.{block.name}"
            if name in arrays:
                raise Unreadable(f"has two layers named {shown(layer.name)}")
            arrays[name] = block.torch(array.reshape(block.shape))
    if start < len(data):
        raise Unreadable(f"is not the graph of {values.name}, which has {len(data) - start:,} more bytes than it names")
    return arrays


def _check_shrinks_nothing(layer: Layer):
    """Raise Unreadable for a resize by a factor below 1: no net here has one, and outputs would have other sizes."""
    for place in ("1", "2") if layer.kind == "Interp" else ():
        factor = layer.settings.get(place, "0")
        if re.fullmatch(r"0*\.\d*[1-9]\d*|\d\.?\d*e-\d+", factor) and float(factor) > 0:
            raise Unreadable(
                f"makes images smaller at {layer.title}, by {float(factor):g}: give the net's file without it"
            )


def _layers(graph: Path) -> list[Layer]:
    if graph.stat().st_size > GRAPH:
        raise Unreadable(f"is no graph of ncnn: it has more than {GRAPH:,} bytes")
    lines = [line.split() for line in graph.read_text("utf-8", "replace").splitlines() if line.strip()]
    if len(lines) < 2 or not all(re.fullmatch(r"\d{1,9}", text) for text in lines[1][:1]):
        raise Unreadable("is damaged: its second line is no number of layers")
    count, lines = int(lines[1][0]), lines[2:]
    if len(lines) != count:
        raise Unreadable(f"is damaged: it says that it has {count:,} layers, and it has {len(lines):,}")
    return [_layer(parts) for parts in lines]


def _layer(parts: list[str]) -> Layer:
    if len(parts) < 4 or not all(re.fullmatch(r"\d{1,6}", text) for text in parts[2:4]):
        raise Unreadable(f"is damaged: {shown(' '.join(parts[:4]))} is no layer")
    if "." in parts[0]:
        raise Unreadable("is a graph of pnnx: give the one for ncnn, whose name ends in .ncnn.param")
    first = 4 + int(parts[2]) + int(parts[3])  # after the names of what goes in and comes out
    return Layer(parts[0], parts[1], dict(part.split("=", 1) for part in parts[first:] if "=" in part))


def _torch_name(layer: Layer) -> str:
    """Return a layer's name in PyTorch: "/a/a.0/Conv" is a.0; names of another form are kept."""
    parts = layer.name.removeprefix("/").split("/")
    if layer.name.startswith("/") and len(parts) > 1 and layer.kind != "MemoryData":
        parts.pop()  # the operation
    kept = [part for part, after in zip(parts, [*parts[1:], ""], strict=True) if not after.startswith(f"{part}.")]
    return ".".join(kept)


def _values(layer: Layer, block: Block, data: memoryview, start: int, file: str) -> tuple[np.ndarray, int]:
    """Return the values of a block, and where the next one begins."""
    count, dtype = math.prod(block.shape), np.dtype("<f4")
    if min(block.shape) < 1:
        raise Unreadable(f"is damaged: {layer.title} is said to have values of shape {list(block.shape)}")
    if block.flagged:
        flag = int.from_bytes(data[start : start + 4], "little")
        start += 4
        if flag == HALF:
            dtype = np.dtype("<f2")
        elif flag not in RAW:
            raise Unreadable(f"has the values of {layer.title} quantised or damaged; read are those of 16 or 32 bits")
    size = count * dtype.itemsize
    if start + size > len(data):
        raise Unreadable(f"does not fit {file}, which ends before the {count:,} values of {layer.title}")
    return np.frombuffer(data, dtype, count, start), start + (size + 3) // 4 * 4


# --- what the layers hold ---


def _blocks(layer: Layer) -> Iterator[Block]:
    """Yield the blocks of a layer in the order of the file. Raises Unreadable for layers that are not read."""
    kind, number = layer.kind, layer.number
    if kind in PLAIN or (kind == "Gemm" and not any(map(number, (4, 5, 6)))):
        return
    if kind.startswith(QUANTISED) and number(18 if kind == "Embed" else 8):
        raise Unreadable(f"has {layer.title} quantised to int8; read are values of 16 or 32 bits")
    if kind.startswith(("Convolution", "Deconvolution", "DeformableConv2D")):
        yield from _convolution(layer)
    elif kind in ("InnerProduct", "Embed"):
        out, (bias, size) = number(0), map(number, (1, 2) if kind == "InnerProduct" else (2, 3))
        inside = _ratio(layer, size, out)
        yield Block("weight", (out, inside) if kind == "InnerProduct" else (inside, out), True)
        if bias:
            yield Block("bias", (out,))
    elif kind == "BatchNorm":
        yield from (Block(name, (number(0),)) for name in ("weight", "running_mean"))
        yield Block("running_var", (number(0),), torch=lambda x: x + np.float32(_epsilon(layer) - EPSILON))
        yield Block("bias", (number(0),))
    elif kind in ("InstanceNorm", "LayerNorm", "GroupNorm", "RMSNorm"):
        if number(3 if kind == "GroupNorm" else 2, 1):
            names = ("weight",) if kind == "RMSNorm" else ("weight", "bias")
            yield from (Block(name, (number(1 if kind == "GroupNorm" else 0),)) for name in names)
    elif kind in ("PReLU", "Scale", "Normalize") and number(0) != -233:  # that scale is another layer's output
        yield Block("weight", (number(3 if kind == "Normalize" else 0),))
        if kind == "Scale" and number(1):
            yield Block("bias", (number(0),))
    elif kind == "Bias":
        yield Block("bias", (number(0),))
    elif kind == "Padding" and number(6):
        yield Block("value", (number(6),))
    elif kind == "MemoryData":
        shape = tuple(size for place in (2, 11, 1, 0) if (size := number(place)))
        if shape:
            yield Block("data", shape, not number(21, 1))
    elif kind not in ("Scale", "Padding"):
        raise Unreadable(f"has {layer.title}, which may hold values and is not read")


def _convolution(layer: Layer) -> Iterator[Block]:
    number, kind = layer.number, layer.kind
    deconvolution = kind.startswith("De") and kind != "DeformableConv2D"
    if number(28 if deconvolution else 19) and not kind.endswith("3D"):  # its weights are another layer's output
        return
    out, width = number(0), number(1)
    sides = (width,) if kind.endswith("1D") else (number(11, width), width)
    sides = (number(21, width), *sides) if kind.endswith("3D") else sides
    groups = number(7, 1) if "DepthWise" in kind else 1
    inside = _ratio(layer, number(6), out * math.prod(sides))
    torch = np.asarray
    if deconvolution:  # [g*o i sides] here, [g*i o sides] in PyTorch
        _ratio(layer, out, groups)
        torch = lambda x: x.reshape(groups, -1, *x.shape[1:]).swapaxes(1, 2).reshape(-1, out // groups, *sides)  # noqa: E731
    yield Block("weight", (out, inside, *sides), True, torch)
    if number(5):
        yield Block("bias", (out,))


def _ratio(layer: Layer, count: int, divisor: int) -> int:
    if count < 1 or divisor < 1 or count % divisor:
        raise Unreadable(f"is damaged: {layer.title} is said to have {count:,} values for {divisor:,} times its inputs")
    return count // divisor


def _epsilon(layer: Layer) -> float:
    text = layer.settings.get("1", "0")
    if not re.fullmatch(r"\d*\.?\d*(e[-+]?\d{1,2})?", text) or not text:
        raise Unreadable(f"is damaged: setting 1 of {layer.title} is {shown(text)}")
    return float(text)
