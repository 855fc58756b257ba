"""NeRF: Mildenhall et al. 2020, "NeRF: Representing Scenes as Neural Radiance Fields for View Synthesis".

Two perceptrons, a coarse and a fine one, map a point and a direction to density and colour. The coarse one is evaluated
at points spread evenly along a ray, the fine one at these and at as many more where the coarse one sees something.

The encoding has the factors 2^k without pi and the point itself, as in the authors' code; the rate of Adam decays
exponentially to a tenth. Directions are unit vectors, so that near and far are distances from the camera. No noise is
added to the density.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.core.ranges import Count, Decay, Positive
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Context, Key, Params
from jaxgen.interop.weight_names import renamed
from jaxgen.nn.conv import Dense
from jaxgen.nn.precision import to_f32
from jaxgen.rendering.volume import Seen, composite, resampled, stratified
from jaxgen.tasks.view_synthesis import Image, check_cameras, view_synthesis_task

GLOROT = nn.initializers.glorot_uniform()


@dataclass(frozen=True)
class NeRF:
    """Hyper-parameters of a NeRF."""

    image: Image = (400, 400, 3)  # height, width, channels
    near: float = 2.0  # distances from the camera between which the scene lies
    far: float = 6.0
    scale: Positive = 1.0  # by which points are divided, so that the scene lies within about -2 and 2
    background: Literal["white", "black"] = "white"  # behind the scene
    rays: Count = 64  # of each image in a step
    coarse: Count = 64  # points of the coarse net on a ray
    fine: Count = 128  # more points of the fine net
    width: Count = 256
    depth: Count = 8  # hidden layers; the encoded point is given again to the one after the fifth
    frequencies: Count = 10  # of a point's encoding
    frequencies_direction: Count = 4
    # of the density. A net of relu can lose all density in its first steps, and then learns no more: the views stay
    # empty. softplus (Barron et al. 2021, mip-NeRF) cannot.
    activation: Literal["relu", "softplus"] = "relu"
    learning_rate: float = 5e-4
    ema: Decay = 0.0

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        net = RadianceNet(self.width, self.depth, self.frequencies, self.frequencies_direction, self.activation)
        apply: Any = net.apply

        def init(key: Key):
            keys = dict(zip(("coarse", "fine"), jax.random.split(key), strict=True))
            return {name: net.init(key, *jnp.zeros((2, 1, 3)))["params"] for name, key in keys.items()}, {}

        def rendered(params: Any, origin: Array, direction: Array, at: Array, far: Array) -> tuple[Seen, Array]:
            points = origin[:, None] + at[..., None] * direction[:, None]  # [n s 3]
            toward = jnp.broadcast_to(direction[:, None], points.shape)
            density, colour = apply({"params": params}, points / self.scale, toward)
            edges = jnp.concatenate([at, far[:, None]], -1)
            return composite(density / self.scale, colour, edges), edges

        def see(params: Params, context: Context, origin: Array, direction: Array, key: Key | None) -> list[Seen]:
            del context
            first, second = (None, None) if key is None else jax.random.split(key)
            near, far = (jnp.full(len(origin), each, jnp.float32) for each in (self.near, self.far))
            at = stratified(near, far, self.coarse, first)
            coarse, edges = rendered(params["coarse"], origin, direction, at, far)
            more = resampled(edges, coarse.weights, self.fine, second)
            at = jnp.sort(jnp.concatenate([at, more], -1), -1)
            return [coarse, rendered(params["fine"], origin, direction, at, far)[0]]

        rate = optax.exponential_decay(self.learning_rate, steps, 0.1)
        return view_synthesis_task(self, init, see, optax.adam(rate, eps=1e-7))

    def check_run(self, run: Run):
        """Raise InputError for changes of images that their cameras would not show."""
        check_cameras(run)


class RadianceNet(nn.Module):
    """points, unit directions f32[... 3] -> density f32[...], colour f32[... 3] in [0, 1]. Figure 7 of the paper."""

    width: int
    depth: int
    frequencies: int
    frequencies_direction: int
    activation: str = "relu"

    @nn.compact
    def __call__(self, points: Array, directions: Array) -> tuple[Array, Array]:
        encoded = encode(points, self.frequencies)  # [... 3 + 6 frequencies]
        x = encoded
        for i in range(self.depth):
            x = nn.relu(Dense(self.width, kernel_init=GLOROT, name=f"pts_linears_{i}")(x))
            if i == 4:
                x = jnp.concatenate([encoded.astype(x.dtype), x], -1)
        density = to_f32(Dense(1, kernel_init=GLOROT, name="alpha_linear")(x))[..., 0]
        density = nn.relu(density) if self.activation == "relu" else nn.softplus(density - 1)
        x = Dense(self.width, kernel_init=GLOROT, name="feature_linear")(x)
        x = jnp.concatenate([x, encode(directions, self.frequencies_direction).astype(x.dtype)], -1)
        x = nn.relu(Dense(self.width // 2, kernel_init=GLOROT, name="views_linears_0")(x))
        return density, nn.sigmoid(to_f32(Dense(3, kernel_init=GLOROT, name="rgb_linear")(x)))


def encode(x: Array, frequencies: int) -> Array:
    """Return x f32[... 3], sin(2^k x) and cos(2^k x) for k = 0, 1, ..., f32[... 3 + 6 frequencies]. Equation 4."""
    scaled = jnp.stack([x * 2.0**k for k in range(frequencies)], -2)  # [... k 3]
    both = jnp.stack([jnp.sin(scaled), jnp.cos(scaled)], -2)  # [... k 2 3]
    return jnp.concatenate([x, both.reshape(*x.shape[:-1], -1)], -1)


# coarse/pts_linears_0 is pts_linears.0 of the first of two nets in published checkpoints.
WEIGHT_NAMES = renamed((r"(pts|views)_linears_(\d)", r"\1_linears.\2"))
FULL = NeRF()
TINY = replace(FULL, image=(8, 8, 3), rays=8, coarse=4, fine=4, width=16, depth=6, frequencies=3, learning_rate=2e-3)


def row(model: Any, small: Any, parameters: int, steps: int, batch: int, source: str = "nerf:lego") -> Preset:
    """Return a preset of a scene: its images are in the folder `lego` if no other is named."""
    data = Data(source)
    full = Run(model, data=data, steps=steps, batch=batch, log=Log(100, 1000, 4), save=Save(1000))
    tiny = Run(small, data=data, steps=8, batch=8, log=Log(2, 4, 4), save=Save(4))
    return Preset(full, tiny, parameters)


PRESETS = {"nerf": row(FULL, TINY, 1_191_688, 200_000, 16)}
