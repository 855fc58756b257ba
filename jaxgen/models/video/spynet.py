"""SPyNet: Ranjan and Black 2017, "Optical Flow Estimation using a Spatial Pyramid Network".

Optical flow of two frames by a pyramid of small nets. At each level the second frame is warped by the flow so far, and
a net of five convolutions corrects that. There are six levels, as in BasicVSR, whose weights contain such a net; the
paper has five.

The net learns from images that move by rule, as in the paper's Flying Chairs: two layers, each with an affine motion of
its own, so that the true flow is known. All levels are trained together by the endpoint error, not one after the other.
The `Transform` returns "flow" f32[b h w 2] beside the image that shows it.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxgen.core.capabilities import Transform
from jaxgen.core.config import Data, Log, Optim, Preset, Run, Save
from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count, Decay
from jaxgen.core.rng import fold
from jaxgen.core.spec import ArraySpec, image_spec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, ramped
from jaxgen.models.video._flow_pyramid import LEVELS, WIDTHS, FlowPyramid
from jaxgen.nn.flow_colours import flow_image
from jaxgen.nn.pool import avg_pool
from jaxgen.nn.precision import to_f32
from jaxgen.nn.resample import resize
from jaxgen.nn.warping import identity_flow, warp
from jaxgen.tasks.video_prediction import to_unit

Image = tuple[int, int, int]
TURN, ZOOM = 0.15, 0.15  # largest rotation in radians, and change of size


@dataclass(frozen=True)
class SPyNet:
    """Hyper-parameters of a SPyNet."""

    image: Image = (256, 256, 3)  # images that move: height, width, channels
    levels: Count = LEVELS
    widths: tuple[Count, ...] = WIDTHS  # channels of each level's convolutions
    motion: float = 0.08  # standard deviation of the shift of a layer, of the image's side
    learning_rate: float = 1e-4
    ema: Decay = 0.999

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        grain = 2 ** (self.levels - 1)
        if self.image[2] != 3 or self.image[0] % grain or self.image[1] % grain:
            sizes = " ".join(map(str, self.image))
            raise InputError(f"model.image must have 3 channels and sides that are multiples of {grain}, not {sizes}.")
        net = FlowPyramid(self.levels, self.widths)

        def init(key: Key, _: Any):
            x = jnp.zeros((1, grain, grain, 3))
            return {"flow": net.init(key, x, x)["params"]}, {}

        def loss(params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
            del context
            image = batch["image"]
            first, second, flow = moving_pairs(image, jax.random.split(key, len(image)), self.motion)
            made: Any = net.apply({"params": params["flow"]}, to_unit(first), to_unit(second), True)
            errors = []
            for level, one in enumerate(made):
                factor = 2 ** (self.levels - 1 - level)
                errors.append(endpoint_error(one, avg_pool(flow, factor, factor) / factor))
            return sum(errors, jnp.zeros(())), Aux({"endpoint_error": errors[-1]})

        def apply(params: Params, context: Context, given: Batch, keys: Key, scale: float = 1.0) -> dict[str, Array]:
            del context, keys, scale
            pair = to_unit(given["video"])  # [b 2 h w 3]
            flow = to_f32(net.apply({"params": params["flow"]}, pair[:, 0], pair[:, 1]))  # pyright: ignore
            return {"image": flow_image(flow), "flow": flow}

        pair, shown = ArraySpec("video", (2, "h", "w", 3)), image_spec(("h", "w", 3))
        return Task(
            init=init,
            example={"image": image_spec(self.image)},
            learners={"flow": Learner(("flow",), optax.adam(self.learning_rate))},
            phases=(Phase("flow", "flow", loss),),
            ema=(Ema("flow", ramped(self.ema)),),
            capabilities=(Transform(apply, {"video": pair}, {"image": shown}, subject="video", whole=True),),
        )


def endpoint_error(made: Array, true: Array) -> Array:
    """Return the mean length of the difference of two flows f32[b h w 2], f32[]; its gradient is finite at 0."""
    return jnp.sqrt(jnp.square(to_f32(made) - true).sum(-1) + 1e-12).mean()


def moving_pairs(image: Array, keys: Key, motion: float) -> tuple[Array, Array, Array]:
    """Return two frames f32[b h w c] of images that move, and the true flow f32[b h w 2] from the first to the second.

    The image is the background, and its mirror image in blobs of random shape is in front of it. Both move by an affine
    map about the centre, drawn for each image and layer. The flow of pixels that the second frame does not show is that
    of their layer.
    """
    b, h, w, _ = image.shape
    here, centre = identity_flow(b, h, w), jnp.asarray([(w - 1) / 2, (h - 1) / 2])
    centred = here - jnp.broadcast_to(centre, here.shape)

    def layer(name: str) -> tuple[Array, Array]:
        """Return the flow to where pixels go, and to where they come from, f32[b h w 2] each."""

        def draw(key: Key) -> tuple[Array, Array]:
            angle, zoom = jax.random.uniform(fold(key, f"{name} turn"), (2,), minval=-1.0, maxval=1.0)
            angle, zoom = TURN * angle, 1 + ZOOM * zoom
            shift = motion * max(h, w) * jax.random.normal(fold(key, f"{name} shift"), (2,))
            return zoom * jnp.stack([jnp.cos(angle), jnp.sin(angle)]), shift

        turn, shift = (jnp.broadcast_to(x[:, None, None], here.shape) for x in jax.vmap(draw)(keys))  # [b h w 2]
        to = _turned(centred, turn) + shift - centred
        inverse = turn * jnp.asarray([1.0, -1.0]).reshape(1, 1, 1, 2) / jnp.square(turn).sum(-1, keepdims=True)
        return to, _turned(centred - shift, inverse) - centred

    noise = jax.vmap(lambda key: jax.random.normal(fold(key, "blobs"), (5, 5, 1)))(keys)
    blobs = (resize(noise, (h, w), "bicubic") > 0.4).astype(image.dtype)  # [b h w 1]
    (ground, ground_back), (front, front_back) = layer("ground"), layer("front")
    mirrored = image[:, ::-1, ::-1]
    paste = lambda mask, above, below: jnp.where(jnp.broadcast_to(mask > 0.5, above.shape), above, below)  # noqa: E731
    second = paste(warp(blobs, front_back), warp(mirrored, front_back, "border"), warp(image, ground_back, "border"))
    return paste(blobs, mirrored, image), second, paste(blobs, front, ground)


def _turned(x: Array, turn: Array) -> Array:
    """Return the product of complex numbers [... 2]: x turned by an angle and enlarged."""
    (a, b), (cos, sin) = jnp.moveaxis(x, -1, 0), jnp.moveaxis(turn, -1, 0)
    return jnp.stack([cos * a - sin * b, sin * a + cos * b], -1)


TINY = SPyNet(image=(16, 16, 3), levels=2, widths=(8, 8), learning_rate=1e-3)
PRESETS = {
    "spynet": Preset(
        Run(
            SPyNet(),
            data=Data("shapes", crop="patch", flip=True, turn=True),
            steps=300_000,
            batch=16,
            optim=Optim(schedule="cosine"),
            log=Log(100, 5000),
            save=Save(5000),
        ),
        Run(TINY, data=Data("shapes", crop="patch"), steps=8, batch=8, log=Log(2, 4), save=Save(4)),
        1_440_300,
    )
}
