"""How a game of two players is played: the loss, what keeps the critic smooth, the optimizers, the prior of z."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from jaxgen.core.errors import InputError, at_least
from jaxgen.tasks import ada_augmentation
from jaxgen.tasks.diff_augmentation import check_policy


@dataclass(frozen=True)
class Game:
    """How a game is played, whatever the nets."""

    loss: Literal[
        "non-saturating", "minimax", "hinge", "least-squares", "wasserstein", "relativistic", "relativistic-average"
    ] = "non-saturating"  # what the two players minimise
    critics: int = 1  # updates of the discriminator, on fresh examples, to one of the generator
    unroll: int = 0  # updates of the discriminator that the generator looks ahead, and differentiates through
    r1: float = 0.0  # gamma of gamma/2 |gradient|^2 on real images
    r2: float = 0.0  # the same on generated ones
    gradient_penalty: float = 0.0  # lambda of (|gradient| - 1)^2 between real and generated ones (WGAN-GP)
    dragan: float = 0.0  # lambda of (|gradient| - 1)^2 around real ones (DRAGAN)
    lazy: int = 1  # the penalties are taken every so many steps, and count as much
    clip: float = 0.0  # the discriminator's parameters stay in [-clip, clip]; 0: no limit
    spectral: Literal["none", "discriminator", "both"] = "none"  # which nets' weights are divided by their norm
    augment: str = "none"  # of all the discriminator sees: color,translation,cutout, or ada:bgc (blit, geometry, color)
    ada_target: float = 0.6  # of the mean sign of the real images' logits, which ada's p follows
    optimizer: Literal["adam", "rmsprop"] = "adam"
    learning_rate: float = 2e-4
    generator_rate: float | None = None  # unset: the same
    beta1: float = 0.5
    beta2: float = 0.999
    ema: float = 0.999  # decay of the generator's moving average

    @property
    def ada(self) -> str:
        """The pipe of adaptive augmentation, or nothing."""
        return self.augment.removeprefix("ada:") if self.augment.startswith("ada:") else ""

    def check(self):
        """Raise InputError for what no game can be played with."""
        at_least(1, model__game__critics=self.critics, model__game__lazy=self.lazy)
        names = ("unroll", "r1", "r2", "gradient_penalty", "dragan", "clip", "ema")
        at_least(0, **{f"model__game__{name}": getattr(self, name) for name in names})
        if self.ema >= 1:
            raise InputError(f"model.game.ema must be below 1, not {self.ema}.")
        if self.ada:
            ada_augmentation.check_pipe(self.ada)
        elif self.augment != "none":
            check_policy(self.augment)
        if self.lazy > 1 and not self.penalised:
            raise InputError(f"model.game.lazy={self.lazy} has nothing to delay: give r1, r2 or another penalty.")

    @property
    def penalised(self) -> bool:
        return any((self.r1, self.r2, self.gradient_penalty, self.dragan))

    def optimize(self, rate: float, clip: float = 0.0, every: int = 0) -> optax.GradientTransformation:
        """Return an optimizer; with a lazy phase each `every` steps rate and decays are for as many updates.

        Karras et al. 2020a, appendix B: rate and betas to the power c = every / (every + 1).
        """
        c = every / (every + 1) if every > 1 else 1.0
        b1, b2 = self.beta1**c, self.beta2**c
        # The slope of Adam's root is infinite at 0, where a unit is dead: who differentiates through it needs a floor.
        root = 1e-16 if self.unroll else 0.0
        step = {
            "adam": lambda: optax.adam(rate * c, b1=b1, b2=b2, eps_root=root),
            "rmsprop": lambda: optax.rmsprop(rate * c, decay=0.99, eps_in_sqrt=False),  # PyTorch's
        }[self.optimizer]()
        return optax.chain(step, clipped(clip)) if clip else step


def clipped(limit: float) -> optax.GradientTransformation:
    """Return what keeps every parameter in [-limit, limit]. Arjovsky et al. 2017, algorithm 1."""

    def update(updates, state, params=None):
        move = lambda u, p: jnp.clip(p + u, -limit, limit) - p  # noqa: E731
        return jax.tree.map(move, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
