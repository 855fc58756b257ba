"""The predictors beside PyTorch nets with the structure and the names of OpenSTL's: outputs and gradients."""

import itertools
import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.core.types import Context
from jaxgen.interop.weight_names import rule_of, to_theirs
from tests.helpers.torch_twins import shaken

torch: Any = pytest.importorskip("torch")
nn: Any = torch.nn
pytestmark = pytest.mark.parity

PAST, FUTURE = 4, 3


# ---------------------------------------------------------------- SimVP


class Stage(nn.Module):
    def __init__(self, c_in: int, c: int, down: bool = False, up: bool = False):
        super().__init__()
        self.conv = nn.Module()
        one = nn.Conv2d(c_in, 4 * c if up else c, 3, 2 if down else 1, 1)
        self.conv.conv = nn.Sequential(one, nn.PixelShuffle(2)) if up else one
        self.conv.norm = nn.GroupNorm(2, c)

    def forward(self, x):
        return nn.functional.silu(self.conv.norm(self.conv.conv(x)))


class InceptionBlock(nn.Module):
    def __init__(self, c_in: int, hidden: int, c: int):
        super().__init__()
        self.conv1, self.layers = nn.Conv2d(c_in, hidden, 1), nn.ModuleList()
        for side in (3, 5, 7, 11):
            layer = nn.Module()
            layer.conv, layer.norm = nn.Conv2d(hidden, c, side, 1, side // 2, groups=8), nn.GroupNorm(8, c)
            self.layers.append(layer)

    def forward(self, x):
        x = self.conv1(x)
        return sum(nn.functional.leaky_relu(layer.norm(layer.conv(x)), 0.2) for layer in self.layers)


class Inception(nn.Module):
    def __init__(self, c: int, hidden: int, depth: int):
        super().__init__()
        inner, half = [hidden] * (depth - 1), hidden // 2
        self.enc = nn.ModuleList(InceptionBlock(n, half, hidden) for n in [c, *inner])
        ends = [*inner, c]
        self.dec = nn.ModuleList(InceptionBlock(hidden * (2 if i else 1), half, n) for i, n in enumerate(ends))

    def forward(self, x):
        skips = []
        for block in self.enc:
            x = block(x)
            skips.append(x)
        x = self.dec[0](x)
        for i, block in enumerate(list(self.dec)[1:], 1):
            x = block(torch.cat([x, skips[-1 - i]], 1))
        return x


class Gate(nn.Module):
    def __init__(self, c: int, temporal: bool):
        super().__init__()
        self.temporal = temporal
        self.conv0, self.conv_spatial = nn.Conv2d(c, c, 5, 1, 2, groups=c), nn.Conv2d(c, c, 7, 1, 9, 3, groups=c)
        self.conv1 = nn.Conv2d(c, c if temporal else 2 * c, 1)
        if temporal:
            few = c // max(c // 16, 4)
            layers = nn.Linear(c, few, bias=False), nn.ReLU(), nn.Linear(few, c, bias=False), nn.Sigmoid()
            self.fc = nn.Sequential(*layers)

    def forward(self, x):
        y = self.conv1(self.conv_spatial(self.conv0(x)))
        if self.temporal:
            return self.fc(x.mean((2, 3)))[:, :, None, None] * y * x
        made, gate = y.chunk(2, 1)
        return torch.sigmoid(gate) * made


class Gated(nn.Module):
    def __init__(self, c: int, temporal: bool):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(c), nn.BatchNorm2d(c)
        self.attn, self.mlp = nn.Module(), nn.Module()
        self.attn.proj_1, self.attn.proj_2 = nn.Conv2d(c, c, 1), nn.Conv2d(c, c, 1)
        self.attn.spatial_gating_unit = Gate(c, temporal)
        self.mlp.fc1, self.mlp.fc2, self.mlp.dwconv = nn.Conv2d(c, 8 * c, 1), nn.Conv2d(8 * c, c, 1), nn.Module()
        self.mlp.dwconv.dwconv = nn.Conv2d(8 * c, 8 * c, 3, 1, 1, groups=8 * c)
        self.layer_scale_1, self.layer_scale_2 = nn.Parameter(torch.ones(c)), nn.Parameter(torch.ones(c))

    def forward(self, x):
        gelu, scaled = nn.functional.gelu, lambda scale, y: scale[:, None, None] * y
        y = self.norm1(x)
        x = x + scaled(
            self.layer_scale_1, y + self.attn.proj_2(self.attn.spatial_gating_unit(gelu(self.attn.proj_1(y))))
        )
        return x + scaled(self.layer_scale_2, self.mlp.fc2(gelu(self.mlp.dwconv.dwconv(self.mlp.fc1(self.norm2(x))))))


class Mixer(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.conv_dw, self.conv_pw = nn.Conv2d(c, c, 11, groups=c, padding="same"), nn.Conv2d(c, c, 1)
        self.norm_1, self.norm_2 = nn.BatchNorm2d(c), nn.BatchNorm2d(c)

    def forward(self, x):
        x = x + self.norm_1(nn.functional.gelu(self.conv_dw(x)))
        return self.norm_2(nn.functional.gelu(self.conv_pw(x)))


class Meta(nn.Module):
    def __init__(self, kind: str, c: int, hidden: int, depth: int):
        super().__init__()
        self.enc, sizes = nn.ModuleList(), [c, *[hidden] * (depth - 1), c]
        for before, after in itertools.pairwise(sizes):
            one = nn.Module()
            one.block = Mixer(before) if kind == "convmixer" else Gated(before, kind == "tau")
            if before != after:
                one.reduction = nn.Conv2d(before, after, 1)
            self.enc.append(one)

    def forward(self, x):
        for one in self.enc:
            x = one.block(x)
            x = one.reduction(x) if hasattr(one, "reduction") else x
        return x


class SimVP(nn.Module):
    def __init__(self, model):
        super().__init__()
        c, w, self.model = model.image[2], model.width, model
        self.enc, self.dec = nn.Module(), nn.Module()
        self.enc.enc = nn.ModuleList(Stage(w if i else c, w, down=i % 2 == 1) for i in range(model.stages))
        self.dec.dec = nn.ModuleList(Stage(w, w, up=i % 2 == 1) for i in reversed(range(model.stages)))
        self.dec.readout, all_frames = nn.Conv2d(w, c, 1), model.past * w
        inception = model.translator == "inception"
        sizes = all_frames, model.hidden, model.depth
        self.hid = Inception(*sizes) if inception else Meta(model.translator, *sizes)

    def step(self, x):  # [b t c h w]
        b, t = x.shape[:2]
        y, first = x.flatten(0, 1), None
        for stage in self.enc.enc:
            y = stage(y)
            first = y if first is None else first
        y = self.hid(y.reshape(b, -1, *y.shape[2:])).reshape(y.shape)
        for stage in self.dec.dec[:-1]:
            y = stage(y)
        return self.dec.readout(self.dec.dec[-1](y + first)).reshape(b, t, *x.shape[2:])

    def forward(self, x):
        made = [self.step(x)]
        while sum(one.shape[1] for one in made) < self.model.future:
            made.append(self.step(made[-1]))
        return torch.cat(made, 1)[:, : self.model.future]


# ---------------------------------------------------------------- recurrent nets


def conv(c_in: int, c: int, side: int):
    return nn.Sequential(nn.Conv2d(c_in, c, side, 1, side // 2, bias=False))


class Cell(nn.Module):
    """The three kinds of cells: `sizes` are the multiples of the width of each convolution."""

    def __init__(self, kind: str, c_in: int, width: int, side: int):
        super().__init__()
        self.kind = kind
        sizes = {"convlstm": {"x": 4, "h": 4}, "predrnn": {"x": 7, "h": 4, "m": 3, "o": 1}}.get(kind)
        sizes = sizes or {"x": 7, "h": 4, "c": 3, "m": 3, "c2m": 4, "om": 1}
        for name, count in sizes.items():
            given = {"x": c_in, "o": 2 * width}.get(name, width)
            setattr(self, f"conv_{name}", conv(given, count * width, side))
        if kind != "convlstm":
            self.conv_last = nn.Conv2d(2 * width, width, 1, bias=False)

    def forward(self, x, h, c, m):
        s, t = torch.sigmoid, torch.tanh
        if self.kind == "convlstm":
            i, f, g, o = (self.conv_x(x) + self.conv_h(h)).chunk(4, 1)
            c = s(f) * c + s(i) * t(g)
            return s(o) * t(c), c, m
        ix, fx, gx, iz, fz, gz, ox = self.conv_x(x).chunk(7, 1)
        ih, fh, gh, oh = self.conv_h(h).chunk(4, 1)
        im, fm, gm = self.conv_m(m).chunk(3, 1)
        if self.kind == "predrnn":
            c = s(fx + fh + 1) * c + s(ix + ih) * t(gx + gh)
            m = s(fz + fm + 1) * m + s(iz + im) * t(gz + gm)
            both = torch.cat([c, m], 1)
            return s(ox + oh + self.conv_o(both)) * t(self.conv_last(both)), c, m
        ic, fc, gc = self.conv_c(c).chunk(3, 1)
        c = s(fx + fh + fc + 1) * c + s(ix + ih + ic) * t(gx + gh + gc)
        ic, gc, fc, oc = self.conv_c2m(c).chunk(4, 1)
        m = s(fz + fm + fc + 1) * t(gm) + s(iz + im + ic) * t(gz + gc)
        out = t(ox + oh + oc + self.conv_om(m))
        return out * t(self.conv_last(torch.cat([c, m], 1))), c, m


class Recurrent(nn.Module):
    def __init__(self, kind: str, model):
        super().__init__()
        self.model, c = model, model.image[2] * model.patch**2
        before = [c, *model.widths[:-1]]
        self.cell_list = nn.ModuleList(
            Cell(kind, n, width, model.kernel) for n, width in zip(before, model.widths, strict=True)
        )
        self.conv_last = nn.Conv2d(model.widths[-1], c, 1, bias=False)
        if kind == "predrnn-plus":
            self.gradient_highway = nn.Module()
            for name in ("x_concat", "z_concat"):
                setattr(self.gradient_highway, name, conv(model.widths[0], 2 * model.widths[0], model.kernel))

    def forward(self, x):  # [b t c h w]
        p, (b, _, c, h, w) = self.model.patch, x.shape
        parts = x.reshape(b, -1, c, h // p, p, w // p, p).permute(0, 1, 4, 6, 2, 3, 5).flatten(2, 4)
        zero = torch.zeros(b, self.model.widths[0], h // p, w // p)
        states = [(zero, zero) for _ in self.cell_list]
        m, z, made = zero, zero, []
        for t in range(self.model.past + self.model.future - 1):
            y = parts[:, t] if t < self.model.past else made[-1]
            for i, cell in enumerate(self.cell_list):
                y, state, m = cell(y, *states[i], m)
                states[i] = y, state
                if i == 0 and hasattr(self, "gradient_highway"):
                    u = self.gradient_highway
                    a, gate = (u.x_concat(y) + u.z_concat(z)).chunk(2, 1)
                    y = z = torch.sigmoid(gate) * torch.tanh(a) + (1 - torch.sigmoid(gate)) * z
            made.append(self.conv_last(y))
        out = torch.stack(made, 1)  # of all frames but the first, [b t+t'-1 i*j*c h/p w/p]
        return out.reshape(b, -1, p, p, c, h // p, w // p).permute(0, 1, 4, 5, 2, 6, 3).reshape(b, -1, c, h, w)


class Normed(nn.Module):
    """A convolution, or a transposed one, its norm and leaky ReLU."""

    def __init__(self, c_in: int, c: int, stride: int, up: bool):
        super().__init__()
        more = {"output_padding": stride - 1} if up else {}
        one = (nn.ConvTranspose2d if up else nn.Conv2d)(c_in, c, 3, stride, 1, **more)
        self.main = nn.Sequential(one, nn.GroupNorm(16, c), nn.LeakyReLU(0.2))

    def forward(self, x):
        return self.main(x)


class Layers(nn.Module):
    def __init__(self, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
        return x


class PhyDNet(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model, c = model, model.image[2]
        e = self.encoder = Layers()
        e.encoder_E = Layers(c1=Normed(c, 32, 2, False), c2=Normed(32, 32, 1, False), c3=Normed(32, 64, 2, False))
        for n in "pr":
            setattr(e, f"encoder_E{n}", Layers(c1=Normed(64, 64, 1, False), c2=Normed(64, 64, 1, False)))
            setattr(e, f"decoder_D{n}", Layers(upc1=Normed(64, 64, 1, True), upc2=Normed(64, 64, 1, True)))
        last = nn.ConvTranspose2d(32, c, 3, 2, 1, output_padding=1)
        e.decoder_D = Layers(upc1=Normed(64, 32, 2, True), upc2=Normed(32, 32, 1, True), upc3=last)
        cell = nn.Module()
        cell.F = Layers(conv1=nn.Conv2d(64, 49, 7, 1, 3), bn1=nn.GroupNorm(7, 49), conv2=nn.Conv2d(49, 64, 1))
        cell.convgate = nn.Conv2d(128, 64, 3, 1, 1)
        e.phycell, e.convcell = nn.Module(), nn.Module()
        e.phycell.cell_list, e.convcell.cell_list = nn.ModuleList([cell]), nn.ModuleList()
        for before, width in zip([64, *model.widths[:-1]], model.widths, strict=True):
            e.convcell.cell_list.append(Layers(conv=nn.Conv2d(before + width, 4 * width, 3, 1, 1)))

    def forward(self, x):  # [b t c h w]
        e, (b, _, _, h, w) = self.encoder, x.shape
        zero = lambda c: torch.zeros(b, c, h // 4, w // 4)  # noqa: E731
        p, states, made = zero(64), [(zero(c), zero(c)) for c in self.model.widths], []
        for t in range(self.model.past + self.model.future - 1):
            y = e.encoder_E(x[:, t] if t < self.model.past else made[-1])
            free, seen, cell = e.encoder_Er(y), e.encoder_Ep(y), e.phycell.cell_list[0]
            gain = torch.sigmoid(cell.convgate(torch.cat([seen, p], 1)))
            p = p + cell.F(p)
            p = p + gain * (seen - p)
            for i, layer in enumerate(e.convcell.cell_list):
                into, forget, out, g = layer(torch.cat([free, states[i][0]], 1)).chunk(4, 1)
                memory = torch.sigmoid(forget) * states[i][1] + torch.sigmoid(into) * torch.tanh(g)
                free = torch.sigmoid(out) * torch.tanh(memory)
                states[i] = free, memory
            made.append(torch.sigmoid(e.decoder_D(e.decoder_Dp(p) + e.decoder_Dr(free))))
        return torch.stack(made, 1)

    def penalty(self):
        """The moments of the kernels, as the authors' K2M computes them."""
        u = torch.arange(7, dtype=torch.float32) - 3
        m = torch.stack([u**i / math.factorial(i) for i in range(7)])
        kernels = self.encoder.phycell.cell_list[0].F.conv1.weight  # [49 64 7 7]
        moments = m @ kernels @ m.T
        return torch.square(moments - torch.eye(49).reshape(49, 1, 7, 7)).mean((0, 2, 3)).sum()


PREDICTORS = "simvp", "simvp-gsta", "simvp-convmixer", "tau", "convlstm", "predrnn", "predrnn-plus", "phydnet"


@pytest.mark.parametrize("preset", PREDICTORS)
def test_outputs_and_gradients_are_those_of_openstl(preset):
    """Two channels; batch norm with the statistics of the batch."""
    small = zoo.load(preset).tiny.model
    recurrent = hasattr(small, "sampling")
    changes: dict[str, Any] = {"image": (16, 16, 2), "past": PAST, "future": FUTURE}
    changes |= {"sampling": "none"} if recurrent else {"teacher_steps": 1} if preset == "phydnet" else {}
    model = replace(small, **changes)
    task = model.task(8)
    draw = np.random.default_rng(0)
    clip = draw.uniform(-1, 1, (2, PAST + FUTURE, 16, 16, 2)).astype(np.float32)
    batch = {"past": clip[:, :PAST], "future": clip[:, PAST:]}
    params, extra = task.init(jax.random.key(0), None)
    params = shaken(params)
    context = Context(extra=extra, ema={}, frozen={}, step=jnp.int32(1))
    loss = jax.jit(jax.value_and_grad(lambda p: task.phases[0].loss(p, context, batch, jax.random.key(1))[0]))
    value, grads = loss(params)

    rule = rule_of(preset)
    tensors = lambda tree: {  # noqa: E731
        name: torch.from_numpy(np.array(x)) for name, x in to_theirs(rule, model, "predictor", tree).items()
    }
    net = PhyDNet(model) if preset == "phydnet" else Recurrent(preset, model) if recurrent else SimVP(model)
    state = tensors({"params": params["predictor"], **extra.get("predictor", {})})
    net.load_state_dict(state)
    x = torch.from_numpy((np.moveaxis(clip, -1, 2) + 1) / 2)
    made = net(x[:, :PAST])
    true = x[:, -made.shape[1] :]  # OpenSTL's recurrent nets learn from all frames but the first
    theirs = torch.square(made - true).mean()
    if preset == "tau":
        p, q = ((one[:, 1:] - one[:, :-1]).flatten(2).div(0.1).softmax(-1) for one in (made, true))
        theirs = theirs + 0.1 * (p * torch.log(p / (q + 1e-12) + 1e-12)).mean()
    if preset == "phydnet":
        theirs = theirs + net.penalty() / (PAST + FUTURE - 1)
    theirs.backward()
    np.testing.assert_allclose(float(value), theirs.item(), rtol=1e-5)
    for name, g in tensors({"params": grads["predictor"]}).items():
        own = net.get_parameter(name).grad
        assert (g - own).abs().max() <= 1e-5 * max(1, float(own.abs().max())), name
