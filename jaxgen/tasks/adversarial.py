"""The game of two players, whatever their nets: what each minimises, and who moves when."""

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
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Ema, Key, Learner, Params, Phase, PyTree, ramped, variables
from jaxgen.losses import smooth
from jaxgen.losses.gan import LOSSES
from jaxgen.nn.conv import Dense
from jaxgen.nn.priors import Draw
from jaxgen.tasks import ada_augmentation
from jaxgen.tasks.adversarial_config import Game
from jaxgen.tasks.diff_augmentation import diffaugment

Heads = Mapping[str, Array]  # what a discriminator tells of an image beside how real it is
HeadsLoss = Callable[[Heads, Array, Array | None, bool], tuple[Array, dict[str, Array]]]


class Verdict(NamedTuple):
    """What the discriminator says of images, and its running statistics after them."""

    logits: Array
    heads: Heads
    stats: PyTree


@dataclass(frozen=True)
class Players:
    """Two nets, and all that is played with them.

    generator:     module (z, label, keys, train) -> image f32[b h w c]; keys are for noise of its own
    discriminator: module (x, label, train) -> logits f32[b], or (logits, {name: head})
    draw:          the prior of z
    classes:       of a conditional game; 0: neither net is told a label
    heads_loss:    (heads, z, label, whether the images are real) -> f32[b] that both players minimise, metrics
    clip:          cut what is generated off at -1 and 1, where data end
    """

    game: Game
    generator: nn.Module
    discriminator: nn.Module
    image: tuple[int, int, int]
    draw: Draw
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
        if self.game.clip:  # the first update would clip what it did not move
            limit = self.game.clip
            params["discriminator"] = jax.tree.map(lambda x: jnp.clip(x, -limit, limit), params["discriminator"])
        rest = {net: {k: c for k, c in v.items() if k != "params"} for net, v in nets.items()}
        extra: dict[str, PyTree] = {net: collections for net, collections in rest.items() if collections}
        for net in self.spectral_nets:
            # Of a generator the tables of classes are left as they are: Brock et al. 2019, the authors' code.
            spare = "embedding" if net == "generator" else ""
            extra[f"{net}_spectral"] = smooth.spectral_start(rng.fold(key, f"{net} spectral"), params[net], spare)
        if self.game.ada:
            extra["ada"] = ada_augmentation.Controller.empty()
        return params, extra

    @property
    def spectral_nets(self) -> tuple[str, ...]:
        return {"none": (), "discriminator": ("discriminator",), "both": ("generator", "discriminator")}[
            self.game.spectral
        ]

    def weighed(self, net: str, params: Params, context: Context) -> tuple[dict[str, PyTree], dict[str, PyTree]]:
        """Return a net's variables as they are used, and the new entries of extra that making them has."""
        own = variables(net, params, context.extra)
        if net not in self.spectral_nets:
            return own, {}
        name = f"{net}_spectral"
        weights, vectors = smooth.spectral(own["params"], context.extra[name])
        return {**own, "params": weights}, {name: vectors}

    def augmented(self, context: Context, x: Array, key: Key) -> Array:
        if self.game.ada:
            return ada_augmentation.augment(key, x, context.extra["ada"]["p"], self.game.ada)
        return x if self.game.augment == "none" else diffaugment(key, x, self.game.augment)

    def imagine(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Array, dict[str, PyTree]]:
        """Return images for a batch's labels, the z they are of, and new entries of extra."""
        keys = jax.random.split(key, len(batch["image"]))
        z = self.draw(keys, None)
        own, extra = self.weighed("generator", params, context)
        noise = jax.vmap(lambda k: rng.fold(k, "noise"))(keys)
        image, stats = self.generator.apply(
            own, z, batch.get("label") if self.classes else None, noise, train=True, mutable=["batch_stats"]
        )
        return image, z, extra | self.moved("generator", context, stats)

    def moved(self, net: str, context: Context, stats: PyTree) -> dict[str, PyTree]:
        """Return a net's new entry of extra: its collections, those that a pass has moved on replaced."""
        return {net: {**context.extra[net], **stats}} if stats else {}

    def judge(
        self, params: Params, context: Context, batch, key: Key
    ) -> tuple[Callable[[str, Array], Verdict], dict[str, PyTree]]:
        """Return (kind of images, images) -> Verdict, and new entries of extra.

        Images of one kind, "real" or "fake", are augmented alike whenever they are judged.
        """
        own, extra = self.weighed("discriminator", params, context)
        label = batch.get("label") if self.classes else None

        def verdict(kind: str, x: Array) -> Verdict:
            x = self.augmented(context, x, rng.fold(key, f"augment {kind}"))
            out, stats = self.discriminator.apply(own, x, label, train=True, mutable=["batch_stats"])
            logits, heads = out if isinstance(out, tuple) else (out, {})
            return Verdict(logits, heads, stats)

        return verdict, extra

    def discriminator_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        fake, z, _ = self.imagine(params, context, batch, key)
        return self.against(fake, z, params, context, batch, key)

    def against(self, fake: Array, z: Array, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        """The discriminator's loss on images that have been made."""
        loss = LOSSES[self.game.loss]
        verdict, extra = self.judge(params, context, batch, key)
        real, made = verdict("real", batch["image"]), verdict("fake", fake)
        value = loss.discriminator(real.logits, made.logits)
        metrics = {"real": loss.score(real.logits).mean(), "fake": loss.score(made.logits).mean()}
        if self.heads_loss:
            for kind, said in (("real", real), ("fake", made)):
                more, seen = self.heads_loss(said.heads, z, batch.get("label"), kind == "real")
                value, metrics = value + more, metrics | {f"{kind}_{name}": x for name, x in seen.items()}
        if self.game.penalised and self.game.lazy == 1:
            penalty, seen = self.penalties(fake, params, context, batch, key)
            value, metrics = value + penalty, metrics | seen
        if self.game.ada:
            state, seen = ada_augmentation.Controller.update(context.extra["ada"], real.logits, self.game.ada_target)
            extra, metrics = extra | {"ada": state}, metrics | seen
        # Nothing reads the discriminator's running statistics; they are the fakes'.
        return value.mean(), Aux(metrics, extra | self.moved("discriminator", context, made.stats))

    def penalties(
        self, fake: Array, params: Params, context: Context, batch, key: Key
    ) -> tuple[Array, dict[str, Array]]:
        """Return the weighted sum of the penalties f32[b], and their means."""
        game, real = self.game, batch["image"]
        verdict, _ = self.judge(params, context, batch, key)
        on = lambda kind: lambda x: verdict(kind, x).logits  # noqa: E731
        key = rng.fold(key, "penalty")
        terms = {
            "r1": lambda: smooth.zero_centred(on("real"), real),
            "r2": lambda: smooth.zero_centred(on("fake"), fake),
            "gradient_penalty": lambda: smooth.wasserstein_penalty(on("real"), real, fake, key),
            "dragan": lambda: smooth.dragan_penalty(on("real"), real, key),
        }
        found = {name: term() for name, term in terms.items() if getattr(game, name)}
        total = sum((getattr(game, name) * value for name, value in found.items()), start=jnp.zeros(len(real)))
        return total, {name: value.mean() for name, value in found.items()}

    def lazy_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        """The penalties alone, times the number of steps they stand for."""
        fake, _, _ = self.imagine(params, context, batch, key)
        value, metrics = self.penalties(fake, params, context, batch, key)
        return self.game.lazy * value.mean(), Aux(metrics)

    def generator_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        loss = LOSSES[self.game.loss]
        fake, z, extra = self.imagine(params, context, batch, key)
        if self.game.unroll:
            params = {**params, "discriminator": self.unrolled(fake, z, params, context, batch, key)}
        verdict, _ = self.judge(params, context, batch, key)
        made = verdict("fake", fake)
        real = verdict("real", batch["image"]).logits if loss.both else made.logits
        value, metrics = loss.generator(real, made.logits), {}
        if self.heads_loss:
            more, metrics = self.heads_loss(made.heads, z, batch.get("label"), False)
            value = value + more
        return value.mean(), Aux(metrics, extra)

    def unrolled(self, fake: Array, z: Array, params: Params, context: Context, batch, key: Key) -> PyTree:
        """Return the discriminator's parameters after its next updates, as a function of the images it meets.

        Metz et al. 2017, equations 6 to 8.
        """
        optimizer = optax.with_extra_args_support(context.learners["discriminator"].optimizer)

        def update(carry, _):
            own, moments = carry
            loss = lambda own: self.against(fake, z, {**params, **own}, context, batch, key)[0]  # noqa: E731
            updates, moments = optimizer.update(jax.grad(loss)(own), moments, own, step=context.step)
            return (optax.apply_updates(own, updates), moments), None

        start = ({"discriminator": params["discriminator"]}, context.moments["discriminator"])
        own: Any
        (own, _), _ = jax.lax.scan(update, start, length=self.game.unroll)
        return own["discriminator"]

    def check_labels(self, given):
        check_labels(self.classes, given)

    def synthesise(self, params: Params, context: Context, w: Array, given) -> Array:
        self.check_labels(given)
        own, _ = self.weighed("generator", params, context)
        return self.generator.apply(own, w, given.get("label"), None, train=False)  # pyright: ignore[reportReturnType]

    def factors(self, params: Params, context: Context) -> tuple[Array]:
        """Return the matrix [d n] of the generator's first dense layer, as z meets it: its derivative, which is exact.

        Rows of z that do not enter that layer are 0.
        """
        own, _ = self.weighed("generator", params, context)
        label = jnp.zeros(1, jnp.int32) if self.classes else None

        def first(z: Array) -> Array:
            met: list[Any] = []

            def watch(call, args, kwargs, inner):
                out = call(*args, **kwargs)
                if isinstance(inner.module, Dense):
                    met.append(out[0])  # [n]
                return out

            with nn.intercept_methods(watch):
                self.generator.apply(own, z[None], label, None, train=False)
            return met[0]

        z: Any = jax.eval_shape(lambda: self.draw(jax.random.split(jax.random.key(0), 1), None))
        slope: Any = jax.jacobian(first)(jnp.zeros(z.shape[1:]))  # [n d]
        return (slope.T,)

    def task(
        self,
        latent: Latent | None = None,
        ema: Ema | None = None,
        more: tuple[Phase, ...] = (),
        extra: Mapping[str, PyTree] | None = None,
        slow: int = 0,
    ) -> Task:
        """Return the game.

        latent: how the generator is entered, where it is not by z alone
        ema:    of the generator, where it is not the game's
        more:   phases beside the two players', and the penalties' where they are lazy
        extra:  what those phases keep in the state
        slow:   the generator's rate and decays are those of one with a lazy phase every so many steps
        """
        game = self.game
        game.check()
        at_least(0, model__classes=self.classes)
        own = Latent(self.draw, lambda params, context, z, given: z, self.synthesise, factors=self.factors)
        entry = latent or own

        def generate(params, context, keys, given):
            z = entry.draw(keys, given.get("truncation"))
            image = entry.synthesise(params, context, entry.map(params, context, z, given), given)
            return {"image": jnp.clip(image, -1, 1) if self.clip else image}

        def init(key, spec):
            params, own = self.init(key, spec)
            return params, own | dict(extra or {})

        # One stream: both players meet the same z, so that XLA runs the generator forwards once a step, not twice.
        phases = [Phase("discriminator", "discriminator", self.discriminator_loss, game.critics, stream="z")]
        lazy = game.lazy if game.lazy > 1 else 0
        if lazy:
            phases += [Phase("penalty", "discriminator", self.lazy_loss, every=lazy, stream="z")]
        phases += [Phase("generator", "generator", self.generator_loss, stream="z"), *more]
        rate = game.generator_rate or game.learning_rate
        example = {"image": jax.ShapeDtypeStruct(self.image, jnp.float32)}
        return Task(
            init=init,
            example=example | ({"label": jax.ShapeDtypeStruct((), jnp.int32)} if self.classes else {}),
            learners={
                "discriminator": Learner(("discriminator",), game.optimize(game.learning_rate, game.clip, lazy)),
                "generator": Learner(("generator",), game.optimize(rate, every=slow)),
            },
            phases=tuple(phases),
            ema=(ema or Ema("generator", ramped(game.ema)),),
            given=("label",) if self.classes else (),
            classes=self.classes,
            generate=generate,
            latent=entry,
        )
