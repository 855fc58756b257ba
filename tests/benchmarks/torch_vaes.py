"""The VAEs of vae_step.py as they are written in PyTorch eager: the same nets, loss and update."""

from itertools import pairwise
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # pyright: ignore[reportMissingImports]

from tests.benchmarks.torch_gans import Step, prepare


def gelu(x):
    return F.gelu(x, approximate="tanh")


def training(net: Any, image: tuple[int, int, int], batch: int, adam: dict[str, Any], ema: float = 0.0) -> Step:
    """Return what takes one step of Adam down -ELBO = net(x), f[b], and moves the average of the weights."""
    height, width, channels = image
    x, optimizer = torch.rand(batch, channels, height, width), torch.optim.Adam(net.parameters(), **adam)
    average = [p.detach().clone() for p in net.parameters()] if ema else []

    def one():
        optimizer.zero_grad()
        net(x).mean().backward()
        optimizer.step()
        if average:
            with torch.no_grad():
                for a, p in zip(average, net.parameters(), strict=True):
                    a.lerp_(p, 1 - ema)

    return one


class Conv(nn.Module):
    """`vae-conv`: strided 4x4 convolutions to 4x4 pixels, and back."""

    def __init__(self, model: Any):
        super().__init__()
        side, _, channels = model.image
        widths = [channels, *model.nets.widths(model.image[:2])]
        small = side >> len(widths) - 1
        down = [layer for a, b in pairwise(widths) for layer in (nn.Conv2d(a, b, 4, 2, 1), nn.ReLU())]
        flat = widths[-1] * small * small
        self.encoder, self.heads = nn.Sequential(*down, nn.Flatten()), nn.Linear(flat, 2 * model.latent)
        up = [layer for b, a in pairwise(widths[::-1]) for layer in (nn.ReLU(), nn.ConvTranspose2d(b, a, 4, 2, 1))]
        shape = (widths[-1], small, small)
        self.decoder = nn.Sequential(nn.Linear(model.latent, flat), nn.Unflatten(1, shape), *up)

    def forward(self, x):
        mean, log_var = self.heads(self.encoder(x)).chunk(2, 1)
        logits = self.decoder(mean + (log_var / 2).exp() * torch.randn_like(mean))
        cross = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3))
        return cross + 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1)


def conv(model: Any, batch: int) -> Step:
    prepare()
    return training(Conv(model), model.image, batch, {"lr": model.learning_rate})


def block(a: int, middle: int, b: int, side: int) -> Any:
    k = 3 if side > 2 else 1
    sizes = ((a, middle, 1), (middle, middle, k), (middle, middle, k), (middle, b, 1))
    return nn.ModuleList(nn.Conv2d(i, o, size, padding=size // 2) for i, o, size in sizes)


def through(layers: Any, x):
    for layer in layers:
        x = layer(gelu(x))
    return x


class Layer(nn.Module):
    def __init__(self, width: int, middle: int, latent: int, side: int):
        super().__init__()
        self.prior = block(width, middle, 2 * latent + width, side)
        self.posterior, self.enter = block(2 * width, middle, 2 * latent, side), nn.Conv2d(latent, width, 1)
        self.block, self.latent = block(width, middle, width, side), latent

    def forward(self, x, features):
        d = self.latent
        mean_p, log_p, more = through(self.prior, x).split([d, d, x.shape[1]], 1)
        mean_q, log_q = through(self.posterior, torch.cat([x, features], 1)).chunk(2, 1)
        z, ratio = mean_q + log_q.exp() * torch.randn_like(mean_q), log_q - log_p
        kl = 0.5 * ((2 * ratio).exp() + ((mean_q - mean_p) * (-log_p).exp()).square() - 1) - ratio
        x = x + more + self.enter(z)
        return x + through(self.block, x), kl.sum((1, 2, 3))


class Ladder(nn.Module):
    """`hierarchical`."""

    def __init__(self, model: Any):
        super().__init__()
        side, _, channels = model.image
        width, middle = model.width, model.bottleneck
        sides = [side >> i for i in reversed(range(len(model.layers)))]
        self.enter, self.out = nn.Conv2d(channels, width, 3, padding=1), nn.Conv2d(width, channels, 1)
        self.ups, self.downs, self.starts = nn.ModuleList(), nn.ModuleList(), nn.ParameterList()
        for n, count, s in zip(model.layers, model.encoder.blocks, sides, strict=True):
            self.ups.append(nn.ModuleList(block(width, middle, width, s) for _ in range(count)))
            self.downs.append(nn.ModuleList(Layer(width, middle, model.latent, s) for _ in range(n)))
            self.starts.append(torch.zeros(1, width, s, s))

    def forward(self, image):
        x, features = self.enter(image), []
        for i, blocks in enumerate(reversed(self.ups)):  # pyright: ignore
            x = F.avg_pool2d(x, 2) if i else x
            for layers in blocks:  # pyright: ignore
                x = x + through(layers, x)
            features.append(x)
        x, cost = torch.zeros(()), 0.0
        for i, (layers, start) in enumerate(zip(self.downs, self.starts, strict=True)):
            x = start + F.interpolate(x, scale_factor=2) if i else start.expand(len(image), -1, -1, -1)
            for layer in layers:  # pyright: ignore
                x, kl = layer(x, features[-1 - i])
                cost = cost + kl
        return F.binary_cross_entropy_with_logits(self.out(x), image, reduction="none").sum((1, 2, 3)) + cost


def ladder(model: Any, batch: int) -> Step:
    prepare()
    adam = {"lr": model.learning_rate, "betas": (0.9, model.beta2)}
    return training(Ladder(model), model.image, batch, adam, model.ema)


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.a, self.b = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 1)

    def forward(self, x):
        return x + self.b(F.relu(self.a(F.relu(x))))


class Quantised(nn.Module):
    """`vq-vae` without its prior: two halvings, a codebook of moving averages, dead codes put on vectors."""

    share: Any
    total: Any

    def __init__(self, model: Any):
        super().__init__()
        w, c, self.q = model.width, model.image[2], model.quantiser
        blocks = lambda: [Residual(w) for _ in range(model.blocks)]  # noqa: E731
        down = (nn.Conv2d(c, w // 2, 4, 2, 1), nn.ReLU(), nn.Conv2d(w // 2, w, 4, 2, 1), nn.ReLU())
        self.encoder = nn.Sequential(
            *down, nn.Conv2d(w, w, 3, padding=1), *blocks(), nn.ReLU(), nn.Conv2d(w, self.q.size, 1)
        )
        up = (nn.ConvTranspose2d(w, w // 2, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(w // 2, c, 4, 2, 1))
        self.decoder = nn.Sequential(nn.Conv2d(self.q.size, w, 3, padding=1), *blocks(), nn.ReLU(), *up)
        self.register_buffer("share", torch.full((self.q.codes,), 1 / self.q.codes))
        self.register_buffer("total", torch.randn(self.q.codes, self.q.size) / self.q.codes)

    def forward(self, x):
        z = self.encoder(x)
        flat = z.permute(0, 2, 3, 1).reshape(-1, self.q.size)
        codes = self.total / self.share[:, None]
        token = (codes.square().sum(1) - 2 * flat.detach() @ codes.T).argmin(1)
        e = codes[token].view(len(x), *z.shape[2:], -1).permute(0, 3, 1, 2)
        with torch.no_grad():
            chosen = F.one_hot(token, self.q.codes).float()
            self.share.lerp_(chosen.mean(0), 1 - self.q.decay)
            self.total.lerp_(chosen.T @ flat / len(flat), 1 - self.q.decay)
            dead = self.share < self.q.revive / self.q.codes
            some = flat[torch.randint(len(flat), (self.q.codes,))] / self.q.codes
            self.share.copy_(torch.where(dead, torch.full_like(self.share, 1 / self.q.codes), self.share))
            self.total.copy_(torch.where(dead[:, None], some, self.total))
        cost = self.q.commitment * (z - e).square().mean((1, 2, 3))
        return (self.decoder(z + (e - z).detach()) - x).square().mean((1, 2, 3)) + cost


def quantised(model: Any, batch: int) -> Step:
    prepare()
    return training(Quantised(model), model.image, batch, {"lr": model.learning_rate})
