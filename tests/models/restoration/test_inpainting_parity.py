"""Nets that fill in what is hidden against the published ones written in PyTorch, on the same random weights."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models.restoration import gated_conv, partial_conv

pytestmark = pytest.mark.parity
torch: Any = pytest.importorskip("torch")
F = torch.nn.functional


def tensor(x) -> Any:
    """[b h w c] -> [b c h w]."""
    return torch.from_numpy(np.array(x, np.float32)).permute(0, 3, 1, 2)


def kernel(found) -> Any:
    """[h w in out] -> [out in h w]."""
    return torch.from_numpy(np.array(found, np.float32)).permute(3, 2, 0, 1).contiguous()


def vector(found) -> Any:
    return torch.from_numpy(np.array(found, np.float32))


def back(x) -> np.ndarray:
    return x.permute(0, 2, 3, 1).detach().numpy()


def shaken(tree: Any) -> Any:
    """Random numbers near those that a net starts from, its biases and statistics too; variances stay positive."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: x + np.float32(0.1) * rng.uniform(0, 1, x.shape).astype(np.float32), tree)


def image_and_mask(side: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x, mask = np.tanh(rng.normal(size=(2, side, side, 3))).astype(np.float32), np.zeros((2, side, side, 1), np.float32)
    mask[0, side // 4 : side // 2, side // 3 : side // 2 + 3] = 1
    mask[1, side - 9 :, side - 7 :] = 1
    return x * (1 - mask), mask


# ---- the U-Net of partial convolutions: a mask for every channel, as the authors' multi-channel layer has


def partial(x, m, net: Any, stride: int):
    weight = kernel(net["conv"]["kernel"])
    out, _, k, _ = weight.shape
    y = F.conv2d(x * m, weight, None, stride, k // 2)
    total = F.conv2d(m, torch.ones(1, m.shape[1], k, k), None, stride, k // 2)
    known = total.clamp(0, 1)
    y = y * (m.shape[1] * k * k / (total + 1e-8)) * known
    if "bias" in net:
        y = (y + vector(net["bias"]).view(1, -1, 1, 1)) * known
    return y, known.expand(-1, out, -1, -1)


def normed(y, params, stats):
    pair = vector(stats["mean"]), vector(stats["var"])
    return F.batch_norm(y, *pair, vector(params["scale"]), vector(params["bias"]), eps=1e-5)


def u_net(x, m, params: Any, stats: Any, depth: int):
    skips = []
    for i in range(depth):
        skips.append((x, m))
        x, m = partial(x, m, params[f"down_{i}"], 2)
        x = F.relu(normed(x, params[f"down_{i}_norm"], stats[f"down_{i}_norm"]) if i else x)
    for i in reversed(range(depth)):
        x, m = (F.interpolate(v, scale_factor=2, mode="nearest") for v in (x, m))
        x, m = (torch.cat(pair, 1) for pair in zip((x, m), skips[i], strict=True))
        x, m = partial(x, m, params[f"up_{i}"], 1)
        x = F.leaky_relu(normed(x, params[f"up_{i}_norm"], stats[f"up_{i}_norm"]), 0.2) if i else x
    return x


def test_the_u_net_of_partial_convolutions():
    x, mask = image_and_mask(32)
    net = partial_conv.PartialConvUNet(8, 4, 3)
    found: Any = shaken(net.init(jax.random.key(0), jnp.asarray(x), jnp.asarray(mask), train=False))
    ours = net.apply(found, jnp.asarray(x), jnp.asarray(mask), train=False)
    known = tensor(np.broadcast_to(1 - mask, x.shape))
    theirs = back(u_net(tensor(x), known, found["params"], found["batch_stats"], 4))
    np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())  # pyright: ignore


# ---- DeepFill v2


def gated(x, net: Any, stride: int = 1, rate: int = 1, up: bool = False, activation=F.elu):
    x = F.interpolate(x, scale_factor=2, mode="nearest") if up else x
    weight = kernel(net["conv"]["kernel"])
    y = F.conv2d(x, weight, vector(net["conv"]["bias"]), stride, rate * (weight.shape[-1] - 1) // 2, rate)
    feature, gate = y.chunk(2, 1)
    return activation(feature) * torch.sigmoid(gate)


def attention(x, mask, scale: float = 10.0):
    """One image after the other: known patches are the kernels of a convolution, and of a transposed one."""
    answers = []
    for one, hidden in zip(x.split(1), mask.split(1), strict=True):
        small, gone = one[:, :, ::2, ::2], hidden[:, :, ::2, ::2]
        c, (rows, columns) = one.shape[1], small.shape[2:]
        raw = F.unfold(one, 4, padding=1, stride=2)[0].T.reshape(-1, c, 4, 4)
        patches = F.unfold(small, 3, padding=1)[0].T.reshape(-1, c, 3, 3)
        unit = patches / patches.flatten(1).norm(dim=1).clamp(min=1e-4).view(-1, 1, 1, 1)
        seen = (F.unfold(gone, 3, padding=1)[0].sum(0) == 0).float()
        scores = F.conv2d(small, unit, padding=1)[0].flatten(1).T  # [places, patches]
        eye = torch.eye(3).view(1, 1, 3, 3)
        n = rows * columns
        scores = F.conv2d(scores.view(1, 1, n, n), eye, padding=1).view(rows, columns, rows, columns)
        scores = scores.permute(1, 0, 3, 2).reshape(1, 1, n, n)
        scores = F.conv2d(scores, eye, padding=1).view(columns, rows, columns, rows).permute(1, 0, 3, 2).reshape(n, n)
        weights = torch.softmax(scale * scores * seen, 1) * seen
        answers.append(F.conv_transpose2d(weights.T.reshape(1, n, rows, columns), raw, stride=2, padding=1) / 4)
    return torch.cat(answers)


def down(x, params: Any, name: str, last=F.elu):
    for i in range(1, 7):
        stride = 2 if i in (2, 4) else 1
        x = gated(x, params[f"{name}{i}"], stride, activation=last if i == 6 else F.elu)
    return x


def dilated(x, params: Any, name: str):
    for i, rate in zip(range(7, 11), (2, 4, 8, 16), strict=True):
        x = gated(x, params[f"{name}{i}"], rate=rate)
    return x


def up(x, params: Any, name: str):
    for i in range(11, 17):
        x = gated(x, params[f"{name}{i}"], up=i in (13, 15))
    out = params[f"{name}17"]
    return torch.tanh(F.conv2d(x, kernel(out["kernel"]), vector(out["bias"]), padding=1))


def deepfill(x, mask, params: Any):
    rough = up(
        dilated(down(torch.cat([x, torch.ones_like(mask), mask], 1), params, "conv"), params, "conv"), params, "conv"
    )
    pasted = mask * rough + (1 - mask) * x
    free = dilated(down(pasted, params, "xconv"), params, "xconv")
    y = attention(down(pasted, params, "pmconv", F.relu), mask[:, :, ::4, ::4])
    y = gated(gated(y, params["pmconv9"]), params["pmconv10"])
    return rough, up(torch.cat([free, y], 1), params, "allconv")


def test_the_generator_of_deepfill():
    x, mask = image_and_mask(64)
    net = gated_conv.DeepFillNet(6, 3)
    params: Any = shaken(net.init(jax.random.key(0), jnp.asarray(x), jnp.asarray(mask)))["params"]
    ours = jax.jit(net.apply)({"params": params}, jnp.asarray(x), jnp.asarray(mask))
    theirs = [back(y) for y in deepfill(tensor(x), tensor(mask), params)]
    for a, b in zip(ours, theirs, strict=True):  # pyright: ignore
        assert b.std() > 0.01
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_the_critic_of_deepfill():
    x, mask = image_and_mask(32)
    net = gated_conv.SNPatchDiscriminator(8, 4)
    params: Any = shaken(net.init(jax.random.key(0), jnp.asarray(x), jnp.asarray(mask)))["params"]
    y = torch.cat([tensor(x), tensor(mask)], 1)
    for i in range(1, 5):
        layer = params[f"conv{i}"]
        y = F.pad(y, (1, 2, 1, 2))  # TensorFlow's "SAME"
        y = F.leaky_relu(F.conv2d(y, kernel(layer["kernel"]), vector(layer["bias"]), 2), 0.2)
    ours = net.apply({"params": params}, jnp.asarray(x), jnp.asarray(mask))
    theirs = back(y).reshape(2, -1)
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())  # pyright: ignore
