"""The training task of supervised restoration: degrade a clean image, restore it, compare it with the clean image."""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, fields, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.config import Data, Log, Run, Save
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Decay
from jaxgen.core.spec import image_spec, scaled
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, ramped, variables
from jaxgen.data.degradations import Degradation
from jaxgen.losses import restoration as losses
from jaxgen.metrics.pixels import psnr
from jaxgen.nn.colour import rgb, ycbcr
from jaxgen.nn.resample import resize
from jaxgen.tasks.transforms import restoration

Image = tuple[int, int, int]


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of training a restoration model; the schedule and gradient clipping are settings of the run."""

    loss: Literal["l1", "l2", "charbonnier", "psnr"] = "l1"
    frequency: float = 0.0  # weight of the L1 distance between Fourier transforms
    learning_rate: float = 1e-4  # of Adam
    weight_decay: float = 0.0  # of AdamW, on kernels only
    beta2: Decay = 0.999  # of Adam


class PixelRange(NamedTuple):
    """The range of pixels at a net's input and output: span * ((x + 1) / 2 - mean) for x in [-1, 1].

    mean: one value for each channel, or one for all
    """

    span: float = 1.0
    mean: tuple[float, ...] = (0.0,)

    def to_net(self, x: Array) -> Array:
        return self.span * ((x + 1) / 2 - self.shift(x))

    def to_image(self, x: Array) -> Array:
        return 2 * (x / self.span + self.shift(x)) - 1

    def shift(self, x: Array) -> Array:
        return jnp.broadcast_to(jnp.asarray(self.mean, x.dtype), x.shape)


class TrainingPair(NamedTuple):
    """The inputs of a net in training, and the target that its output is compared with.

    inputs: {"degraded": f32[b h w c], and the conditioning}
    target: f32[b H W c]
    mask:   f32[b H W c], 1 where output and target are compared and 0 elsewhere; None: everywhere
    """

    inputs: Batch
    target: Array
    mask: Array | None = None


class AdversarialLoss(NamedTuple):
    """A discriminator of restored and clean images, trained with the restoration net.

    init:               (key) -> its parameters, and its collections
    learner:            the learner of the net "critic"
    discriminator_loss: (params, context, restored, clean f32[b h w c], key) -> f32[], Aux
    restorer_loss:      (params, context, restored, clean) -> term of the restoration net's loss f32[b], metrics
    frozen:             {net: function that loads its variables}
    """

    init: Callable[[Key], tuple[Any, Any]]
    learner: Learner
    discriminator_loss: Callable[..., tuple[Array, Aux]]
    restorer_loss: Callable[..., tuple[Array, dict[str, Array]]]
    frozen: Mapping[str, Callable[[], Any]]


DegradeFn = Callable[[Array, Key], dict[str, Array]]  # (images [b h w c], keys Key[b]) -> inputs of the net


def clean_target(clean: Array, keys: Key, degrade: DegradeFn) -> TrainingPair:
    """Return the pair of supervised training: the degraded image, and the clean image as the target."""
    return TrainingPair(degrade(clean, keys), clean)


@dataclass(frozen=True)
class RestorationTask:
    """Builds the task of one net, `net(x, *conditioning, train=) -> f32[b H W channels]`, x f32[b h w channels].

    The net is trained on clean images that are degraded on the fly.

    image:        height, width and channels of the clean training patches
    channels:     of the net's input and output
    scales:       factors of enlargement; with several, each patch is downsampled by one of them
    interpolated: whether x is enlarged by bicubic interpolation first, so that H is h; otherwise H is h times the scale
    conditioning: further inputs of the net, by their names in the degradation's output: "sigma" f32[b], of 255
    pixels:       the range of pixels at the net's input and output
    multiple:     the sides of x must be divisible by it
    colour:       how a net of one channel restores colour images: "luma" restores the luma and interpolates chroma,
                  "each" restores each channel separately
    one_kind:     whether each image gets only one kind of degradation (or only downsampling), drawn at random
    make_pair:    (clean f32[b h w c], keys Key[b], degrade) -> TrainingPair
    pixel_weight: weight of the pixel loss beside an adversarial loss
    adversary:    the adversarial loss; its discriminator is updated first
    """

    net: nn.Module
    image: Image
    recipe: Recipe
    degradation: Degradation
    _: KW_ONLY
    channels: int
    scales: tuple[int, ...] = (1,)
    interpolated: bool = False
    conditioning: tuple[str, ...] = ()
    pixels: PixelRange = PixelRange()
    multiple: int = 1
    colour: Literal["luma", "each"] = "luma"
    one_kind: bool = False
    make_pair: Callable[[Array, Key, DegradeFn], TrainingPair] = clean_target
    pixel_weight: float = 1.0
    adversary: AdversarialLoss | None = None

    def task(self) -> Task:
        """Return the task. Raises InputError where the patches do not fit the net."""
        self.check()
        adversary = self.adversary
        kernels = lambda params: jax.tree.map(lambda x: x.ndim > 1, params)  # noqa: E731
        accepted = (1, 3) if self.channels == 1 else (self.channels,)
        recipe = self.recipe
        decay: Any = {"weight_decay": recipe.weight_decay, "mask": kernels}
        adam = partial(optax.adamw, **decay) if recipe.weight_decay else optax.adam
        learners = {"restorer": Learner(("restorer",), adam(recipe.learning_rate, b2=recipe.beta2))}
        # One stream: both phases get the same degraded images. The stream's name is a part of the key.
        phases = (Phase("restorer", "restorer", self.loss, stream="lesson"),)
        if adversary is not None:
            learners = {"critic": adversary.learner, **learners}
            phases = (Phase("critic", "critic", self.discriminator_loss, stream="lesson"), *phases)
        return Task(
            init=self.init,
            example={"image": image_spec(self.image)},
            learners=learners,
            phases=phases,
            frozen={} if adversary is None else adversary.frozen,
            ema=(Ema("restorer", ramped(0.999)),),
            capabilities=restoration(
                self.degrade_one_kind if self.one_kind else self.degradation,
                self.restore,
                scales=self.scales,
                conditions=self.conditioning,
                multiple=self.multiple,
                channels=accepted,
                colours=self.degradation.pipeline == "grey",
            ),
        )

    def check(self):
        """Raise InputError where the patches do not fit the net, or nothing is degraded."""
        at_least(1, model__image=min(self.image))
        self.degradation.check()
        height, width, planes = self.image
        if planes not in ((1, 3) if self.channels == 1 else (self.channels,)):
            raise InputError(f"This net restores images of {self.channels} channels: model.image can't have {planes}.")
        multiple = self.multiple if self.interpolated or self.scales == (1,) else self.multiple * self.scales[0]
        if height % multiple or width % multiple:
            raise InputError(f"model.image is {height}x{width}: both sides must be multiples of {multiple}.")
        if len(self.scales) > 1 and not self.interpolated:
            raise InputError("One net for several scales must get interpolated images as its input.")
        if self.scales == (1,) and _steps(self.degradation) == {} and self.make_pair is clean_target:
            raise InputError("No degradation is set: set some of model.degradation, such as noise 25 25.")
        if self.one_kind and 1 in self.scales and _kinds(self.degradation, (1,)) == []:
            raise InputError("model.scales has a 1: images of that scale need a degradation, set some of them.")

    @property
    def kinds(self) -> list["Kind"]:
        """The kinds of degradation of training images."""
        if self.one_kind:
            return _kinds(self.degradation, self.scales)
        return [Kind(1 / len(self.scales), self.degradation, scale) for scale in self.scales]

    def net_input(self, x: Array, size: tuple[int, int]) -> Array:
        """Return the net's input for a degraded image whose restored image has this size."""
        enlarge = self.interpolated and x.shape[1:3] != size
        return resize(x, size, "bicubic", edges="reflect") if enlarge else x

    def apply(self, variables: Any, x: Array, given: Batch, train: bool = False, **how) -> Any:
        """Return the net's output for x in [-1, 1]; with `mutable` among `how`, the updated collections as well."""
        conditioning = (given[name] for name in self.conditioning)
        out: Any = self.net.apply(variables, self.pixels.to_net(x), *conditioning, train=train, **how)
        return (self.pixels.to_image(out[0]), out[1]) if how else self.pixels.to_image(out)

    def init(self, key: Key, spec: Any = None):
        del spec
        height, width, _ = self.image
        down = 1 if self.interpolated else max(self.scales)
        x = jnp.zeros((2, height // down, width // down, self.channels))
        nets = self.net.init(key, x, *(jnp.zeros(2) for _ in self.conditioning), train=False)
        params, extra = nets["params"], {k: v for k, v in nets.items() if k != "params"}
        if self.adversary is None:
            return {"restorer": params}, {"restorer": extra}
        discriminator, collections = self.adversary.init(rng.fold(key, "critic"))
        return {"restorer": params, "critic": discriminator}, {"restorer": extra, "critic": collections}

    def restored_channels(self, image: Array) -> Array:
        """Return the channels of an image that the net restores: the luma of colour for a net of one channel."""
        return ycbcr(image)[..., :1] if self.channels == 1 and image.shape[-1] == 3 else image

    def degrade(self, clean: Array, keys: Key) -> dict[str, Array]:
        """Return the net's inputs in training: each image degraded in one of the kinds."""
        height, width, _ = self.image
        degraded, kinds = [], self.kinds
        for _, degradation, scale in kinds:
            given = degradation(clean, keys, scale)
            x = self.net_input(given["degraded"], (-(-height // scale) * scale, -(-width // scale) * scale))
            x = x[:, :height, :width] if self.interpolated else x
            degraded.append(given | {"degraded": x})
        return _select(kinds, degraded, keys)

    def degrade_one_kind(self, clean: Array, keys: Key, scale: float = 1.0) -> dict[str, Array]:
        """Return images, each degraded in one of the kinds that have this scale."""
        kinds = [kind for kind in self.kinds if kind.scale == scale]
        return _select(kinds, [degradation(clean, keys, scale) for _, degradation, _ in kinds], keys)

    def pair_and_output(self, params: Params, context: Context, batch: Batch, key: Key):
        """Return the clean images, the training pair, the net's output for it and its new running statistics."""
        clean = self.restored_channels(batch["image"])
        pair = self.make_pair(clean, jax.random.split(key, len(clean)), self.degrade)
        nets = variables("restorer", params, context.extra)
        restored, stats = self.apply(nets, pair.inputs["degraded"], pair.inputs, context.train, mutable=["batch_stats"])
        return clean, pair, restored, stats

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        clean, (_, target, mask), restored, stats = self.pair_and_output(params, context, batch, key)
        compared = restored if mask is None else mask * restored + (1 - mask) * target
        value = losses.PIXEL_LOSSES[self.recipe.loss](compared, target)  # [b]
        if mask is not None:
            value = value / mask.mean(range(1, mask.ndim))
        if self.recipe.frequency:
            value = value + self.recipe.frequency * losses.frequency(compared, target)
        metrics = {"psnr": psnr(restored, clean).mean()}
        if self.adversary is not None:
            term, more = self.adversary.restorer_loss(params, context, restored, clean)
            value, metrics = self.pixel_weight * value + term, metrics | more
        return value.mean(), Aux(metrics, {"restorer": stats} if stats else {})

    def discriminator_loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        assert self.adversary is not None
        clean, _, restored, _ = self.pair_and_output(params, context, batch, key)
        return self.adversary.discriminator_loss(params, context, restored, clean, key)

    def restore(self, params: Params, context: Context, given: Batch, keys: Key, scale: float) -> Array:
        del keys
        x = given["degraded"]  # [b h w c]
        b, h, w, c = x.shape
        size = scaled((h, w), scale)
        nets = variables("restorer", params, context.extra)
        run = lambda x, given: self.apply(nets, self.net_input(x, size), given)  # noqa: E731
        if c == self.channels:
            return run(x, given)
        if c != 3 or self.channels != 1:
            raise InputError(f"This model restores images of {self.channels} channels, not of {c}.")
        if self.colour == "each":
            planes = jnp.moveaxis(x, -1, 1).reshape(b * c, h, w, 1)
            restored = run(planes, {name: jnp.repeat(given[name], c, 0) for name in self.conditioning})
            return jnp.moveaxis(restored.reshape(b, c, *size), 1, -1)  # [b c H W] -> [b H W c]
        parts = ycbcr(x)
        chroma = parts[..., 1:] if size == (h, w) else resize(parts[..., 1:], size, "bicubic", edges="reflect")
        return rgb(jnp.concatenate([run(parts[..., :1], given), chroma], -1))


class Kind(NamedTuple):
    """One kind of degradation, and the share of images that get it."""

    share: float
    degradation: Degradation
    scale: int


def _steps(degradation: Degradation) -> dict[str, Any]:
    """Return the settings of the steps that a degradation has beside downsampling."""
    none = Degradation(rounded=degradation.rounded)
    values = {field.name: getattr(degradation, field.name) for field in fields(degradation)}
    return {name: value for name, value in values.items() if value != getattr(none, name)}


def _kinds(degradation: Degradation, scales: tuple[int, ...]) -> list[Kind]:
    """Return each step of a degradation alone, and downsampling alone; all of them are equally frequent."""
    alone = Degradation(rounded=degradation.rounded)
    steps = [[(replace(alone, **{name: value}), 1)] for name, value in _steps(degradation).items()]
    smaller = [(alone, scale) for scale in scales if scale != 1]
    steps += [smaller] if smaller else []
    return [Kind(1 / len(steps) / len(step), *kind) for step in steps for kind in step]


def _select(kinds: list[Kind], degraded: list[dict[str, Array]], keys: Key) -> dict[str, Array]:
    """Return for each image the result of one kind, {name: [b ...]}, with the names that all kinds have."""
    if len(kinds) == 1:
        return degraded[0]
    degraded = [{name: x for name, x in one.items() if all(name in other for other in degraded)} for one in degraded]
    logits = jnp.log(jnp.asarray([kind.share for kind in kinds]))
    which = jax.vmap(lambda key: jax.random.categorical(rng.fold(key, "way"), logits))(keys)  # [b]
    return jax.tree.map(lambda *rows: jnp.stack(rows)[which, jnp.arange(len(which))], *degraded)


def row(model: Any, steps: int, batch: int, source: str = "shapes", **settings) -> Run:
    """Return a run that trains a model on patches."""
    data = Data(source, crop="patch", flip=True, turn=True)
    return Run(model=model, data=data, steps=steps, batch=batch, **settings)


def tiny(model: Any) -> Run:
    """Return a run of a small model that takes seconds."""
    data = Data("shapes", crop="patch", flip=True, turn=True)
    return Run(model=model, data=data, steps=20, batch=8, log=Log(every=5), save=Save(every=10))


def with_divisible_patches(model: Any) -> Any:
    """Return the model with patches that its scale divides; the arrays of its net do not depend on their size."""
    multiple = 8 * getattr(model, "scale", 1)
    height, width, channels = model.image
    if height % multiple == 0 and width % multiple == 0:
        return model
    return replace(model, image=(-(-height // multiple) * multiple, -(-width // multiple) * multiple, channels))
