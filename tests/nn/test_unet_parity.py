"""The U-Net, its gradients and sinusoids against PyTorch code after Dhariwal and Nichol 2021."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from jaxgen.models.classifier.adm import NoisyClassifier
from jaxgen.nn.backbones.adm_unet import UNet
from jaxgen.nn.embedding import sinusoid

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("plain_convolutions")]
torch: Any = pytest.importorskip("torch")


class TorchUNet:
    """The reference U-Net, [b c h w], in training without dropout; `weights` have our parameter names."""

    def __init__(self, net: Any, weights: dict[str, Any]):
        self.net, self.weights, self.functional = net, weights, torch.nn.functional

    def conv(self, x, name: str, stride: int = 1):
        kernel = self.weights[f"{name}.kernel"]
        return self.functional.conv2d(x, kernel, self.weights[f"{name}.bias"], stride, kernel.shape[2] // 2)

    def dense(self, x, name: str):
        return x @ self.weights[f"{name}.kernel"] + self.weights[f"{name}.bias"]

    def norm(self, x, name: str):
        scale = self.weights[f"{name}.scale"]
        groups = 32 if len(scale) % 32 == 0 else 17
        return self.functional.group_norm(x, groups, scale, self.weights[f"{name}.bias"], 1e-5)

    def block(self, x, embedding, name: str, resample=lambda x: x):
        silu = self.functional.silu
        h = self.conv(resample(silu(self.norm(x, f"{name}.norm1"))), f"{name}.conv1")
        more = self.dense(silu(embedding), f"{name}.embed")[:, :, None, None]
        if self.net.scale_shift:
            scale, shift = more.chunk(2, 1)
            h = self.norm(h, f"{name}.norm2") * (1 + scale) + shift
        else:
            h = self.norm(h + more, f"{name}.norm2")
        h = self.conv(silu(h), f"{name}.conv2")
        x = resample(x)
        return (self.conv(x, f"{name}.skip") if f"{name}.skip.kernel" in self.weights else x) + h

    def attend(self, x, name: str):
        b, c, *sides = x.shape
        heads = c // self.net.head_width if self.net.head_width else self.net.heads
        qkv = self.dense(self.norm(x, f"{name}.norm").flatten(2).mT, f"{name}.qkv")  # [b n 3*c]
        q, k, v = (part.reshape(b, -1, heads, c // heads).transpose(1, 2) for part in qkv.chunk(3, 2))  # [b k n d]
        mixed = torch.softmax(q @ k.mT / math.sqrt(c // heads), -1) @ v
        mixed = mixed.transpose(1, 2).reshape(b, -1, c)
        return x + self.dense(mixed, f"{name}.proj").mT.reshape(b, c, *sides)

    def stage(self, x, embedding, name: str):
        x = self.block(x, embedding, f"{name}.block")
        return self.attend(x, f"{name}.attention") if x.shape[2] in self.net.attention else x

    def number(self, t, name: str):
        half = self.net.width // 2
        angles = t[:, None] * torch.exp(-math.log(10_000) * torch.arange(half) / half)[None]
        y = self.dense(torch.cat([angles.cos(), angles.sin()], 1), f"{name}.fc1")
        return self.dense(self.functional.silu(y), f"{name}.fc2")

    def down(self, x, embedding):
        halve = lambda x: self.functional.avg_pool2d(x, 2)  # noqa: E731
        net = self.net
        skips = [x := self.conv(x, "stem")]
        for level in range(len(net.multipliers)):
            if level:
                name = f"down_{level}"
                x = self.block(x, embedding, name, halve) if net.resblock_updown else self.conv(x, name, 2)
                skips.append(x)
            for name in ["first", *(f"rest_{i}" for i in range(net.depth - 1))]:
                skips.append(x := self.stage(x, embedding, f"encoder_{level}_{name}"))
        x = self.block(x, embedding, "middle_first")
        return self.block(self.attend(x, "middle_attention"), embedding, "middle_last"), skips

    def classified(self, x, angle):
        """guided-diffusion's EncoderUNetModel with pool="attention"."""
        x, _ = self.down(x, self.number(1000 * angle / (math.pi / 2), "time"))
        x = self.functional.silu(self.norm(x, "out_norm")).flatten(2).mT  # [b n c]
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + self.weights["pool.place"]
        b, n, c = x.shape
        heads = self.net.heads
        qkv = self.dense(x, "pool.qkv").reshape(b, n, 3, heads, c // heads).permute(2, 0, 3, 1, 4)  # [3 b k n d]
        mixed = self.functional.scaled_dot_product_attention(*qkv).transpose(1, 2).reshape(b, n, c)
        return self.dense(mixed[:, 0], "out")

    def __call__(self, x, t, label=None, second=None):
        double = lambda x: self.functional.interpolate(x, scale_factor=2, mode="nearest")  # noqa: E731
        net, last = self.net, len(self.net.multipliers) - 1
        order = ["first", *(f"rest_{i}" for i in range(net.depth - 1)), "last"]  # of our names
        embedding = self.number(t, "time")
        if second is not None:
            embedding = embedding + self.number(second, "second")
        if label is not None:
            embedding = embedding + self.weights["label.embedding"][label]
        x, skips = self.down(x, embedding)
        for level in range(last, -1, -1):
            for i in range(net.depth + 1):
                x = self.stage(torch.cat([x, skips.pop()], 1), embedding, f"decoder_{level}_{order[i]}")
            if level:
                name = f"up_{level}"
                x = self.block(x, embedding, name, double) if net.resblock_updown else self.conv(double(x), name)
        return self.conv(self.functional.silu(self.norm(x, "out_norm")), "out")


def theirs(a: Any):
    """Return a JAX array as a leaf tensor of PyTorch."""
    return torch.tensor(np.asarray(a), requires_grad=np.issubdtype(np.asarray(a).dtype, np.floating))


def named(params: Any) -> dict[str, np.ndarray]:
    """Return our parameters by name, with stacked ones separated and convolution kernels [c_out c_in kh kw]."""
    flat: dict[str, np.ndarray] = {}
    for path, a in jax.tree_util.tree_leaves_with_path(params):
        module, *more = (k.key for k in path)
        alike = [(f"{module}_{i}", layer) for i, layer in enumerate(a)] if module.endswith("_rest") else [(module, a)]
        for name, layer in alike:
            flat[".".join([name, *more])] = np.array(layer.transpose(3, 2, 0, 1) if layer.ndim == 4 else layer)
    return flat


# With 32 channels or fewer, every channel is a group, and a bias before a norm has no effect.
CASES = {
    "adm": {"width": 64, "multipliers": (1, 2), "depth": 3, "attention": (8, 4), "head_width": 32, "classes": 3},
    "ddpm": {"width": 64, "multipliers": (1, 2, 2), "depth": 1, "attention": (8, 4), "head_width": 0, "heads": 2}
    | {"scale_shift": False, "resblock_updown": False},
    "second": {"width": 34, "multipliers": (2, 1), "depth": 2, "attention": (4,), "head_width": 17},
}


@pytest.mark.parametrize("case", CASES)
def test_unet_and_its_gradients_equal_pytorch(case):
    draw = np.random.default_rng(0)
    net: Any = UNet(6, **CASES[case])
    x, weight = (draw.normal(size=(3, 8, 12, n)).astype(np.float32) for n in (3, 6))
    t = np.asarray([0.0, 0.7, 41.5], np.float32)
    label = np.asarray([2, 0, 3]) if net.classes else None
    second = np.asarray([3.0, 128.0, 0.5], np.float32) if case == "second" else None
    shapes: Any = jax.eval_shape(net.init, jax.random.key(0), x, t, label, second)["params"]
    params = jax.tree.map(lambda p: jnp.asarray(draw.normal(size=p.shape) * spread(p), jnp.float32), shapes)
    for name, (a, b) in gradients(net, TorchUNet, named, params, (x, t, label, second), weight).items():
        close(a, b, name)


def gradients(net: Any, twin: Any, named: Any, params: Any, given: tuple, weight: np.ndarray) -> dict[str, Any]:
    """Return the gradient of each parameter from both sides, by name; outputs and other gradients are compared here.

    given: x [b h w c], t [b], label and second [b] or None; weight: of the outputs, in the sum that is differentiated
    """
    x, t, label, second = given

    def ours(params: Any, x: Array, t: Array):
        y = net.apply({"params": params}, x, t, label, second)
        return (y * weight).sum(), y

    slopes, y = jax.jit(jax.grad(ours, (0, 1, 2), has_aux=True))(params, x, t)

    weights = {name: theirs(a) for name, a in named(params).items()}
    xt, tt = theirs(np.moveaxis(x, -1, 1)), theirs(t)
    found = twin(net, weights)(xt, tt, *(v if v is None else theirs(v) for v in (label, second)))
    (found * theirs(np.moveaxis(weight, -1, 1))).sum().backward()
    close(y, found.detach().permute(0, 2, 3, 1).numpy())
    close(slopes[1], xt.grad.permute(0, 2, 3, 1).numpy())
    close(slopes[2], tt.grad.numpy())
    own = named(slopes[0])
    assert own.keys() == weights.keys()
    return {name: (a, weights[name].grad.numpy()) for name, a in own.items()}


def spread(p: Any) -> float:
    """Return the scale of a kernel that about preserves the size of its inputs."""
    return float(np.prod(p.shape[-4:-1])) ** -0.5 if len(p.shape) > 1 and p.shape[-2] > 1 else 0.5


def close(ours: Any, theirs: np.ndarray, name: str = ""):
    scale = float(np.abs(theirs).max())
    assert scale > 1e-4, f"{name} says nothing"
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5 * scale, err_msg=name)


def test_sinusoids():
    t = np.linspace(0, 1, 7, dtype=np.float32)
    angles = torch.tensor(t)[:, None] * 10_000 ** (-torch.arange(5) / 5)[None]
    want = torch.cat([angles.cos(), angles.sin()], 1)
    np.testing.assert_allclose(sinusoid(jnp.asarray(t), 10), want, atol=1e-6)


def test_classifier_logits_equal_pytorch():
    net = NoisyClassifier((8, 8, 3), classes=5, width=64, multipliers=(1, 2), depth=2, attention=(8,)).net
    draw = np.random.default_rng(0)
    x, angle = draw.normal(size=(3, 8, 8, 3)).astype(np.float32), np.asarray([0.0, 0.7, 1.5], np.float32)
    shapes: Any = jax.eval_shape(lambda: net.init(jax.random.key(0), x, False, jnp.asarray(angle)))["params"]
    params = jax.tree.map(lambda a: jnp.asarray(0.1 * draw.normal(size=a.shape), jnp.float32), shapes)
    ours: Any = jax.jit(lambda: net.apply({"params": params}, x, False, jnp.asarray(angle)))()
    weights = {name: torch.tensor(a) for name, a in named(params).items()}
    want = TorchUNet(net, weights).classified(torch.tensor(x).permute(0, 3, 1, 2), torch.tensor(angle))
    assert float(want.std()) > 0.05
    np.testing.assert_allclose(ours["logits"], want, atol=2e-4 * float(want.abs().max()))
