"""Adversarial losses with PatchGAN discriminators, at one scale or several, and feature matching.

The discriminators are updated first, as in the authors' code of pix2pix, CUT, UNIT and MUNIT. In the code of CycleGAN
and BicycleGAN the generators are first; in that of pix2pixHD both losses use the nets from before the step.
"""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from jaxgen.core.errors import at_least
from jaxgen.core.ranges import Decay
from jaxgen.core.types import Array, Key, Learner, PyTree
from jaxgen.losses.gan import LOSSES
from jaxgen.nn.patch_discriminator import MultiscaleDiscriminator, PatchVariant, check_patches
from jaxgen.nn.precision import to_f32

Outputs = list[list[Array]]  # for each scale, each layer's output f32[b h w c]; the last ones are logits f32[b h' w']


@dataclass(frozen=True)
class PatchGANConfig:
    """Hyper-parameters of the discriminators, their loss and all optimizers."""

    loss: Literal["non-saturating", "least-squares", "hinge"] = "least-squares"
    adversarial: float = 1.0  # weight of the adversarial loss; 0: no discriminator
    features: float = 0.0  # weight of the feature-matching loss
    scales: int = 1  # number of discriminators; each one gets images half as large as the one before
    layers: int = 3  # number of stride-2 layers of a discriminator
    width: int = 64  # channels of its first layer
    norm: Literal["affine", "instance", "none"] = "instance"  # instance norm, with or without scale and bias
    form: PatchVariant = PatchVariant()
    learning_rate: float = 2e-4  # of Adam, of every net
    beta1: Decay = 0.5
    decay: float = 0.0  # L2 regularisation: this factor times the weights is added to the gradient
    halve_every: int = 0  # number of steps after which the learning rate is halved, again and again; 0: never

    def check(self, image: tuple[int, int, int]):
        """Raise InputError for settings out of range, and for images that are too small."""
        at_least(0, model__game__adversarial=self.adversarial, model__game__features=self.features)
        at_least(1, model__game__scales=self.scales, model__game__layers=self.layers, model__game__width=self.width)
        at_least(0, model__game__decay=self.decay, model__game__halve_every=self.halve_every)
        at_least(1, model__game__form__around=self.form.around)
        if self.adversarial:
            check_patches(image, self.layers, self.scales, self.form)

    @property
    def net(self) -> MultiscaleDiscriminator:
        return MultiscaleDiscriminator(self.scales, self.layers, self.width, self.norm, self.form)

    def init(self, key: Key, image: tuple[int, int, int], channels: int) -> PyTree:
        """Return the parameters of one discriminator (all its scales) of images with so many channels."""
        return self.net.init(key, jnp.zeros((2, *image[:2], channels)))["params"]

    def learner(self, *nets: str) -> Learner:
        rate: Any = self.learning_rate
        if self.halve_every:
            rate = optax.exponential_decay(rate, self.halve_every, 0.5, staircase=True)
        adam = optax.adam(rate, b1=self.beta1)
        return Learner(nets, optax.chain(optax.add_decayed_weights(self.decay), adam) if self.decay else adam)

    def outputs(self, params: Any, x: Array) -> Outputs:
        """Return the discriminator's outputs for images f32[b h w c]."""
        return self.net.apply({"params": params}, x)  # pyright: ignore[reportReturnType]

    def outputs_of_both(self, params: Any, real: Array, fake: Array) -> tuple[Outputs, Outputs]:
        """Return the outputs for real and for fake images from one pass: no norm of the net mixes images."""
        both, n = self.outputs(params, jnp.concatenate([real, fake])), len(real)
        return [[x[:n] for x in scale] for scale in both], [[x[n:] for x in scale] for scale in both]

    def discriminator_loss(self, real: Outputs, fake: Outputs) -> Array:
        """Return the discriminator's loss f32[b], a sum over scales.

        Least squares have a factor of 1/2, which does not change Adam's updates. With weight decay it would, and
        MUNIT's code has no such factor: there it is left out.
        """
        loss, scale = LOSSES[self.loss].discriminator, 2.0 if self.decay and self.loss == "least-squares" else 1.0
        return scale * total([each(loss(r[-1], f[-1])) for r, f in zip(real, fake, strict=True)])

    def generator_loss(self, fake: Outputs) -> Array:
        """Return the generator's adversarial loss f32[b], a sum over scales; least squares without a factor of 1/2."""
        loss, scale = LOSSES[self.loss].generator, 2.0 if self.loss == "least-squares" else 1.0
        return scale * total([each(loss(f[-1], f[-1])) for f in fake])

    def feature_distance(self, real: Outputs, fake: Outputs) -> Array:
        """Return the feature-matching loss f32[b]: L1 of the layers' outputs, summed over layers, mean over scales.

        Wang et al. 2018, equation 4; the mean over scales is from the authors' code.
        """
        scales = []
        for r, f in zip(real, fake, strict=True):
            layers = [each(jnp.abs(jax.lax.stop_gradient(a) - b)) for a, b in zip(r[:-1], f[:-1], strict=True)]
            scales.append(total(layers))
        return total(scales) / len(scales)

    def scores(self, real: Outputs, fake: Outputs) -> dict[str, Array]:
        """Return metrics: the mean logits, or probabilities, of real and of fake images."""
        score = LOSSES[self.loss].score
        mean = lambda outputs: score(jnp.concatenate([o[-1].reshape(-1) for o in outputs])).mean()  # noqa: E731
        return {"real": mean(real), "fake": mean(fake)}


def each(x: Array) -> Array:
    """Return the mean of each example f32[b]."""
    return to_f32(x).mean(range(1, x.ndim))


def total(parts: list[Array]) -> Array:
    """Return the sum of arrays of equal shape."""
    return sum(parts[1:], start=parts[0])
