"""Autoencoders: Hinton and Salakhutdinov 2006, "Reducing the Dimensionality of Data with Neural Networks"; denoising,
Vincent et al. 2008, "Extracting and Composing Robust Features with Denoising Autoencoders"; sparse, Lee et al. 2007,
"Sparse deep belief net model for visual area V2", with the penalty of Ng's CS294A notes.

The encoder f maps an image to a latent vector, and the decoder g maps it back: minimise |x - g(f(x))|^2. With noise or
a mask the input of f is a corrupted image, and the target is the clean one. With sparsity the latents are sigmoids, and
KL(rho || mean) keeps their mean over the batch near rho. Without hidden layers the latents span the principal
components (Baldi and Hornik 1989; tests/models/vae/test_vae.py).
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxgen.core import rng
from jaxgen.core.capabilities import Capability, Codec, Latent
from jaxgen.core.errors import InputError, at_least, check_labels
from jaxgen.core.ranges import Share
from jaxgen.core.spec import labelled
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Key, Learner, Params, Phase
from jaxgen.losses.elbo import active_units, sum_per_example
from jaxgen.models.vae._nets import Image, ImageDecoder, ImageEncoder, NetConfig, first_matrix
from jaxgen.models.vae.vae import CONV, row
from jaxgen.nn.priors import Prior
from jaxgen.tasks.transforms import example_generation


@dataclass(frozen=True)
class Autoencoder:
    """Hyper-parameters of an autoencoder."""

    image: Image = (28, 28, 1)  # height, width, channels
    latent: int = 32  # size of the latent vector
    nets: NetConfig = NetConfig()
    noise: float = 0.0  # standard deviation of the Gaussian noise on the encoder's input, in the image's units
    mask: Share = 0.0  # share of the pixels of the encoder's input that are black
    sparsity: float = 0.0  # weight of KL(rho || mean of a latent); 0: linear latents without a penalty
    rho: float = 0.05  # target for the mean of a latent
    learning_rate: float = 1e-3  # of Adam

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for image sizes that the nets can't make."""
        del steps
        self.nets.check(self.image)
        at_least(1, model__latent=self.latent)
        at_least(0, model__noise=self.noise, model__mask=self.mask, model__sparsity=self.sparsity)
        if self.mask >= 1:
            raise InputError(f"model.mask is a share of the pixels, at least 0 and below 1, not {self.mask}.")
        if not 0 < self.rho < 1:
            raise InputError(f"model.rho must be between 0 and 1, not {self.rho}.")
        return Task(
            init=self.init,
            example=labelled(self.image, 0),
            learners={"autoencoder": Learner(("encoder", "decoder"), optax.adam(self.learning_rate))},
            phases=(Phase("autoencoder", "autoencoder", self.loss),),
            capabilities=(Codec(lambda params, context, batch: self.latents(params, batch["image"]), self.decode),),
        )

    @property
    def encoder(self) -> ImageEncoder:
        return ImageEncoder(self.nets, ("code",), self.latent)  # the head's name in saved runs

    @property
    def decoder(self) -> ImageDecoder:
        return ImageDecoder(self.nets, self.image, self.image[2])

    def init(self, key: Key, spec: Any = None):
        nets = {
            "encoder": self.encoder.init(rng.fold(key, "encoder"), jnp.zeros((2, *self.image))),
            "decoder": self.decoder.init(rng.fold(key, "decoder"), jnp.zeros((2, self.latent))),
        }
        return {net: v["params"] for net, v in nets.items()}, {}

    def latents(self, params: Params, x: Array) -> Array:
        """Return f(x), f32[b latent]."""
        found: Any = self.encoder.apply({"params": params["encoder"]}, x)
        return jax.nn.sigmoid(found["code"]) if self.sparsity else found["code"]

    def decode_unclipped(self, params: Params, z: Array) -> Array:
        """Return the decoder's output f32[b h w c] for latents z f32[b latent]."""
        out: Any = self.decoder.apply({"params": params["decoder"]}, z)
        return out

    def decode(self, params: Params, context: Context, z: Array, given) -> Array:
        """Return the images f32[b h w c] in [-1, 1] of latents z f32[b latent]."""
        check_labels(0, given)
        return jnp.clip(self.decode_unclipped(params, z), -1, 1)

    def sampling(self, draw: Prior) -> tuple[Capability, ...]:
        """Return the capabilities for sampling, if the latents are distributed as the prior `draw`."""
        same = lambda params, context, z, given: z  # noqa: E731
        factors = lambda params, context: (first_matrix(params["decoder"], self.latent),)  # noqa: E731

        def generate(params, context, keys, given):
            return {"image": self.decode(params, context, draw(keys, given.get("truncation")), given)}

        return example_generation(generate, labelled(self.image, 0)), Latent(draw, same, self.decode, factors=factors)

    def corrupt(self, x: Array, key: Key) -> Array:
        """Return x with noise added, and with random pixels (all their channels) black."""
        keys = jax.random.split(key, len(x))
        if self.noise:
            x = x + self.noise * rng.normal(jax.vmap(lambda k: rng.fold(k, "noise"))(keys), self.image)
        if self.mask:
            hidden = jax.vmap(lambda k: jax.random.bernoulli(rng.fold(k, "mask"), self.mask, self.image[:2]))(keys)
            x = jnp.where(hidden[..., None], -1.0, x)
        return x

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        del context
        x = batch["image"]
        z = self.latents(params, self.corrupt(x, key))
        error = sum_per_example((self.decode_unclipped(params, z) - x) ** 2)  # [b]
        metrics, cost = {"squared_error": error.mean() / x[0].size, "active_units": active_units(z)}, 0.0
        if self.sparsity:
            mean, rho = z.mean(0), self.rho  # [latent]
            cost = (rho * jnp.log(rho / mean) + (1 - rho) * jnp.log((1 - rho) / (1 - mean))).sum()
            metrics |= {"mean_code": mean.mean()}
        return error.mean() + self.sparsity * cost, Aux(metrics)


PRESETS = {
    "autoencoder": row(Autoencoder(), 654_416),
    "autoencoder-conv": row(Autoencoder(image=(32, 32, 1), nets=CONV), 462_177),
    "autoencoder-denoising": row(Autoencoder(noise=0.5, mask=0.25), 654_416),
    "autoencoder-sparse": row(Autoencoder(latent=200, sparsity=1.0), 788_984),
}
