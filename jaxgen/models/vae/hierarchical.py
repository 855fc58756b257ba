"""A hierarchical VAE: Child, "Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on Images", 2021.

A smaller version of openai/vdvae. The encoder has residual bottleneck blocks and downsamples the image to its coarsest
resolution; the decoder goes back to the image's resolution. Each decoder layer returns a prior p(z_l | z_<l) and, from
the encoder's features of its resolution, a posterior q(z_l | z_<l, x), both Gaussian, and adds a projection of its
sample z_l to the features x (the residual stream). The bound is
E_q [log p(x | z)] - sum_l E_q KL(q(z_l | z_<l, x) || p(z_l | z_<l)).

As in openai/vdvae, four things keep a deep model stable: layers that add to the residual stream are initialised with a
scale of 1/sqrt(layers), priors start as N(0, 1), upsampling is by nearest neighbours, and updates with a too large
gradient are skipped. All layers of a resolution are one `nn.scan`, so depth does not increase the compile time.

Differences from openai/vdvae: it has a mixture of ten logistics for the pixels, clips gradients to a norm of 200, has a
gain and a bias before the output, AdamW with weight decay 0.01, PyTorch's default initialisation, and a coarsest
resolution of one pixel.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.capabilities import Codec, Density
from jaxgen.core.config import Data, Log, Optim, Preset, Run, Save
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Decay
from jaxgen.core.spec import labelled
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Ema, Key, Learner, Params, Phase, ramped
from jaxgen.losses.elbo import LIKELIHOODS, kl_normal, normal_log_prob, sum_per_example
from jaxgen.metrics.likelihood import DISCRETE, bits_per_dimension
from jaxgen.models.vae._nets import Image
from jaxgen.models.vae.vae import VAE
from jaxgen.nn.conv import REMAT_POLICY, Conv
from jaxgen.nn.pool import avg_pool
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.transforms import example_generation

BIASED = 64  # largest resolution with a learned bias for each position
COLLAPSED = 0.01  # nats: a layer with a smaller KL counts as unused


class LayerSamples(NamedTuple):
    """The samples of n layers and their KL: arrays [n b ...]."""

    z: Array
    kl: Array  # KL(posterior || prior), in nats
    log_weight: Array  # log p(z_l | z_<l) - log q(z_l | z_<l, x) of this z; its mean is -KL


class Bottleneck(nn.Module):
    """x [b h w c] -> [b h w features]: 1x1, 3x3, 3x3 and 1x1 convolutions, each after an exact GELU.

    `scale` multiplies the initial kernel of the last one.
    """

    middle: int
    features: int
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        side = 3 if min(x.shape[1:3]) > 2 else 1
        for i, size in enumerate((1, side, side)):
            x = Conv(self.middle, (size, size), name=f"conv_{i}")(nn.gelu(x, approximate=False))
        x = nn.gelu(x, approximate=False)
        return Conv(self.features, (1, 1), kernel_init=scaled_init(self.scale), name="conv_3")(x)


def scaled_init(scale: float) -> Any:
    """Return the default kernel initializer, with its values multiplied by `scale`."""
    return nn.initializers.variance_scaling(scale**2, "fan_in", "truncated_normal") if scale else nn.initializers.zeros


class EncoderBlock(nn.Module):
    """A residual block of the encoder."""

    middle: int
    scale: float

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, None]:
        return x + Bottleneck(self.middle, x.shape[3], self.scale, name="block")(x), None


class DecoderLayer(nn.Module):
    """A stochastic layer of the decoder: (x [b h w c], (noise [b h w d], z or None), features or None) -> x, samples.

    z is given or sampled: from the posterior with the encoder's features, else from the prior.
    """

    middle: int
    latent: int
    scale: float

    @nn.compact
    def __call__(
        self, x: Array, given: tuple[Array, Array | None], features: Array | None
    ) -> tuple[Array, LayerSamples]:
        noise, z = given
        d, width = self.latent, x.shape[3]
        out = Bottleneck(self.middle, 2 * d + width, 0.0, name="prior")(x)
        stats, residual = out[..., : 2 * d], out[..., 2 * d :]
        prior = posterior = jnp.split(to_f32(stats), 2, -1)  # the mean and the log of the standard deviation
        if features is not None:
            inputs = jnp.concatenate([x, features], 3)
            posterior = jnp.split(to_f32(Bottleneck(self.middle, 2 * d, name="posterior")(inputs)), 2, -1)
        mean, log_scale = posterior
        z = mean + jnp.exp(log_scale) * noise if z is None else z
        log_weight = normal_log_prob(z, *prior) - normal_log_prob(z, *posterior)
        samples = LayerSamples(z, sum_per_example(kl_normal(*posterior, *prior)), log_weight)
        x = x + residual + Conv(width, (1, 1), kernel_init=scaled_init(self.scale), name="enter")(z)
        return x + Bottleneck(self.middle, width, self.scale, name="block")(x), samples


def scanned(layer: Any, length: int, *in_axes: Any) -> Any:
    """Return `length` layers in sequence as one scanned module; its parameters have one more axis."""
    axes: Any = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "in_axes": in_axes}
    return nn.scan(nn.remat(layer, policy=REMAT_POLICY, prevent_cse=False), length=length, **axes)


class HierarchicalEncoder(nn.Module):
    """x f32[b h w c] -> features [b h w width] of each resolution, coarsest first."""

    width: int
    middle: int
    blocks: tuple[int, ...]  # number at each resolution, coarsest first

    @nn.compact
    def __call__(self, x: Array) -> list[Array]:
        x, found = Conv(self.width, (3, 3), name="in")(x), []
        for i in reversed(range(len(self.blocks))):
            x, _ = scanned(EncoderBlock, self.blocks[i])(self.middle, sum(self.blocks) ** -0.5, name=f"up_{i}")(x)
            found.append(x)
            x = avg_pool(x, 2, 2) if i else x  # [b h/2 w/2 c]
        return found[::-1]


class HierarchicalDecoder(nn.Module):
    """(noise [n b h w d] of each resolution, z or None, features or None) -> f32[b h w channels], list of samples."""

    width: int
    middle: int
    latent: int
    layers: tuple[int, ...]  # number at each resolution, coarsest first
    channels: int

    @nn.compact
    def __call__(self, noise: list[Array], z: list[Array] | None = None, features: list[Array] | None = None):
        scale, x, drawn = sum(self.layers) ** -0.5, jnp.zeros(()), []
        for i, n in enumerate(self.layers):
            b, h, w, _ = noise[i].shape[1:]
            x = jnp.repeat(jnp.repeat(x, 2, 1), 2, 2) if i else jnp.zeros((b, h, w, self.width))  # [b 2h 2w c]
            if max(h, w) <= BIASED:
                start = self.param(f"start_{i}", nn.initializers.zeros, (h, w, self.width))
                x = x.astype(start.dtype) + start[None]
            down = scanned(DecoderLayer, n, 0, nn.broadcast)(self.middle, self.latent, scale, name=f"down_{i}")
            x, new = down(x, (noise[i], z and z[i]), features and features[i])
            drawn.append(new)
        return to_f32(Conv(self.channels, (1, 1), name="out")(x)), drawn


class SkipState(NamedTuple):
    """The state of `skip_large_gradients`: the inner optimizer's state, and the number of updates skipped so far."""

    inner: Any
    skipped: Array


def skip_large_gradients(inner: optax.GradientTransformation, limit: float) -> optax.GradientTransformationExtraArgs:
    """Return an optimizer that skips an update if the norm of the gradient is above `limit`, or not a number."""
    inner = optax.with_extra_args_support(inner)

    def update(updates, state: Any, params=None, **extra):
        apply = lambda: inner.update(updates, state.inner, params, **extra)  # noqa: E731
        skip = lambda: (jax.tree.map(jnp.zeros_like, updates), state.inner)  # noqa: E731
        small = optax.tree.norm(updates) <= limit
        updates, moments = jax.lax.cond(small, apply, skip)
        return updates, SkipState(moments, state.skipped + jnp.where(small, 0.0, 1.0))

    return optax.GradientTransformationExtraArgs(lambda params: SkipState(inner.init(params), jnp.zeros(())), update)


@dataclass(frozen=True)
class HierarchicalVAE:
    """Hyper-parameters of a hierarchical VAE."""

    image: Image = (32, 32, 1)  # height, width, channels
    layers: tuple[int, ...] = (3, 4, 4, 2)  # number at each resolution, coarsest first; each doubles the sides
    width: int = 48  # channels of the residual streams
    bottleneck: int = 16  # channels of the 3x3 convolutions
    latent: int = 8  # channels of a layer's z
    likelihood: Literal["bernoulli", "gaussian", "logistic"] = "bernoulli"  # p(x | z) of a pixel
    skip: float = 400.0  # skip updates with a gradient norm above this, in nats per dimension; 0: never
    learning_rate: float = 1e-3  # of Adam
    beta2: Decay = 0.9  # of Adam
    ema: Decay = 0.999  # decay of the moving averages

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for image sizes that the resolutions do not fit."""
        del steps
        self.check()
        adam = optax.adam(self.learning_rate, b2=self.beta2)
        nets, limit = ("encoder", "decoder"), self.skip * math.prod(self.image)  # the loss is a sum over all dimensions
        example = labelled(self.image, 0)
        return Task(
            init=self.init,
            example=example,
            learners={"vae": Learner(nets, skip_large_gradients(adam, limit) if self.skip else adam)},
            phases=(Phase("vae", "vae", self.loss),),
            ema=tuple(Ema(net, ramped(self.ema)) for net in nets),
            capabilities=(
                example_generation(self.generate, example),
                Codec(self.encode, self.decode),
                Density(self.log_prob, continuous=self.likelihood == "gaussian"),
            ),
        )

    def check(self):
        """Raise InputError for settings that no such model can have."""
        names = ("width", "bottleneck", "latent")
        at_least(1, **{f"model__{name}": getattr(self, name) for name in names}, model__image=min(self.image))
        at_least(0, model__skip=self.skip, model__ema=self.ema)
        if not self.layers or min(self.layers) < 1:
            raise InputError(f"model.layers needs at least one layer for each resolution, not {self.layers}.")
        if self.ema >= 1:
            raise InputError(f"model.ema must be below 1, not {self.ema}.")
        height, width, _ = self.image
        if height % (multiple := 1 << len(self.layers) - 1) or width % multiple:
            raise InputError(
                f"model.layers={self.layers} has {len(self.layers)} resolutions, so the sides of the images must be "
                f"multiples of {multiple}, not {height}x{width}."
            )

    check_run = VAE.check_run  # it reads only the likelihood

    @property
    def p(self):
        return LIKELIHOODS[self.likelihood]

    @property
    def encoder(self) -> HierarchicalEncoder:
        return HierarchicalEncoder(self.width, self.bottleneck, tuple((n + 1) // 2 for n in self.layers))

    @property
    def decoder(self) -> HierarchicalDecoder:
        return HierarchicalDecoder(self.width, self.bottleneck, self.latent, self.layers, self.image[2] * self.p.parts)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of z, [n h w d] of the n layers of each resolution."""
        layers = list(enumerate(reversed(self.layers)))[::-1]  # (number of times the sides are halved, layers)
        return [(n, self.image[0] >> i, self.image[1] >> i, self.latent) for i, n in layers]

    def init(self, key: Key, spec: Any = None):
        x = jnp.zeros((2, *self.image))
        encoder: Any = self.encoder.init(rng.fold(key, "encoder"), x)
        features: Any = self.encoder.apply(encoder, x)
        decoder: Any = self.decoder.init(rng.fold(key, "decoder"), self.zero_noise(2), None, features)
        return {"encoder": encoder["params"], "decoder": decoder["params"]}, {}

    def noise(self, keys: Key) -> list[Array]:
        """Return N(0, 1) noise f32[n b h w d] for the layers of each resolution; keys Key[b]."""
        folds = [jax.vmap(jax.random.fold_in, (0, None))(keys, i) for i in range(len(self.layers))]
        return [jnp.moveaxis(rng.normal(k, shape), 1, 0) for k, shape in zip(folds, self.shapes, strict=True)]

    def zero_noise(self, count: int) -> list[Array]:
        """Return zeros in the shapes of the noise, which give the mean of every z."""
        return [jnp.zeros((n, count, *shape)) for n, *shape in self.shapes]

    def posterior(self, params: Params, batch, noise: list[Array]) -> tuple[Array, list[LayerSamples]]:
        """Return the decoder's output for z ~ q(z | x), and the samples of each resolution."""
        features: Any = self.encoder.apply({"params": params["encoder"]}, self.p.values(batch["image"]))
        out: Any = self.decoder.apply({"params": params["decoder"]}, noise, None, features)
        return out

    def mean_image(self, params: Params, noise: list[Array], z: list[Array] | None = None) -> Array:
        """Return E[x | z], f32[b h w c] in [-1, 1], for a given z, or for z of the priors, computed from noise."""
        out, _ = self.decoder.apply({"params": params["decoder"]}, noise, z)  # pyright: ignore
        return jnp.clip(self.p.mean(out), -1, 1)

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        out, drawn = self.posterior(params, batch, self.noise(jax.random.split(key, len(batch["image"]))))
        log_p = self.p.log_prob(batch["image"], out)
        layers = [d.kl.mean(1) for d in drawn]  # [n] of each resolution
        kl = jnp.concatenate(layers)
        elbo = log_p - sum(d.kl.sum(0) for d in drawn)
        metrics = {
            "elbo": elbo.mean(),
            "reconstruction": -log_p.mean(),
            "kl": kl.sum(),
            "active_layers": (kl > COLLAPSED).sum(dtype=jnp.float32),
            "skipped": optax.tree.get(context.moments, "skipped", jnp.zeros(())),
        }
        metrics |= {f"kl_{h}x{w}": kl.sum() for (_, h, w, _), kl in zip(self.shapes, layers, strict=True)}
        if self.p.levels:
            metrics["bits_per_dimension"] = bits_per_dimension(metrics["elbo"], math.prod(self.image), DISCRETE)
        return -elbo.mean(), Aux(metrics)

    def log_prob(self, params: Params, context: Context, batch, keys: Key, samples: int = 1) -> Array:
        """Return log 1/k sum_i p(x, z_i) / q(z_i | x) in nats, f32[b], with k samples of all layers; keys Key[b].

        One sample estimates the evidence lower bound; many samples approach log p(x). Burda et al. 2016, equation 8.
        """

        def add(so_far, i):
            noise = self.noise(jax.vmap(jax.random.fold_in, (0, None))(keys, i))
            out, drawn = self.posterior(params, batch, noise)
            log_w = self.p.log_prob(batch["image"], out) + sum(d.log_weight.sum(0) for d in drawn)
            return jnp.logaddexp(so_far, log_w), None

        so_far, _ = jax.lax.scan(add, jnp.full(len(keys), -jnp.inf), jnp.arange(samples))
        return so_far - jnp.log(samples)

    def encode(self, params: Params, context: Context, batch) -> Array:
        """Return the means of all layers' posteriors, each given the means before it, f32[b d], coarsest first."""
        count = batch["image"].shape[0]
        _, drawn = self.posterior(params, batch, self.zero_noise(count))
        return jnp.concatenate([jnp.moveaxis(d.z, 0, 1).reshape(count, -1) for d in drawn], 1)

    def decode(self, params: Params, context: Context, latents: Array, given) -> Array:
        """Return E[x | z], f32[b h w c] in [-1, 1], for latents f32[b d] in the layout of `encode`."""
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])[:-1]
        parts = zip(jnp.split(latents, ends, 1), self.shapes, strict=True)
        z = [jnp.moveaxis(part.reshape(-1, *shape), 1, 0) for part, shape in parts]  # [n b h w d]
        return self.mean_image(params, z, z)

    def generate(self, params: Params, context: Context, keys: Key, given):
        """Return images E[x | z] with z sampled from the priors; keys Key[b]."""
        return {"image": self.mean_image(params, self.noise(keys))}


def row(model: HierarchicalVAE, parameters: int, source: str, layers: tuple[int, ...]) -> Preset:
    """Return a preset; its tiny run has 8x8 images and these layers."""
    small = replace(model, image=(8, 8, model.image[2]), layers=layers, width=8, bottleneck=4, latent=2)
    data, warm = Data(source), Optim(warmup=100)
    return Preset(
        Run(model, data=data, steps=20_000, batch=64, optim=warm, log=Log(100, 1000, 64), save=Save(1000)),
        tiny=Run(small, data=data, steps=20, batch=16, log=Log(5, 10, 16), save=Save(10)),
        parameters=parameters,
    )


SMALL = row(HierarchicalVAE(), 364_913, "digits", (2, 2))
THIRTY = HierarchicalVAE((32, 32, 3), (1, 2, 3, 5, 8, 11), 128, 32, 16, "logistic")
PRESETS = {
    "hierarchical": SMALL,
    "hierarchical-30": replace(row(THIRTY, 2_996_390, "shapes", (2, 2)), tiny=SMALL.tiny),
}
