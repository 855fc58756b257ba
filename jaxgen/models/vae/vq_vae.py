"""VQ-VAE: van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning", NeurIPS 2017.

The encoder maps the image to a map of vectors with a quarter of the image's sides. Each vector is replaced by the
nearest code of a codebook, and the decoder reconstructs the image from the codes. The gradient passes straight through
the quantisation, and a commitment loss keeps the vectors near their codes (equation 3, _quantisers.py). `quantiser` has
two other kinds: several codebooks (residual), or finite levels without a codebook. The nets are those of section 4.1:
strided 4x4 convolutions and residual blocks. In DeepMind's example, google-deepmind/sonnet, the squared error is
divided by the variance of the data, and residual blocks have 32 hidden channels; here they have `width`, as in the
paper. Samples come from a prior of the code indices, here a transformer (_token_prior.py). It is trained together with
the autoencoder, but has no influence on it.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.capabilities import Codec
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Count, check_settings
from jaxgen.core.spec import kind_of, labelled
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Key, Learner, Params, Phase
from jaxgen.models.vae._nets import Image, ResidualBlock
from jaxgen.models.vae._quantisers import Quantised, Quantiser, per_example, usage
from jaxgen.models.vae._token_prior import TokenPrior, negative_log_likelihood, sample_tokens
from jaxgen.models.vae.vae import preset
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.instance_norm import standardise
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.frozen_autoencoder import pixels_of
from jaxgen.tasks.transforms import example_generation


@dataclass(frozen=True)
class TokenAutoencoder(ABC):
    """Hyper-parameters of any vector-quantised autoencoder, of images or clips, and its training."""

    image: Image = (32, 32, 1)  # height, width, channels
    width: Count = 64  # channels of the hidden layers (the paper: 256)
    blocks: int = 2  # residual blocks of each net
    quantiser: Quantiser = Quantiser()
    prior: int = 2  # layers of the transformer prior; 0: no prior, so no samples
    prior_width: Count = 64  # channels of the prior
    learning_rate: float = 1e-3  # of Adam (the paper: 2e-4)

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for image sizes that the nets can't make."""
        del steps
        self.check()
        return self.training_task(
            {"autoencoder": optax.adam(self.learning_rate)}, (Phase("autoencoder", "autoencoder", self.loss),)
        )

    def training_task(
        self, optimizers: Mapping[str, optax.GradientTransformation], phases: tuple[Phase, ...], **more: Any
    ) -> Task:
        """Return the Task that trains the autoencoder, the other nets of `optimizers`, and the prior.

        The prior is updated first: its phase and the next then share the codes, which are computed once.
        """
        params, _ = jax.eval_shape(lambda: self.init(jax.random.key(0)))
        own = tuple(net for net in params if net not in ("prior", *optimizers))
        learners = {name: Learner(own if name == "autoencoder" else (name,), opt) for name, opt in optimizers.items()}
        if self.prior:
            learners["prior"] = Learner(("prior",), optax.adam(self.learning_rate))
            phases = (Phase("prior", "prior", self.prior_loss), *phases)
        example = labelled(pixels_of(self), 0)
        return Task(
            init=self.init,
            example=example,
            learners=learners,
            phases=phases,
            capabilities=(
                Codec(self.encode, self.decode),
                *((example_generation(self.generate, example),) if self.prior else ()),
            ),
            **more,
        )

    def check(self):
        """Raise InputError for settings that no such model can have."""
        check_settings(self, "model.")
        at_least(1, model__image=min(self.image))
        self.quantiser.check()
        self.check_prior()

    def check_prior(self):
        """Raise InputError for a width of the prior that its heads do not divide."""
        heads = max(self.prior_width // 32, 1)
        if self.prior_width % heads:
            raise InputError(f"model.prior_width={self.prior_width} is not a multiple of its {heads} heads.")

    @property
    @abstractmethod
    def encoder(self) -> nn.Module:
        """The net of pixels to latents."""

    @property
    @abstractmethod
    def decoder(self) -> nn.Module:
        """The net of latents to pixels."""

    @property
    @abstractmethod
    def sides(self) -> tuple[int, ...]:
        """The sides of the latent map."""

    @property
    def token_count(self) -> int:
        """Number of tokens of an example."""
        return math.prod(self.sides) * self.quantiser.depth

    @property
    def transformer(self) -> TokenPrior:
        return TokenPrior(self.quantiser.vocabulary, self.prior_width, self.prior)

    def init(self, key: Key, spec: Any = None):
        codes = jnp.zeros((2, *self.sides, self.quantiser.vector_size))
        params: dict[str, Any] = {
            "encoder": self.encoder.init(rng.fold(key, "encoder"), jnp.zeros((2, *pixels_of(self))))["params"],
            "decoder": self.decoder.init(rng.fold(key, "decoder"), codes)["params"],
        }
        codebook, state = self.quantiser.init(rng.fold(key, "codebook"))
        params |= {"codebook": codebook} if codebook else {}
        if self.prior:
            tokens = jnp.zeros((2, self.token_count), jnp.int32)
            params["prior"] = self.transformer.init(rng.fold(key, "prior"), tokens)["params"]
        return params, {"codebook": state}

    def quantise(self, params: Params, context: Context, x: Array, key: Key | None = None) -> Quantised:
        """Return the quantised latents of images x f32[b h w c]; with a key, as in training, update the codebooks."""
        z: Any = self.encoder.apply({"params": params["encoder"]}, x)
        return self.quantiser(params.get("codebook"), context.extra["codebook"], z, key)

    def decode_unclipped(self, params: Params, codes: Array) -> Array:
        """Return the decoder's output f32[b h w c] for codes f32[b h w D]."""
        out: Any = self.decoder.apply({"params": params["decoder"]}, codes)
        return out

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        x = batch[kind_of(pixels_of(self))]
        q = self.quantise(params, context, x, key)
        error = per_example((self.decode_unclipped(params, q.values) - x) ** 2)  # [b]
        metrics = {
            "squared_error": error.mean(),
            "codebook": q.cost.mean(),
            **usage(q.tokens, self.quantiser.vocabulary),
        }
        return (error + q.cost).mean(), Aux(metrics, {"codebook": q.state})

    def prior_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        tokens = self.tokens(params, context, batch).reshape(-1, self.token_count)  # [b h*w*depth]
        logits: Any = self.transformer.apply({"params": params["prior"]}, tokens)
        cost = negative_log_likelihood(logits, tokens)  # [b]
        return cost.mean() / self.token_count, Aux({"bits_per_token": cost.mean() / self.token_count / jnp.log(2)})

    def generate(self, params: Params, context: Context, keys: Key, given) -> dict[str, Array]:
        """Return images decoded from tokens that are sampled from the prior."""
        tokens = sample_tokens(self.transformer, params["prior"], keys, self.token_count)
        tokens = tokens.reshape(-1, *self.sides, self.quantiser.depth)  # [b h w depth]
        return {"image": self.decode(params, context, self.values(params, context, tokens), given)}

    def encode(self, params: Params, context: Context, batch) -> Array:
        """Return the map of quantised latents, f32[b h w D]."""
        return self.quantise(params, context, batch[kind_of(pixels_of(self))]).values

    def decode(self, params: Params, context: Context, z: Array, given) -> Array:
        """Return the images f32[b h w c] in [-1, 1] of quantised latents f32[b h w D]."""
        return jnp.clip(self.decode_unclipped(params, z), -1, 1)

    def tokens(self, params: Params, context: Context, batch) -> Array:
        """Return the code indices of images, i32[b h w depth]."""
        return self.quantise(params, context, batch[kind_of(pixels_of(self))]).tokens

    def values(self, params: Params, context: Context, tokens: Array) -> Array:
        """Return the quantised latents f32[b h w D] of code indices i32[b h w depth]."""
        return self.quantiser.values(params.get("codebook"), context.extra["codebook"], tokens)


@dataclass(frozen=True)
class VQVAE(TokenAutoencoder):
    """Hyper-parameters of a vector-quantised autoencoder of images."""

    stages: Count = 2  # stride-2 downsampling stages

    def check(self):
        super().check()
        multiple = 1 << self.stages
        if self.image[0] % multiple or self.image[1] % multiple:
            raise InputError(
                f"model.stages={self.stages} needs images with sides that are multiples of {multiple}, "
                f"not {self.image[0]}x{self.image[1]}."
            )
        if self.quantiser.kind == "finite" and self.image[:2] == (multiple, multiple):
            raise InputError(
                f"model.quantiser.kind=finite needs more than one latent vector; model.stages={self.stages} reduces "
                f"{self.image[0]}x{self.image[1]} pixels to one."
            )

    @property
    def encoder(self) -> "VQVAEEncoder":
        return VQVAEEncoder(
            self.stages, self.width, self.blocks, self.quantiser.vector_size, self.quantiser.kind == "finite"
        )

    @property
    def decoder(self) -> "VQVAEDecoder":
        return VQVAEDecoder(self.stages, self.width, self.blocks, self.image[2])

    @property
    def sides(self) -> tuple[int, ...]:
        """The sides of the latent map."""
        return self.image[0] >> self.stages, self.image[1] >> self.stages


class VQVAEEncoder(nn.Module):
    """x f32[b h w c] -> z f32[b h/2^stages w/2^stages numbers].

    Standardised: the input channels of the last layer have mean 0 and variance 1 over each image. Finite levels need
    this. Without it all numbers of a new net are near 0 and are rounded to the same level, and in two runs of three
    they stayed there.
    """

    stages: int
    width: int
    blocks: int
    numbers: int
    standardised: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for i in range(self.stages):
            features = self.width if i == self.stages - 1 else max(self.width // 2, 1)
            x = nn.relu(Conv(features, (4, 4), (2, 2), name=f"down_{i}")(x))  # [b h/2 w/2 c]
        x = Conv(self.width, (3, 3), name="in")(x)
        for i in range(self.blocks):
            x = ResidualBlock(self.width, name=f"block_{i}")(x)
        x = standardise(x) if self.standardised else nn.relu(x)
        return to_f32(Conv(self.numbers, (1, 1), name="out")(x))


class VQVAEDecoder(nn.Module):
    """Codes f32[b h w D] -> f32[b 2^stages h 2^stages w channels], unbounded."""

    stages: int
    width: int
    blocks: int
    channels: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = Conv(self.width, (3, 3), name="in")(x)
        for i in range(self.blocks):
            x = ResidualBlock(self.width, name=f"block_{i}")(x)
        x = nn.relu(x)
        for i in reversed(range(1, self.stages)):
            x = nn.relu(ConvTranspose(max(self.width // 2, 1), (4, 4), (2, 2), name=f"up_{i}")(x))  # [b 2h 2w c]
        return to_f32(ConvTranspose(self.channels, (4, 4), (2, 2), name="out")(x))


# One tiny run for all presets: the quantisers have their own tests.
TINY = VQVAE((8, 8, 1), 8, 1, Quantiser(codes=8, size=4), 1, 8, stages=1)
KINDS = {
    "vq-vae": (Quantiser(codes=256), 446_337),
    "vq-vae-residual": (Quantiser(codes=64, depth=4), 433_857),
    "vq-vae-finite": (Quantiser("finite"), 503_853),
}
PRESETS = {name: preset(VQVAE(quantiser=kind), TINY, count, "digits") for name, (kind, count) in KINDS.items()}
