"""VQGAN: Esser, Rombach and Ommer, "Taming Transformers for High-Resolution Image Synthesis", CVPR 2021.

A VQ-VAE whose images are compared by absolute and by perceptual distance, and judged, patch by patch, by a
discriminator (Isola et al. 2017). How much the judge counts follows from the gradients at the decoder's last layer:
lambda = |grad of the distances| / (|grad of the judgement| + delta), as in the authors' code. The nets are vq_vae.py's,
without the paper's attention, and so is the codebook, which follows averages; theirs is learned by gradient, the
vectors' distance to it weighing 1 and its own 0.25, and their discriminator moves last, from step 250,001 on. The
perceptual distance is that of a LeNet-5's features for digits (unit vectors), or ST-LPIPS for colour.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax.lax import stop_gradient

from jaxgen.core import rng
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Key, Params, Phase, PyTree, variables
from jaxgen.losses.gan import hinge
from jaxgen.models.vae._quantisers import Quantiser, per_example, usage
from jaxgen.models.vae.vae import preset
from jaxgen.models.vae.vq_vae import VQVAE
from jaxgen.nn.patch_discriminator import PatchDiscriminator
from jaxgen.nn.precision import to_f32
from jaxgen.pretrained import perceptual_distances
from jaxgen.pretrained.feature_distances import features_of

DELTA, MOST = 1e-4, 1e4  # the authors' code


@dataclass(frozen=True)
class VQGAN(VQVAE):
    """Hyper-parameters of a VQGAN."""

    perceptual: Literal["none", "lenet", "st_lpips"] = "lenet"
    perceptual_weight: float = 1.0
    adversarial: float = 0.8  # what lambda is multiplied by
    start: int = 1000  # steps before the discriminator has a say
    discriminator_width: int = 32  # channels of its first layer (the paper: 64)
    discriminator_layers: int = 2  # its halvings (the paper: 3)
    learning_rate: float = 5e-4

    def task(self, steps: int) -> Task:
        """Return the game of two players."""
        del steps
        self.check()
        adam = optax.adam(self.learning_rate, b1=0.5, b2=0.9)
        # One stream: both players meet the same reconstructions, which are then made once a step.
        phases = (
            Phase("discriminator", "discriminator", self.discriminator_loss, stream="z"),
            Phase("autoencoder", "autoencoder", self.loss, stream="z"),
        )
        frozen = {} if self.perceptual == "none" else {"perceptual": self.backbone}
        return self.game({"discriminator": adam, "autoencoder": adam}, phases, frozen=frozen)

    def check(self):
        super().check()
        at_least(
            1,
            model__discriminator_width=self.discriminator_width,
            model__discriminator_layers=self.discriminator_layers,
        )
        at_least(0, model__perceptual_weight=self.perceptual_weight, model__adversarial=self.adversarial)
        at_least(0, model__start=self.start)
        if self.perceptual == "st_lpips" and (self.image[2] != 3 or min(self.image[:2]) < 21):
            raise InputError("model.perceptual=st_lpips sees colour of at least 21x21: give lenet or none.")
        if min(self.image[:2]) < (least := 4 << self.discriminator_layers):
            raise InputError(
                f"A discriminator of model.discriminator_layers={self.discriminator_layers} sees images of at least "
                f"{least}x{least}, not {self.image[0]}x{self.image[1]}."
            )

    def backbone(self) -> PyTree:
        """Return the weights of the perceptual distance."""
        return (
            perceptual_distances.st_lpips("alex") if self.perceptual == "st_lpips" else features_of("lenet").variables
        )

    def distance(self, context: Context, a: Array, b: Array) -> Array:
        """Return the perceptual distance of images f32[b h w c] in [-1, 1], f32[b]."""
        if self.perceptual == "none":
            return jnp.zeros(len(a))
        if self.perceptual == "st_lpips":
            return context.frozen["perceptual"](a, b)
        see: Any = features_of("lenet").see
        ours, theirs = (see(context.frozen["perceptual"], x) for x in (a, b))  # [b d]
        unit = lambda f: f * jax.lax.rsqrt((f**2).sum(1, keepdims=True) + 1e-10)  # noqa: E731
        return ((unit(ours) - unit(theirs)) ** 2).sum(1)

    @property
    def discriminator(self) -> PatchDiscriminator:
        return PatchDiscriminator(self.discriminator_layers, self.discriminator_width)

    def init(self, key: Key, spec: Any = None):
        params, extra = super().init(key, spec)
        found = self.discriminator.init(rng.fold(key, "discriminator"), jnp.zeros((2, *self.image)))
        rest = {name: v for name, v in found.items() if name != "params"}
        return {**params, "discriminator": found["params"]}, {**extra, "discriminator": rest}

    def judged(self, params: Params, context: Context, x: Array) -> tuple[Array, PyTree]:
        """Return the logits f32[b h w] of patches, and the discriminator's running statistics after them."""
        own = variables("discriminator", params, context.extra)
        return self.discriminator.apply(own, x, mutable=["batch_stats"])  # pyright: ignore[reportReturnType]

    def discriminator_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        x = batch["image"]
        made = self.painted(params, self.quantised(params, context, x).values)
        real, _ = self.judged(params, context, x)
        fake, stats = self.judged(params, context, made)
        cost = per_example(hinge.discriminator(real, fake)) / 2  # [b]
        metrics = {"real": real.mean(), "fake": fake.mean()}
        return self.due(context) * cost.mean(), Aux(metrics, {"discriminator": stats})

    def due(self, context: Context) -> Array:
        return (context.step >= self.start).astype(jnp.float32)

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        x = batch["image"]
        q = self.quantised(params, context, x, key)
        made = self.painted(params, q.values)

        def apart(made):
            near, seen = per_example(jnp.abs(made - x)), self.distance(context, made, x)
            return (near + self.perceptual_weight * seen).mean(), (near.mean(), seen.mean())

        def caught(made):
            return -self.judged(params, context, made)[0].mean()

        # Both slopes are taken at the images, once, and led on from there: to the last layer alone, which weighs
        # them, and then together to all the others.
        (error, (near, seen)), of_error = jax.value_and_grad(apart, has_aux=True)(stop_gradient(made))
        fooling, of_fooling = jax.value_and_grad(caught)(stop_gradient(made))
        weight = self.weight(params, stop_gradient(q.values), of_error, of_fooling)
        share = self.due(context) * self.adversarial * weight
        slope = stop_gradient(of_error + share * of_fooling)
        value = stop_gradient(error + share * fooling)
        led = (slope * made).sum()
        metrics = {
            "absolute_error": near,
            "perceptual": seen,
            "codebook": q.cost.mean(),
            "weight": weight,
            **usage(q.tokens, self.quantiser.vocabulary),
        }
        return value + led - stop_gradient(led) + q.cost.mean(), Aux(metrics, {"codebook": q.state})

    def weight(self, params: Params, codes: Array, of_error: Array, of_fooling: Array) -> Array:
        """Return lambda, by the slopes f32[b h w c] of both terms at the images."""
        decoder: Any = params["decoder"]

        def painted(kernel):
            last = {**decoder["out"], "kernel": kernel}
            return self.painted({**params, "decoder": {**decoder, "out": last}}, codes)

        _, back = jax.vjp(painted, decoder["out"]["kernel"])
        error, fooling = (jnp.linalg.norm(to_f32(back(slope)[0]).reshape(-1)) for slope in (of_error, of_fooling))
        return stop_gradient(jnp.clip(error / (fooling + DELTA), 0, MOST))


GREY = VQGAN(quantiser=Quantiser(codes=256))
COLOUR = VQGAN((64, 64, 3), 3, 64, 2, Quantiser(codes=1024), perceptual="st_lpips", discriminator_layers=3)
TINY = VQGAN(
    (8, 8, 1), 1, 8, 1, Quantiser(codes=8, size=4), 1, 8, start=0, discriminator_width=4, discriminator_layers=1
)
SMALL = preset(GREY, TINY, 613_154, "digits")
PRESETS = {
    "vqgan": SMALL,
    "vqgan-64": replace(preset(COLOUR, TINY, 1_274_980, "shapes"), tiny=SMALL.tiny),
}
