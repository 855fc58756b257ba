"""The training task of video restoration: damage the frames of a clean clip, restore them, compare them."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from jaxgen.core.capabilities import Degradation as DegradationOf
from jaxgen.core.capabilities import Transform
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.spec import ArraySpec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, ramped
from jaxgen.data.degradations import Degradation
from jaxgen.losses.restoration import charbonnier
from jaxgen.metrics.pixels import psnr
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.video_prediction import RATE, from_unit, to_unit

EPSILON = 1e-6  # of the Charbonnier loss: equation 1 of Chan et al. 2021, with the constant of the authors' code


def video_restoration_task(
    model: Any, init: Callable, apply: Callable, optimizer: optax.GradientTransformation, scale: int, multiple: int = 1
) -> Task:
    """Return the task of one net that restores all frames of a clip.

    model:    has image, frames, degradation and ema
    init:     (key) -> the net's parameters
    apply:    (variables, degraded f32[b t h w c] in [0, 1]) -> restored [b t H W c]
    scale:    by which it enlarges
    multiple: the sides of a degraded frame must be divisible by it
    Raises InputError where the frames do not fit the net.
    """
    at_least(1, model__image=min(model.image))
    model.degradation.check()
    height, width, channels = model.image
    grain = scale * multiple
    if height % grain or width % grain or channels != 3:
        sizes = " ".join(map(str, model.image))
        raise InputError(f"model.image must have 3 channels and sides that are multiples of {grain}, not {sizes}.")
    if scale == 1 and model.degradation == Degradation(rounded=model.degradation.rounded):
        raise InputError("No degradation is set: set some of model.degradation, such as noise 25 25.")

    def degrade(clean: Array, keys: Key, by: float = scale) -> dict[str, Array]:
        """Each frame gets a key of its own: noise differs from frame to frame, and so do drawn strengths."""
        b, t, *frame = clean.shape
        each = jax.vmap(lambda key: jax.random.split(key, t))(keys).reshape(b * t)
        small = model.degradation(clean.reshape(b * t, *frame), each, by)["degraded"]
        return {"degraded": small.reshape(b, t, *small.shape[1:])}

    def restored(params: Params, degraded: Array) -> Array:
        return from_unit(to_f32(apply({"params": params["restorer"]}, to_unit(degraded))))

    def loss(params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        del context
        clean = batch["video"]
        made = restored(params, degrade(clean, jax.random.split(key, len(clean)))["degraded"])
        return charbonnier(made, clean, EPSILON).mean(), Aux({"psnr": psnr(made, clean).mean()})

    def transform(params: Params, context: Context, given: Batch, keys: Key, scale: float = scale) -> dict[str, Array]:
        del context, keys, scale
        return {"video": restored(params, given["degraded"])}

    clip = ArraySpec("video", ("t", "h", "w", 3), multiple=multiple, rate=RATE)
    return Task(
        init=lambda key, _: ({"restorer": init(key)}, {}),
        example={"video": ArraySpec("video", (model.frames, *model.image), rate=RATE)},
        learners={"restorer": Learner(("restorer",), optimizer)},
        phases=(Phase("restorer", "restorer", loss),),
        ema=(Ema("restorer", ramped(model.ema)),),
        capabilities=(
            Transform(transform, {"degraded": clip}, {"video": clip}, "degraded", (scale,)),
            DegradationOf(degrade),
        ),
    )
