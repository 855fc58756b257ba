"""A VAE of clips: after Rybkin, Daniilidis and Levine 2021, "Simple and Effective VAE Training with Calibrated
Decoders".

Convolutions over time and space encode a clip as a map of latents, smaller by `model.down` in frames, height and width,
and decode it. Pixels are Gaussian with one variance, the best one for each batch (equation 6): nothing weighs the KL.
Samples are drawn from N(0, I) at each place of the map, and look as such a prior lets them. Above all it is the
autoencoder of latent models: train.video --preset latte --model.autoencoder RUN.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxgen.core import rng
from jaxgen.core.capabilities import Codec
from jaxgen.core.ranges import Count, check_settings
from jaxgen.core.spec import labelled
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Key, Learner, Params, Phase
from jaxgen.losses.elbo import kl_standard, sum_per_example
from jaxgen.models.video._autoencoders import ClipDecoder, ClipEncoder, check_clip
from jaxgen.models.video.vgan import row
from jaxgen.tasks.transforms import example_generation
from jaxgen.tasks.video_prediction import Image

LOWEST = 1e-6  # of the variance of pixels


@dataclass(frozen=True)
class VideoVAE:
    """Hyper-parameters of a VAE of clips."""

    frames: Count = 16  # of a clip
    image: Image = (64, 64, 3)  # a frame's height, width, channels
    down: tuple[Count, Count, Count] = (4, 4, 4)  # factors on frames, height and width
    latent: Count = 8  # channels of the latents
    width: Count = 128  # channels of the hidden layers
    blocks: int = 2  # residual blocks of each net
    beta: float = 1.0  # weight of the KL
    learning_rate: float = 3e-4  # of Adam

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for clips that the factors do not divide."""
        del steps
        check_settings(self, "model.")
        check_clip(self.down, self.frames, self.image)
        example = labelled(self.video, 0)
        return Task(
            init=self.init,
            example=example,
            learners={"vae": Learner(("encoder", "decoder"), optax.adam(self.learning_rate))},
            phases=(Phase("vae", "vae", self.loss),),
            capabilities=(example_generation(self.generate, example), Codec(self.encode, self.decode)),
        )

    @property
    def video(self) -> tuple[int, ...]:
        """The shape of a clip."""
        return self.frames, *self.image

    @property
    def encoder(self) -> ClipEncoder:
        return ClipEncoder(self.down, self.width, self.blocks, 2 * self.latent, axial=False)

    @property
    def decoder(self) -> ClipDecoder:
        return ClipDecoder(self.down, self.width, self.blocks, self.image[2], axial=False)

    @property
    def map(self) -> tuple[int, ...]:
        """The shape of the latents."""
        sizes = zip(self.video, self.down, strict=False)
        return *(size // side for size, side in sizes), self.latent

    def init(self, key: Key, spec: Any = None):
        nets = {
            "encoder": self.encoder.init(rng.fold(key, "encoder"), jnp.zeros((2, *self.video))),
            "decoder": self.decoder.init(rng.fold(key, "decoder"), jnp.zeros((2, *self.map))),
        }
        return {net: v["params"] for net, v in nets.items()}, {}

    def posterior(self, params: Params, x: Array) -> tuple[Array, Array]:
        """Return the mean and the log variance of q(z | x), f32[b t' h' w' d] each."""
        found: Any = self.encoder.apply({"params": params["encoder"]}, x)
        mean, log_var = jnp.split(found, 2, -1)
        return mean, log_var

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        x = batch["video"]
        mean, log_var = self.posterior(params, x)
        z = mean + jnp.exp(log_var / 2) * rng.normal(jax.random.split(key, len(x)), self.map)
        made: Any = self.decoder.apply({"params": params["decoder"]}, z)
        error = jnp.square(made - x).mean()
        kl = sum_per_example(kl_standard(mean, log_var)).mean()
        # -log p(x | z) with the variance that the squared error has, without constants (6)
        nats = 0.5 * math.prod(self.video) * jnp.log(error + LOWEST)
        return nats + self.beta * kl, Aux({"squared_error": error, "kl": kl})

    def encode(self, params: Params, context: Context, batch) -> Array:
        """Return the mean of q(z | x), f32[b t' h' w' d]."""
        return self.posterior(params, batch["video"])[0]

    def decode(self, params: Params, context: Context, z: Array, given) -> Array:
        """Return the clips f32[b t h w c] in [-1, 1] of latents."""
        made: Any = self.decoder.apply({"params": params["decoder"]}, z)
        return jnp.clip(made, -1, 1)

    def generate(self, params: Params, context: Context, keys: Key, given) -> dict[str, Array]:
        """Return clips of latents from N(0, I)."""
        return {"video": self.decode(params, context, rng.normal(keys, self.map), given)}


TINY = VideoVAE(4, (8, 8, 3), (2, 2, 2), 2, 8, 1, learning_rate=1e-3)
PRESETS = {"video-vae": row(VideoVAE(), TINY, 3_511_955, batch=16)}
