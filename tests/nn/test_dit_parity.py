"""DiT and U-ViT against the published networks in PyTorch: outputs, gradients, numbers of parameters."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn.backbones import dit, uvit
from jaxgen.nn.backbones.dit import DiT
from jaxgen.nn.backbones.uvit import UViT

pytestmark = pytest.mark.parity
torch: Any = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional


# ---- the networks, [b c h w], with the authors' parameter names (except mlp.0 and mlp.2 of the times)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, bias: bool):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width, bias), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = (y.unflatten(2, (self.heads, -1)).transpose(1, 2) for y in self.qkv(x).chunk(3, 2))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def mlp(width: int, gelu: str) -> Any:
    layers = {"fc1": nn.Linear(width, 4 * width), "gelu": nn.GELU(gelu), "fc2": nn.Linear(4 * width, width)}
    net = nn.Sequential()
    for name, layer in layers.items():
        net.add_module(name, layer)
    return net


def sinusoids(t, width: int):
    angles = torch.outer(t, torch.exp(torch.arange(width // 2) * (-2 * np.log(1e4) / width)).to(t))
    return torch.cat([angles.cos(), angles.sin()], 1)


def number(width: int) -> Any:
    net = nn.Module()
    net.fc1, net.fc2 = nn.Linear(256, width), nn.Linear(width, width)
    net.forward = lambda t: net.fc2(F.silu(net.fc1(sinusoids(t, 256))))
    return net


@functools.cache
def places(rows: int, columns: int, width: int):
    """Return sines and cosines of the column, then of the row, for each position."""
    found = np.zeros((rows, columns, width), np.float32)
    for k in range(width // 4):
        w, far = 10000 ** (-4 * k / width), width // 2
        for r in range(rows):
            for q in range(columns):
                found[r, q, [k, k + width // 4]] = np.sin(q * w), np.cos(q * w)
                found[r, q, [far + k, far + k + width // 4]] = np.sin(r * w), np.cos(r * w)
    return torch.from_numpy(found.reshape(1, -1, width))


def image_of(x, patch: int, rows: int):
    """[b n p*p*c], the channel the fastest -> [b c h w]."""
    x = x.unflatten(2, (patch, patch, -1)).unflatten(1, (rows, -1))  # [b rows columns p p c]
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


class AdaptiveBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attn, self.mlp = Attention(width, heads, True), mlp(width, "tanh")
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x, c):
        m = self.adaLN_modulation(c).unflatten(1, (6, 1, -1))
        norm = lambda x: F.layer_norm(x, x.shape[-1:], eps=1e-6)  # noqa: E731
        x = x + m[:, 2] * self.attn(norm(x) * (1 + m[:, 1]) + m[:, 0])
        return x + m[:, 5] * self.mlp(norm(x) * (1 + m[:, 4]) + m[:, 3])


class TorchDiT(nn.Module):
    """The PyTorch equivalent of a DiT."""

    def __init__(self, m: DiT, channels: int, second: bool = False):
        super().__init__()
        self.m = m
        self.x_embedder = nn.Conv2d(channels, m.width, m.patch, m.patch)
        self.t_embedder = number(m.width)
        self.second_embedder = number(m.width) if second else None
        self.y_embedder = nn.Embedding(m.classes + 1, m.width) if m.classes else None
        self.blocks = nn.ModuleList([AdaptiveBlock(m.width, m.heads) for _ in range(m.depth)])
        self.final_layer = nn.Module()
        self.final_layer.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(m.width, 2 * m.width))
        self.final_layer.linear = nn.Linear(m.width, m.patch**2 * m.features_out)

    def forward(self, x, t, label, second):
        m, (rows, columns) = self.m, (side // self.m.patch for side in x.shape[2:])
        c = self.t_embedder(t)
        if self.second_embedder:
            c = c + self.second_embedder(second)
        if self.y_embedder:
            c = c + self.y_embedder(label)
        x = self.x_embedder(x).flatten(2).mT + places(rows, columns, m.width)
        for block in self.blocks:
            x = block(x, c)
        shift, scale = self.final_layer.adaLN_modulation(c)[:, None].chunk(2, 2)
        x = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift
        return image_of(self.final_layer.linear(x), m.patch, rows)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, skip: bool = False):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = Attention(width, heads, False), mlp(width, "none")
        self.skip_linear = nn.Linear(2 * width, width) if skip else None

    def forward(self, x, skip=None):
        x = self.skip_linear(torch.cat([x, skip], 2)) if self.skip_linear else x
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TorchUViT(nn.Module):
    """The PyTorch equivalent of a U-ViT."""

    def __init__(self, m: UViT, channels: int, count: int, second: bool = False):
        super().__init__()
        self.m, half = m, m.depth // 2
        self.patch_embed = nn.Conv2d(channels, m.width, m.patch, m.patch)
        self.second_embedder = number(m.width) if second else None
        self.label_emb = nn.Embedding(m.classes + 1, m.width) if m.classes else None
        self.pos_embed = nn.Parameter(torch.zeros(1, count + (2 if m.classes else 1), m.width))
        self.in_blocks = nn.ModuleList([Block(m.width, m.heads) for _ in range(half)])
        self.mid_block = Block(m.width, m.heads)
        self.out_blocks = nn.ModuleList([Block(m.width, m.heads, skip=True) for _ in range(half)])
        self.norm = nn.LayerNorm(m.width)
        self.decoder_pred = nn.Linear(m.width, m.patch**2 * m.features_out)
        self.final_layer = nn.Conv2d(m.features_out, m.features_out, 3, padding=1) if m.conv else nn.Identity()

    def forward(self, x, t, label, second):
        m, rows = self.m, x.shape[2] // self.m.patch
        time = sinusoids(t, m.width)
        if self.second_embedder:
            time = time + self.second_embedder(second)
        patches = self.patch_embed(x).flatten(2).mT
        tokens = [self.label_emb(label)[:, None]] if self.label_emb else []
        x = torch.cat([*tokens, time[:, None], patches], 1) + self.pos_embed
        left = []
        for block in self.in_blocks:
            x = block(x)
            left.append(x)
        x = self.mid_block(x)
        for block in self.out_blocks:
            x = block(x, left.pop())
        x = self.decoder_pred(self.norm(x)[:, -patches.shape[1] :])
        return self.final_layer(image_of(x, m.patch, rows))


# ---- the comparison


def as_ours(arrays: dict[str, Any], like: Any) -> Any:
    """Return arrays under the authors' names as parameters of the structure `like`; all of them are used."""
    left = dict(arrays)

    def array(name: str, path: tuple[str, ...]):
        x = left.pop(name).detach().numpy()
        if path[-1] == "kernel":
            x = x.transpose(2, 3, 1, 0) if x.ndim == 4 else x.T  # [h w in out], [in out]
        return x.reshape(-1, x.shape[-1]) if path[0] in ("x_embedder", "patch_embed") and x.ndim == 4 else x

    def find(keys, want):
        path = tuple(str(key.key) for key in keys)
        leaf = {"kernel": "weight", "scale": "weight", "embedding": "weight"}.get(path[-1], path[-1])
        rest = [re.sub(r"_(\d)$", r".\1", name) for name in path[1:-1]]
        if path[0].endswith("blocks"):
            found = np.stack([array(".".join([path[0], str(i), *rest, leaf]), path) for i in range(len(want))])
        else:
            found = array(".".join([*([path[0]] if len(path) > 1 else []), *rest, leaf]), path)
        assert found.shape == want.shape, path
        return found

    found = jax.tree_util.tree_map_with_path(find, like)
    assert not left, left
    return found


def compare(net: Any, reference: Any, shape: tuple[int, ...], inputs: dict[str, np.ndarray]):
    """Assert equal outputs and equal gradients of all parameters, the image and the times."""
    torch.manual_seed(0)
    for name, p in reference.named_parameters():
        p.data = torch.randn_like(p) * (0.2 if p.ndim > 1 else 0.1) + ("norm" in name and "weight" in name)
    draw = np.random.default_rng(0)
    x = draw.normal(size=shape).astype(np.float32)
    y = draw.normal(size=(*shape[:-1], net.features_out)).astype(np.float32)
    floats = {"x": x, **{name: a for name, a in inputs.items() if a.dtype == np.float32}}
    label = {} if "label" not in inputs else {"label": inputs["label"]}
    like: Any = jax.eval_shape(lambda: net.init(jax.random.key(0), x, **inputs))["params"]
    params = as_ours(dict(reference.named_parameters()), like)

    def loss(params, floats):
        out = net.apply({"params": params}, **floats, **label)
        return (out * y).sum(), out

    (slopes, slopes_of), out = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, floats)

    tensors = {name: torch.tensor(a, requires_grad=True) for name, a in floats.items()}
    moved = {**tensors, "x": tensors["x"].permute(0, 3, 1, 2)}
    labels = torch.tensor(inputs["label"]) if "label" in inputs else None
    want = reference(moved["x"], moved["t"], labels, moved.get("second")).permute(0, 2, 3, 1)
    (want * torch.tensor(y)).sum().backward()

    def close(a, b, what):
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max(), err_msg=what)

    close(out, want.detach().numpy(), "output")
    for name, a in slopes_of.items():
        close(a, tensors[name].grad.numpy(), name)
    grads = as_ours({name: p.grad for name, p in reference.named_parameters()}, like)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(slopes), jax.tree.leaves(grads), strict=True):
        assert np.abs(b).max() > 0, path
        close(a, b, jax.tree_util.keystr(path))


TIMES = {"t": np.array([0.3, 7, 41], np.float32)}
ALL = {**TIMES, "label": np.array([2, 0, 3], np.int32), "second": np.array([2, 0.5, 11], np.float32)}
SHAPE = 3, 4, 6, 3


@pytest.mark.parametrize("inputs", [ALL, TIMES], ids=["all", "time"])
def test_dit_equals_the_published_network(inputs):
    net = DiT(5, 2, 16, 2, 4, classes=3 if "label" in inputs else 0)
    compare(net, TorchDiT(net, 3, "second" in inputs), SHAPE, inputs)


@pytest.mark.parametrize("inputs", [ALL, TIMES], ids=["all", "time"])
def test_uvit_equals_the_published_network(inputs):
    net = UViT(5, 2, 16, 5, 4, classes=3 if "label" in inputs else 0, conv="label" in inputs)
    compare(net, TorchUViT(net, 3, 6, "second" in inputs), SHAPE, inputs)


def counts(make: Any, net: Any, side: int, channels: int) -> tuple[int, int]:
    with torch.device("meta"):
        theirs = sum(p.numel() for p in make().parameters())
    x, t = jnp.zeros((1, side, side, channels)), jnp.zeros(1)
    label = jnp.zeros(1, jnp.int32) if net.classes else None
    like = jax.eval_shape(lambda: net.init(jax.random.key(0), x, t, label))
    return sum(p.size for p in jax.tree.leaves(like)), theirs


@pytest.mark.parametrize("size", dit.SIZES)
def test_dit_has_the_published_number_of_parameters(size):
    net = DiT(8, 2, classes=1000, **dit.SIZES[size])
    ours, theirs = counts(lambda: TorchDiT(net, 4), net, 32, 4)
    assert ours == theirs


@pytest.mark.parametrize("size", uvit.SIZES)
def test_uvit_has_the_published_number_of_parameters(size):
    net = UViT(4, 2, classes=1000, **uvit.SIZES[size])
    ours, theirs = counts(lambda: TorchUViT(net, 4, 256), net, 32, 4)
    assert ours == theirs
