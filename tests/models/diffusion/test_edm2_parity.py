"""EDM2's U-Net and its gradients against a PyTorch implementation after Karras et al. 2024, figure 21."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen.nn.backbones.mp_unet import MPUNet

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("plain_convolutions")]
torch: Any = pytest.importorskip("torch")

from tests.nn.test_unet_parity import gradients  # noqa: E402


class TorchMPUNet:
    """The net on [b c h w], in training without dropout. `weights` have the names of our parameters."""

    def __init__(self, net: MPUNet, weights: dict[str, Any]):
        self.net, self.weights, self.functional = net, weights, torch.nn.functional

    def unit(self, x, dim):
        count = math.prod(x.shape[d] for d in dim)
        return x / (1e-4 + torch.linalg.vector_norm(x, dim=dim, keepdim=True) / count**0.5)

    def kernel(self, name: str):
        """Return weights [c_out ...], normalised to 1 or to the gain."""
        weight = self.weights[f"{name}.kernel"]
        weight = self.unit(weight, tuple(range(1, weight.ndim))) / weight[0].numel() ** 0.5
        return weight * self.weights[f"{name}.gain"] if f"{name}.gain" in self.weights else weight

    def conv(self, x, name: str):
        kernel = self.kernel(name)
        return self.functional.conv2d(x, kernel, padding=kernel.shape[2] // 2)

    def silu(self, x):
        return self.functional.silu(x) / 0.596

    def sum(self, a, b, t: float):
        return torch.lerp(a, b, t) / math.sqrt((1 - t) ** 2 + t**2)

    def beside(self, a, b):
        m, n = a.shape[1], b.shape[1]
        scale = math.sqrt((m + n) / 0.5) * 0.5
        return torch.cat([a * scale / math.sqrt(m), b * scale / math.sqrt(n)], 1)

    def block(self, x, embedding, name: str, down: bool, heads: int):
        wider = lambda x: self.conv(x, f"{name}.skip") if f"{name}.skip.kernel" in self.weights else x  # noqa: E731
        if down:
            x = self.unit(wider(x), (1,))
        y = self.conv(self.silu(x), f"{name}.conv1")
        factor = 1 + self.functional.linear(embedding, self.kernel(f"{name}.embed"))
        y = self.conv(self.silu(y * factor[:, :, None, None]), f"{name}.conv2")
        x = self.sum(x if down else wider(x), y, 0.3)
        if heads:
            x = self.sum(x, self.attend(x, f"{name}.attention", heads), 0.3)
        return x.clip(-256, 256)

    def attend(self, x, name: str, heads: int):
        b, c, *sides = x.shape
        qkv = self.functional.linear(x.flatten(2).mT, self.kernel(f"{name}.qkv"))  # [b n 3*c]
        q, k, v = (
            self.unit(part.reshape(b, -1, heads, c // heads).transpose(1, 2), (3,)) for part in qkv.chunk(3, 2)
        )  # [b heads n d]
        mixed = self.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, -1, c)
        return self.functional.linear(mixed, self.kernel(f"{name}.proj")).mT.reshape(b, c, *sides)

    def embed_time(self, t, name: str):
        width = self.net.width * self.net.multipliers[0]
        i = np.arange(width)
        f, phase = stats.norm.ppf((i + 0.5) / width), i * (5**0.5 - 1) / 2
        angles = t[:, None] * torch.tensor(f, dtype=t.dtype) + torch.tensor(phase % 1, dtype=t.dtype)
        return self.functional.linear(2**0.5 * torch.cos(2 * math.pi * angles), self.kernel(name))

    def __call__(self, x, t, label=None, second=None):
        net, last = self.net, len(self.net.multipliers) - 1
        order = ["first", *(f"rest_{i}" for i in range(net.depth - 1)), "last"]  # parts of our names
        embedding = self.embed_time(t, "time")
        if second is not None:
            embedding = self.sum(embedding, self.embed_time(second, "second"), 0.5)
        if label is not None:
            one_hot = self.functional.one_hot(label, net.classes + 1)[:, : net.classes].float()
            embedding = self.sum(
                embedding, self.functional.linear(one_hot * net.classes**0.5, self.kernel("label")), 0.5
            )
        embedding = self.silu(embedding)
        heads = lambda x, level: (net.multipliers[level] * net.width) // net.head_width  # noqa: E731
        there = lambda x, level: heads(x, level) if x.shape[2] in net.attention else 0  # noqa: E731
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        skips = [x := self.conv(x, "stem")]
        for level in range(last + 1):
            if level:
                x = self.functional.avg_pool2d(x, 2)
                skips.append(x := self.block(x, embedding, f"down_{level}", True, 0))
            for i in range(net.depth):
                skips.append(x := self.block(x, embedding, f"encoder_{level}_{order[i]}", True, there(x, level)))
        x = self.block(x, embedding, "middle_first", False, heads(x, last))
        x = self.block(x, embedding, "middle_last", False, 0)
        for level in range(last, -1, -1):
            for i in range(net.depth + 1):
                both, name = self.beside(x, skips.pop()), f"decoder_{level}_{order[i] if i < net.depth else 'last'}"
                x = self.block(both, embedding, name, False, there(x, level))
            if level:
                x = self.functional.interpolate(x, scale_factor=2, mode="nearest")
                x = self.block(x, embedding, f"up_{level}", False, 0)
        return self.conv(x, "out")


def named(params: Any) -> dict[str, np.ndarray]:
    """Return our parameters by name. Stacked layers are separated; kernels have c_out and c_in first."""
    flat: dict[str, np.ndarray] = {}
    for path, a in jax.tree_util.tree_leaves_with_path(params):
        module, *more = (k.key for k in path)
        alike = [(f"{module}_{i}", layer) for i, layer in enumerate(a)] if module.endswith("_rest") else [(module, a)]
        for name, layer in alike:
            order = {0: (), 2: (1, 0), 4: (3, 2, 0, 1)}[layer.ndim]
            flat[".".join([name, *more])] = np.array(layer.transpose(order))
    return flat


CASES = {
    "labels": {"multipliers": (1, 2, 2), "depth": 3, "attention": (8, 4), "head_width": 8, "classes": 3},
    "second": {"multipliers": (2, 1), "depth": 2, "attention": (4,), "head_width": 16},
}


@pytest.mark.parametrize("case", CASES)
def test_the_net_and_its_gradients(case):
    draw = np.random.default_rng(0)
    net: Any = MPUNet(6, 16, **CASES[case])
    x, weight = (draw.normal(size=(3, 8, 12, n)).astype(np.float32) for n in (3, 6))
    t = np.asarray([-1.2, 0.1, 0.9], np.float32)
    label = np.asarray([2, 0, 3]) if net.classes else None
    second = np.asarray([0.3, -0.7, 1.1], np.float32) if case == "second" else None
    shapes: Any = jax.eval_shape(net.init, jax.random.key(0), x, t, label, second)["params"]
    params = jax.tree.map(lambda p: jnp.asarray(draw.normal(size=p.shape), jnp.float32), shapes)
    found = gradients(net, TorchMPUNet, named, params, (x, t, label, second), weight)
    gains = [name for name in found if name.endswith("gain")]  # scalars, sums of terms that nearly cancel
    ours, other = (np.stack([found[name][side] for name in gains]) for side in (0, 1))
    close(ours, other, "gains")
    for name in found.keys() - set(gains):
        a, b = found[name]
        close(a, b, name)


def close(ours: Any, theirs: np.ndarray, name: str = ""):
    scale = float(np.abs(theirs).max())
    assert scale > 1e-5, f"{name} is nearly 0: nothing is compared"
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5 * scale, err_msg=name)
