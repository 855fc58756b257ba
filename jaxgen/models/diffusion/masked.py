"""Masked diffusion: Sahoo et al., "Simple and Effective Masked Diffusion Language Models"; Shi et al., "Simplified and
Generalized Masked Diffusion for Discrete Data", both NeurIPS 2024.

An image is a map of tokens: its grey levels, or with `autoencoder` the codes that a frozen VQ-VAE or VQGAN has of it.
At time t a token is the mask with probability 1 - alpha_t. The net tells what is behind the masks; tokens that are seen
stay, and the mask is no answer ("SUBS"). Minus the bound of log P of the tokens, in continuous time, is

    E_t [-alpha'_t / (1 - alpha_t) sum over masked i of -log p(x_i | x_t)].

It depends on no schedule, and is the mean over all orders in which the tokens can be told one by one,

    E_k [n / k sum over k masked i of -log p(x_i | the others)], k even in 1 ... n,

which varies less (Hoogeboom et al. 2022, "Autoregressive Diffusion Models"; Ou et al. 2025, "Your Absorbing Discrete
Diffusion Secretly Models the Conditional Distributions of Clean Data"). By that the net needs no time: it is told the
share of masks that it sees. Samples are drawn from masks alone, some tokens in each step: by chance, or as MaskGIT does
(Chang et al. 2022) those that the net is most sure of.

Any net does: it is shown the tokens of a place as vectors, and patches of places as a denoiser is shown pixels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.errors import InputError, at_least, check_labels, choose
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Ema, Key, Learner, Params, Phase, ramped
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.models.diffusion._presets import SMALL, row
from jaxgen.models.vae.vq_vae import VQVAE
from jaxgen.nn.conditional import Embed
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.denoising import check_model, drop_labels
from jaxgen.tasks.frozen_autoencoder import Autoencoder, autoencoder_of
from jaxgen.tasks.teacher import context_of, load

Schedule = Literal["linear", "cosine"]
Order = Literal["random", "confidence", "ancestral"]
SMALLEST_TIME = 1e-3  # time of training that is nearest to no masks at all; their code
LEVELS = 256  # of 8-bit images


def mask_probability(schedule: Schedule, t: Any, xp: Any = jnp) -> Any:
    """Return 1 - alpha at times in [0, 1]: t, or sin(pi t / 2), which is MaskGIT's cosine seen from the other end."""
    return t if schedule == "linear" else xp.sin(xp.pi / 2 * t)


@dataclass(frozen=True)
class MaskedSampling:
    """How images are drawn; it changes no training, and `generate` and `evaluate` can be given another one.

    In every step the net tells all masked tokens, and some are kept: as many as the schedule says, by chance (random)
    or those that the net is most sure of (confidence), or each with the reverse process's own probability (ancestral).
    Tokens that are kept in one step are drawn as if independent: with a step for each token `random` has no such error.
    """

    steps: int = 64
    order: Order = "random"
    schedule: Schedule = "cosine"  # of the share of masks that is left
    temperature: float = 1.0  # of the tokens
    noise: float = 4.5  # confidence: Gumbel noise added to log p of a token in the first step, down to none in the last
    guidance: float = 1.0  # classifier-free: 1 is none

    def check(self, classes: int):
        """Raise InputError for settings that have no meaning, alone or for this model."""
        at_least(1, model__sampling__steps=self.steps)
        at_least(0, model__sampling__temperature=self.temperature, model__sampling__noise=self.noise)
        choose(self.order, get_args(Order), "model.sampling.order")
        choose(self.schedule, get_args(Schedule), "model.sampling.schedule")
        if self.guidance != 1 and not classes:
            raise InputError("model.sampling.guidance needs a class-conditional model: this one has model.classes=0.")

    @property
    def nfe(self) -> int:
        """How often the net is evaluated for an image."""
        return self.steps * (2 if self.guidance != 1 else 1)

    def plan(self, count: int) -> tuple[np.ndarray, ...]:
        """Return for each step its number, the probability that a mask stays, the masks left of `count`, the noise."""
        shares = mask_probability(self.schedule, 1 - np.arange(self.steps + 1) / self.steps, np)
        left = [count]
        for s in shares[1:]:
            left.append(min(math.floor(count * s + 1e-6), max(left[-1] - 1, 0)))  # one at least is told, as in MaskGIT
        later = np.arange(1, self.steps + 1)
        noise = self.noise * (1 - later / self.steps)
        return later, (shares[1:] / shares[:-1]).astype(np.float32), np.asarray(left[1:]), noise.astype(np.float32)


DEFAULT_SAMPLING = MaskedSampling()
TRANSFORMER = BackboneConfig("dit", 192, 6, 6, patch=2)


@dataclass(frozen=True)
class Masked:
    """Hyper-parameters of a masked diffusion model."""

    image: tuple[int, int, int] = (32, 32, 1)  # height, width, channels
    classes: int = 0  # labels are below it; 0: unconditional
    net: BackboneConfig = TRANSFORMER
    embedding: int = 32  # numbers that a token is shown as
    autoencoder: str = ""  # the folder of a vq-vae or vqgan run, whose codes are modelled; none: grey levels
    levels: int = LEVELS  # of grey, without an autoencoder
    schedule: Schedule = "linear"  # of masks in training
    drop: float = 0.1  # share of labels hidden in training
    sampling: MaskedSampling = DEFAULT_SAMPLING
    learning_rate: float = 5e-4  # of Adam
    ema: float = 0.9999  # decay of the moving average

    def task(self, steps: int) -> Task:
        """Return the game. Raises InputError where the nets can't make such images, or the codes are no tokens.

        A bound of log P of tokens is one of images only where they are the images' own 256 levels: elsewhere the
        task has no `log_prob`, which would be read as one.
        """
        del steps
        self.check()
        label = {"label": jax.ShapeDtypeStruct((), jnp.int32)} if self.classes else {}
        exact = not self.autoencoder and self.levels == LEVELS
        return Task(
            init=self.init,
            example={"image": jax.ShapeDtypeStruct(self.image, jnp.float32), **label},
            learners={"denoiser": Learner(("denoiser",), self.net.adam(self.learning_rate))},
            phases=(Phase("denoiser", "denoiser", self.loss),),
            ema=(Ema("denoiser", ramped(self.ema)),),
            frozen={"autoencoder": partial(load, self.autoencoder)} if self.autoencoder else {},
            given=tuple(label),
            classes=self.classes,
            generate=self.generate,
            log_prob=self.bound if exact else None,
        )

    def check(self):
        at_least(1, model__embedding=self.embedding)
        if not 2 <= self.levels <= LEVELS:
            raise InputError(f"model.levels must be from 2 to {LEVELS}, not {self.levels}.")
        self.sampling.check(self.classes)
        check_model(self)

    @property
    def tokenizer(self) -> Autoencoder | None:
        """The autoencoder. Raises InputError where it is none of tokens, or of other images."""
        if not self.autoencoder:
            return None
        found = autoencoder_of(self.autoencoder, self.image)
        if not isinstance(found.model, VQVAE):
            raise InputError(
                f"model.autoencoder must be the run of a vq-vae or a vqgan: the codes of {self.autoencoder} have no "
                "tokens."
            )
        return found

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows and columns of the map of tokens, and how many a place has: channels, or the quantiser's depth."""
        tokenizer = self.tokenizer
        return (*tokenizer.model.sides, tokenizer.model.quantiser.depth) if tokenizer else self.image

    @property
    def vocabulary(self) -> int:
        """How many values a token has; the mask is this number."""
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
        """Return log p(x_i | x_t), f32[b h w d vocabulary], of every token by those of i32[b h w d] that are seen."""
        rngs = {} if dropout is None else {"dropout": dropout}
        out: Any = self.module.apply({"params": params["denoiser"]}, xt, label, dropout is not None, rngs=rngs)
        return jax.nn.log_softmax(out)

    def masked_nll(
        self, params: Params, x: Array, masked: Array, label: Array | None, dropout: Key | None = None
    ) -> Array:
        """Return the sum over masked tokens of -log p(x_i | x_t), f32[b]; masked is bool[b h w d]."""
        log_p = self.log_probs(params, jnp.where(masked, self.vocabulary, x), label, dropout)
        found = jnp.take_along_axis(log_p, x[..., None], -1)[..., 0]  # [b h w d]
        return -jnp.where(masked, found, 0).sum((1, 2, 3))

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        label = batch["label"] if self.classes else None
        keys = {name: rng.fold(key, name) for name in ("t", "mask", "hide", "dropout")}
        x, count = self.tokens(context, batch["image"]), math.prod(self.shape)
        even = (jax.random.uniform(keys["t"]) + jnp.arange(len(x)) / len(x)) % 1  # one in each part of [0, 1)
        t = SMALLEST_TIME + (1 - SMALLEST_TIME) * even
        masks, slope = jax.jvp(partial(mask_probability, self.schedule), (t,), (jnp.ones_like(t),))
        masked = jax.random.uniform(keys["mask"], x.shape) < masks[:, None, None, None]
        label = drop_labels(label, self.classes, self.drop, keys["hide"])
        nats = self.masked_nll(params, x, masked, label, keys["dropout"] if self.net.dropout else None)
        bound = slope / masks * nats / count  # [b]
        return bound.mean(), Aux({"bits_per_token": bound.mean() / math.log(2)})

    def bound(self, params: Params, context: Context, batch, keys: Key, samples: int = 1) -> Array:
        """Return a bound of log P of the tokens of images in nats, f32[b]: of codes it is none of log P of images.

        The numbers k of masks are drawn one in each of `samples` equal parts; from n samples on all are met.
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
        """Return images of tokens that are drawn as model.sampling says."""
        check_labels(self.classes, given)
        how, label = self.sampling, given["label"] if self.classes else None
        flat = lambda log_p: log_p.reshape(log_p.shape[0], -1, self.vocabulary)  # noqa: E731

        def told(xt: Array) -> Array:
            xt = xt.reshape(-1, *self.shape)
            if how.guidance == 1:
                return flat(self.log_probs(params, xt, label))
            assert label is not None
            both = jnp.concatenate([label, jnp.full_like(label, self.classes)])
            kept, left = jnp.split(flat(self.log_probs(params, jnp.concatenate([xt, xt]), both)), 2)
            return jax.nn.log_softmax(left + how.guidance * (kept - left))

        tokens = unmask(told, keys, math.prod(self.shape), self.vocabulary, how)
        return {"image": self.images(context, tokens.reshape(-1, *self.shape))}


def unmask(told: Callable[[Array], Array], keys: Key, count: int, mask: int, how: MaskedSampling) -> Array:
    """Return tokens i32[b count], from masks alone, each row by its own of keys Key[b].

    told: i32[b count] -> log p f32[b count mask], of the tokens behind masks
    """

    def step(x: Array, plan: tuple[Array, ...]) -> tuple[Array, None]:
        i, stays, left, noise = plan
        gumbel = lambda name, *shape: jax.vmap(  # noqa: E731
            lambda key: jax.random.gumbel(rng.fold(jax.random.fold_in(key, i), name), shape)
        )(keys)
        log_p, masked = told(x), x == mask
        drawn = jnp.argmax(log_p + how.temperature * gumbel("token", count, mask), -1)  # [b count]
        chance = gumbel("order", count)
        if how.order == "ancestral":  # with probability (1 - alpha_s) / (1 - alpha_t)
            stay = jnp.exp(-jnp.exp(-chance)) < stays
        else:
            sure = jnp.take_along_axis(log_p, drawn[..., None], 2)[..., 0]
            score = sure + noise * chance if how.order == "confidence" else chance
            stay = lowest(jnp.where(masked, score, jnp.inf), left)
        return jnp.where(masked & ~stay, drawn, x), None

    start = jnp.full((keys.shape[0], count), mask)
    return jax.lax.scan(step, start, tuple(map(jnp.asarray, how.plan(count))))[0]


def lowest(score: Array, k: Array) -> Array:
    """Return which of f32[b n] are the k lowest of their row, bool[b n]; k is one number, or i32[b 1]."""
    rank = jnp.argsort(jnp.argsort(score, 1), 1)
    return rank < jnp.broadcast_to(k, rank.shape)


class TokenPredictor(nn.Module):
    """(tokens i32[b h w d], label i32[b]) -> logits f32[b h w d vocabulary]; a token of number `vocabulary` is masked.

    The net, (x f32[b h w c], t f32[b], label, second, train) -> f32[b h w d*vocabulary], is told the share of masks.
    """

    net: nn.Module
    vocabulary: int
    embedding: int

    @nn.compact
    def __call__(self, tokens: Array, label: Array | None = None, train: bool = False) -> Array:
        masks = (tokens == self.vocabulary).mean((1, 2, 3), dtype=jnp.float32)  # [b]
        shown = [
            Embed(self.vocabulary + 1, self.embedding, nn.initializers.normal(1.0), name=f"embedder_{i}")(
                tokens[..., i]
            )
            for i in range(tokens.shape[3])
        ]
        x = jnp.concatenate(shown, -1)  # [b h w d*embedding]
        net: Any = self.net
        return to_f32(net(x, 1000 * masks, label, None, train=train)).reshape(*tokens.shape, self.vocabulary)


PRESETS = {"masked": row(Masked(), 4_389_728, net=SMALL["dit"], embedding=8)}
