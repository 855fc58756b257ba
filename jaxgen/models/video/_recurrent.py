"""Recurrent video predictors: a stack of cells that sees one frame after the other, and predicts the next one.

Frames of the past are inputs; after them the net's own predictions are. In training, scheduled sampling replaces some
of these by the true frames (Bengio et al. 2015): in the beginning all, later fewer, after `sampling_steps` none.
Reversed scheduled sampling (Wang et al. 2022, "PredRNN: A Recurrent Neural Network for Spatiotemporal Predictive
Learning", section 3.4) replaces frames of the past by predictions as well: in the beginning half of them, at the end
none.
"""

from collections.abc import Mapping
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


def recurrent_task(model: Any, stack: nn.Module) -> Task:
    """Return the task of a recurrent predictor. Raises InputError for settings out of range.

    model: has image, past, future, widths, kernel, patch, sampling, sampling_steps, learning_rate and ema
    stack: (state, x f32[b h w c]) -> the next state, features f32[b h w c']; start(b, h, w) is its first state
    """
    choose(model.sampling, SAMPLING, "model.sampling")
    at_least(1, model__widths=min(model.widths, default=0))
    if model.kernel % 2 == 0:
        raise InputError(f"model.kernel must be odd, not {model.kernel}.")
    if model.image[0] % model.patch or model.image[1] % model.patch:
        raise InputError(f"model.image: both sides must be multiples of model.patch={model.patch}.")
    net, steps = RecurrentNet(stack, model.patch, model.image[2]), model.past + model.future - 1

    def predict(nets, past: Array) -> Array:
        rest = jnp.zeros((past.shape[0], model.future - 1, *past.shape[2:]), past.dtype)
        given = jnp.broadcast_to(jnp.arange(steps) < model.past, (past.shape[0], steps))
        made: Any = net.apply(nets, jnp.concatenate([past, rest], 1), given)
        return made[:, model.past - 1 :]

    def loss(nets, clip: Array, context: Context, key: Key):
        given = jnp.broadcast_to(jnp.arange(steps) < model.past, (len(clip), steps))
        if context.train and model.sampling != "none":
            keys = jax.random.split(rng.fold(key, "given"), len(clip))
            u = jax.vmap(lambda key: jax.random.uniform(key, (steps,)))(keys)
            given = u < shares(model.sampling, context.step, model.past, steps, model.sampling_steps)
        made: Any = net.apply(nets, clip[:, :-1], given)
        return mean_squared(made, clip[:, 1:]), {}

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
    """frames f32[b t h w channels], given bool[b t] -> the predicted next frames f32[b t h w channels].

    Where a frame is not given, the prediction of it is the input. A frame becomes patches of `patch` pixels a side.
    """

    stack: nn.Module
    patch: int
    channels: int

    @nn.compact
    def __call__(self, frames: Array, given: Array) -> Array:
        p = self.patch
        x = rearrange(frames, "b t (h i) (w j) c -> t b h w (i j c)", i=p, j=p)
        readout = Conv(x.shape[-1], (1, 1), use_bias=False, kernel_init=UNIFORM, name="conv_last")

        def step(module: "RecurrentNet", carry: tuple[State, Array], inputs: tuple[Array, Array]):
            state, own = carry
            frame, known = inputs
            shown = jnp.where(jnp.broadcast_to(known[:, None, None, None], frame.shape), frame, own)
            state, features = module.stack(state, shown)  # pyright: ignore
            made = readout(features)
            return (state, made), made

        first = self.stack.start(x.shape[1:4], x.dtype), jnp.zeros_like(x[0])  # pyright: ignore
        loop = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
        _, made = loop(self, first, (x, given.T))
        return rearrange(made, "t b h w (i j c) -> b t (h i) (w j) c", i=p, j=p)


def conv(features: int, kernel: int, name: str) -> Conv:
    return Conv(features, (kernel, kernel), use_bias=False, kernel_init=UNIFORM, name=name)


def zeros(widths: tuple[int, ...], shape: tuple[int, ...], dtype: Any) -> list[Array]:
    """Return zeros f32[b h w c] for each number of channels; shape is (b, h, w)."""
    return [jnp.zeros((*shape, width), dtype) for width in widths]
