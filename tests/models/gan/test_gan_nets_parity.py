"""The networks of SNGAN, BigGAN and R3GAN against the same in PyTorch: outputs, and gradients for z and x."""

from typing import Any

import jax
import numpy as np
import pytest

from jaxgen.models.gan import _biggan_nets, _r3gan_nets, _sngan_nets

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("plain_convolutions")]
torch: Any = pytest.importorskip("torch")

LABEL = np.array([0, 4, 2], np.int32)
draw = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return draw.normal(size=shape).astype(np.float32)


def filled(tree: Any) -> Any:
    return jax.tree.map(lambda x: normal(*x.shape) * (0.3 if x.ndim < 2 else x[..., 0].size ** -0.5), tree)


# ---- PyTorch, images [b c h w]


def relu(x):
    return torch.relu(x)


def conv(x, p, groups: int = 1):
    kernel = torch.tensor(np.transpose(p["kernel"], (3, 2, 0, 1)).copy())  # [out in kh kw]
    bias = torch.tensor(p["bias"]) if "bias" in p else None
    return torch.nn.functional.conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2, groups=groups)


def dense(x, p):
    return x @ torch.tensor(p["kernel"]) + torch.tensor(p.get("bias", np.float32(0)))


def table(p, label):
    return torch.tensor(p["embedding"])[torch.tensor(label).long()]


def double(x):
    return torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest")


def halve(x):
    return torch.nn.functional.avg_pool2d(x, 2)


def norm(x, p, stats, condition, train: bool, epsilon: float):
    mean, var = torch.tensor(stats["mean"].copy()), torch.tensor(stats["var"].copy())
    y = torch.nn.functional.batch_norm(x, mean, var, None, None, train, 0.1, epsilon)
    if condition is None:
        scale, bias = torch.tensor(p["scale"])[None], torch.tensor(p["bias"])[None]
    elif "embedding" in p["scale"]:
        scale, bias = 1 + table(p["scale"], condition), table(p["bias"], condition)
    else:
        scale, bias = 1 + dense(condition, p["scale"]), dense(condition, p["bias"])
    return y * scale[:, :, None, None] + bias[:, :, None, None]


def attention(x, p):
    b, c, h, w = x.shape
    query = conv(x, p["query"]).reshape(b, -1, h * w)
    key, value = (torch.nn.functional.max_pool2d(conv(x, p[name]), 2).flatten(2) for name in ("key", "value"))
    weights = torch.softmax(query.transpose(1, 2) @ key, -1)  # [b n m]
    mixed = (value @ weights.transpose(1, 2)).reshape(b, c // 2, h, w)
    return x + torch.tensor(p["gamma"]) * conv(mixed, p["out"])


def up_block(x, p, stats, condition, train, epsilon):
    y = double(relu(norm(x, p["norm1"], stats["norm1"], condition, train, epsilon)))
    y = relu(norm(conv(y, p["conv1"]), p["norm2"], stats["norm2"], condition, train, epsilon))
    return conv(y, p["conv2"]) + conv(double(x), p["shortcut"])


def down_block(x, p, first: bool, down: bool):
    y = conv(relu(conv(x if first else relu(x), p["conv1"])), p["conv2"])
    x = conv(x, p["shortcut"]) if "shortcut" in p else x
    return halve(x) + halve(y) if down else x + y


def projection_discriminator(x, p, label, downs: int, attend: int):
    for i in range(4):
        x = down_block(x, p[f"block{i + 1}"], i == 0, i < downs)
        x = attention(x, p["attention"]) if i < downs and attend == x.shape[-1] else x
    phi = relu(x).sum((2, 3))
    logits = dense(phi, p["head"]["psi"])[:, 0]
    return logits if label is None else logits + (table(p["head"]["embed"], label) * phi).sum(1)


def start(z, p, base: int):
    x = dense(z, p["Dense_0"])
    return x.reshape(len(z), base, base, -1).permute(0, 3, 1, 2)


def finish(x, p, stats, train, epsilon):
    return torch.tanh(conv(relu(norm(x, p["BatchNorm_0"], stats["BatchNorm_0"], None, train, epsilon)), p["Conv_0"]))


def sngan(z, p, stats, label, train, base, stages):
    x = start(z, p, base)
    for i in range(1, stages + 1):
        x = up_block(x, p[f"block{i}"], stats[f"block{i}"], label, train, 2e-5)
    return finish(x, p, stats, train, 2e-5)


def biggan(z, p, stats, label, train, base, stages, attend):
    first, *rest = z.chunk(stages + 1, 1)
    x = start(first, p, base)
    for i, piece in enumerate(rest, 1):
        condition = piece if label is None else torch.cat([table(p["embed"], label), piece], 1)
        x = up_block(x, p[f"block{i}"], stats[f"block{i}"], condition, train, 1e-5)
        x = attention(x, p["attention"]) if attend == x.shape[-1] else x
    return finish(x, p, stats, train, 1e-5)


def fir(x, up: bool):
    c = x.shape[1]
    row = torch.tensor([1.0, 3, 3, 1]) / (4 if up else 8)
    kernel = torch.outer(row, row).expand(c, 1, 4, 4)
    resample = torch.nn.functional.conv_transpose2d if up else torch.nn.functional.conv2d
    return resample(x, kernel, stride=2, padding=1, groups=c)


def r3_stage(x, p, stage: int, blocks: int, groups: int):
    for j in range(1, blocks + 1):
        q = p[f"block{stage}_{j}"]
        y = torch.nn.functional.leaky_relu(conv(x, q["conv1"]), 0.2)
        y = torch.nn.functional.leaky_relu(conv(y, q["conv2"], groups), 0.2)
        x = x + conv(y, q["conv3"])
    return x


def r3_generator(z, p, label, blocks, cardinality):
    z = z if label is None else torch.cat([z, table(p["embed"], label)], 1)
    x = torch.tensor(p["basis"].transpose(2, 0, 1).copy())[None] * dense(z, p["mix"])[:, :, None, None]
    for i, (count, groups) in enumerate(zip(blocks, cardinality, strict=True), 1):
        if i > 1:
            x = conv(x, p[f"transition{i}"]) if f"transition{i}" in p else x
            x = fir(x, up=True)
        x = r3_stage(x, p, i, count, groups)
    return conv(x, p["to_image"])


def r3_discriminator(x, p, label, blocks, cardinality):
    x = conv(x, p["from_image"])
    for i, (count, groups) in enumerate(zip(blocks, cardinality, strict=True), 1):
        if i > 1:
            x = fir(x, up=False)
            x = conv(x, p[f"transition{i}"]) if f"transition{i}" in p else x
        x = r3_stage(x, p, i, count, groups)
    x = dense((x * torch.tensor(p["basis"].transpose(2, 0, 1).copy())[None]).sum((2, 3)), p["mix"])
    return x[:, 0] if label is None else (x * table(p["embed"], label)).sum(1)


# ---- comparison


def near(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert np.abs(expected).max() > 1e-4, "an output of zeros would always agree"
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def compare(net: Any, theirs: Any, given: np.ndarray, label: Any, train: bool):
    """Compare outputs, and gradients of a random weighted sum of them, in both layouts of images."""
    variables = jax.jit(lambda key: net.init(key, given, label, train=False))(jax.random.key(0))
    params = filled(variables["params"])
    stats = jax.tree.map(lambda s: draw.uniform(0.5, 1.5, s.shape).astype(np.float32), variables.get("batch_stats", {}))

    def ours(given):
        return net.apply({"params": params, "batch_stats": stats}, given, label, train=train, mutable=["batch_stats"])[
            0
        ]

    x = torch.tensor(given, requires_grad=True)
    out = theirs(x.permute(0, 3, 1, 2) if x.ndim == 4 else x, params, stats)
    out = out.permute(0, 2, 3, 1) if out.ndim == 4 else out
    weights = normal(*out.shape)
    (gradient,) = torch.autograd.grad((out * torch.tensor(weights)).sum(), x)
    near(jax.jit(ours)(given), out.detach())
    near(jax.jit(jax.grad(lambda given: (ours(given) * weights).sum()))(given), gradient)


LABELS = pytest.mark.parametrize("label", [None, LABEL], ids=["all", "classes"])
SIZES_TRAIN = pytest.mark.parametrize(("base", "stages", "train"), [(4, 3, True), (7, 2, False)])
SIZES = pytest.mark.parametrize(("base", "stages"), [(4, 3), (7, 2)])


def classes_of(label: Any) -> int:
    return 0 if label is None else 5


@LABELS
@SIZES_TRAIN
def test_sngans_generator(label, train, base, stages):
    net = _sngan_nets.SNGANGenerator((base, base), stages, 8, 3, classes_of(label))
    compare(net, lambda z, p, s: sngan(z, p, s, label, train, base, stages), normal(3, 10), label, train)


@LABELS
@SIZES_TRAIN
def test_biggans_generator(label, train, base, stages):
    net = _biggan_nets.BigGANGenerator((base, base), (16,) * (stages + 1), 3, classes_of(label), 2 * base, 6)
    z = normal(3, 5 * (stages + 1))
    compare(net, lambda z, p, s: biggan(z, p, s, label, train, base, stages, 2 * base), z, label, train)


@LABELS
@pytest.mark.parametrize("size", [16, 28])
@pytest.mark.parametrize("paper", ["sngan", "biggan"])
def test_projection_discriminators(paper, label, size):
    attend = size // 2 if paper == "biggan" else 0
    if paper == "biggan":
        net: Any = _biggan_nets.BigGANDiscriminator((16,) * 4, 2, classes_of(label), attend)
    else:
        net = _sngan_nets.SNGANDiscriminator(8, classes_of(label))
    compare(
        net, lambda x, p, _: projection_discriminator(x, p, label, 2, attend), normal(3, size, size, 3), label, True
    )


@LABELS
@SIZES
def test_r3gans_networks(label, base, stages):
    widths, blocks, cardinality = (12, 8, 8, 4)[: stages + 1], (1, 2, 1, 1)[: stages + 1], (4, 2, 4, 1)[: stages + 1]
    more: Any = {"expansion": 3, "classes": classes_of(label), "embedding": 7}
    net = _r3gan_nets.R3GANGenerator((base, base), widths, 3, blocks, cardinality, **more)
    compare(net, lambda z, p, _: r3_generator(z, p, label, blocks, cardinality), normal(3, 6), label, True)
    back = blocks[::-1], cardinality[::-1]
    net = _r3gan_nets.R3GANDiscriminator(widths[::-1], *back, **more)
    x = normal(3, base << stages, base << stages, 3)
    compare(net, lambda x, p, _: r3_discriminator(x, p, label, *back), x, label, True)
