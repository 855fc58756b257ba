"""Masked diffusion: Sahoo et al., "Simple and Effective Masked Diffusion Language Models"; Shi et al., "Simplified and
Generalized Masked Diffusion for Discrete Data", both NeurIPS 2024.

An image is a map of tokens: its grey levels, or with `autoencoder` the tokens of a frozen VQ-VAE or VQGAN. At time t a
token is replaced by the mask with probability 1 - alpha_t. The net predicts the masked tokens. Visible tokens do not
change, and the mask is never predicted ("SUBS"). The negative bound of log P of the tokens, in continuous time, is

    E_t [-alpha'_t / (1 - alpha_t) sum over masked i of -log p(x_i | x_t)].

It does not depend on the schedule. It equals the mean over all orders of predicting the tokens one by one,

    E_k [n / k sum over k masked i of -log p(x_i | the others)], k uniform in 1 ... n,

which has a lower variance (Hoogeboom et al. 2022, "Autoregressive Diffusion Models"; Ou et al. 2025, "Your Absorbing
Discrete Diffusion Secretly Models the Conditional Distributions of Clean Data"). It follows that the net does not need
the time: its time input is the share of masked tokens. Sampling starts with masks only and draws some tokens in each
step: random ones, or, as in MaskGIT (Chang et al. 2022), those with the highest confidence.

Any backbone can be used: its input is the embedded tokens of each position, as channels in place of pixels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.capabilities import Density
from jaxgen.core.errors import InputError, check_labels
from jaxgen.core.ranges import Count, Decay, Range
from jaxgen.core.spec import labelled
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Ema, Key, Learner, Params, Phase, ramped
from jaxgen.diffusion.guidance import check_null
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.models.diffusion._presets import SMALL, row
from jaxgen.models.vae.vq_vae import VQVAE
from jaxgen.nn.conditional import Embed
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.denoising import check_model, drop_labels
from jaxgen.tasks.frozen_autoencoder import Autoencoder, autoencoder_of
from jaxgen.tasks.teacher import context_of, load
from jaxgen.tasks.transforms import example_generation

Schedule = Literal["linear", "cosine"]
Order = Literal["random", "confidence", "ancestral"]
SMALLEST_TIME = 1e-3  # in training, with nearly no masks; the authors' code
LEVELS = 256  # of 8-bit images


def mask_probability(schedule: Schedule, t: Any, xp: Any = jnp) -> Any:
    """Return 1 - alpha at times in [0, 1]: t, or sin(pi t / 2), which is MaskGIT's cosine with time reversed."""
    return t if schedule == "linear" else xp.sin(xp.pi / 2 * t)


@dataclass(frozen=True)
class MaskedSampling:
    """Settings of sampling. They do not affect training; `generate` and `evaluate` accept others.

    In every step the net predicts all masked tokens, and some of the predictions are kept. With the order "random" or
    "confidence" (highest probability first) their number follows the schedule; with "ancestral" each is kept with the
    probability of the reverse process. Tokens kept in one step are drawn as if independent. With one step per token,
    "random" has no such error.
    """

    steps: Count = 64  # of sampling
    order: Order = "random"
    schedule: Schedule = "cosine"  # of the share of tokens still masked
    temperature: float = 1.0  # of the tokens' distribution
    noise: float = 4.5  # confidence: scale of Gumbel noise on log p of a token, falling linearly to 0
    guidance: float = 1.0  # scale of classifier-free guidance; 1: none

    def check(self, classes: int, drop: float):
        """Raise InputError for settings that are invalid, alone or for this model."""
        check_null(self.guidance, classes, drop)

    @property
    def nfe(self) -> int:
        """Function evaluations (NFE) for each image."""
        return self.steps * (2 if self.guidance != 1 else 1)

    def plan(self, count: int) -> tuple[np.ndarray, ...]:
        """Return for each step its number, the probability that a mask stays, the masks left of `count`, the noise."""
        shares = mask_probability(self.schedule, 1 - np.arange(self.steps + 1) / self.steps, np)
        left = [count]
        for s in shares[1:]:
            # At least one token per step, as in MaskGIT.
            left.append(min(math.floor(count * s + 1e-6), max(left[-1] - 1, 0)))
        later = np.arange(1, self.steps + 1)
        noise = self.noise * (1 - later / self.steps)
        return later, (shares[1:] / shares[:-1]).astype(np.float32), np.asarray(left[1:]), noise.astype(np.float32)


DEFAULT_SAMPLING = MaskedSampling()
TRANSFORMER = BackboneConfig("dit", 192, 6, 6, patch=2)


@dataclass(frozen=True)
class Masked:
    """Hyper-parameters of a masked diffusion model."""

    image: tuple[int, int, int] = (32, 32, 1)  # height, width, channels
    classes: int = 0  # number of classes; 0: unconditional
    net: BackboneConfig = TRANSFORMER
    embedding: Count = 32  # channels of an embedded token
    autoencoder: str = ""  # folder of a vq-vae or vqgan run, to model its tokens; empty: grey levels
    levels: Annotated[int, Range(2, LEVELS)] = LEVELS  # number of grey levels, without an autoencoder
    schedule: Schedule = "linear"  # of the share of masked tokens in training
    drop: Decay = 0.1  # share of labels replaced by the null label in training
    sampling: MaskedSampling = DEFAULT_SAMPLING
    learning_rate: float = 5e-4  # of Adam
    ema: Decay = 0.9999  # decay of the EMA

    def task(self, steps: int) -> Task:
        """Return the training task. Raises InputError for invalid settings and for an autoencoder without tokens.

        A bound of log P of the tokens is a bound for images only where tokens are the images' 256 levels. In other
        cases the task has no `log_prob`.
        """
        del steps
        self.check()
        example = labelled(self.image, self.classes)
        exact = not self.autoencoder and self.levels == LEVELS
        return Task(
            init=self.init,
            example=example,
            learners={"denoiser": Learner(("denoiser",), self.net.adam(self.learning_rate))},
            phases=(Phase("denoiser", "denoiser", self.loss),),
            ema=(Ema("denoiser", ramped(self.ema)),),
            frozen={"autoencoder": partial(load, self.autoencoder)} if self.autoencoder else {},
            capabilities=(
                example_generation(self.generate, example),
                *((Density(self.bound),) if exact else ()),
            ),
        )

    def check(self):
        self.sampling.check(self.classes, self.drop)
        check_model(self)

    @property
    def tokenizer(self) -> Autoencoder | None:
        """The autoencoder. Raises InputError where it has no tokens, or where its images differ."""
        if not self.autoencoder:
            return None
        found = autoencoder_of(self.autoencoder, self.image)
        if not isinstance(found.model, VQVAE):
            raise InputError(
                f"model.autoencoder must be the run of a vq-vae or a vqgan: {self.autoencoder} has no tokens."
            )
        return found

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height and width of the token map, and tokens per position: channels, or the quantiser's depth."""
        tokenizer = self.tokenizer
        return (*tokenizer.model.sides, tokenizer.model.quantiser.depth) if tokenizer else self.image

    @property
    def vocabulary(self) -> int:
        """Number of values of a token; the mask is token number `vocabulary`."""
        tokenizer = self.tokenizer
        return tokenizer.model.quantiser.vocabulary if tokenizer else self.levels

    @property
    def module(self) -> "TokenPredictor":
        vocabulary = self.vocabulary
        return TokenPredictor(self.net.module(self.shape[2] * vocabulary, self.classes), vocabulary, self.embedding)

    def init(self, key: Key, spec: Any = None):
        tokens, label = jnp.zeros((2, *self.shape), jnp.int32), jnp.zeros(2, jnp.int32) if self.classes else None
        return {"denoiser": self.module.init(rng.fold(key, "denoiser"), tokens, label)["params"]}, {}

    def tokens(self, context: Context, x: Array) -> Array:
        """Return the tokens i32[b h w d] of images f32[b H W c]."""
        if tokenizer := self.tokenizer:
            own = context.frozen["autoencoder"]
            return tokenizer.model.tokens(own["params"], context_of(own), {"image": x})
        return jnp.int32(jnp.round((jnp.clip(x, -1, 1) + 1) * ((self.levels - 1) / 2)))

    def images(self, context: Context, tokens: Array) -> Array:
        """Return the images f32[b H W c] in [-1, 1] of tokens i32[b h w d]."""
        if tokenizer := self.tokenizer:
            own = context.frozen["autoencoder"]
            return tokenizer.decode(own, tokenizer.model.values(own["params"], context_of(own), tokens))
        return tokens / ((self.levels - 1) / 2) - 1

    def log_probs(self, params: Params, xt: Array, label: Array | None, dropout: Key | None = None) -> Array:
        """Return log p(x_i | x_t) for every token of x_t i32[b h w d], f32[b h w d vocabulary]."""
        rngs = {} if dropout is None else {"dropout": dropout}
        out: Any = self.module.apply({"params": params["denoiser"]}, xt, label, dropout is not None, rngs=rngs)
        return jax.nn.log_softmax(out)

    def masked_nll(
        self, params: Params, x: Array, masked: Array, label: Array | None, dropout: Key | None = None
    ) -> Array:
        """Return the negative log-likelihood of the masked tokens, the sum of -log p(x_i | x_t), f32[b].

        masked: bool[b h w d]
        """
        log_p = self.log_probs(params, jnp.where(masked, self.vocabulary, x), label, dropout)
        found = jnp.take_along_axis(log_p, x[..., None], -1)[..., 0]  # [b h w d]
        return -jnp.where(masked, found, 0).sum((1, 2, 3))

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        label = batch["label"] if self.classes else None
        keys = {name: rng.fold(key, name) for name in ("t", "mask", "hide", "dropout")}
        x, count = self.tokens(context, batch["image"]), math.prod(self.shape)
        # stratified: one time in each interval of [0, 1)
        uniform = (jax.random.uniform(keys["t"]) + jnp.arange(len(x)) / len(x)) % 1
        t = SMALLEST_TIME + (1 - SMALLEST_TIME) * uniform
        masks, slope = jax.jvp(partial(mask_probability, self.schedule), (t,), (jnp.ones_like(t),))
        masked = jax.random.uniform(keys["mask"], x.shape) < masks[:, None, None, None]
        label = drop_labels(label, self.classes, self.drop, keys["hide"])
        nll = self.masked_nll(params, x, masked, label, keys["dropout"] if self.net.dropout else None)
        bound = slope / masks * nll / count  # [b]
        return bound.mean(), Aux({"bits_per_token": bound.mean() / math.log(2)})

    def bound(self, params: Params, context: Context, batch, keys: Key, samples: int = 1) -> Array:
        """Return a lower bound of log P of the images' tokens in nats, f32[b].

        For an autoencoder's tokens it is not a bound of log P of the images.

        One number k of masks is drawn from each of `samples` equal intervals; with n samples or more, every k is used.
        """
        label = batch["label"] if self.classes else None
        x, count = self.tokens(context, batch["image"]), math.prod(self.shape)

        def one(sum_, i):
            own = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
            draw = lambda name, *shape: jax.vmap(lambda key: jax.random.uniform(rng.fold(key, name), shape))(own)  # noqa: E731
            k = jnp.minimum(jnp.int32((i + draw("k")) * (count / samples)) + 1, count)  # [b]
            masked = lowest(draw("order", count), k[:, None]).reshape(x.shape)
            return sum_ + count / k * self.masked_nll(params, x, masked, label), None

        found, _ = jax.lax.scan(one, jnp.zeros(len(x)), jnp.arange(samples))
        return -found / samples

    def generate(self, params: Params, context: Context, keys: Key, given) -> dict[str, Array]:
        """Return images from tokens that are sampled with the settings of model.sampling."""
        check_labels(self.classes, given)
        how, label = self.sampling, given["label"] if self.classes else None
        flat = lambda log_p: log_p.reshape(log_p.shape[0], -1, self.vocabulary)  # noqa: E731

        def log_probs(xt: Array) -> Array:
            xt = xt.reshape(-1, *self.shape)
            if how.guidance == 1:
                return flat(self.log_probs(params, xt, label))
            assert label is not None
            both = jnp.concatenate([label, jnp.full_like(label, self.classes)])
            conditional, unconditional = jnp.split(flat(self.log_probs(params, jnp.concatenate([xt, xt]), both)), 2)
            return jax.nn.log_softmax(unconditional + how.guidance * (conditional - unconditional))

        tokens = unmask(log_probs, keys, math.prod(self.shape), self.vocabulary, how)
        return {"image": self.images(context, tokens.reshape(-1, *self.shape))}


def unmask(log_probs: Callable[[Array], Array], keys: Key, count: int, mask: int, how: MaskedSampling) -> Array:
    """Return sampled tokens i32[b count], starting from masks only. Each row has its own key of keys Key[b].

    log_probs: i32[b count] -> log p f32[b count mask] of the tokens at masked positions
    """

    def step(x: Array, plan: tuple[Array, ...]) -> tuple[Array, None]:
        i, stays, left, noise = plan
        gumbel = lambda name, *shape: jax.vmap(  # noqa: E731
            lambda key: jax.random.gumbel(rng.fold(jax.random.fold_in(key, i), name), shape)
        )(keys)
        log_p, masked = log_probs(x), x == mask
        predicted = jnp.argmax(log_p + how.temperature * gumbel("token", count, mask), -1)  # [b count]
        gumbel_noise = gumbel("order", count)
        if how.order == "ancestral":  # with probability (1 - alpha_s) / (1 - alpha_t)
            stay = jnp.exp(-jnp.exp(-gumbel_noise)) < stays
        else:
            confidence = jnp.take_along_axis(log_p, predicted[..., None], 2)[..., 0]
            score = confidence + noise * gumbel_noise if how.order == "confidence" else gumbel_noise
            stay = lowest(jnp.where(masked, score, jnp.inf), left)
        return jnp.where(masked & ~stay, predicted, x), None

    start = jnp.full((keys.shape[0], count), mask)
    return jax.lax.scan(step, start, tuple(map(jnp.asarray, how.plan(count))))[0]


def lowest(score: Array, k: Array) -> Array:
    """Return a mask of the k lowest values in each row of f32[b n], bool[b n]; k is one number, or i32[b 1]."""
    rank = jnp.argsort(jnp.argsort(score, 1), 1)
    return rank < jnp.broadcast_to(k, rank.shape)


class TokenPredictor(nn.Module):
    """(tokens i32[b h w d], label i32[b]) -> logits f32[b h w d vocabulary]. Token number `vocabulary` is the mask.

    net: (x f32[b h w c], t f32[b], label, second, train) -> f32[b h w d*vocabulary]; t is the share of masked tokens
    """

    net: nn.Module
    vocabulary: int
    embedding: int

    @nn.compact
    def __call__(self, tokens: Array, label: Array | None = None, train: bool = False) -> Array:
        masks = (tokens == self.vocabulary).mean((1, 2, 3), dtype=jnp.float32)  # [b]
        embedded = [
            Embed(self.vocabulary + 1, self.embedding, nn.initializers.normal(1.0), name=f"embedder_{i}")(
                tokens[..., i]
            )
            for i in range(tokens.shape[3])
        ]
        x = jnp.concatenate(embedded, -1)  # [b h w d*embedding]
        net: Any = self.net
        return to_f32(net(x, 1000 * masks, label, None, train=train)).reshape(*tokens.shape, self.vocabulary)


PRESETS = {"masked": row(Masked(), 4_389_728, net=SMALL["dit"], embedding=8)}
