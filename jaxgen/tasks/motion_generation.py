"""Motion generation: clips of a body that moves, of a class or not, from noise.

The examples are clips of rotations (jaxgen/data/motion_clips). Nets see each of their numbers with mean 0 and deviation
1; both are measured over the first batches of training, and saved with the state.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import optax
from einops import rearrange

from jaxgen.core.capabilities import Capability, Transform
from jaxgen.core.config import Data, Log, Optim, Preset, Run, Save
from jaxgen.core.errors import at_least
from jaxgen.core.ranges import check_settings
from jaxgen.core.spec import label_spec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, ramped
from jaxgen.data.motion_clips import ClipFormat, clip_format
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.latent_diffusion import deviation, initial_statistics, update_statistics, wide

RATE = 25.0  # frames in a second: the literature's of the CMU split, of every second one of its frames
STRIDE = 2
CMU_ACTIONS = 8


@dataclass(frozen=True)
class Space:
    """Clips as nets see them: f32[b t c], each of the c numbers with mean 0 and deviation 1."""

    format: ClipFormat
    frames: int

    @property
    def channels(self) -> int:
        """c: six numbers for each row of a frame."""
        return 6 * (len(self.format.joints) + 1)

    def enter(self, statistics: Any, clip: Array) -> Array:
        """Return clips [b t k 6] as nets see them."""
        x = rearrange(clip, "b t k d -> b t (k d)")
        return (x - wide(statistics["mean"], x)) / wide(deviation(statistics), x)

    def leave(self, statistics: Any, x: Array) -> Array:
        """Return the clips [b t k 6] of what nets make."""
        x = to_f32(x) * wide(deviation(statistics), x) + wide(statistics["mean"], x)
        return rearrange(x, "b t (k d) -> b t k d", d=6)


def space_of(model: Any) -> Space:
    """Return the space of a model's clips. Raises InputError for settings out of range."""
    check_settings(model, "model.")
    at_least(2, model__frames=model.frames)
    return Space(clip_format(model.skeleton, model.rate, model.unit), model.frames)


def motion_task(
    model: Any,
    space: Space,
    init: Callable[[Key], Params],
    loss: Callable[..., tuple[Array, Mapping[str, Array]]],
    draw: Callable[..., Mapping[str, Array]],
    optimizer: optax.GradientTransformation,
    capabilities: tuple[Capability, ...] = (),
    start: int = 0,
    stochastic: bool = True,
) -> Task:
    """Return the task of a generator of clips.

    model:   has frames, classes (0: none; not at all: none) and ema
    loss:    (params, context, x f32[b t c], clip f32[b t k 6], label i32[b] or None, key) -> loss f32[], metrics; the
             context has the statistics of the clips
    draw:    (params, context, keys Key[b], given) -> {"motion": x f32[b t c]}, and what else is known of it
    start:   frames that are given before each clip, where it goes on from these; `loss` gets them with the clip, and
             `draw` as {"start": x f32[b t c]}
    stochastic: whether `draw` depends on the keys
    """
    classes = getattr(model, "classes", 0)
    inputs = {"label": label_spec(classes)} if classes else {}
    inputs |= {"start": space.format.spec(start)} if start else {}
    motion = {"motion": space.format.spec(space.frames)}
    example = {name: spec for name, spec in inputs.items() if name == "start"} | motion | inputs

    def init_all(key: Key, _: Any):
        return init(key), {"clips": initial_statistics(space.channels)}

    def phase(params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        known, clip = context.extra["clips"], batch["motion"]
        if start:
            clip = jnp.concatenate([batch["start"], clip], 1)  # [b start+t k 6]
        if context.train:
            known = update_statistics(known, rearrange(clip, "b t k d -> b t (k d)"))
            context = context.replace(extra={**context.extra, "clips": known})
        value, metrics = loss(params, context, space.enter(known, clip), clip, batch.get("label"), key)
        return value, Aux(metrics, {"clips": known})

    def apply(params: Params, context: Context, given: Batch, keys: Key, scale: float = 1.0) -> dict[str, Array]:
        del scale
        if start:
            given = {**given, "start": space.enter(context.extra["clips"], given["start"])}
        made = draw(params, context, keys, given)
        return {**made, "motion": space.leave(context.extra["clips"], made["motion"])}

    subject = "" if stochastic else "start"  # one start has one clip: that is changed, and not only a condition
    transform = Transform(apply, inputs, motion, subject, stochastic=stochastic, length="frames")
    return Task(
        init=init_all,
        example=example,
        learners={"generator": Learner(("generator",), optimizer)},
        phases=(Phase("generator", "generator", phase),),
        ema=(Ema("generator", ramped(model.ema)),),
        capabilities=(transform, *capabilities),
    )


def squared(made: Array, true: Array) -> Array:
    """Return the mean of squared differences, f32[]."""
    return jnp.square(to_f32(made) - true).mean()


def row(model: Any, small: Any, parameters: int, steps: int, batch: int, optim: Optim | None = None) -> Preset:
    """Return a preset, and a tiny run."""
    data = Data("mocap:mocap.zip", stride=STRIDE, flip=True)
    log = Log(100, 1000, 8)
    full = Run(model, data=data, steps=steps, batch=batch, optim=optim or Optim(), log=log, save=Save(1000))
    tiny = Run(small, data=data, steps=8, batch=8, log=Log(2, 4, 4), save=Save(4))
    return Preset(full, tiny, parameters)
