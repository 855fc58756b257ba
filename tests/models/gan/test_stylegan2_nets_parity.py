"""StyleGAN2's networks against the same in PyTorch: outputs, gradients, and the penalties' second derivatives.

The PyTorch versions use other formulations. A modulated convolution has a kernel for each image, and is one grouped
convolution. Resampling is: insert zeros, pad, filter, a plain convolution, keep every second pixel. Both are computed
in f64, where any difference is a mistake. The outputs in f32 are compared to those in f64.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models.gan._stylegan2_nets import StyleGAN2Discriminator, StyleGAN2Generator

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("plain_convolutions")]
torch: Any = pytest.importorskip("torch")

FAR = 1e-10  # of the largest number, in f64
SIDE, CHANNELS, BATCH, Z, W, LAYERS = 32, 3, 8, 12, 16, 3
WIDTHS: dict[str, Any] = {"channel_base": 256, "channel_max": 16}
SQRT2, HALF = math.sqrt(2), math.sqrt(0.5)
KINDS = [("skip", "resnet", 0), ("resnet", "skip", 3), ("orig", "orig", 0)]  # generator, discriminator, classes
both = pytest.mark.parametrize(("architecture", "discriminator", "classes"), KINDS[:2])
kinds = pytest.mark.parametrize(("architecture", "discriminator", "classes"), KINDS)


# ---------------------------------------------------------------- PyTorch: x [b c h w], parameters in our layout


def filtered(x, up=1, down=1, pad=(0, 0), gain=1.0):
    b, c, h, w = x.shape
    spread = x.new_zeros(b, c, h, up, w, up)
    spread[:, :, :, 0, :, 0] = x
    padded = torch.nn.functional.pad(spread.reshape(b, c, h * up, w * up), (*pad, *pad))
    taps = x.new_tensor([1.0, 3.0, 3.0, 1.0]) / 8
    kernel = (torch.outer(taps, taps) * gain).expand(c, 1, 4, 4)
    return torch.nn.functional.conv2d(padded, kernel, groups=c)[:, :, ::down, ::down]


def convolved(x, kernel, up=1, down=1, groups=1):
    """Return the convolution with a kernel [o i k k], resampled in the standard way, not the fastest."""
    side = kernel.shape[-1] // 2
    if up == down == 1:
        return torch.nn.functional.conv2d(x, kernel, padding=side, groups=groups)
    if up == 2:
        x = filtered(x, up=2, pad=(2 + side, 1 + side), gain=4)
        return torch.nn.functional.conv2d(x, kernel.flip(2, 3), groups=groups)
    x = filtered(x, pad=(1 + side, 1 + side))
    return torch.nn.functional.conv2d(x, kernel, groups=groups)[:, :, ::2, ::2]


def leaky(x, gain=1.0):
    return torch.where(x > 0, x, 0.2 * x) * (SQRT2 * gain)


def dense(p, x, multiplier=1.0):
    return x @ p["kernel"] * (multiplier / math.sqrt(x.shape[1])) + p["bias"] * multiplier


def layer(p, x, down=1, up=1, gain=1.0):
    kernel = p["kernel"].permute(3, 2, 0, 1)
    y = convolved(x, kernel / math.sqrt(kernel[0].numel()), up, down)
    return leaky(y + p["bias"][:, None, None], gain) if "bias" in p else y * gain


def modulated(p, x, w, up=1, demodulate=True):
    b, i, h, width = x.shape
    kernels = p["kernel"].permute(3, 2, 0, 1)[None] * dense(p["affine"], w)[:, None, :, None, None]  # [b o i k k]
    if demodulate:
        kernels = kernels / (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    else:
        kernels = kernels / math.sqrt(i)
    y = convolved(x.reshape(1, b * i, h, width), kernels.flatten(0, 1), up, groups=b)
    return y.reshape(b, -1, *y.shape[2:])


def synthesis_layer(p, noise, x, w, up=1, gain=1.0):
    y = modulated(p, x, w, up) + noise["noise_const"] * p["noise_strength"] + p["bias"][:, None, None]
    return leaky(y, gain)


def synthesis(p, noise, ws, architecture):
    x = p["b4"]["const"].permute(2, 0, 1).expand(len(ws), -1, -1, -1)
    x, image, i = synthesis_layer(p["b4"]["conv1"], noise["b4"]["conv1"], x, ws[:, 0]), None, 1
    for side in (4 << n for n in range(SIDE.bit_length() - 3 + 1)):
        block = p[f"b{side}"]
        if side > 4:
            quiet, y, gain = noise[f"b{side}"], x, HALF if architecture == "resnet" else 1.0
            x = synthesis_layer(block["conv0"], quiet["conv0"], x, ws[:, i], 2)
            x = synthesis_layer(block["conv1"], quiet["conv1"], x, ws[:, i + 1], 1, gain)
            x = x + layer(block["skip"], y, up=2, gain=HALF) if architecture == "resnet" else x
            image, i = None if image is None else filtered(image, up=2, pad=(2, 1), gain=4), i + 2
        if "torgb" in block:
            y = modulated(block["torgb"], x, ws[:, i], demodulate=False) + block["torgb"]["bias"][:, None, None]
            image = y if image is None else image + y
    return image


def unit(x):
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


def mapping(p, z, one_hot):
    x = [] if z is None else [unit(z)]
    x = torch.cat(x + ([unit(dense(p["embed"], one_hot))] if "embed" in p else []), 1)
    for i in range(LAYERS):
        x = leaky(dense(p[f"fc{i}"], x, 0.01))
    return x


def discriminate(p, image, one_hot, architecture):
    x: Any = None
    for side in (SIDE >> n for n in range(SIDE.bit_length() - 3)):
        block, gain = p[f"b{side}"], HALF if architecture == "resnet" else 1.0
        if "fromrgb" in block:
            y = layer(block["fromrgb"], image)
            x = y if x is None else x + y
        y = layer(block["conv1"], layer(block["conv0"], x), down=2, gain=gain)
        x = y + layer(block["skip"], x, down=2, gain=HALF) if architecture == "resnet" else y
        image = filtered(image, down=2, pad=(1, 1))
    p4, (b, c) = p["b4"], x.shape[:2]
    x = x + layer(p4["fromrgb"], image) if "fromrgb" in p4 else x
    n = b // 4  # groups
    deviations = [(x[i::n].var(0, unbiased=False) + 1e-8).sqrt().mean() for i in range(n)]
    spread = torch.stack([deviations[i % n] for i in range(b)])[:, None, None, None].expand(b, 1, 4, 4)
    x = layer(p4["conv"], torch.cat([x, spread], 1))
    x = dense(p4["out"], leaky(dense(p4["fc"], x.reshape(b, c * 16))))
    return (x * mapping(p["mapping"], None, one_hot)).sum(1) / math.sqrt(c) if "mapping" in p else x[:, 0]


# ---------------------------------------------------------------- both


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def single(tree: Any) -> Any:
    return jax.tree.map(lambda x: np.asarray(x, np.float32), tree)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def loud(params: Any) -> Any:
    """Return the parameters with biases and noise strengths that are not at their initial values."""

    def change(path, x):
        name = jax.tree_util.keystr(path)
        scale = 30.0 if "'fc" in name and "mapping" in name else 0.3
        return x + scale * normal(*x.shape, seed=len(name)) if x.ndim < 2 else x

    return jax.tree_util.tree_map_with_path(change, params)


def nets_of(architecture: Any, discriminator: Any, classes: int) -> tuple[Any, Any, Any, Any, Any]:
    """Return generator, discriminator, their variables, and labels or None."""
    g: Any = StyleGAN2Generator(SIDE, CHANNELS, Z, W, classes, LAYERS, architecture=architecture, **WIDTHS)
    d: Any = StyleGAN2Discriminator(classes, architecture=discriminator, mapping_layers=LAYERS, **WIDTHS)
    label = np.arange(BATCH) % classes if classes else None
    gv = jax.jit(lambda key, z: g.init(key, z, label, train=False))(jax.random.key(0), normal(BATCH, Z))
    x = normal(BATCH, SIDE, SIDE, CHANNELS)
    dv = jax.jit(lambda key, x: d.init(key, x, label, train=False))(jax.random.key(1), x)
    return g, d, {**gv, "params": loud(gv["params"])}, {"params": loud(dv["params"])}, label


def tensors(tree: Any, grad: bool = True) -> Any:
    return jax.tree.map(lambda x: torch.tensor(np.asarray(x), requires_grad=grad), tree)


def one_hot_of(label: Any, classes: int) -> Any:
    return None if label is None else torch.nn.functional.one_hot(torch.tensor(label), classes).double()


def images(x: np.ndarray) -> Any:
    return torch.tensor(x.transpose(0, 3, 1, 2).copy(), requires_grad=True)


def same(ours: Any, theirs: Any, what: str = "", far: float = FAR):
    """Assert that differences are below `far` times the largest number."""
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else theirs
    assert np.shape(ours) == theirs.shape, what
    assert np.abs(theirs).max() > 0, what
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=far * np.abs(theirs).max(), err_msg=what)


def same_gradients(ours: Any, theirs: Any, value: Any, far: float = FAR):
    """Compare d value / d parameters; it is 0 for parameters that `value` does not depend on."""
    paths, leaves = zip(*jax.tree_util.tree_leaves_with_path(theirs), strict=True)
    gradients = torch.autograd.grad(value, leaves, allow_unused=True)
    assert sum(gradient is not None for gradient in gradients) > 0.8 * len(leaves)
    for path, gradient, mine in zip(paths, gradients, jax.tree.leaves(ours), strict=True):
        name = jax.tree_util.keystr(path)
        if gradient is None or not gradient.any():
            assert np.abs(mine).max() == 0, name
        else:
            same(mine, gradient, name, far)


@kinds
def test_generator(architecture, discriminator, classes):
    g, _, v, _, label = nets_of(architecture, discriminator, classes)
    z, one_hot, theirs = normal(BATCH, Z), one_hot_of(label, classes), tensors(v["params"])
    noise = tensors(v["noise"]["synthesis"], False)
    ws = mapping(theirs["mapping"], torch.tensor(z), one_hot)[:, None].expand(BATCH, g.num_ws, W)
    expected = synthesis(theirs["synthesis"], noise, ws, architecture)
    for far, cast in ((FAR, lambda x: x), (1e-5, single)):
        image = jax.jit(lambda v, z: g.apply(v, z, label, train=False))(cast(v), cast(z))
        same(np.moveaxis(np.asarray(image), 3, 1), expected, far=far)

    slopes = normal(BATCH, SIDE, SIDE, CHANNELS, seed=1)
    ws = normal(BATCH, g.num_ws, W, seed=2)

    def value(params, ws):
        return (g.apply({**v, "params": params}, ws, method="synthesise") * slopes).sum()

    by_params, by_ws = jax.jit(jax.grad(value, (0, 1)))(v["params"], ws)
    their_ws = torch.tensor(ws, requires_grad=True)
    product = (synthesis(theirs["synthesis"], noise, their_ws, architecture) * images(slopes)).sum()
    same(by_ws, torch.autograd.grad(product, their_ws, retain_graph=True)[0])
    same_gradients(by_params["synthesis"], theirs["synthesis"], product)


@kinds
def test_discriminator(architecture, discriminator, classes):
    _, d, _, v, label = nets_of(architecture, discriminator, classes)
    x, one_hot, theirs = normal(BATCH, SIDE, SIDE, CHANNELS), one_hot_of(label, classes), tensors(v["params"])
    weights = normal(BATCH, seed=1)

    def value(params, x):
        logits = d.apply({"params": params}, x, label, train=True)
        return (logits * weights).sum(), logits

    (by_params, by_x), logits = jax.jit(jax.grad(value, (0, 1), has_aux=True))(v["params"], x)
    their_x = images(x)
    expected = discriminate(theirs, their_x, one_hot, discriminator)
    same(logits, expected)
    same(jax.jit(lambda v, x: d.apply(v, x, label, train=True))(single(v), single(x)), expected, far=1e-5)
    product = (expected * torch.tensor(weights)).sum()
    same(np.moveaxis(np.asarray(by_x), 3, 1), torch.autograd.grad(product, their_x, retain_graph=True)[0])
    same_gradients(by_params, theirs, product)


@both
def test_path_length_penalty(architecture, discriminator, classes):
    """Karras et al. 2020a, equation 4, and its gradient: second derivatives of the generator."""
    g, _, v, _, label = nets_of(architecture, discriminator, classes)
    z, one_hot, theirs = normal(BATCH, Z), one_hot_of(label, classes), tensors(v["params"])
    noise, y = tensors(v["noise"]["synthesis"], False), normal(BATCH, SIDE, SIDE, CHANNELS, seed=1) / SIDE

    def penalty(params):
        variables = {**v, "params": params}
        ws = g.apply(variables, z, label, train=False, method="latents")
        slopes = jax.grad(lambda ws: (g.apply(variables, ws, method="synthesise") * y).sum())(ws)
        lengths = jnp.sqrt(jnp.square(slopes).sum(2).mean(1))
        return jnp.square(lengths - 0.5).mean()

    value, gradients = jax.jit(jax.value_and_grad(penalty))(v["params"])
    ws = mapping(theirs["mapping"], torch.tensor(z), one_hot)[:, None].expand(BATCH, g.num_ws, W)
    product = (synthesis(theirs["synthesis"], noise, ws, architecture) * images(y)).sum()
    slopes = torch.autograd.grad(product, ws, create_graph=True)[0]
    expected = (slopes.square().sum(2).mean(1).sqrt() - 0.5).square().mean()
    same(value, expected)
    same_gradients(gradients, theirs, expected)


@both
def test_gradient_penalty(architecture, discriminator, classes):
    """Mescheder et al. 2018, equation 9, and its gradient: second derivatives of the discriminator."""
    _, d, _, v, label = nets_of(architecture, discriminator, classes)
    x, one_hot, theirs = normal(BATCH, SIDE, SIDE, CHANNELS), one_hot_of(label, classes), tensors(v["params"])

    def penalty(params):
        slopes = jax.grad(lambda x: d.apply({"params": params}, x, label, train=True).sum())(x)
        return jnp.square(slopes).sum((1, 2, 3)).mean()

    value, gradients = jax.jit(jax.value_and_grad(penalty))(v["params"])
    their_x = images(x)
    slopes = torch.autograd.grad(
        discriminate(theirs, their_x, one_hot, discriminator).sum(), their_x, create_graph=True
    )[0]
    expected = slopes.square().sum((1, 2, 3)).mean()
    same(value, expected)
    same_gradients(gradients, theirs, expected)
