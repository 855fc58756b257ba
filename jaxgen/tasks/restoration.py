"""The game every restorer plays that is compared with the clean image: damage it, mend it, look at the difference."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.capabilities import Restorer
from jaxgen.core.config import Data, Log, Run, Save
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, ramped, variables
from jaxgen.data.degradations import Degradation
from jaxgen.losses import restoration as losses
from jaxgen.metrics.pixels import psnr
from jaxgen.nn.colour import rgb, ycbcr
from jaxgen.nn.resample import resize

Image = tuple[int, int, int]


@dataclass(frozen=True)
class Recipe:
    """How a restorer is trained; the schedule and clipping are the run's own settings."""

    loss: Literal["l1", "l2", "charbonnier", "psnr"] = "l1"
    frequency: float = 0.0  # weight of the L1 distance between Fourier transforms
    learning_rate: float = 1e-4  # of Adam
    weight_decay: float = 0.0  # of AdamW, on kernels only
    beta2: float = 0.999  # of Adam


class Pixels(NamedTuple):
    """What a net sees of an image in [-1, 1]: span * ((x + 1) / 2 - mean), a mean for each channel or one for all."""

    span: float = 1.0
    mean: tuple[float, ...] = (0.0,)

    def seen(self, x: Array) -> Array:
        return self.span * ((x + 1) / 2 - self.shift(x))

    def back(self, x: Array) -> Array:
        return 2 * (x / self.span + self.shift(x)) - 1

    def shift(self, x: Array) -> Array:
        return jnp.broadcast_to(jnp.asarray(self.mean, x.dtype), x.shape)


class Lesson(NamedTuple):
    """What a net is shown in training, and what its answer is compared with.

    given:  {"degraded": f32[b h w c], and what the net is told}
    target: f32[b H W c]
    where:  f32[b H W c], 1 where they are compared and 0 elsewhere; None: everywhere
    """

    given: Batch
    target: Array
    where: Array | None = None


class Critic(NamedTuple):
    """Who judges a restorer's answers beside their distance from the clean images: a net that learns to.

    init:    (key) -> its parameters, and its collections
    learner: who moves the net "critic"
    judge:   (params, context, made, clean f32[b h w c], key) -> the critic's own loss f32[], Aux
    cost:    (params, context, made, clean) -> what the restorer's loss adds f32[b], metrics
    frozen:  {net: function that loads its variables}
    """

    init: Callable[[Key], tuple[Any, Any]]
    learner: Learner
    judge: Callable[..., tuple[Array, Aux]]
    cost: Callable[..., tuple[Array, dict[str, Array]]]
    frozen: Mapping[str, Callable[[], Any]]


Damage = Callable[[Array, Key], dict[str, Array]]  # (images [b h w c], keys Key[b]) -> what the net is given


def with_clean(clean: Array, keys: Key, damaged: Damage) -> Lesson:
    """Return the lesson of every supervised restorer: the damaged image, and the clean one as the answer."""
    return Lesson(damaged(clean, keys), clean)


def restoration_task(
    net: nn.Module,
    image: Image,
    recipe: Recipe,
    degradation: Degradation,
    *,
    channels: int,
    scales: tuple[int, ...] = (1,),
    interpolated: bool = False,
    told: tuple[str, ...] = (),
    pixels: Pixels = Pixels(),
    multiple: int = 1,
    colour: Literal["luma", "each"] = "luma",
    apart: bool = False,
    lesson: Callable[[Array, Key, Damage], Lesson] = with_clean,
    weight: float = 1.0,
    critic: Critic | None = None,
) -> Task:
    """Return the game of one net, `net(x, *told, train=) -> f32[b H W channels]`, x f32[b h w channels].

    image:        height, width and channels of the clean patches that it is trained on
    scales:       what it enlarges by; with several, each patch is made small by one of them
    interpolated: whether x is first enlarged by bicubic interpolation, so that H is h; otherwise H is h times the scale
    told:         what the net hears beside the image, of what the degradation tells: "sigma" f32[b] of 255
    multiple:     what the sides of x must be divisible by
    colour:       what a net of one channel does with colour: it mends the luma, and chroma is interpolated, or each
                  channel alone
    apart:        whether an image suffers one damage alone: one of the degradation's, or being made small
    lesson:       (clean f32[b h w c], keys Key[b], damaged) -> what is shown, and what that is compared with
    weight:       of the distance, beside what a critic costs
    critic:       who judges the answers as well; it plays first
    Raises InputError where patches and net don't fit.
    """
    at_least(1, model__image=min(image))
    degradation.check()
    height, width, planes = image
    if planes not in ((1, 3) if channels == 1 else (channels,)):
        raise InputError(f"This net mends images of {channels} channels: model.image can't have {planes}.")
    grain = multiple if interpolated or scales == (1,) else multiple * scales[0]
    if height % grain or width % grain:
        raise InputError(f"model.image is {height}x{width}: both sides must be multiples of {grain}.")
    if len(scales) > 1 and not interpolated:
        raise InputError("One net enlarges by several factors only where it is given the interpolated image.")
    if scales == (1,) and degradation == Degradation() and lesson is with_clean:
        raise InputError("Nothing is damaged: set some of model.degradation, such as noise 25 25.")
    if apart and 1 in scales and _ways(degradation, (1,)) == []:
        raise InputError("model.degradation must damage images in some way, as this net leaves the size of some.")
    ways = _ways(degradation, scales) if apart else [Way(1 / len(scales), degradation, scale) for scale in scales]

    def entered(x: Array, size: tuple[int, int]) -> Array:
        """Return what the net is given of a degraded image, of which `size` is to come."""
        return resize(x, size, "bicubic", edges="reflect") if interpolated and x.shape[1:3] != size else x

    def mended(variables: Any, x: Array, given: Batch, train: bool = False, **how) -> Any:
        out: Any = net.apply(variables, pixels.seen(x), *(given[name] for name in told), train=train, **how)
        return (pixels.back(out[0]), out[1]) if how else pixels.back(out)

    def init(key: Key, spec: Any = None):
        del spec
        down = 1 if interpolated else max(scales)
        x = jnp.zeros((2, height // down, width // down, channels))
        nets = net.init(key, x, *(jnp.zeros(2) for _ in told), train=False)
        params, extra = nets["params"], {k: v for k, v in nets.items() if k != "params"}
        if critic is None:
            return {"restorer": params}, {"restorer": extra}
        judge, more = critic.init(rng.fold(key, "critic"))
        return {"restorer": params, "critic": judge}, {"restorer": extra, "critic": more}

    def seen(image: Array) -> Array:
        """Return the channels of an image that the net mends."""
        return ycbcr(image)[..., :1] if channels == 1 and image.shape[-1] == 3 else image

    def damaged(clean: Array, keys: Key) -> dict[str, Array]:
        """Return what the net is given in training: each image damaged in one of the ways."""
        made = []
        for _, damage, scale in ways:
            given = damage(clean, keys, scale)
            x = entered(given["degraded"], (-(-height // scale) * scale, -(-width // scale) * scale))
            x = x[:, :height, :width] if interpolated else x
            made.append(given | {"degraded": x})
        return _one(ways, made, keys)

    def degrade(clean: Array, keys: Key, scale: float = 1.0) -> dict[str, Array]:
        """Return images each damaged in one of the ways that have this scale."""
        these = [way for way in ways if way.scale == scale]
        return _one(these, [damage(clean, keys, scale) for _, damage, _ in these], keys)

    def loss(params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        clean = seen(batch["image"])
        given, target, where = lesson(clean, jax.random.split(key, len(clean)), damaged)
        nets = variables("restorer", params, context.extra)
        made, stats = mended(nets, given["degraded"], given, True, mutable=["batch_stats"])
        answer = made if where is None else where * made + (1 - where) * target
        value = losses.PIXEL_LOSSES[recipe.loss](answer, target)  # [b]
        if where is not None:
            value = value / where.mean(range(1, where.ndim))
        if recipe.frequency:
            value = value + recipe.frequency * losses.frequency(answer, target)
        metrics = {"psnr": psnr(made, clean).mean()}
        if critic is not None:
            cost, more = critic.cost(params, context, made, clean)
            value, metrics = weight * value + cost, metrics | more
        return value.mean(), Aux(metrics, {"restorer": stats} if stats else {})

    def judge(params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        assert critic is not None
        clean = seen(batch["image"])
        given, *_ = lesson(clean, jax.random.split(key, len(clean)), damaged)
        nets = variables("restorer", params, context.extra)
        made, _ = mended(nets, given["degraded"], given, True, mutable=["batch_stats"])
        return critic.judge(params, context, made, clean, key)

    def restore(params: Params, context: Context, given: Batch, keys: Key, scale: float) -> Array:
        del keys
        x = given["degraded"]  # [b h w c]
        b, h, w, c = x.shape
        size = round(h * scale), round(w * scale)
        nets = variables("restorer", params, context.extra)
        run = lambda x, given: mended(nets, entered(x, size), given)  # noqa: E731
        if c == channels:
            return run(x, given)
        if c != 3 or channels != 1:
            raise InputError(f"This model mends images of {channels} channels, not of {c}.")
        if colour == "each":
            planes = jnp.moveaxis(x, -1, 1).reshape(b * c, h, w, 1)
            made = run(planes, {name: jnp.repeat(given[name], c, 0) for name in told})
            return jnp.moveaxis(made.reshape(b, c, *size), 1, -1)  # [b c H W] -> [b H W c]
        parts = ycbcr(x)
        chroma = parts[..., 1:] if size == (h, w) else resize(parts[..., 1:], size, "bicubic", edges="reflect")
        return rgb(jnp.concatenate([run(parts[..., :1], given), chroma], -1))

    kernels = lambda params: jax.tree.map(lambda x: x.ndim > 1, params)  # noqa: E731
    taken = (1, 3) if channels == 1 else (channels,)
    decay: Any = {"weight_decay": recipe.weight_decay, "mask": kernels}
    adam = partial(optax.adamw, **decay) if recipe.weight_decay else optax.adam
    learners = {"restorer": Learner(("restorer",), adam(recipe.learning_rate, b2=recipe.beta2))}
    phases = (Phase("restorer", "restorer", loss, stream="lesson"),)  # both see the same damage
    return Task(
        init=init,
        example={"image": jax.ShapeDtypeStruct(image, jnp.float32)},
        learners=learners if critic is None else {"critic": critic.learner, **learners},
        phases=phases if critic is None else (Phase("critic", "critic", judge, stream="lesson"), *phases),
        frozen={} if critic is None else critic.frozen,
        ema=(Ema("restorer", ramped(0.999)),),
        restorer=Restorer(
            degrade if apart else degradation, restore, scales, told, multiple, taken, degradation.pipeline == "grey"
        ),
    )


class Way(NamedTuple):
    """A way to damage an image, and how often that is the one."""

    share: float
    damage: Degradation
    scale: int


def _ways(degradation: Degradation, scales: tuple[int, ...]) -> list[Way]:
    """Return each damage of a degradation alone and being made small alone, all of them equally often."""
    spans = {f.name: getattr(degradation, f.name) for f in fields(degradation)}
    kinds = [[(Degradation(**{name: span}), 1)] for name, span in spans.items() if span != getattr(Degradation(), name)]
    smaller = [(Degradation(), scale) for scale in scales if scale != 1]
    kinds += [smaller] if smaller else []
    return [Way(1 / len(kinds) / len(kind), *way) for kind in kinds for way in kind]


def _one(ways: list[Way], made: list[dict[str, Array]], keys: Key) -> dict[str, Array]:
    """Return of what came of every way, {name: [b ...]} each, for each image that of one way, as far as all tell."""
    if len(ways) == 1:
        return made[0]
    made = [{name: x for name, x in one.items() if all(name in other for other in made)} for one in made]
    logits = jnp.log(jnp.asarray([way.share for way in ways]))
    which = jax.vmap(lambda key: jax.random.categorical(rng.fold(key, "way"), logits))(keys)  # [b]
    return jax.tree.map(lambda *rows: jnp.stack(rows)[which, jnp.arange(len(which))], *made)


def row(model: Any, steps: int, batch: int, source: str = "shapes", **settings) -> Run:
    """Return the run that trains a model on patches."""
    data = Data(source, crop="patch", flip=True, turn=True)
    return Run(model=model, data=data, steps=steps, batch=batch, **settings)


def tiny(model: Any) -> Run:
    """Return the run of a small model that takes seconds."""
    data = Data("shapes", crop="patch", flip=True, turn=True)
    return Run(model=model, data=data, steps=20, batch=8, log=Log(every=5), save=Save(every=10))
