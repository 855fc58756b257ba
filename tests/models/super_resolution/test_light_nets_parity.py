"""SPAN, CARN and SRVGGNetCompact against nets written in PyTorch: outputs and gradients, by the published names."""

import dataclasses
from typing import Any

import pytest

from jaxgen import zoo

pytestmark = pytest.mark.parity
torch: Any = pytest.importorskip("torch")

from tests.models.super_resolution.test_super_resolution_parity import (  # noqa: E402
    MEAN,
    F,
    chain,
    check_net,
    conv,
    nn,
    upsampler,
)


class Branches(nn.Module):
    """A 1x1 convolution, and three in a row on the image with a border of zeros, as in SPAN's training."""

    def __init__(self, c: int, out: int):
        super().__init__()
        wide = nn.Conv2d(2 * c, 2 * out, 3)
        self.sk, self.conv = conv(c, out, 1), chain(conv(c, 2 * c, 1), wide, conv(2 * out, out, 1))

    def forward(self, x):
        return self.sk(x) + self.conv(F.pad(x, (1, 1, 1, 1)))


class Plain(nn.Module):
    def __init__(self, c: int, out: int):
        super().__init__()
        self.eval_conv = conv(c, out)

    def forward(self, x):
        return self.eval_conv(x)


class Attention(nn.Module):
    def __init__(self, kind: Any, c: int):
        super().__init__()
        self.c1_r, self.c2_r, self.c3_r = (kind(c, c) for _ in range(3))

    def forward(self, x):
        inner = F.silu(self.c1_r(x))
        y = self.c3_r(F.silu(self.c2_r(inner)))
        return (x + y) * (torch.sigmoid(y) - 0.5), inner


class TorchSPAN(nn.Module):
    def __init__(self, m):
        super().__init__()
        c, kind, self.depth = m.width, Branches if m.expanded else Plain, m.depth
        self.conv_1, self.conv_2, self.conv_cat = kind(3, c), kind(c, c), conv(4 * c, c, 1)
        for i in range(m.depth):
            self.add_module(f"block_{i + 1}", Attention(kind, c))
        self.upsampler = chain(conv(c, 3 * m.scale**2), nn.PixelShuffle(m.scale))

    def forward(self, x):
        first = x = self.conv_1(255 * (x - MEAN))
        outs, inner = [], x
        for i in range(self.depth):
            x, inner = getattr(self, f"block_{i + 1}")(x)
            outs.append(x)
        return self.upsampler(self.conv_cat(torch.cat([first, self.conv_2(x), outs[0], inner], 1)))


class TorchSRVGG(nn.Module):
    def __init__(self, m):
        super().__init__()
        c, self.scale = m.width, m.scale
        inner = [layer for _ in range(m.depth) for layer in (conv(c, c), nn.PReLU(c))]
        self.body = chain(conv(3, c), nn.PReLU(c), *inner, conv(c, 3 * m.scale**2))

    def forward(self, x):
        return F.pixel_shuffle(self.body(x), self.scale) + F.interpolate(x, scale_factor=self.scale, mode="nearest")


class Step(nn.Module):
    """A residual block of CARN."""

    def __init__(self, c: int, groups: int, mobile: bool):
        super().__init__()
        many = lambda: nn.Conv2d(c, c, 3, padding=1, groups=groups)  # noqa: E731
        self.body = chain(many(), nn.ReLU(), many(), *((nn.ReLU(), conv(c, c, 1)) if mobile else ()))

    def forward(self, x):
        return F.relu(x + self.body(x))


class Cascade(nn.Module):
    """Steps b1, b2, ... with 1x1 convolutions c1, c2, ... between them; with `shared` b1 is every step."""

    def __init__(self, steps: list, c: int, shared: bool = False):
        super().__init__()
        self.names = [f"b{1 if shared else i + 1}" for i in range(len(steps))]
        for i, step in enumerate(steps[:1] if shared else steps):
            self.add_module(f"b{i + 1}", step)
        for i in range(len(steps)):
            mixture = nn.Module()
            mixture.body = chain(conv((i + 2) * c, c, 1), nn.ReLU())
            self.add_module(f"c{i + 1}", mixture)

    def cascade(self, x):
        kept, out = [x], x
        for i, name in enumerate(self.names):
            kept.append(getattr(self, name)(out))
            out = getattr(self, f"c{i + 1}").body(torch.cat(kept, 1))
        return out

    forward = cascade


class TorchCARN(Cascade):
    def __init__(self, m, scale: int):
        c = m.width
        block = lambda: Cascade([Step(c, m.groups, m.mobile) for _ in range(m.depth)], c, m.mobile)  # noqa: E731
        super().__init__([block() for _ in range(m.depth)], c)
        self.scale, self.several = scale, len(m.scales) > 1
        self.entry, self.exit, self.upsample = conv(3, c), conv(c, 3), nn.Module()
        for s in m.scales:
            up = nn.Module()
            layers = [(layer, nn.ReLU()) if isinstance(layer, nn.Conv2d) else (layer,) for layer in upsampler(s, c)]
            up.body = chain(*(layer for pair in layers for layer in pair))
            for i, layer in enumerate(up.body):
                if isinstance(layer, nn.Conv2d):
                    up.body[i] = nn.Conv2d(c, layer.out_channels, 3, padding=1, groups=m.groups)
            self.upsample.add_module(f"up{s}" if self.several else "up", up)
        for name in ("sub_mean", "add_mean"):  # layers of constants in the published files
            shift = nn.Module()
            shift.shifter = nn.Module()
            shift.shifter.register_buffer("weight", torch.eye(3)[..., None, None])
            shift.shifter.register_buffer("bias", torch.zeros(3))
            self.add_module(name, shift)

    def forward(self, x):
        up = getattr(self.upsample, f"up{self.scale}" if self.several else "up")
        y = self.exit(up.body(self.cascade(self.entry(x - MEAN)))) + MEAN
        others = [p.sum() for p in self.upsample.parameters()]
        return y + 0 * sum(others)  # gradients of zero for the other factors


SPAN = {
    "span": {},
    "span-x3": {"scale": 3, "image": (18, 18, 3)},
    "span-merged": {"expanded": False, "scale": 4},
}
CARN = {
    "carn-x2": ("carn", 2, {}),
    "carn-x3": ("carn", 3, {}),
    "carn-x4": ("carn", 4, {}),
    "carn-of-one-factor": ("carn", 4, {"scales": (4,)}),
    "carn-m": ("carn-m", 3, {}),
}


def tiny(preset: str, changes: dict) -> Any:
    return dataclasses.replace(zoo.load(preset).tiny.model, **changes)


@pytest.mark.parametrize("case", SPAN)
def test_span_is_the_published_net(case):
    model = tiny("span", SPAN[case])
    check_net("span", model, TorchSPAN(model), 3, tolerance=2e-4)  # inputs of 255 make the attention steep


@pytest.mark.parametrize("case", CARN)
def test_carn_is_the_published_net(case):
    preset, scale, changes = CARN[case]
    model = tiny(preset, changes)
    check_net(preset, model, TorchCARN(model, scale), 3, unused=f"upsample_up[^{scale}]")


@pytest.mark.parametrize("scale", [2, 3])
def test_srvgg_is_the_published_net(scale):
    model = tiny("srvgg", {"scale": scale, "image": (18, 18, 3)})
    check_net("srvgg", model, TorchSRVGG(model), 3)
