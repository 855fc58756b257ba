"""The published translation nets in PyTorch, and the comparison of our nets with them."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch: Any = pytest.importorskip("torch")
nn: Any = torch.nn
SIDE = 32


def shaken(tree: Any) -> Any:
    """Return random parameters near a net's initial values, biases included."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: x + np.float32(0.05) * rng.normal(size=x.shape).astype(np.float32), tree)


def random_image(channels: int = 3, batch: int = 1) -> np.ndarray:
    return np.tanh(np.random.default_rng(1).normal(size=(batch, SIDE, SIDE, channels))).astype(np.float32)


def turned(layer, kernel: Any) -> np.ndarray:
    """Return our kernel [h w in out] or [in out] in a PyTorch layer's order."""
    axes = (2, 3, 0, 1) if isinstance(layer, nn.ConvTranspose2d) else (3, 2, 0, 1)
    return np.transpose(np.array(kernel), (1, 0) if isinstance(layer, nn.Linear) else axes)


def filled(layer, own: Any):
    """Put our arrays into a PyTorch layer."""
    with torch.no_grad():
        if "kernel" in own:
            layer.weight.copy_(torch.from_numpy(turned(layer, own["kernel"])))
        if "scale" in own:
            layer.weight.copy_(torch.from_numpy(np.array(own["scale"])))
        if "bias" in own:
            layer.bias.copy_(torch.from_numpy(np.array(own["bias"])))
    assert "bias" in own or layer.bias is None
    return layer


def convolutions(net) -> list:
    return [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]


def said(net, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return net(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=3e-5 * np.abs(theirs).max())


def at(tree: Any, path: str) -> Any:
    return functools.reduce(lambda tree, name: tree[name], path.split("/"), tree)


def same(net, given: list[np.ndarray], theirs, layers: dict[str, Any]):
    """Check the outputs of a net for inputs [b h w c] or [b n], and its gradients by parameters and inputs.

    theirs: the net in PyTorch; layers: its layers by the paths of ours
    """
    own: Any = shaken(jax.jit(net.init)(jax.random.key(0), *given))["params"]
    assert sum(x.size for x in jax.tree.leaves(own)) == size(theirs)
    for path, layer in layers.items():
        filled(layer, at(own, path))

    @jax.jit
    def ours(own, given):
        out, back = jax.vjp(lambda own, *given: jax.tree.leaves(net.apply({"params": own}, *given)), own, *given)
        return out, back([jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape) for y in out])

    out, (slopes, *further) = ours(own, given)
    leaves = [torch.from_numpy(x).requires_grad_() for x in given]
    wanted = theirs(*(x.permute(0, 3, 1, 2) if x.ndim == 4 else x for x in leaves))
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    wanted = [y.permute(0, 2, 3, 1) if y.ndim == 4 else y for y in wanted]
    total: Any = sum((y * torch.cos(torch.arange(y.numel())).reshape(y.shape)).sum() for y in wanted)
    total.backward()
    for y, answer in zip(out, wanted, strict=True):
        close(y, answer.detach().numpy())
    for x, leaf in zip(further, leaves, strict=True):
        close(x, leaf.grad.numpy())
    most = max(float(p.grad.abs().max()) for p in theirs.parameters())
    names = {"kernel": "weight", "scale": "weight", "bias": "bias"}
    for path, layer in layers.items():
        for name, found in at(slopes, path).items():
            found = turned(layer, found) if name == "kernel" else found
            # The gradient of a bias before a norm is only rounding error.
            np.testing.assert_allclose(found, getattr(layer, names[name]).grad, atol=3e-5 * most, err_msg=path)


# ---- pix2pix's U-Net, batch norm over one image, as in its paper


class UNet(nn.Module):
    def __init__(self, widths, channels):
        super().__init__()
        n, last = len(widths), len(widths) - 1
        into = [channels, *widths]
        self.down = nn.ModuleList(nn.Conv2d(into[i], widths[i], 4, 2, 1, bias=False) for i in range(n))
        self.down_norm = nn.ModuleDict({str(i): nn.BatchNorm2d(widths[i]) for i in range(1, last)})
        self.up, self.up_norm = nn.ModuleDict(), nn.ModuleDict()
        for i in range(n):
            wide = widths[i] * (1 if i == last else 2)
            out = widths[i - 1] if i else channels
            self.up[str(i)] = nn.ConvTranspose2d(wide, out, 4, 2, 1, bias=i == 0)
            if i:
                self.up_norm[str(i)] = nn.BatchNorm2d(out)

    def forward(self, x):
        kept, last = [], len(self.down) - 1
        for i, conv in enumerate(self.down):
            x = conv(nn.functional.leaky_relu(x, 0.2) if i else x)
            x = self.down_norm[str(i)](x) if 0 < i < last else x
            kept.append(x)
        for i in range(last, -1, -1):
            x = self.up[str(i)](torch.relu(x if i == last else torch.cat([kept[i], x], 1)))
            x = self.up_norm[str(i)](x) if i else x
        return torch.tanh(x)


def size(net) -> int:
    return sum(p.numel() for p in net.parameters())


def ours_of(net, *args) -> int:
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), *args))["params"]
    return sum(x.size for x in jax.tree.leaves(shapes))


# ---- CycleGAN's generator


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        side = lambda: [nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3), nn.InstanceNorm2d(c)]  # noqa: E731
        self.inner = nn.Sequential(*side(), nn.ReLU(), *side())

    def forward(self, x):
        return x + self.inner(x)


def resnet(channels: int, width: int, blocks: int):
    norm = nn.InstanceNorm2d
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7), norm(width), nn.ReLU()]
    for i in (1, 2):
        layers += [nn.Conv2d(width * i, 2 * width * i, 3, 2, 1), norm(2 * width * i), nn.ReLU()]
    layers += [Block(4 * width) for _ in range(blocks)]
    for i in (2, 1):
        up = nn.ConvTranspose2d(2 * width * i, width * i, 3, 2, 1, output_padding=1)
        layers += [up, norm(width * i), nn.ReLU()]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7), nn.Tanh())


# ---- pix2pixHD's local enhancer: half as wide, around the generator without its last convolution


class Local(nn.Module):
    def __init__(self, width, downs, blocks, local):
        super().__init__()
        norm, half, channels = nn.InstanceNorm2d, width // 2, [width << i for i in range(downs + 1)]
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7), norm(width), nn.ReLU()]
        for a, b in itertools.pairwise(channels):
            layers += [nn.Conv2d(a, b, 3, 2, 1), norm(b), nn.ReLU()]
        layers += [Block(channels[-1]) for _ in range(blocks)]
        for a, b in itertools.pairwise(channels[::-1]):
            layers += [nn.ConvTranspose2d(a, b, 3, 2, 1, output_padding=1), norm(b), nn.ReLU()]
        self.inner = nn.Sequential(*layers)
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(3, half, 7), norm(half), nn.ReLU()]
        self.down = nn.Sequential(*layers, nn.Conv2d(half, width, 3, 2, 1), norm(width), nn.ReLU())
        layers = [Block(width) for _ in range(local)]
        layers += [nn.ConvTranspose2d(width, half, 3, 2, 1, output_padding=1), norm(half), nn.ReLU()]
        self.up = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(half, 3, 7), nn.Tanh())

    def forward(self, x):
        small = nn.functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        return self.up(self.down(x) + self.inner(small))


# ---- the patch discriminator


def patches(channels: int, width: int, stride_2_layers: int, norm):
    biased = norm == nn.InstanceNorm2d
    layers, c = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)], width
    for i in range(1, stride_2_layers + 1):
        out = width * min(2**i, 8)
        layers += [nn.Conv2d(c, out, 4, 2 if i < stride_2_layers else 1, 1, bias=biased), norm(out), nn.LeakyReLU(0.2)]
        c = out
    return nn.Sequential(*layers, nn.Conv2d(c, 1, 4, 1, 1))


# ---- CUT resamples smoothly: Zhang 2019's blur, and linear interpolation


class Blur(nn.Module):
    def forward(self, x):
        taps = torch.tensor([1.0, 2.0, 1.0]) / 4
        kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 3, 3)
        return nn.functional.conv2d(nn.ReflectionPad2d(1)(x), kernel, stride=2, groups=x.shape[1])


class Double(nn.Module):
    def forward(self, x):
        return nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


# ---- MUNIT: reflection padding for every convolution, and discriminators with stride 2 in all layers


def stride_2_layers(channels: int, width: int, layers: int = 4):
    found, c = [], channels
    for i in range(layers):
        found += [nn.ReflectionPad2d(1), nn.Conv2d(c, width << i, 4, 2), nn.LeakyReLU(0.2)]
        c = width << i
    return nn.Sequential(*found, nn.Conv2d(c, 1, 1))


def contents(channels: int, width: int, blocks: int):
    norm = nn.InstanceNorm2d
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7), norm(width), nn.ReLU()]
    for c in (width, 2 * width):
        layers += [nn.ReflectionPad2d(1), nn.Conv2d(c, 2 * c, 4, 2), norm(2 * c), nn.ReLU()]
    return nn.Sequential(*layers, *(Block(4 * width) for _ in range(blocks)))


# ---- BicycleGAN: the latent as an input of every encoder layer, and a residual encoder


class Coded(nn.Module):
    def __init__(self, widths, channels, code):
        super().__init__()
        n, last = len(widths), len(widths) - 1
        into, out = [channels, *widths], [channels, *widths]
        self.down = nn.ModuleList(nn.Conv2d(into[i] + code, widths[i], 4, 2, 1) for i in range(n))
        both = [1 if i == last else 2 for i in range(n)]
        self.up = nn.ModuleList(nn.ConvTranspose2d(widths[i] * both[i], out[i], 4, 2, 1) for i in range(n))

    def forward(self, x, z):
        kept, last, norm = [], len(self.down) - 1, nn.functional.instance_norm
        for i, conv in enumerate(self.down):
            x = torch.cat([x, z[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1)
            x = conv(nn.functional.leaky_relu(x, 0.2) if i else x)
            x = norm(x) if 0 < i < last else x
            kept.append(x)
        for i in range(last, -1, -1):
            x = self.up[i](torch.relu(x if i == last else torch.cat([kept[i], x], 1)))
            x = norm(x) if i else x
        return torch.tanh(x)


class Residual(nn.Module):
    def __init__(self, width, stride_2_layers, code):
        super().__init__()
        widths = [width * min(i + 1, 4) for i in range(stride_2_layers)]
        self.first = nn.Conv2d(3, width, 4, 2, 1)
        self.inner, self.skips = nn.ModuleList(), nn.ModuleList()
        for a, b in itertools.pairwise(widths):
            side = lambda a, b: [nn.InstanceNorm2d(a), nn.LeakyReLU(0.2), nn.Conv2d(a, b, 3, 1, 1)]  # noqa: E731
            self.inner.append(nn.Sequential(*side(a, a), *side(a, b), nn.AvgPool2d(2)))
            self.skips.append(nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(a, b, 1)))
        self.heads = nn.ModuleList(nn.Linear(widths[-1], code) for _ in range(2))

    def forward(self, x):
        x = self.first(x)
        for inner, skip in zip(self.inner, self.skips, strict=True):
            x = inner(x) + skip(x)
        x = nn.functional.leaky_relu(x, 0.2).mean((2, 3))
        return [head(x) for head in self.heads]


# ---- decoders of UNIT and MUNIT, and the normalisation by a style


def enlarging(width: int, downs: int):
    layers = []
    for c in (width << i for i in range(downs, 0, -1)):
        # The authors' layer norm divides by the unbiased deviation plus epsilon: of n numbers, 1 / 2n less.
        layers += [nn.Upsample(scale_factor=2), nn.ReflectionPad2d(2), nn.Conv2d(c, c // 2, 5), nn.GroupNorm(1, c // 2)]
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())


def decoding(width: int, downs: int, blocks: int):
    return nn.Sequential(*(Block(width << downs) for _ in range(blocks)), enlarging(width, downs))


class Styled(nn.Module):
    def __init__(self, width, downs, blocks, style, dense):
        super().__init__()
        c = width << downs
        self.dense = nn.Sequential(nn.Linear(style, dense), nn.ReLU(), nn.Linear(dense, dense), nn.ReLU())
        self.moments = nn.Linear(dense, blocks * 4 * c)
        conv = lambda: nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3))  # noqa: E731
        self.blocks = nn.ModuleList(nn.ModuleList((conv(), conv())) for _ in range(blocks))
        self.up = enlarging(width, downs)

    def forward(self, x, style):
        moments = self.moments(self.dense(style))  # the authors take bias, then scale, of one norm after the other
        parts = iter(moments.split(x.shape[1], 1))

        def adapted(x):
            bias, scale = next(parts)[..., None, None], next(parts)[..., None, None]
            return nn.functional.instance_norm(x) * scale + bias

        for first, second in self.blocks:
            x = x + adapted(second(torch.relu(adapted(first(x)))))
        return self.up(x)


class Stylist(nn.Module):
    def __init__(self, width, downs, style):
        super().__init__()
        layers, c = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7), nn.ReLU()], width
        for i in range(downs):
            out = 2 * c if i < 2 else c
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(c, out, 4, 2), nn.ReLU()]
            c = out
        self.inner, self.out = nn.Sequential(*layers), nn.Linear(c, style)

    def forward(self, x):
        return self.out(self.inner(x).mean((2, 3)))


def ups(up, prefix: str = "") -> dict[str, Any]:
    """Layers of `enlarging` by 4 by our paths."""
    norms = [m for m in up if isinstance(m, nn.GroupNorm)]
    names = ("up_1/conv", "up_0/conv", "out/conv", "up_1_norm", "up_0_norm")
    return {prefix + name: layer for name, layer in zip(names, [*convolutions(up), *norms], strict=True)}


def code(channels: int) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(2, 8, 8, channels)).astype(np.float32)


# ---- StarGAN: zero padding, norms with a scale and a bias, and no other biases


class Plain(nn.Module):
    def __init__(self, c):
        super().__init__()
        side = lambda: [nn.Conv2d(c, c, 3, 1, 1, bias=False), nn.InstanceNorm2d(c, affine=True)]  # noqa: E731
        self.inner = nn.Sequential(*side(), nn.ReLU(), *side())

    def forward(self, x):
        return x + self.inner(x)


def stars(channels: int, width: int, downs: int, blocks: int):
    layer = lambda conv: [conv, nn.InstanceNorm2d(conv.out_channels, affine=True), nn.ReLU()]  # noqa: E731
    layers, widths = layer(nn.Conv2d(channels, width, 7, 1, 3, bias=False)), [width << i for i in range(downs + 1)]
    for a, b in itertools.pairwise(widths):
        layers += layer(nn.Conv2d(a, b, 4, 2, 1, bias=False))
    layers += [Plain(widths[-1]) for _ in range(blocks)]
    for a, b in itertools.pairwise(widths[::-1]):
        layers += layer(nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False))
    return nn.Sequential(*layers, nn.Conv2d(width, 3, 7, 1, 3, bias=False), nn.Tanh())


class Judge(nn.Module):
    def __init__(self, side, width, stride_2_layers, kinds):
        super().__init__()
        pairs = itertools.pairwise([3, *(width << i for i in range(stride_2_layers))])
        layers = [[nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.01)] for a, b in pairs]
        self.inner, last = nn.Sequential(*itertools.chain(*layers)), width << (stride_2_layers - 1)
        self.real = nn.Conv2d(last, 1, 3, 1, 1, bias=False)
        self.kind = nn.Conv2d(last, kinds, side >> stride_2_layers, bias=False)

    def forward(self, x):
        x = self.inner(x)
        return self.real(x)[:, 0], self.kind(x)[:, :, 0, 0]
