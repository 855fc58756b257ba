"""Super-resolution nets against the published ones written in PyTorch: outputs and gradients."""

import dataclasses
import itertools
import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.core.types import Context
from jaxgen.interop.entries import to_ours
from jaxgen.interop.weight_names import rule_of
from tests.helpers.capabilities import restore

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("plain_convolutions")]
torch: Any = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional
MEAN = torch.tensor([0.4488, 0.4371, 0.4040]).reshape(1, 3, 1, 1)


# ---- the nets, [b c h w] in [0, 1], their parameters under the authors' names


def conv(c: int, out: int, size: int = 3, bias: bool = True) -> Any:
    return nn.Conv2d(c, out, size, padding=size // 2, bias=bias)


def chain(*layers) -> Any:
    return nn.Sequential(*layers)


class Residual(nn.Module):
    """x + s body(x)."""

    def __init__(self, *layers, s: float = 1.0, name: str = "body"):
        super().__init__()
        self.add_module(name, chain(*layers))
        self.name, self.s = name, s

    def forward(self, x):
        return x + self.s * getattr(self, self.name)(x)


def upsampler(scale: int, c: int) -> Any:
    steps = [3] if scale == 3 else [2] * int(np.log2(scale))
    return chain(*(layer for s in steps for layer in (conv(c, c * s * s), nn.PixelShuffle(s))))


class HeadBodyTail(nn.Module):
    """EDSR and RCAN."""

    def __init__(self, blocks: list, scale: int, c: int):
        super().__init__()
        self.head = chain(conv(3, c))
        self.body = chain(*blocks, conv(c, c))
        self.tail = chain(upsampler(scale, c), conv(c, 3))

    def forward(self, x):
        x = self.head(255 * (x - MEAN))
        return self.tail(x + self.body(x)) / 255 + MEAN


def edsr(m) -> Any:
    c = m.width
    block = lambda: Residual(conv(c, c), nn.ReLU(), conv(c, c), s=m.residual_scale)  # noqa: E731
    return HeadBodyTail([block() for _ in range(m.depth)], m.scale, c)


class ChannelAttention(nn.Module):
    """Channel attention, IMDN's with the standard deviations added to the means."""

    def __init__(self, c: int, reduction: int, contrast: bool = False):
        super().__init__()
        small = c // reduction
        self.conv_du = chain(conv(c, small, 1), nn.ReLU(), conv(small, c, 1), nn.Sigmoid())
        self.contrast = contrast

    def forward(self, x):
        z = x.mean((2, 3), keepdim=True)
        return x * self.conv_du(z + x.std((2, 3), correction=0, keepdim=True) if self.contrast else z)


def rcan(m) -> Any:
    c = m.width
    block = lambda: Residual(conv(c, c), nn.ReLU(), conv(c, c), ChannelAttention(c, m.reduction))  # noqa: E731
    group = lambda: Residual(*(block() for _ in range(m.blocks)), conv(c, c))  # noqa: E731
    return HeadBodyTail([group() for _ in range(m.groups)], m.scale, c)


class Distil(nn.Module):
    def __init__(self, c: int, reduction: int):
        super().__init__()
        self.q = c // 4
        self.c1, self.c2, self.c3 = conv(c, c), conv(c - self.q, c), conv(c - self.q, c)
        self.c4, self.c5 = conv(c - self.q, self.q), conv(c, c, 1)
        self.cca = ChannelAttention(c, reduction, True)

    def forward(self, x):
        y1 = F.leaky_relu(self.c1(x), 0.05)
        y2 = F.leaky_relu(self.c2(y1[:, self.q :]), 0.05)
        y3 = F.leaky_relu(self.c3(y2[:, self.q :]), 0.05)
        y4 = self.c4(y3[:, self.q :])
        return x + self.c5(self.cca(torch.cat([y[:, : self.q] for y in (y1, y2, y3, y4)], 1)))


class TorchIMDN(nn.Module):
    def __init__(self, m):
        super().__init__()
        c = m.width
        self.fea_conv = conv(3, c)
        for i in range(m.depth):
            self.add_module(f"IMDB{i + 1}", Distil(c, m.reduction))
        self.c, self.LR_conv = chain(conv(c * m.depth, c, 1), nn.LeakyReLU(0.05)), conv(c, c)
        self.upsampler = chain(conv(c, 3 * m.scale**2), nn.PixelShuffle(m.scale))
        self.depth = m.depth

    def forward(self, x):
        first = x = self.fea_conv(x)
        outs = []
        for i in range(self.depth):
            x = getattr(self, f"IMDB{i + 1}")(x)
            outs.append(x)
        return self.upsampler(self.LR_conv(self.c(torch.cat(outs, 1))) + first)


class TorchFSRCNN(nn.Module):
    def __init__(self, m):
        super().__init__()
        d, s = m.width, m.shrunk
        self.first_part = chain(conv(1, d, 5), nn.PReLU(d))
        mapping = [layer for _ in range(m.depth) for layer in (conv(s, s), nn.PReLU(s))]
        self.mid_part = chain(conv(d, s, 1), nn.PReLU(s), *mapping, conv(s, d, 1), nn.PReLU(d))
        self.last_part = nn.ConvTranspose2d(d, 1, 9, stride=m.scale, padding=4, output_padding=m.scale - 1)

    def forward(self, x):
        return self.last_part(self.mid_part(self.first_part(x)))


class TorchSRResNet(nn.Module):
    def __init__(self, m):
        super().__init__()
        c = m.width
        self.conv1 = chain(conv(3, c, 9), nn.PReLU())
        plain = lambda: (conv(c, c, 3, False), nn.BatchNorm2d(c))  # noqa: E731
        self.trunk = chain(*(Residual(*plain(), nn.PReLU(), *plain(), name="rcb") for _ in range(m.depth)))
        self.conv2, self.conv3 = chain(*plain()), conv(c, 3, 9)
        self.upsampling = chain(*(self.double(c) for _ in range(int(np.log2(m.scale)))))

    def double(self, c: int):
        block = nn.Module()
        block.upsample_block = chain(conv(c, 4 * c), nn.PixelShuffle(2), nn.PReLU())
        block.forward = block.upsample_block.forward
        return block

    def forward(self, x):
        first = self.conv1(x)
        return self.conv3(self.upsampling(first + self.conv2(self.trunk(first))))


class Dense5(nn.Module):
    def __init__(self, c: int, g: int):
        super().__init__()
        for i in range(4):
            self.add_module(f"conv{i + 1}", conv(c + i * g, g))
        self.conv5 = conv(c + 4 * g, c)

    def forward(self, x):
        outs = [x]
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            outs.append(F.leaky_relu(layer(torch.cat(outs, 1)), 0.2))
        return x + 0.2 * self.conv5(torch.cat(outs, 1))


class RRDB3(nn.Module):
    def __init__(self, c: int, g: int):
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (Dense5(c, g) for _ in range(3))

    def forward(self, x):
        return x + 0.2 * self.rdb3(self.rdb2(self.rdb1(x)))


class TorchRRDBNet(nn.Module):
    def __init__(self, m):
        super().__init__()
        c = m.width
        self.cut = 4 // m.scale
        self.conv_first = conv(3 * self.cut**2, c)
        self.body = chain(*(RRDB3(c, m.growth) for _ in range(m.depth)))
        self.conv_body, self.conv_up1, self.conv_up2, self.conv_hr = (conv(c, c) for _ in range(4))
        self.conv_last = conv(c, 3)

    def forward(self, x):
        x = self.conv_first(F.pixel_unshuffle(x, self.cut))
        x = x + self.conv_body(self.body(x))
        for layer in (self.conv_up1, self.conv_up2):
            x = F.leaky_relu(layer(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2))


class SwinAttention(nn.Module):
    def __init__(self, c: int, heads: int, window: int):
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv, self.proj = nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))

    def bias(self):
        w = self.window
        pixels = [(i, j) for i in range(w) for j in range(w)]
        way = lambda a, b: (a[0] - b[0] + w - 1) * (2 * w - 1) + a[1] - b[1] + w - 1  # noqa: E731
        index = torch.tensor([[way(a, b) for b in pixels] for a in pixels])
        return self.relative_position_bias_table[index].permute(2, 0, 1)

    def forward(self, x, mask):
        """x [n t c], mask [n t t]."""
        q, k, v = (y.unflatten(2, (self.heads, -1)).transpose(1, 2) for y in self.qkv(x).chunk(3, 2))
        mixed = F.scaled_dot_product_attention(q, k, v, self.bias()[None] + mask[:, None])
        return self.proj(mixed.transpose(1, 2).flatten(2))


class SwinBlock(nn.Module):
    """x [b h w c]."""

    def __init__(self, m, shift: int):
        super().__init__()
        c, self.w, self.shift = m.width, m.window, shift
        self.norm1, self.norm2 = nn.LayerNorm(c), nn.LayerNorm(c)
        self.attn = SwinAttention(c, m.heads, m.window)
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(c, c * m.ratio), nn.Linear(c * m.ratio, c)

    def windows(self, x):
        h, w = x.shape[1:3]
        return (
            x.reshape(-1, h // self.w, self.w, w // self.w, self.w, x.shape[3])
            .transpose(2, 3)
            .reshape(-1, self.w**2, x.shape[3])
        )

    def mask(self, b: int, h: int, w: int):
        number, count = torch.zeros(1, h, w, 1), 0
        cuts = (slice(0, -self.w), slice(-self.w, -self.shift), slice(-self.shift, None))
        for rows in cuts:
            for columns in cuts:
                number[:, rows, columns] = count
                count += 1
        number = self.windows(number if self.shift else torch.zeros(1, h, w, 1))[..., 0]
        return torch.where(number[:, :, None] == number[:, None], 0.0, -100.0).repeat(b, 1, 1)

    def forward(self, x):
        b, h, w, c = x.shape
        y = self.norm1(x).roll((-self.shift, -self.shift), (1, 2))
        y = self.attn(self.windows(y), self.mask(b, h, w))
        y = y.reshape(b, h // self.w, w // self.w, self.w, self.w, c).transpose(2, 3).reshape(b, h, w, c)
        x = x + y.roll((self.shift, self.shift), (1, 2))
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))


class SwinGroup(nn.Module):
    def __init__(self, m):
        super().__init__()
        self.residual_group = nn.Module()
        self.residual_group.blocks = chain(*(SwinBlock(m, i % 2 * (m.window // 2)) for i in range(m.layers)))
        self.conv = conv(m.width, m.width)

    def forward(self, x):
        y = self.residual_group.blocks(x)
        return x + self.conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class TorchSwinIR(nn.Module):
    def __init__(self, m):
        super().__init__()
        c, f = m.width, m.features
        self.conv_first, self.conv_after_body = conv(3, c), conv(c, c)
        self.patch_embed = nn.Module()
        self.patch_embed.norm, self.norm = nn.LayerNorm(c), nn.LayerNorm(c)
        self.layers = chain(*(SwinGroup(m) for _ in range(m.groups)))
        self.light = not f
        if self.light:
            self.upsample = chain(conv(c, 3 * m.scale**2), nn.PixelShuffle(m.scale))
        else:
            self.conv_before_upsample = chain(conv(c, f), nn.LeakyReLU())
            self.upsample, self.conv_last = upsampler(m.scale, f), conv(f, 3)

    def forward(self, x):
        first = self.conv_first(x - MEAN)
        y = self.patch_embed.norm(first.permute(0, 2, 3, 1))
        y = self.norm(self.layers(y)).permute(0, 3, 1, 2)
        y = first + self.conv_after_body(y)
        return (self.upsample(y) if self.light else self.conv_last(self.upsample(self.conv_before_upsample(y)))) + MEAN


def picked(x, place):
    """Return of x [b c h w] what is nearest to places [b h w 2]."""
    return F.grid_sample(x, place.flip(-1), mode="nearest", align_corners=False).permute(0, 2, 3, 1)


class TorchLIIF(nn.Module):
    """An EDSR's features and a perceptron; the authors' images are in [-1, 1]."""

    def __init__(self, m, scale: float):
        super().__init__()
        c, self.scale = m.width, scale
        self.encoder = nn.Module()
        self.encoder.head = chain(conv(3, c))
        blocks = (Residual(conv(c, c), nn.ReLU(), conv(c, c)) for _ in range(m.depth))
        self.encoder.body = chain(*blocks, conv(c, c))
        sizes = [9 * c + 4, *[m.hidden] * m.layers, 3]
        layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.imnet = nn.Module()
        self.imnet.layers = chain(*layers[:-1])

    def forward(self, x):
        b, _, h, w = x.shape
        first = self.encoder.head(2 * x - 1)
        features = F.unfold(first + self.encoder.body(first), 3, padding=1).unflatten(2, (h, w))
        axis = lambda n: (torch.arange(n) + 0.5) * 2 / n - 1  # noqa: E731
        centres = torch.stack(torch.meshgrid(axis(h), axis(w), indexing="ij"))[None].expand(b, -1, -1, -1)
        size = round(h * self.scale), round(w * self.scale)
        at = torch.stack(torch.meshgrid(axis(size[0]), axis(size[1]), indexing="ij"), -1)[None].expand(b, -1, -1, -1)
        shape = torch.tensor([h, w])
        answers, areas = [], []
        for corner in itertools.product((-1, 1), (-1, 1)):
            place = (at + torch.tensor(corner) / shape + 1e-6).clamp(-1 + 1e-6, 1 - 1e-6)
            away = (at - picked(centres, place)) * shape
            cell = (2 / torch.tensor(size) * shape).expand(b, *size, 2)
            answers.append(self.imnet.layers(torch.cat([picked(features, place), away, cell], -1)))
            areas.append(away.prod(-1, keepdim=True).abs() + 1e-9)
        total = torch.stack(areas).sum(0)
        mixed = torch.stack([a * s / total for a, s in zip(answers, areas[::-1], strict=True)]).sum(0)
        return (mixed.permute(0, 3, 1, 2) + 1) / 2


# ---- the comparison


def scatter(net: Any):
    """Give every number of a net a random value, of about the size that a trained one has."""
    torch.manual_seed(0)
    for name, p in net.named_parameters():
        if p.ndim == 1 and "bias" not in name:
            p.data = 0.2 + torch.rand_like(p)  # slopes, and the scales of norms
        elif p.ndim == 1 or "table" in name:
            p.data = 0.2 * torch.randn_like(p)
        else:
            p.data = torch.randn_like(p) / p[0].numel() ** 0.5
    for x in net.buffers():
        x.data = 0.5 + torch.rand_like(x) if x.is_floating_point() else x


def arrays(tensors: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: x.detach().numpy() for name, x in tensors.items()}


CASES = {
    "edsr": ("edsr", edsr, {"residual_scale": 0.1}, 3),
    "edsr-x3": ("edsr", edsr, {"scale": 3, "image": (18, 18, 3)}, 3),
    "edsr-x4": ("edsr", edsr, {"scale": 4}, 3),
    "rcan": ("rcan", rcan, {"groups": 2}, 3),
    "imdn": ("imdn", TorchIMDN, {}, 3),
    "fsrcnn": ("fsrcnn", TorchFSRCNN, {"depth": 2}, 1),
    "fsrcnn-x3": ("fsrcnn", TorchFSRCNN, {"scale": 3, "image": (18, 18, 1)}, 1),
    "srresnet": ("srresnet", TorchSRResNet, {"scale": 4}, 3),
    "rrdb": ("rrdb", TorchRRDBNet, {"depth": 2}, 3),
    "rrdb-x2": ("rrdb", TorchRRDBNet, {"scale": 2}, 3),
    "swinir": ("swinir", TorchSwinIR, {"groups": 2}, 3),
    "swinir-light": ("swinir-light", TorchSwinIR, {"layers": 3}, 3),
    # By an odd factor points lie on a line through the last pixels, where the authors' mixture hangs on rounding.
    "liif": ("liif", partial(TorchLIIF, scale=2), {"layers": 3}, 3),
    "liif-2.5": ("liif", partial(TorchLIIF, scale=2.5), {}, 3),
}


@pytest.mark.parametrize("case", CASES)
def test_the_net_is_the_published_one(case):
    preset, reference, changes, channels = CASES[case]
    model: Any = dataclasses.replace(zoo.load(preset).tiny.model, **changes)
    check_net(preset, model, reference(model).eval(), channels)


def check_net(preset: str, model: Any, theirs: Any, channels: int, tolerance: float = 2e-5, unused: str = "^$"):
    """Check outputs and gradients of a preset's net against those of one in PyTorch.

    theirs.scale: its factor, if the model has several
    unused: the names of parameters that this factor does not use, a regular expression
    """
    scatter(theirs)
    task, scale = model.task(1), getattr(theirs, "scale", None) or model.scale
    draw = np.random.default_rng(0)
    x = draw.uniform(-1, 1, (2, 8, 12, channels)).astype(np.float32)
    y = draw.normal(size=(2, int(8 * scale), int(12 * scale), channels)).astype(np.float32)

    params, extra = jax.eval_shape(lambda: task.init(jax.random.key(0), {}))
    like = {"params": params["restorer"], **extra["restorer"]}
    fits = lambda tensors: to_ours(rule_of(preset), model, "restorer", like, arrays(tensors))  # noqa: E731
    ours = fits(theirs.state_dict())
    context = Context({"restorer": {k: v for k, v in ours.items() if k != "params"}}, {}, {}, jnp.zeros((), jnp.int32))

    @jax.jit
    def run(params, x):
        def loss(params, x):
            keys = jax.random.split(jax.random.key(0), 2)
            out = restore(task)({"restorer": params}, context, {"degraded": x}, keys, scale)
            return (out * y).sum(), out

        return jax.grad(loss, (0, 1), has_aux=True)(params, x)

    (slopes, slope), out = run(ours["params"], x)
    tensor = torch.tensor(x, requires_grad=True)
    want = 2 * theirs((tensor.permute(0, 3, 1, 2) + 1) / 2).permute(0, 2, 3, 1) - 1
    (want * torch.tensor(y)).sum().backward()

    def close(a, b, what):
        assert (np.abs(b).max() > 0) == (re.search(unused, what) is None), what
        np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max(), rtol=0, err_msg=what)

    assert out.shape == y.shape
    close(out, want.detach().numpy(), "output")
    close(slope, tensor.grad.numpy(), "slope of the image")
    grads = fits({**theirs.state_dict(), **{name: p.grad for name, p in theirs.named_parameters()}})["params"]
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(slopes), jax.tree.leaves(grads), strict=True):
        close(a, b, jax.tree_util.keystr(path))
