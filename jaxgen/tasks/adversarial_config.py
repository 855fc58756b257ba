"""Settings of adversarial training: the loss, the regularisation of the discriminator, and the optimizers."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count, Decay, Share, check_settings
from jaxgen.tasks import ada_augmentation
from jaxgen.tasks.diff_augmentation import check_policy


@dataclass(frozen=True)
class AdversarialConfig:
    """Settings of adversarial training, the same for all nets."""

    loss: Literal[
        "non-saturating", "minimax", "hinge", "least-squares", "wasserstein", "relativistic", "relativistic-average"
    ] = "non-saturating"  # of the generator and the discriminator
    critics: Count = 1  # updates of the discriminator, each on fresh examples, for each update of the generator
    unroll: int = 0  # future updates of the discriminator that the generator's loss differentiates through; 0: none
    r1: float = 0.0  # gamma of gamma/2 |gradient|^2 on real images
    r2: float = 0.0  # gamma of gamma/2 |gradient|^2 on generated images
    gradient_penalty: float = 0.0  # lambda of (|gradient| - 1)^2 between real and generated images (WGAN-GP)
    dragan: float = 0.0  # lambda of (|gradient| - 1)^2 around real images (DRAGAN)
    lazy: Count = 1  # take the penalties in one of so many steps, multiplied by this number
    clip: float = 0.0  # the discriminator's parameters stay in [-clip, clip]; 0: no limit
    spectral: Literal["none", "discriminator", "both"] = "none"  # nets whose weights have spectral normalisation
    augment: str = "none"  # of the discriminator's inputs: color,translation,cutout, or ada:bgc (blit, geometry, color)
    ada_target: Share = 0.6  # target of the mean sign of the real images' logits, which ada adjusts p for
    optimizer: Literal["adam", "rmsprop"] = "adam"
    learning_rate: float = 2e-4
    generator_rate: float | None = None  # of the generator; None: learning_rate
    beta1: Decay = 0.5
    beta2: Decay = 0.999
    ema: Decay = 0.999  # decay of the generator's moving average

    @property
    def ada(self) -> str:
        """The name of the adaptive augmentation pipe; empty without adaptive augmentation."""
        return self.augment.removeprefix("ada:") if self.augment.startswith("ada:") else ""

    def check(self):
        """Raise InputError for settings that no training can use."""
        check_settings(self, "model.game.")
        if self.ada:
            ada_augmentation.check_pipe(self.ada)
        elif self.augment != "none":
            check_policy(self.augment)
        if self.lazy > 1 and self.unroll:
            raise InputError(
                f"model.game.unroll={self.unroll} looks ahead without the penalties of model.game.lazy={self.lazy}: "
                "give lazy 1."
            )
        if self.lazy > 1 and not self.has_penalty:
            raise InputError(
                f"model.game.lazy={self.lazy} needs a penalty: set model.game.r1, r2, gradient-penalty or dragan."
            )

    @property
    def has_penalty(self) -> bool:
        """Whether the discriminator's loss has a penalty on its gradient."""
        return any((self.r1, self.r2, self.gradient_penalty, self.dragan))

    def make_optimizer(self, rate: float, clip: float = 0.0, every: int = 0) -> optax.GradientTransformation:
        """Return an optimizer; rate and decays are adjusted for a lazy phase every `every` steps.

        Karras et al. 2020a, appendix B: rate times c, and betas to the power c, with c = every / (every + 1).
        """
        c = every / (every + 1) if every > 1 else 1.0
        b1, b2 = self.beta1**c, self.beta2**c
        # Unrolling differentiates through Adam. At a dead unit Adam's second moment is 0, where its square root has an
        # infinite derivative, so it needs a small constant under the root.
        root = 1e-16 if self.unroll else 0.0
        step = {
            "adam": lambda: optax.adam(rate * c, b1=b1, b2=b2, eps_root=root),
            "rmsprop": lambda: optax.rmsprop(rate * c, decay=0.99, eps_in_sqrt=False),  # PyTorch's
        }[self.optimizer]()
        return optax.chain(step, clip_parameters(clip)) if clip else step


def clip_parameters(limit: float) -> optax.GradientTransformation:
    """Return a transformation that keeps every parameter in [-limit, limit]. Arjovsky et al. 2017, algorithm 1."""

    def update(updates, state, params=None):
        move = lambda u, p: jnp.clip(p + u, -limit, limit) - p  # noqa: E731
        return jax.tree.map(move, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
