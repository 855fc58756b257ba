"""VQGAN: Esser, Rombach and Ommer, "Taming Transformers for High-Resolution Image Synthesis", CVPR 2021.

A VQ-VAE with three reconstruction losses: absolute distance, perceptual distance, and an adversarial loss with a patch
discriminator (Isola et al. 2017). The weight of the adversarial loss depends on the gradients at the decoder's last
layer: lambda = |grad of the distances| / (|grad of the adversarial loss| + delta), as in the authors' code. The
perceptual distance uses a LeNet-5's features, normalised to unit length, for digits, or ST-LPIPS for colour images.
The nets are those of vq_vae.py, without the paper's attention, and the codebook is learned by moving averages. The
authors learn it by gradient, with weight 1 for the vectors' distance to the codes and 0.25 for the codes' distance to
the vectors. Their discriminator is updated last, and starts at step 250,001.
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

DELTA, MAX_WEIGHT = 1e-4, 1e4  # from the authors' code


@dataclass(frozen=True)
class VQGAN(VQVAE):
    """Hyper-parameters of a VQGAN."""

    perceptual: Literal["none", "lenet", "st_lpips"] = "lenet"
    perceptual_weight: float = 1.0  # weight of the perceptual distance
    adversarial: float = 0.8  # factor of lambda in the weight of the adversarial loss
    start: int = 1000  # step at which the adversarial training starts
    discriminator_width: int = 32  # channels of the discriminator's first layer (the paper: 64)
    discriminator_layers: int = 2  # the discriminator's stride-2 downsampling stages (the paper: 3)
    learning_rate: float = 5e-4  # of Adam, for both nets

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for image sizes that the nets can't have."""
        del steps
        self.check()
        adam = optax.adam(self.learning_rate, b1=0.5, b2=0.9)
        # One stream: both phases use the same reconstructions, which are then computed once a step.
        phases = (
            Phase("discriminator", "discriminator", self.discriminator_loss, stream="z"),
            Phase("autoencoder", "autoencoder", self.loss, stream="z"),
        )
        frozen = {} if self.perceptual == "none" else {"perceptual": self.backbone}
        return self.training_task({"discriminator": adam, "autoencoder": adam}, phases, frozen=frozen)

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
            raise InputError("model.perceptual=st_lpips needs colour images of at least 21x21: give lenet or none.")
        if min(self.image[:2]) < (least := 4 << self.discriminator_layers):
            raise InputError(
                f"A discriminator with model.discriminator_layers={self.discriminator_layers} needs images of at least "
                f"{least}x{least}, not {self.image[0]}x{self.image[1]}."
            )

    def backbone(self) -> PyTree:
        """Return the weights of the perceptual distance."""
        return (
            perceptual_distances.st_lpips("alex") if self.perceptual == "st_lpips" else features_of("lenet").variables
        )

    def distance(self, context: Context, a: Array, b: Array) -> Array:
        """Return the perceptual distance f32[b] of images a and b, f32[b h w c] in [-1, 1]."""
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

    def discriminate(self, params: Params, context: Context, x: Array) -> tuple[Array, PyTree]:
        """Return the logits f32[b h w] of patches, and the discriminator's running statistics after this pass."""
        own = variables("discriminator", params, context.extra)
        return self.discriminator.apply(own, x, mutable=["batch_stats"])  # pyright: ignore[reportReturnType]

    def discriminator_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        x = batch["image"]
        reconstruction = self.decode_unclipped(params, self.quantise(params, context, x).values)
        real, _ = self.discriminate(params, context, x)
        fake, stats = self.discriminate(params, context, reconstruction)
        cost = per_example(hinge.discriminator(real, fake)) / 2  # [b]
        metrics = {"real": real.mean(), "fake": fake.mean()}
        return self.adversarial_on(context) * cost.mean(), Aux(metrics, {"discriminator": stats})

    def adversarial_on(self, context: Context) -> Array:
        """Return 1 from the step `start` on, and 0 before, f32[]."""
        return (context.step >= self.start).astype(jnp.float32)

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        x = batch["image"]
        q = self.quantise(params, context, x, key)
        reconstruction = self.decode_unclipped(params, q.values)

        def distances(image):
            absolute, perceptual = per_example(jnp.abs(image - x)), self.distance(context, image, x)
            return (absolute + self.perceptual_weight * perceptual).mean(), (absolute.mean(), perceptual.mean())

        def adversarial_loss(image):
            return -self.discriminate(params, context, image)[0].mean()

        # The gradients of both losses with respect to the reconstructions are computed once. They are propagated to
        # the decoder's last layer alone, for the weight, and then their weighted sum to all layers.
        at = stop_gradient(reconstruction)
        (error, (absolute, perceptual)), of_error = jax.value_and_grad(distances, has_aux=True)(at)
        adversarial, of_adversarial = jax.value_and_grad(adversarial_loss)(at)
        weight = self.adaptive_weight(params, stop_gradient(q.values), of_error, of_adversarial)
        total_weight = self.adversarial_on(context) * self.adversarial * weight
        cotangent = stop_gradient(of_error + total_weight * of_adversarial)
        value = stop_gradient(error + total_weight * adversarial)
        propagated = (cotangent * reconstruction).sum()  # its gradient is that of the weighted sum; its value is unused
        metrics = {
            "absolute_error": absolute,
            "perceptual": perceptual,
            "codebook": q.cost.mean(),
            "weight": weight,
            **usage(q.tokens, self.quantiser.vocabulary),
        }
        return value + propagated - stop_gradient(propagated) + q.cost.mean(), Aux(metrics, {"codebook": q.state})

    def adaptive_weight(self, params: Params, codes: Array, of_error: Array, of_adversarial: Array) -> Array:
        """Return lambda f32[], from the gradients f32[b h w c] of both losses with respect to the images."""
        decoder: Any = params["decoder"]

        def decode_with(kernel):
            last = {**decoder["out"], "kernel": kernel}
            return self.decode_unclipped({**params, "decoder": {**decoder, "out": last}}, codes)

        _, vjp = jax.vjp(decode_with, decoder["out"]["kernel"])
        error, adversarial = (jnp.linalg.norm(to_f32(vjp(g)[0]).reshape(-1)) for g in (of_error, of_adversarial))
        return stop_gradient(jnp.clip(error / (adversarial + DELTA), 0, MAX_WEIGHT))


GREY = VQGAN(quantiser=Quantiser(codes=256))
COLOUR = VQGAN((64, 64, 3), 64, 2, Quantiser(codes=1024), stages=3, perceptual="st_lpips", discriminator_layers=3)
TINY = VQGAN(
    (8, 8, 1), 8, 1, Quantiser(codes=8, size=4), 1, 8, stages=1, start=0, discriminator_width=4, discriminator_layers=1
)
SMALL = preset(GREY, TINY, 613_154, "digits")
PRESETS = {
    "vqgan": SMALL,
    "vqgan-64": replace(preset(COLOUR, TINY, 1_274_980, "shapes"), tiny=SMALL.tiny),
}
