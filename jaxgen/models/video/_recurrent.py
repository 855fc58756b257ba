"""Recurrent video predictors. They see one frame after the other, and predict the next one.

Frames of the past are inputs; after them the net's own predictions are. In training, scheduled sampling replaces some
of these by the true frames (Bengio et al. 2015): in the beginning all, later fewer, after `sampling_steps` none.
Reversed scheduled sampling (Wang et al. 2022, "PredRNN: A Recurrent Neural Network for Spatiotemporal Predictive
Learning", section 3.4) replaces frames of the past by predictions as well: in the beginning half of them, at the end
none.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from jaxgen.core import rng
from jaxgen.core.errors import InputError, at_least, choose
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Context, Key
from jaxgen.nn.backbones.adm_unet import UNIFORM
from jaxgen.nn.conv import Conv
from jaxgen.tasks.video_prediction import mean_squared, prediction_task

SAMPLING = "scheduled", "reversed", "none"
State = Mapping[str, Array]  # of a stack of cells, f32[b h w c] each


def stack_task(model: Any, stack: nn.Module) -> Task:
    """Return the task of a stack of cells on patches. Raises InputError for settings out of range.

    model: has image, past, future, widths, kernel, patch, sampling, sampling_steps, learning_rate and ema
    """
    choose(model.sampling, SAMPLING, "model.sampling")
    at_least(1, model__widths=min(model.widths, default=0))
    if model.kernel % 2 == 0:
        raise InputError(f"model.kernel must be odd, not {model.kernel}.")
    if model.image[0] % model.patch or model.image[1] % model.patch:
        raise InputError(f"model.image: both sides must be multiples of model.patch={model.patch}.")
    steps = model.past + model.future - 1
    sampling = partial(shares, model.sampling, past=model.past, steps=steps, end=model.sampling_steps)
    return recurrent_task(model, stack, sampling if model.sampling != "none" else None)


def recurrent_task(
    model: Any,
    cell: nn.Module,
    sampling: Callable[[Array], Array] | None,
    once: bool = False,
    penalty: Callable[[Any], Array] | None = None,
) -> Task:
    """Return the task of a recurrent predictor.

    cell:     (state, frame f32[b h w channels]) -> the next state, the next frame; start(b, h, w) is the first state
    sampling: (training step) -> the probability that a true frame is the input f32[past + future - 1]; None: those of
              the past always, others never
    once:     whether one draw decides for all frames of a clip
    penalty:  (variables) -> a term of the loss f32[]
    """
    net, steps = RecurrentNet(cell), model.past + model.future - 1

    def predict(nets, past: Array) -> Array:
        rest = jnp.zeros((past.shape[0], model.future - 1, *past.shape[2:]), past.dtype)
        given = jnp.broadcast_to(jnp.arange(steps) < model.past, (past.shape[0], steps))
        made: Any = net.apply(nets, jnp.concatenate([past, rest], 1), given)
        return made[:, model.past - 1 :]

    def loss(nets, clip: Array, context: Context, key: Key):
        given = jnp.broadcast_to(jnp.arange(steps) < model.past, (len(clip), steps))
        if context.train and sampling is not None:
            keys = jax.random.split(rng.fold(key, "given"), len(clip))
            u = jax.vmap(lambda key: jax.random.uniform(key, (1 if once else steps,)))(keys)
            given = jnp.broadcast_to(u, given.shape) < jnp.broadcast_to(sampling(context.step), given.shape)
        made: Any = net.apply(nets, clip[:, :-1], given)
        value = mean_squared(made, clip[:, 1:])
        return value if penalty is None else value + penalty(nets), {}

    start = jnp.zeros((1, 1, *model.image)), jnp.ones((1, 1), bool)
    return prediction_task(model, net, predict, loss, start)


def shares(sampling: str, step: Array, past: int, steps: int, end: int) -> Array:
    """Return the probability that the true frame is the input, f32[steps]: OpenSTL's schedules, for any length.

    end: the training step from which on training is as prediction is; the authors' is 50,000
    """
    done, early = step / end, step < end / 2
    if sampling == "scheduled":
        before, after = 1.0, jnp.maximum(1 - (step + 1) / end, 0)
    else:
        before = jnp.where(early, 0.5, jnp.where(done < 1, 1 - 0.5 * jnp.exp(-(done - 0.5) * 10), 1))
        after = jnp.where(early, 0.5, jnp.maximum(1 - done, 0))
    at = jnp.arange(steps)
    return jnp.where(at == 0, 1.0, jnp.where(at < past, before, after))  # the first frame is always given


class RecurrentNet(nn.Module):
    """frames f32[b t h w c], given bool[b t] -> the predicted next frames f32[b t h w c].

    Where a frame is not given, the prediction of it is the input.
    """

    cell: nn.Module

    @nn.compact
    def __call__(self, frames: Array, given: Array) -> Array:
        def step(module: "RecurrentNet", carry: tuple[State, Array], inputs: tuple[Array, Array]):
            state, own = carry
            frame, known = inputs
            shown = jnp.where(jnp.broadcast_to(known[:, None, None, None], frame.shape), frame, own)
            after, made = module.cell(state, shown)  # pyright: ignore
            # Convolutions may be of bf16; what is carried from frame to frame stays f32.
            after, made = jax.tree.map(lambda new, old: new.astype(old.dtype), (after, made), (state, own))
            return (after, made), made

        x = jnp.moveaxis(frames, 1, 0)  # [t b h w c]
        first = self.cell.start(x.shape[1:4], x.dtype), jnp.zeros_like(x[0])  # pyright: ignore
        loop = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
        _, made = loop(self, first, (x, given.T))
        return jnp.moveaxis(made, 0, 1)  # [b t h w c]


def to_patches(x: Array, side: int) -> Array:
    """Return the patches of an image as channels, f32[b h w c] -> f32[b h/side w/side side*side*c]."""
    return rearrange(x, "b (h i) (w j) c -> b h w (i j c)", i=side, j=side)


def from_features(y: Array, side: int, channels: int) -> Array:
    """Return an image of patches that are linear in features, f32[b h w c] -> f32[b h*side w*side channels]."""
    made = Conv(side * side * channels, (1, 1), use_bias=False, kernel_init=UNIFORM, name="conv_last")(y)
    return rearrange(made, "b h w (i j c) -> b (h i) (w j) c", i=side, j=side)


def conv(features: int, kernel: int, name: str) -> Conv:
    return Conv(features, (kernel, kernel), use_bias=False, kernel_init=UNIFORM, name=name)


def zeros(widths: tuple[int, ...], shape: tuple[int, ...], patch: int, dtype: Any) -> list[Array]:
    """Return zeros f32[b h w c] for each number of channels; shape is (b, height, width) of the image."""
    batch, height, width = shape
    return [jnp.zeros((batch, height // patch, width // patch, c), dtype) for c in widths]
