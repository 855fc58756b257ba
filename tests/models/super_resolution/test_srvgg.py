"""SRVGGNetCompact and RRDBNet: as many values as the published files, and graphs that do not name their layers."""

import functools

import jax
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.core.types import variables
from jaxgen.interop.entries import entry
from jaxgen.interop.layers import leaves, traced
from jaxgen.interop.read import read
from jaxgen.interop.weight_names import rule_of
from jaxgen.models.super_resolution.srvgg import SMALL
from jaxgen.pretrained.catalogue import PUBLISHED


@functools.cache
def net():
    """Return the shapes of a tiny net's variables, and random variables."""
    draw, (params, extra, *_) = np.random.default_rng(0), traced(SMALL)
    like = variables("restorer", params, extra)
    return like, jax.tree.map(lambda x: draw.normal(size=x.shape).astype(np.float32), like)


@pytest.mark.parametrize(
    ("name", "preset"),
    [("real-esrgan-video-x4", "srvgg-16"), ("real-esrgan-anime-x4", "rrdb-6"), ("real-esrgan-x4", "rrdb")],
)
def test_the_nets_have_as_many_values_as_the_published_files(name, preset):
    """Kernels are of 16 bits with 4 bytes before each, all other values are of 32 bits."""
    arrays = dict(leaves(traced(zoo.load(preset).run.model).params["restorer"]))
    sizes = [4 + 2 * x.size if path[-1] == "kernel" else 4 * x.size for path, x in arrays.items()]
    [values] = [file for file in PUBLISHED[name].files if file.name.endswith(".bin")]
    assert sum(sizes) == values.size


def graph(tmp_path, layers: list[str]):
    """Write the net as a graph whose names are numbers, in the order of `layers`; return what is read of it."""
    lines, values = ["Input data 0 1 data 0"], b""
    for i, name in enumerate(layers):
        tree, link = net()[1]["params"][name], f"1 1 {i} {i + 1}"
        if "kernel" in tree:
            kernel = tree["kernel"].transpose(3, 2, 0, 1)
            lines.append(f"Convolution Conv_{99 - i} {link} 0={len(kernel)} 1=3 4=1 5=1 6={kernel.size}")
            values += bytes(4) + kernel.tobytes() + tree["bias"].tobytes()
        else:
            lines.append(f"PReLU PRelu_{99 - i} {link} 0={tree['weight'].size}")
            values += tree["weight"].tobytes()
    lines.append("PixelShuffle Last 1 1 a b 0=2")
    path = tmp_path / "net.param"
    path.write_text("\n".join(["7767517", f"{len(lines)} {len(lines)}", *lines]))
    path.with_suffix(".bin").write_bytes(values)
    return read(path)


IN_ORDER = [f"body_{i}" for i in range(2 * SMALL.depth + 3)]


def test_layers_without_names_are_matched_by_their_order(tmp_path):
    (like, ours), tensors = net(), graph(tmp_path, IN_ORDER)
    found = entry(rule_of("srvgg"), SMALL, "restorer", like, tensors)
    assert found.by_order and found.problems() == []
    assert "matched by their order" in found.choice("restorer")
    jax.tree.map(np.testing.assert_array_equal, found.weights(tensors), ours)


@pytest.mark.parametrize(
    "layers",
    [IN_ORDER[:-1], [*IN_ORDER, IN_ORDER[1]], [IN_ORDER[1], IN_ORDER[0], *IN_ORDER[2:]]],
    ids=["one-missing", "one-more", "another-order"],
)
def test_layers_of_another_net_are_not_matched(tmp_path, layers):
    found = entry(rule_of("srvgg"), SMALL, "restorer", net()[0], graph(tmp_path, layers))
    assert not found.by_order and found.problems()
