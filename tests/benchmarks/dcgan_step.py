"""The DCGAN training step beside PyTorch eager: python -m tests.benchmarks.dcgan_step [--write] [--rounds N]

64x64x3, batch 64, width 64, kernel 4, f32, one batch that stays in memory; an update of the discriminator on real and
fake images, one of the generator on the same fakes, Adam. tests/benchmarks/turns.py says how the sides take turns.
"""

import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from tests.benchmarks import report, turns

SIZE, CHANNELS, BATCH, WIDTH, LATENT = 64, 3, 64, 64, 100


def ours() -> Callable[[], Any]:
    """Return what takes one step as jaxgen's loop does, and waits for it."""
    from jaxgen.core.config import Run
    from jaxgen.models.gan.dcgan import DCGAN

    model = DCGAN(image=(SIZE, SIZE, CHANNELS), latent=LATENT, width=WIDTH, kernel=4)
    return turns.step_of(Run(model=model, batch=BATCH))


def theirs(channels_last: bool) -> Callable[[], Any]:
    """Return what takes one step of the same game in PyTorch eager."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(turns.THREADS)
    torch.manual_seed(0)
    layers: list[Any] = []
    widths = [LATENT, 8 * WIDTH, 4 * WIDTH, 2 * WIDTH, WIDTH]
    for i, (a, b) in enumerate(pairwise(widths)):
        layers += [nn.ConvTranspose2d(a, b, 4, 2 if i else 1, 1 if i else 0, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    generator = nn.Sequential(*layers, nn.ConvTranspose2d(WIDTH, CHANNELS, 4, 2, 1, bias=False), nn.Tanh())
    layers = [nn.Conv2d(CHANNELS, WIDTH, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    widths = widths[:0:-1]
    for a, b in pairwise(widths):
        layers += [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)]
    discriminator = nn.Sequential(*layers, nn.Conv2d(8 * WIDTH, 1, 4, 1, 0, bias=False))
    for net in (generator, discriminator):
        for name, p in net.named_parameters():
            nn.init.normal_(p, float(p.ndim == 1 and name.endswith("weight")), 0.02)
    images = torch.rand(BATCH, CHANNELS, SIZE, SIZE) * 2 - 1
    if channels_last:
        layout: Any = {"memory_format": torch.channels_last}
        generator, discriminator, images = generator.to(**layout), discriminator.to(**layout), images.to(**layout)
    adams = [torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999)) for net in (discriminator, generator)]
    softplus = nn.functional.softplus

    def one():
        fake = generator(torch.rand(BATCH, LATENT, 1, 1) * 2 - 1)
        adams[0].zero_grad()
        (softplus(-discriminator(images)).mean() + softplus(discriminator(fake.detach())).mean()).backward()
        adams[0].step()
        discriminator.requires_grad_(False)  # ours computes no gradient that nobody uses, either
        adams[1].zero_grad()
        softplus(-discriminator(fake)).mean().backward()
        adams[1].step()
        discriminator.requires_grad_(True)

    return one


SIDES: dict[str, Callable[[], Callable[[], Any]]] = {
    "jaxgen": ours,
    "PyTorch": lambda: theirs(False),
    "PyTorch, channels last": lambda: theirs(True),
}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        turns.work(SIDES, sys.argv[2], repeats=2)
    else:
        wanted = report.arguments(__doc__, rounds=7)
        rows = turns.measure("tests.benchmarks.dcgan_step", SIDES, wanted.rounds, BATCH, "step", "dcgan")
        report.publish("dcgan-step", rows, wanted.write)
