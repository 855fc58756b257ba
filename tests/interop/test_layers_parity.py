"""Every preset's exported arrays, layer by layer: our layer's answer, and that of PyTorch's layer with the export."""

from functools import cache
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.core.errors import InputError
from jaxgen.core.spec import spec_of
from jaxgen.core.types import variables
from jaxgen.interop.layers import leaves, traced
from jaxgen.interop.weight_names import rule_of, table, to_theirs
from jaxgen.models.gan import dcgan
from jaxgen.models.vae import mae
from jaxgen.nn import conv
from jaxgen.nn.conditional import Embed
from tests.helpers.presets import DISTINCT

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("plain_convolutions")]
torch: Any = pytest.importorskip("torch")

WEIGHTS = "weight", "weight_ih", "weight_hh"  # of a layer, of a recurrent cell
SIZE = 11  # of the images that a layer gets
LAYERS = conv.Conv, conv.ConvTranspose, conv.Dense, Embed
# Their weights are published for TensorFlow or Flax, with names and layouts of these.
ELSEWHERE = "fast-style", "fast-style-many", "pixelcnn-dilated", "realnvp-mnist", "realnvp-mnist-vardeq"
# DCGAN's dense layers are convolutions of 4x4 in its files, MAE's patches as well: compared in tests of their own.
RESHAPED = dcgan.weight_name, mae.weight_name


def layers_of(model: Any) -> dict[tuple[str, ...], nn.Module]:
    """Return the layers that PyTorch has as well, by net and path of their kernels.

    The layer of a kernel is the one that made this array. Kernels that were clipped or stacked after they were made are
    of a layer with the same path.
    """
    task, made, found = model.task(1), [], {}

    def note(method, args, kwargs, context):
        answer, module = method(*args, **kwargs), context.module
        if type(module) in LAYERS and context.method_name == "__call__":
            kernel = module.variables["params"]["embedding" if isinstance(module, Embed) else "kernel"]
            made.append((kernel, module.path, module.clone(parent=None, name=None)))
        return answer

    def init():
        with nn.intercept_methods(note):
            params, _ = task.init(jax.random.key(0), spec_of(task, 2))
        for net, tree in params.items():
            for path, x in leaves(tree):
                own = [layer for kernel, _, layer in made if kernel is x]
                same = [layer for kernel, place, layer in made if place == path[:-1] and alike(kernel, x)]
                if path[-1] in ("kernel", "embedding") and (own or same):
                    found[net, *path] = (own or same)[0]
        return params

    jax.eval_shape(init)
    return found


def alike(kernel, x) -> bool:
    return x.shape[-len(kernel.shape) :] == kernel.shape


@cache
def program(layer: nn.Module):
    return jax.jit(lambda own, x: layer.apply({"params": own}, x))


def of_torch(layer: Any, weight: np.ndarray, x: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Return what PyTorch's layer without a bias answers; `size` is that of the answer."""
    f, weight = torch.nn.functional, torch.from_numpy(weight)
    if isinstance(layer, Embed):
        return f.embedding(torch.from_numpy(x).long(), weight).numpy()
    if isinstance(layer, conv.Dense):
        return f.linear(torch.from_numpy(x), weight).numpy()
    image, window, strides = torch.from_numpy(x).permute(0, 3, 1, 2), layer.kernel_size, layer.strides
    pads = ((0, 0), (0, 0)) if layer.padding == "VALID" else layer.padding
    if isinstance(layer, conv.ConvTranspose):
        if pads == "SAME":
            pads = [(max(k - s, 0) // 2, 0) for k, s in zip(window, strides, strict=True)]
        (top, _), (left, _) = pads
        y = f.pad(f.conv_transpose2d(image, weight, None, tuple(strides)), (0, strides[1], 0, strides[0]))
        y = y[:, :, top : top + size[0], left : left + size[1]]
    else:
        if pads == "SAME":
            spans = [d * (k - 1) + 1 for k, d in zip(window, layer.dilation, strict=True)]
            totals = [max((-(-SIZE // s) - 1) * s + span - SIZE, 0) for s, span in zip(strides, spans, strict=True)]
            pads = [(total // 2, total - total // 2) for total in totals]
        image = f.pad(image, (*pads[1], *pads[0]))
        y = f.conv2d(image, weight, None, tuple(strides), 0, tuple(layer.dilation), layer.groups)
    return y.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("name", [name for name in DISTINCT if name not in ELSEWHERE])
def test_pytorchs_layers_with_the_exported_arrays_answer_as_ours(name):
    model, rule, rng = zoo.load(name).tiny.model, rule_of(name), np.random.default_rng(0)
    shapes, layers, kernels, compared = traced(model), layers_of(model), 0, 0
    for net in shapes.params:
        like = variables(net, shapes.params, shapes.extra)
        ours = jax.tree.map(lambda x: np.asarray(rng.normal(size=x.shape), np.float32), like)
        try:
            theirs, rows = to_theirs(rule, model, net, ours), {row.path: row for row in table(rule, model, net, like)}
        except InputError as error:
            assert "PyTorch has no such net" in str(error)
            return
        arrays = dict(leaves(ours))
        for path, row in rows.items():
            _, *module, leaf = path
            kernel, weight = arrays[path], theirs[row.name]
            kernels += leaf == "kernel"
            layer: Any = layers.get((net, *module, leaf))
            if layer is None:
                continue
            axes = 2 if isinstance(layer, conv.Dense | Embed) else 4
            if weight.ndim != kernel.ndim and rule in RESHAPED:
                continue
            assert row.name.rpartition(".")[2] in WEIGHTS and weight.ndim == kernel.ndim
            own, bias = {leaf: kernel}, np.zeros((*kernel.shape[:-axes], 1), np.float32)
            if getattr(layer, "use_bias", False):
                own["bias"], bias = arrays[*path[:-1], "bias"], theirs[rows[*path[:-1], "bias"].name]
            for _ in range(kernel.ndim - axes):  # of layers that nn.scan stacks
                own, weight, bias = {key: array[0] for key, array in own.items()}, weight[0], bias[0]
            kernel = own[leaf]
            if isinstance(layer, Embed):
                x = rng.integers(0, layer.classes, 3, np.int32)
            else:
                channels = kernel.shape[-2] * getattr(layer, "groups", 1)
                x = rng.normal(size=(2, channels) if axes == 2 else (1, SIZE, SIZE, channels)).astype(np.float32)
            answer = np.asarray(program(layer)(own, x))
            wanted = of_torch(layer, np.ascontiguousarray(weight), x, answer.shape[1:3]) + bias
            np.testing.assert_allclose(answer, wanted, atol=2e-5 * max(np.abs(wanted).max(), 1), err_msg=row.name)
            compared += 1
    assert compared or not layers or not kernels
