"""How translators are judged: by critics of patches, at one size or several, and by what those see on the way.

Critics move first, as in the authors' code of pix2pix, CUT, UNIT and MUNIT. In CycleGAN's and BicycleGAN's the
generators do; in pix2pixHD's both look at what the other was before.
"""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from jaxgen.core.errors import at_least
from jaxgen.core.types import Array, Key, Learner, PyTree
from jaxgen.losses.gan import LOSSES
from jaxgen.nn.patch_discriminator import MultiscaleDiscriminator, PatchVariant, check_patches
from jaxgen.nn.precision import to_f32

Said = list[list[Array]]  # by scale: what each layer says f32[b h w c], the logits f32[b h' w'] last


@dataclass(frozen=True)
class Game:
    """Critics, and how much their judgement counts."""

    loss: Literal["non-saturating", "least-squares", "hinge"] = "least-squares"
    adversarial: float = 1.0  # weight of the judgement; 0: nobody judges
    features: float = 0.0  # weight of the distance between what the critics' layers say of made and of true images
    scales: int = 1  # critics, each of which sees images half as large as the one before
    layers: int = 3  # a critic's halvings
    width: int = 64  # channels of its first layer
    # of each image by itself; with a scale and a bias of its own, or not
    norm: Literal["affine", "instance", "none"] = "instance"
    form: PatchVariant = PatchVariant()
    learning_rate: float = 2e-4  # of Adam, of every net
    beta1: float = 0.5
    decay: float = 0.0  # of weights: this much of them is a part of the gradient
    halving: int = 0  # steps after which the rate is halved, again and again; 0: never

    def check(self, image: tuple[int, int, int]):
        """Raise InputError for what no game can be played with."""
        at_least(0, model__game__adversarial=self.adversarial, model__game__features=self.features)
        at_least(1, model__game__scales=self.scales, model__game__layers=self.layers, model__game__width=self.width)
        at_least(0, model__game__decay=self.decay, model__game__halving=self.halving)
        at_least(1, model__game__form__around=self.form.around)
        if self.adversarial:
            check_patches(image, self.layers, self.scales, self.form)

    @property
    def net(self) -> MultiscaleDiscriminator:
        return MultiscaleDiscriminator(self.scales, self.layers, self.width, self.norm, self.form)

    def init(self, key: Key, image: tuple[int, int, int], channels: int) -> PyTree:
        """Return the parameters of one critic of images with so many channels."""
        return self.net.init(key, jnp.zeros((2, *image[:2], channels)))["params"]

    def learner(self, *nets: str) -> Learner:
        rate: Any = self.learning_rate
        if self.halving:
            rate = optax.exponential_decay(rate, self.halving, 0.5, staircase=True)
        adam = optax.adam(rate, b1=self.beta1)
        return Learner(nets, optax.chain(optax.add_decayed_weights(self.decay), adam) if self.decay else adam)

    def says(self, params: Any, x: Array) -> Said:
        """Return what the critic of these parameters says of images f32[b h w c]."""
        return self.net.apply({"params": params}, x)  # pyright: ignore[reportReturnType]

    def says_of_both(self, params: Any, real: Array, fake: Array) -> tuple[Said, Said]:
        """Return the same of two kinds of images, in one pass: no norm of a critic mixes images."""
        said, n = self.says(params, jnp.concatenate([real, fake])), len(real)
        return [[x[:n] for x in scale] for scale in said], [[x[n:] for x in scale] for scale in said]

    def telling(self, real: Said, fake: Said) -> Array:
        """Return what a critic minimises f32[b], a sum over its sizes.

        The half of least squares changes no Adam; beside a decay of weights it would, and MUNIT's code has none.
        """
        tell, scale = LOSSES[self.loss].discriminator, 2.0 if self.decay and self.loss == "least-squares" else 1.0
        return scale * total([each(tell(r[-1], f[-1])) for r, f in zip(real, fake, strict=True)])

    def fooling(self, fake: Said) -> Array:
        """Return what who makes images minimises of it f32[b], least squares without the half."""
        fool, scale = LOSSES[self.loss].generator, 2.0 if self.loss == "least-squares" else 1.0
        return scale * total([each(fool(f[-1], f[-1])) for f in fake])

    def apart(self, real: Said, fake: Said) -> Array:
        """Return the distance between the layers' answers to both f32[b], a sum over layers and a mean over scales.

        Wang et al. 2018, equation 4; the mean is the authors' code's.
        """
        scales = []
        for r, f in zip(real, fake, strict=True):
            layers = [each(jnp.abs(jax.lax.stop_gradient(a) - b)) for a, b in zip(r[:-1], f[:-1], strict=True)]
            scales.append(total(layers))
        return total(scales) / len(scales)

    def scores(self, real: Said, fake: Said) -> dict[str, Array]:
        """Return what is shown of a judgement: means of the logits, or of the probabilities, of both kinds."""
        score = LOSSES[self.loss].score
        mean = lambda said: score(jnp.concatenate([s[-1].reshape(-1) for s in said])).mean()  # noqa: E731
        return {"real": mean(real), "fake": mean(fake)}


def each(x: Array) -> Array:
    """Return the mean of each example f32[b]."""
    return to_f32(x).mean(range(1, x.ndim))


def total(parts: list[Array]) -> Array:
    return sum(parts[1:], start=parts[0])
