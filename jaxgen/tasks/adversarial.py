"""Adversarial training of a generator and a discriminator: the losses, and the order of the updates."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.capabilities import Latent
from jaxgen.core.errors import at_least, check_labels
from jaxgen.core.spec import kind_of, labelled
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Ema, Key, Learner, Params, Phase, PyTree, ramped, variables
from jaxgen.losses import regularisation
from jaxgen.losses.gan import LOSSES
from jaxgen.nn.conv import Dense
from jaxgen.nn.priors import Prior
from jaxgen.tasks import ada_augmentation
from jaxgen.tasks.adversarial_config import AdversarialConfig
from jaxgen.tasks.diff_augmentation import diffaugment
from jaxgen.tasks.transforms import example_generation

Heads = Mapping[str, Array]  # the discriminator's other outputs, by name
Logits = Array | Mapping[str, Array]  # f32[b ...], or those of several discriminators in one
HeadsLoss = Callable[[Heads, Array, Array | None, bool], tuple[Array, dict[str, Array]]]


class DiscriminatorOutput(NamedTuple):
    """The discriminator's outputs for a batch of images, and its running statistics after this pass."""

    logits: Logits
    heads: Heads
    stats: PyTree


@dataclass(frozen=True)
class AdversarialTask:
    """The training of a generator against a discriminator; `task` returns it as a Task.

    Examples are images f32[b h w c], or videos f32[b t h w c] where `image` has four axes.

    generator:     module (z, label, keys, train) -> images; keys are for noise inside the generator. Losses of its own
                   f32[b] may be sown in the collection "losses"
    discriminator: module (x, label, train) -> logits f32[b], or (logits, {name: head}). Several discriminators in one
                   return their logits by name, f32[b ...] each: the losses are sums over them, and means over patches.
                   In training it may draw from rngs["noise"]
    image:         the shape of one example
    draw:          the prior of z
    classes:       number of classes of a conditional model; 0: neither net gets a label
    heads_loss:    (heads, z, label, whether the images are real) -> f32[b], metrics; both nets minimise it
    clip:          clip samples to [-1, 1], the range of the data
    """

    game: AdversarialConfig
    generator: nn.Module
    discriminator: nn.Module
    image: tuple[int, ...]
    draw: Prior
    classes: int = 0
    heads_loss: HeadsLoss | None = None
    clip: bool = True

    def init(self, key: Key, spec: Any = None) -> tuple[dict[str, PyTree], dict[str, PyTree]]:
        """Return (params, extra)."""
        keys = jax.random.split(key, 2)
        x = jnp.zeros((2, *self.image))
        label = jnp.zeros(2, jnp.int32) if self.classes else None
        z = jnp.zeros_like(self.draw(keys, None))
        nets = {
            "generator": self.generator.init(rng.fold(key, "generator"), z, label, keys, train=False),
            "discriminator": self.discriminator.init(rng.fold(key, "discriminator"), x, label, train=False),
        }
        params = {net: v["params"] for net, v in nets.items()}
        if self.game.clip:  # otherwise the first update would also move the parameters that start beyond the limit
            limit = self.game.clip
            params["discriminator"] = jax.tree.map(lambda x: jnp.clip(x, -limit, limit), params["discriminator"])
        rest = {net: {k: c for k, c in v.items() if k not in ("params", "losses")} for net, v in nets.items()}
        extra: dict[str, PyTree] = {net: collections for net, collections in rest.items() if collections}
        for net in self.spectral_nets:
            # The generator's class embeddings are not normalised: Brock et al. 2019, the authors' code.
            spare = "embedding" if net == "generator" else ""
            extra[f"{net}_spectral"] = regularisation.init_spectral(
                rng.fold(key, f"{net} spectral"), params[net], spare
            )
        if self.game.ada:
            extra["ada"] = ada_augmentation.Controller.empty()
        return params, extra

    @property
    def kind(self) -> str:
        """The name of the examples: "image" or "video"."""
        return kind_of(self.image)

    @property
    def spectral_nets(self) -> tuple[str, ...]:
        """The names of the nets with spectral normalisation."""
        return {"none": (), "discriminator": ("discriminator",), "both": ("generator", "discriminator")}[
            self.game.spectral
        ]

    def net_variables(self, net: str, params: Params, context: Context) -> tuple[dict[str, PyTree], dict[str, PyTree]]:
        """Return a net's variables after spectral normalisation, and the new entries of extra from it."""
        own = variables(net, params, context.extra)
        if net not in self.spectral_nets:
            return own, {}
        name = f"{net}_spectral"
        weights, vectors = regularisation.spectral_normalise(own["params"], context.extra[name])
        return {**own, "params": weights}, {name: vectors}

    def augment(self, context: Context, x: Array, key: Key) -> Array:
        """Return the images x f32[b h w c] augmented as the discriminator's inputs are."""
        if self.game.ada:
            return ada_augmentation.augment(key, x, context.extra["ada"]["p"], self.game.ada)
        return x if self.game.augment == "none" else diffaugment(key, x, self.game.augment)

    def generate_fake(
        self, params: Params, context: Context, batch, key: Key
    ) -> tuple[Array, Array, Array, dict[str, PyTree]]:
        """Return generated images for a batch's labels, their z, the generator's own losses, new entries of extra."""
        keys = jax.random.split(key, len(batch[self.kind]))
        z = self.draw(keys, None)
        own, extra = self.net_variables("generator", params, context)
        noise = jax.vmap(lambda k: rng.fold(k, "noise"))(keys)
        label = batch.get("label") if self.classes else None
        found: Any = self.generator.apply(own, z, label, noise, train=context.train, mutable=["batch_stats", "losses"])
        image, stats = found
        losses = sum(jax.tree.leaves(stats.pop("losses", {})), start=jnp.zeros(len(z)))
        return image, z, losses, extra | self.new_statistics("generator", context, stats)

    def new_statistics(self, net: str, context: Context, stats: PyTree) -> dict[str, PyTree]:
        """Return a net's new entry of extra: its collections, with the running statistics replaced by stats."""
        return {net: {**context.extra[net], **stats}} if stats else {}

    def discriminate(
        self, params: Params, context: Context, batch, key: Key
    ) -> tuple[Callable[[str, Array], DiscriminatorOutput], dict[str, PyTree]]:
        """Return a function (kind of images, images) -> DiscriminatorOutput, and new entries of extra.

        Every call with the same kind, "real" or "fake", uses the same augmentation.
        """
        own, extra = self.net_variables("discriminator", params, context)
        label = batch.get("label") if self.classes else None

        def discriminator(kind: str, x: Array) -> DiscriminatorOutput:
            x = self.augment(context, x, rng.fold(key, f"augment {kind}"))
            rngs = {"noise": rng.fold(key, f"noise {kind}")}
            out, stats = self.discriminator.apply(own, x, label, train=True, mutable=["batch_stats"], rngs=rngs)
            logits, heads = out if isinstance(out, tuple) else (out, {})
            return DiscriminatorOutput(logits, heads, stats)

        return discriminator, extra

    def discriminator_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        """Return the discriminator's loss on a batch of real images and as many new generated images."""
        fake, z, *_ = self.generate_fake(params, context, batch, key)
        return self.discriminator_loss_on(fake, z, params, context, batch, key)

    def discriminator_loss_on(
        self, fake: Array, z: Array, params: Params, context: Context, batch, key: Key
    ) -> tuple[Array, Aux]:
        """Return the discriminator's loss on real images and on given generated images fake f32[b h w c]."""
        loss = LOSSES[self.game.loss]
        discriminator, extra = self.discriminate(params, context, batch, key)
        of_real, of_fake = discriminator("real", batch[self.kind]), discriminator("fake", fake)
        value = summed(loss.discriminator, of_real.logits, of_fake.logits)
        metrics = {
            name: summed(loss.score, output.logits).mean() / len(jax.tree.leaves(output.logits))
            for name, output in (("real", of_real), ("fake", of_fake))
        }
        if self.heads_loss:
            for kind, output in (("real", of_real), ("fake", of_fake)):
                term, new = self.heads_loss(output.heads, z, batch.get("label"), kind == "real")
                value, metrics = value + term, metrics | {f"{kind}_{name}": x for name, x in new.items()}
        if self.game.has_penalty and self.game.lazy == 1:
            penalty, new = self.gradient_penalties(fake, params, context, batch, key)
            value, metrics = value + penalty, metrics | new
        if self.game.ada:
            scores = summed(lambda y: y, of_real.logits)
            state, new = ada_augmentation.Controller.update(context.extra["ada"], scores, self.game.ada_target)
            extra, metrics = extra | {"ada": state}, metrics | new
        # The discriminator's running statistics are never read. The generated images' are kept.
        return value.mean(), Aux(metrics, extra | self.new_statistics("discriminator", context, of_fake.stats))

    def gradient_penalties(
        self, fake: Array, params: Params, context: Context, batch, key: Key
    ) -> tuple[Array, dict[str, Array]]:
        """Return the weighted sum of the penalties on the discriminator's gradient f32[b], and each one's mean."""
        game, real = self.game, batch[self.kind]
        discriminator, _ = self.discriminate(params, context, batch, key)
        logits_of = lambda kind: lambda x: summed(lambda y: y, discriminator(kind, x).logits)  # noqa: E731
        key = rng.fold(key, "penalty")
        terms = {
            "r1": lambda: regularisation.zero_centred(logits_of("real"), real),
            "r2": lambda: regularisation.zero_centred(logits_of("fake"), fake),
            "gradient_penalty": lambda: regularisation.wasserstein_penalty(logits_of("real"), real, fake, key),
            "dragan": lambda: regularisation.dragan_penalty(logits_of("real"), real, key),
        }
        values = {name: term() for name, term in terms.items() if getattr(game, name)}
        total = sum((getattr(game, name) * value for name, value in values.items()), start=jnp.zeros(len(real)))
        return total, {name: value.mean() for name, value in values.items()}

    def lazy_penalty_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        """Return the penalties alone, multiplied by `lazy`, the number of steps between two such updates."""
        fake, *_ = self.generate_fake(params, context, batch, key)
        value, metrics = self.gradient_penalties(fake, params, context, batch, key)
        return self.game.lazy * value.mean(), Aux(metrics)

    def generator_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        """Return the generator's loss on new generated images."""
        loss = LOSSES[self.game.loss]
        fake, z, losses, extra = self.generate_fake(params, context, batch, key)
        if self.game.unroll:
            params = {**params, "discriminator": self.unrolled_discriminator(fake, z, params, context, batch, key)}
        discriminator, _ = self.discriminate(params, context, batch, key)
        of_fake = discriminator("fake", fake)
        real = discriminator("real", batch[self.kind]).logits if loss.both else of_fake.logits
        value, metrics = summed(loss.generator, real, of_fake.logits) + losses, {}
        if self.heads_loss:
            term, metrics = self.heads_loss(of_fake.heads, z, batch.get("label"), False)
            value = value + term
        return value.mean(), Aux(metrics, extra)

    def unrolled_discriminator(
        self, fake: Array, z: Array, params: Params, context: Context, batch, key: Key
    ) -> PyTree:
        """Return the discriminator's parameters after its next updates, differentiable in the generated images.

        Metz et al. 2017, equations 6 to 8.
        """
        optimizer = optax.with_extra_args_support(context.learners["discriminator"].optimizer)

        def update(carry, _):
            own, moments = carry
            loss = lambda own: self.discriminator_loss_on(fake, z, {**params, **own}, context, batch, key)[0]  # noqa: E731
            updates, moments = optimizer.update(jax.grad(loss)(own), moments, own, step=context.step)
            return (optax.apply_updates(own, updates), moments), None

        start = ({"discriminator": params["discriminator"]}, context.moments["discriminator"])
        own: Any
        (own, _), _ = jax.lax.scan(update, start, length=self.game.unroll)
        return own["discriminator"]

    def check_labels(self, given):
        """Raise InputError for missing labels, and for labels out of range."""
        check_labels(self.classes, given)

    def synthesise(self, params: Params, context: Context, w: Array, given) -> Array:
        """Return the generator's images f32[b h w c] of latents w."""
        self.check_labels(given)
        own, _ = self.net_variables("generator", params, context)
        return self.generator.apply(own, w, given.get("label"), None, train=False)  # pyright: ignore[reportReturnType]

    def factors(self, params: Params, context: Context) -> tuple[Array]:
        """Return the matrix [d n] by which the generator's first dense layer multiplies z.

        It is that layer's derivative with respect to z, which is exact. Rows for numbers of z that do not enter that
        layer are 0.
        """
        own, _ = self.net_variables("generator", params, context)
        label = jnp.zeros(1, jnp.int32) if self.classes else None

        def first_layer(z: Array) -> Array:
            outputs: list[Any] = []

            def record(call, args, kwargs, inner):
                out = call(*args, **kwargs)
                if isinstance(inner.module, Dense):
                    outputs.append(out[0])  # [n]
                return out

            with nn.intercept_methods(record):
                self.generator.apply(own, z[None], label, None, train=False)
            return outputs[0]

        z: Any = jax.eval_shape(lambda: self.draw(jax.random.split(jax.random.key(0), 1), None))
        jacobian: Any = jax.jacobian(first_layer)(jnp.zeros(z.shape[1:]))  # [n d]
        return (jacobian.T,)

    def task(
        self,
        latent: Latent | None = None,
        ema: Ema | None = None,
        further: tuple[Phase, ...] = (),
        extra: Mapping[str, PyTree] | None = None,
        lazy_every: int = 0,
    ) -> Task:
        """Return the Task.

        latent:     how latents are drawn, mapped and synthesised; None: the generator's input is z
        ema:        the generator's moving average; None: the one of the config
        further:    phases after those of the discriminator, the lazy penalties and the generator
        extra:      the state of the further phases
        lazy_every: adjust the generator's learning rate and decays for a lazy phase every so many steps
        """
        game = self.game
        game.check()
        at_least(0, model__classes=self.classes)
        own = Latent(self.draw, lambda params, context, z, given: z, self.synthesise, factors=self.factors)
        entry = latent or own

        def generate(params, context, keys, given):
            z = entry.draw(keys, given.get("truncation"))
            image = entry.synthesise(params, context, entry.map(params, context, z, given), given)
            return {self.kind: jnp.clip(image, -1, 1) if self.clip else image}

        def init(key, spec):
            params, own = self.init(key, spec)
            return params, own | dict(extra or {})

        # One stream: both losses use the same z, so XLA runs the generator's forward pass once a step, not twice.
        phases = [Phase("discriminator", "discriminator", self.discriminator_loss, game.critics, stream="z")]
        lazy = game.lazy if game.lazy > 1 else 0
        if lazy:
            # As many as the discriminator's updates of that step, so that one in `lazy` of these has its penalty.
            phases += [Phase("penalty", "discriminator", self.lazy_penalty_loss, game.critics, lazy, stream="z")]
        phases += [Phase("generator", "generator", self.generator_loss, stream="z"), *further]
        rate = game.generator_rate or game.learning_rate
        example = labelled(self.image, self.classes)
        return Task(
            init=init,
            example=example,
            learners={
                "discriminator": Learner(("discriminator",), game.make_optimizer(game.learning_rate, game.clip, lazy)),
                "generator": Learner(("generator",), game.make_optimizer(rate, every=lazy_every)),
            },
            phases=tuple(phases),
            ema=(ema or Ema("generator", ramped(game.ema)),),
            capabilities=(example_generation(generate, example), entry),
        )


def summed(function: Callable[..., Array], *logits: Logits) -> Array:
    """Return function(*logits) f32[b], its mean over patches and its sum over discriminators."""
    parts = jax.tree.leaves(jax.tree.map(function, *logits))
    return functools.reduce(jnp.add, [part.mean(range(1, part.ndim)) for part in parts])
