"""The task that autoregressive models of pixels share: exact likelihoods, and samples pixel by pixel.

An image is a sequence of levels, in the order of rows, columns and channels. A net returns the logits of each level,
given the levels before it: log P(image) is the sum of their log softmax.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax

from jaxgen.core import rng
from jaxgen.core.capabilities import Autoregressive, Density
from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.core.errors import InputError, check_labels
from jaxgen.core.ranges import Decay, Positive, Range, check_settings
from jaxgen.core.spec import labelled
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Ema, Key, Learner, Params, Phase, PyTree, ramped
from jaxgen.losses.elbo import sum_per_example
from jaxgen.metrics.likelihood import DISCRETE, bits_per_dimension
from jaxgen.nn.masked_conv import Place
from jaxgen.tasks.autoregressive import draw_tokens
from jaxgen.tasks.transforms import example_generation

LEVELS = 256  # of 8-bit images


@dataclass(frozen=True)
class PixelSampling:
    """Settings of sampling. They do not affect training; `generate` and `evaluate` accept others."""

    temperature: Positive = 1.0  # of each level's distribution


@dataclass(frozen=True)
class PixelModel:
    """Hyper-parameters of an autoregressive model of pixels, and its task; subclasses have its net."""

    image: tuple[int, int, int] = (28, 28, 1)  # height, width, channels
    levels: Annotated[int, Range(2, LEVELS)] = LEVELS  # of a pixel; 2: black and white, with --data.binarise
    learning_rate: float = 1e-3  # of Adam
    ema: Decay = 0.999  # decay of the EMA
    sampling: PixelSampling = PixelSampling()
    classes = 0  # number of classes; 0: unconditional

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        check_settings(self, "model.")
        self.check()
        example = labelled(self.image, self.classes)
        return Task(
            init=self.init,
            example=example,
            learners={"net": Learner(("net",), optax.adam(self.learning_rate))},
            phases=(Phase("net", "net", self.loss),),
            ema=(Ema("net", ramped(self.ema)),),
            capabilities=(
                self.autoregressive,
                example_generation(self.generate, example),
                # Of images whose levels are merged it would be no likelihood of the images.
                *((Density(self.log_prob),) if self.levels in (2, LEVELS) else ()),
            ),
        )

    def check(self):
        """Raise InputError for settings that do not go together."""

    def check_run(self, run: Run):
        """Raise InputError for grey images where a pixel has two levels, and the other way round."""
        how = run.data.binarise
        if how == "none" and self.levels == 2:
            raise InputError("model.levels=2 needs black and white pixels: give --data.binarise fixed or dynamic.")
        if how != "none" and self.levels != 2:
            raise InputError(f"data.binarise={how} gives pixels of two levels: give --model.levels 2 too.")

    @property
    def module(self) -> Any:
        """The net: (values f32[b h w c] in [-1, 1], label) -> logits f32[b h w c levels]."""
        raise NotImplementedError

    @property
    def autoregressive(self) -> Autoregressive:
        return Autoregressive(self.init_cache, self.step, math.prod(self.image))

    def init(self, key: Key, spec: Any = None):
        label = jnp.zeros(2, jnp.int32) if self.classes else None
        return {"net": self.module.init(rng.fold(key, "net"), jnp.zeros((2, *self.image)), label)["params"]}, {}

    # ---- likelihoods

    def tokens(self, x: Array) -> Array:
        """Return the levels i32[b h w c] of images f32[b h w c] in [-1, 1]."""
        return jnp.int32(jnp.round((jnp.clip(x, -1, 1) + 1) * ((self.levels - 1) / 2)))

    def values(self, tokens: Array) -> Array:
        """Return the pixels in [-1, 1] of levels."""
        return tokens / ((self.levels - 1) / 2) - 1

    def logits(self, params: Params, x: Array, label: Array | None = None) -> Array:
        """Return the logits f32[b h w c levels] of every level of images f32[b h w c]."""
        found: Any = self.module.apply({"params": params["net"]}, x, label)
        return found

    def log_prob(self, params: Params, context: Context, batch, keys: Key | None = None, samples: int = 1) -> Array:
        """Return log P of the images' levels in nats, f32[b]. It is exact: keys and samples are not used."""
        tokens = self.tokens(batch["image"])
        logits = self.logits(params, self.values(tokens), batch["label"] if self.classes else None)
        log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[..., None], -1)[..., 0]  # [b h w c]
        return sum_per_example(log_p)

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        log_p = self.log_prob(params, context, batch).mean()
        bits = bits_per_dimension(log_p, math.prod(self.image), DISCRETE)
        return bits, Aux({"nll": -log_p})

    # ---- samples

    def init_cache(self, params: Params, context: Context, conditioning, count: int) -> PyTree:
        """Return the cache of `count` images of which nothing is known."""
        raise NotImplementedError

    def step(self, params: Params, context: Context, cache: PyTree, token: Array, i: Array) -> tuple[Array, PyTree]:
        """Return the logits f32[b levels] of level i, given the one before it, and the new cache."""
        raise NotImplementedError

    def generate(self, params: Params, context: Context, keys: Key, given) -> dict[str, Array]:
        """Return images whose levels are drawn one after the other."""
        check_labels(self.classes, given)
        tokens = draw_tokens(self.autoregressive, params, context, given, keys, self.sampling.temperature)
        return {"image": self.values(tokens.reshape(-1, *self.image))}


@dataclass(frozen=True)
class ConvPixelModel(PixelModel):
    """A model whose net computes an image, one row or one pixel (nn/masked_conv.py).

    Its module has `rows(x, label, place)`, the parts of a row that depend on the rows above it alone, and
    `pixels(x, above, label, place)`, the logits, given these.
    """

    def apply(self, params: Params, cache: PyTree, method: Callable | str, *inputs: Any) -> tuple[Any, PyTree]:
        """Return the output of a method of the net, and the collection "cache" afterwards."""
        nets = {"params": params["net"], "cache": cache}
        found: Any = self.module.apply(nets, *inputs, method=method, mutable=["cache"])
        return found[0], found[1].get("cache", {})

    def row(self, params: Params, cache: PyTree, row: Array) -> PyTree:
        """Return the cache when a row begins."""
        inputs = cache["known"], cache["label"], Place(row, None, self.image[1])
        above, rows = self.apply(params, cache["rows"], "rows", *inputs)
        return {**cache, "above": above, "rows": rows}

    def pixel(self, params: Params, cache: PyTree, row: Array, column: Array) -> tuple[Array, PyTree]:
        """Return the logits f32[b c levels] of a pixel, and the cache."""
        inputs = cache["known"], cache["above"], cache["label"], Place(row, column, self.image[1])
        logits, pixels = self.apply(params, cache["pixels"], "pixels", *inputs)
        return logits[:, 0, 0], {**cache, "pixels": pixels}

    def init_cache(self, params: Params, context: Context, conditioning, count: int) -> PyTree:
        """Return the cache of `count` images of which nothing is known.

        known: values f32[b h w c]; rows, pixels: the layers' inputs of the last rows, for what is computed row by row
        and pixel by pixel; above: the parts of the present row that depend on the rows above it
        """
        known = jnp.zeros((count, *self.image))
        start = {"known": known, "label": conditioning["label"] if self.classes else None, "rows": {}, "pixels": {}}
        shapes = jax.eval_shape(lambda: self.row(params, start, jnp.int32(0)))
        shapes = jax.eval_shape(lambda cache: self.pixel(params, cache, jnp.int32(0), jnp.int32(0))[1], shapes)
        empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return {**empty, "label": start["label"]}

    def step(self, params: Params, context: Context, cache: PyTree, token: Array, i: Array) -> tuple[Array, PyTree]:
        _, width, channels = self.image
        place = lambda i: (i // channels // width, i // channels % width, i % channels)  # noqa: E731
        before = place(jnp.maximum(i - 1, 0))  # at i = 0 nothing is known, and what is written there is not seen
        value = self.values(jnp.maximum(token, 0)).astype(cache["known"].dtype)[:, None, None, None]
        cache = {**cache, "known": jax.lax.dynamic_update_slice(cache["known"], value, (0, *before))}
        row, column, channel = place(i)
        begins = (column == 0) & (channel == 0)
        cache = jax.lax.cond(begins, lambda cache: self.row(params, cache, row), lambda cache: cache, cache)
        logits, cache = self.pixel(params, cache, row, column)
        return jax.lax.dynamic_index_in_dim(logits, channel, 1, keepdims=False), cache


def row(model: Any, parameters: int, data: Data = Data("digits"), **small: Any) -> Preset:
    """Return a preset. Its tiny run has 8x8 images and the fields `small` of the model changed."""
    reduced = replace(model, image=(8, 8, model.image[2]), **small)
    return Preset(
        Run(model, data=data, steps=20_000, batch=64, log=Log(every=100, samples=1000), save=Save(every=1000)),
        tiny=Run(reduced, data=data, steps=20, batch=16, log=Log(every=5, samples=10, count=16), save=Save(every=10)),
        parameters=parameters,
    )
