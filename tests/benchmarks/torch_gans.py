"""The GANs of gan_step.py as they are written in PyTorch eager: what a user would run instead.

A step is one update of the discriminator and one of the generator on the same noise, as jaxgen's. StyleGAN2's
convolutions scale the activations and share one kernel, the way NVIDIA's code trains, with depthwise FIR filters.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # pyright: ignore[reportMissingImports]

from tests.benchmarks import turns

Step = Callable[[], Any]


def prepare():
    torch.set_num_threads(turns.THREADS)
    torch.manual_seed(0)


def gradient_of(logits, x):
    return torch.autograd.grad(logits.sum(), x, create_graph=True)[0].square().sum((1, 2, 3))


def alternate(draw, generator, discriminator, critic_loss, generator_loss, adam: dict[str, Any]) -> Step:
    """Return what updates both players once."""
    critic, painter = (torch.optim.Adam(net.parameters(), **adam) for net in (discriminator, generator))

    def one():
        fake = generator(draw())
        critic.zero_grad()
        critic_loss(fake.detach()).backward()
        critic.step()
        discriminator.requires_grad_(False)
        painter.zero_grad()
        generator_loss(fake).backward()
        painter.step()
        discriminator.requires_grad_(True)

    return one


def wgan_gp(size: int, batch: int, width: int) -> Step:
    prepare()
    stages = size.bit_length() - 3
    widths = [width << i for i in range(stages)]
    first = nn.ConvTranspose2d(100, widths[-1], 4, 1, 0, bias=False)
    layers: list[Any] = [first, nn.BatchNorm2d(widths[-1]), nn.ReLU()]
    for a, b in pairwise(widths[::-1]):
        layers += [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    generator = nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False), nn.Tanh())
    layers = [nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for a, b in pairwise(widths):
        layers += [nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)]
    discriminator = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False), nn.Flatten(0))
    real = torch.rand(batch, 3, size, size) * 2 - 1

    def critic_loss(fake):
        t = torch.rand(batch, 1, 1, 1)
        between = (t * real + (1 - t) * fake).requires_grad_()
        penalty = ((gradient_of(discriminator(between), between) + 1e-12).sqrt() - 1).square()
        return (discriminator(fake) - discriminator(real) + 10 * penalty).mean()

    draw = lambda: torch.randn(batch, 100, 1, 1)  # noqa: E731
    adam = {"lr": 1e-4, "betas": (0.0, 0.9)}
    return alternate(draw, generator, discriminator, critic_loss, lambda fake: -discriminator(fake).mean(), adam)


# ---- SNGAN


class Up(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.skip = nn.Conv2d(width, width, 1)

    def forward(self, x):
        y = F.interpolate(F.relu(self.norms[0](x)), scale_factor=2)
        y = self.convs[1](F.relu(self.norms[1](self.convs[0](y))))
        return F.interpolate(self.skip(x), scale_factor=2) + y


class Down(nn.Module):
    def __init__(self, channels: int, width: int, down: bool, first: bool):
        super().__init__()
        spectral = nn.utils.parametrizations.spectral_norm
        self.down, self.first = down, first
        self.convs = nn.ModuleList(spectral(nn.Conv2d(c, width, 3, padding=1)) for c in (channels, width))
        self.skip = spectral(nn.Conv2d(channels, width, 1)) if down else None

    def forward(self, x):
        y = self.convs[1](F.relu(self.convs[0](x if self.first else F.relu(x))))
        if not self.down:
            return x + y
        assert self.skip is not None
        x = self.skip(F.avg_pool2d(x, 2)) if self.first else F.avg_pool2d(self.skip(x), 2)
        return x + F.avg_pool2d(y, 2)


def sngan(batch: int, width: int, discriminator_width: int) -> Step:
    prepare()

    class Generator(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(128, 16 * width)
            self.blocks = nn.Sequential(*(Up(width) for _ in range(3)), nn.BatchNorm2d(width), nn.ReLU())
            self.last = nn.Conv2d(width, 3, 3, padding=1)

        def forward(self, z):
            return torch.tanh(self.last(self.blocks(self.dense(z).view(-1, width, 4, 4))))

    class Discriminator(nn.Module):
        def __init__(self):
            super().__init__()
            c = discriminator_width
            plain = (Down(c, c, False, False) for _ in range(2))
            self.blocks = nn.Sequential(Down(3, c, True, True), Down(c, c, True, False), *plain)
            self.head = nn.utils.parametrizations.spectral_norm(nn.Linear(c, 1, bias=False))

        def forward(self, x):
            return self.head(F.relu(self.blocks(x)).sum((2, 3)))[:, 0]

    generator, discriminator = Generator(), Discriminator()
    real = torch.rand(batch, 3, 32, 32) * 2 - 1

    def critic_loss(fake):
        return F.relu(1 - discriminator(real)).mean() + F.relu(1 + discriminator(fake)).mean()

    adam = {"lr": 2e-4, "betas": (0.0, 0.9)}
    draw = lambda: torch.randn(batch, 128)  # noqa: E731
    return alternate(draw, generator, discriminator, critic_loss, lambda fake: -discriminator(fake).mean(), adam)


# ---- StyleGAN2

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
SQRT2, HALF = math.sqrt(2), math.sqrt(0.5)


def fir(x, pad: tuple[int, int], gain: float = 1.0, stride: int = 1):
    c = x.shape[1]
    kernel = (torch.outer(TAPS, TAPS) * gain).expand(c, 1, 4, 4)
    return F.conv2d(F.pad(x, (*pad, *pad)), kernel, stride=stride, groups=c)


def leaky(x, gain: float = 1.0):
    return F.leaky_relu(x, 0.2) * (SQRT2 * gain)


class EqualDense(nn.Module):
    def __init__(self, a: int, b: int, activate: bool = False, multiplier: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(b, a) / multiplier)
        self.bias = nn.Parameter(torch.full((b,), bias))
        self.gain, self.multiplier, self.activate = multiplier / math.sqrt(a), multiplier, activate

    def forward(self, x):
        y = F.linear(x, self.weight * self.gain, self.bias * self.multiplier)
        return leaky(y) if self.activate else y


class EqualConv(nn.Module):
    def __init__(self, a: int, b: int, size: int = 3, down: bool = False, plain: bool = False, gain: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(b, a, size, size))
        self.bias = None if plain else nn.Parameter(torch.zeros(b))
        self.equal, self.size, self.down, self.gain = 1 / math.sqrt(a * size * size), size, down, gain

    def forward(self, x):
        weight = self.weight * self.equal
        if self.down and self.size == 1:
            y = F.conv2d(fir(x, (1, 1), stride=2), weight)
        elif self.down:
            y = F.conv2d(fir(x, (2, 2)), weight, stride=2)
        else:
            y = F.conv2d(x, weight, padding=self.size // 2)
        return y * self.gain if self.bias is None else leaky(y + self.bias[:, None, None], self.gain)


class Modulated(nn.Module):
    def __init__(self, a: int, b: int, w: int, side: int, up: bool = False, rgb: bool = False):
        super().__init__()
        size = 1 if rgb else 3
        self.weight, self.affine = nn.Parameter(torch.randn(b, a, size, size)), EqualDense(w, a, bias=1.0)
        self.bias, self.strength = nn.Parameter(torch.zeros(b)), nn.Parameter(torch.zeros(()))
        self.side, self.up, self.rgb = side, up, rgb

    def forward(self, x, w):
        style = self.affine(w)
        if self.rgb:
            style = style / math.sqrt(style.shape[1])
            return F.conv2d(x * style[:, :, None, None], self.weight) + self.bias[:, None, None]
        y = x * style[:, :, None, None]
        if self.up:
            y = fir(F.conv_transpose2d(y, self.weight.transpose(0, 1), stride=2), (1, 1), gain=4)
        else:
            y = F.conv2d(y, self.weight, padding=1)
        power = style.square() @ self.weight.square().sum((2, 3)).T
        y = y * (power + 1e-8).rsqrt()[:, :, None, None]
        noise = torch.randn(len(x), 1, self.side, self.side) * self.strength
        return leaky(y + noise + self.bias[:, None, None])


class Generator(nn.Module):
    def __init__(self, widths: dict[int, int], latent: int, layers: int):
        super().__init__()
        self.mapping = nn.ModuleList(EqualDense(latent, latent, True, 0.01) for _ in range(layers))
        self.const = nn.Parameter(torch.randn(widths[4], 4, 4))
        self.first, self.rgb = Modulated(widths[4], widths[4], latent, 4), nn.ModuleList()
        self.layers, self.latent = nn.ModuleList(), latent
        for side, c in widths.items():
            if side > 4:
                a = widths[side // 2]
                self.layers += [Modulated(a, c, latent, side, up=True), Modulated(c, c, latent, side)]
            self.rgb.append(Modulated(c, 3, latent, side, rgb=True))
        self.num_ws = len(self.layers) + 2

    def latents(self, z):
        w = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.mapping:
            w = layer(w)
        return w

    def forward(self, z):
        ws = self.latents(z)[:, None].repeat(1, self.num_ws, 1)
        cut = int(torch.randint(1, self.num_ws, ()))
        ws = torch.cat([ws[:, :cut], self.latents(torch.randn_like(z))[:, None].repeat(1, self.num_ws - cut, 1)], 1)
        return self.synthesise(ws)

    def synthesise(self, ws):
        x = self.first(self.const.expand(len(ws), -1, -1, -1), ws[:, 0])
        image = self.rgb[0](x, ws[:, 1])
        for i, rgb in enumerate(self.rgb[1:]):
            x = self.layers[2 * i](x, ws[:, 2 * i + 1])
            x = self.layers[2 * i + 1](x, ws[:, 2 * i + 2])
            b, c, h, w = image.shape
            spread = torch.zeros(b, c, h, 2, w, 2)
            spread[:, :, :, 0, :, 0] = image
            image = fir(spread.view(b, c, 2 * h, 2 * w), (2, 1), gain=4) + rgb(x, ws[:, 2 * i + 3])
        return image


class Discriminator(nn.Module):
    def __init__(self, widths: dict[int, int]):
        super().__init__()
        sides = sorted(widths, reverse=True)
        self.start, self.blocks = EqualConv(3, widths[sides[0]], 1), nn.ModuleList()
        for side, half in pairwise(sides):
            a, b = widths[side], widths[half]
            skip = EqualConv(a, b, 1, True, True, HALF)
            self.blocks.append(nn.ModuleList([EqualConv(a, a), EqualConv(a, b, down=True, gain=HALF), skip]))
        c = widths[4]
        self.last, self.fc, self.out = EqualConv(c + 1, c), EqualDense(16 * c, c, True), EqualDense(c, 1)

    def forward(self, x):
        x = self.start(x)
        for block in self.blocks:
            layers: Any = block
            first, second, skip = layers
            x = second(first(x)) + skip(x)
        groups = x.view(4, -1, *x.shape[1:])
        spread = (groups.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
        x = torch.cat([x, spread.repeat(4)[:, None, None, None].expand(-1, 1, 4, 4)], 1)
        return self.out(self.fc(self.last(x).flatten(1)))[:, 0]


def stylegan2(size: int, batch: int, base: int, most: int, latent: int, layers: int, lazy: bool) -> Step:
    """`lazy`: with R1 and the path length penalty in this step; in training they come every 16th and 4th."""
    prepare()
    widths = {1 << i: min(base >> i, most) for i in range(2, size.bit_length())}
    generator, discriminator = Generator(widths, latent, layers), Discriminator(widths)
    real = torch.rand(batch, 3, size, size) * 2 - 1
    adam: dict[str, Any] = {"lr": 0.0025, "betas": (0.0, 0.99)}
    critic, painter = (torch.optim.Adam(net.parameters(), **adam) for net in (discriminator, generator))
    mean = torch.zeros(())

    def one():
        nonlocal mean
        fake = generator(torch.randn(batch, latent))
        critic.zero_grad()
        (F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake.detach())).mean()).backward()
        critic.step()
        if lazy:
            x = real.clone().requires_grad_()
            critic.zero_grad()
            (16 * gradient_of(discriminator(x), x).mean() / 2).backward()
            critic.step()
        discriminator.requires_grad_(False)
        painter.zero_grad()
        F.softplus(-discriminator(fake)).mean().backward()
        painter.step()
        discriminator.requires_grad_(True)
        if lazy:
            painter.zero_grad()
            w = generator.latents(torch.randn(batch // 2, latent))
            ws = w[:, None].repeat(1, generator.num_ws, 1)
            image = generator.synthesise(ws)
            (slope,) = torch.autograd.grad((image * torch.randn_like(image) / size).sum(), ws, create_graph=True)
            lengths = slope.square().sum(2).mean(1).sqrt()
            now = torch.lerp(mean, lengths.mean(), 0.01)
            (4 * 2 * (lengths - now).square().mean()).backward()
            mean = now.detach()
            painter.step()

    return one
