"""GAN training steps beside PyTorch eager: python -m tests.benchmarks.gan_step [--write] [--rounds N]

WGAN-GP at 64x64 with one critic update a step, SNGAN at 32x32 with one, StyleGAN2 at 64x64 without its lazy phases and
with both of them in the step; f32, one batch that stays in memory. tests/benchmarks/dcgan_step.py has the DCGAN,
torch_gans.py the other side, turns.py says how they take turns.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.benchmarks import report, turns

BATCH = {"WGAN-GP": 64, "SNGAN": 64, "StyleGAN2": 16, "StyleGAN2, lazy": 16}
WIDTH = 32
STYLES = {"base": 2048, "most": 256, "latent": 256, "layers": 8}


def model_of(game: str) -> Any:
    from jaxgen.models.gan import sngan, stylegan2, wgan
    from jaxgen.models.gan.dcgan import DCGAN

    if game == "WGAN-GP":
        once = replace(wgan.PENALTY, critics=1)
        return DCGAN(image=(64, 64, 3), width=WIDTH, prior="normal", norm="none", game=once)
    if game == "SNGAN":
        return sngan.SNGAN(width=128, discriminator_width=64, game=replace(sngan.PAPER, critics=1))
    lazy = game.endswith("lazy")
    play = replace(stylegan2.PAPER, r1=1.0, lazy=16) if lazy else replace(stylegan2.PAPER, r1=0.0, lazy=1)
    return stylegan2.StyleGAN2(
        image=(64, 64, 3),
        latent=STYLES["latent"],
        mapping_layers=STYLES["layers"],
        channel_base=STYLES["base"],
        channel_max=STYLES["most"],
        group=4,
        path_length=2.0 if lazy else 0.0,
        game=play,
    )


def ours(game: str) -> Callable[[], Any]:
    """Return what takes one step as jaxgen's loop does, and waits for it."""
    from jaxgen.core.config import Run

    # Every phase in every step: what a lazy one costs is what is measured.
    always = lambda task: replace(task, phases=tuple(replace(phase, every=1) for phase in task.phases))  # noqa: E731
    return turns.step_of(Run(model=model_of(game), batch=BATCH[game]), always)


def theirs(game: str) -> Callable[[], Any]:
    from tests.benchmarks import torch_gans

    if game == "WGAN-GP":
        return torch_gans.wgan_gp(64, BATCH[game], WIDTH)
    if game == "SNGAN":
        return torch_gans.sngan(BATCH[game], 128, 64)
    return torch_gans.stylegan2(64, BATCH[game], **STYLES, lazy=game.endswith("lazy"))


def sides(game: str) -> dict[str, Callable[[], Callable[[], Any]]]:
    return {f"jaxgen, {game}": lambda: ours(game), f"PyTorch, {game}": lambda: theirs(game)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        turns.work({k: v for game in BATCH for k, v in sides(game).items()}, sys.argv[2], repeats=1)
    else:
        wanted = report.arguments(__doc__, rounds=5)
        rows = []
        for game, batch in BATCH.items():
            rows += turns.measure("tests.benchmarks.gan_step", sides(game), wanted.rounds, batch, "step")
        report.publish("gan-step", rows, wanted.write)
