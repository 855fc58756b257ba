"""View synthesis: a scene learned from images with their cameras, and rendered from other cameras.

An example is an `image` and its `camera` (rendering/posed_rays.py). A step draws rays in each image of its batch.
Colours are in [0, 1] inside.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxgen.core.capabilities import Transform
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.spec import ArraySpec, image_spec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, ramped
from jaxgen.rendering import posed_rays
from jaxgen.rendering.volume import Seen

Image = tuple[int, int, int]
See = Callable[..., Sequence[Seen]]
AT_ONCE = 1024  # rays of an image that are rendered at once
BACKGROUNDS = {"white": 1.0, "black": 0.0}


def view_synthesis_task(
    model: Any,
    init: Callable[[Key], tuple[Params, Mapping[str, Any]]],
    see: See,
    optimizer: optax.GradientTransformation,
    refresh: Callable[[Params, Context, Key], Mapping[str, Any]] | None = None,
) -> Task:
    """Return the task of a scene's nets. The loss is the mean squared error of each of the renderings of `see`.

    model:   has image, rays, background, near, far and ema
    see:     (params, context, origins f32[n 3], directions f32[n 3], key or None) -> what rays see, the final one last
    refresh: new values of entries of `extra`, in each step
    """
    at_least(1, model__image=min(model.image))
    if model.image[2] != 3:
        raise InputError(f"model.image must have 3 channels, not {model.image[2]}: scenes are learned in colour.")
    if not 0 <= model.near < model.far:
        raise InputError(f"model.near must be from 0 to below model.far, not {model.near:g} with {model.far:g}.")
    height, width, _ = model.image
    back = BACKGROUNDS[model.background]
    nets = tuple(jax.eval_shape(init, jax.random.key(0))[0])

    def colour(seen: Seen) -> Array:
        return seen.colour + (1 - seen.opacity)[:, None] * back

    def loss(params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        place, way, fresh = jax.random.split(key, 3)
        image, count = batch["image"], len(batch["image"])
        row = jax.random.randint(place, (count, model.rays), 0, height * width)
        at = posed_rays.pixel_centres(height, width)[row]  # [b r 2]
        true = jax.vmap(lambda x, i: x[i])(image.reshape(count, -1, 3), row)  # [b r 3]
        origin, direction = (x.reshape(-1, 3) for x in jax.vmap(posed_rays.posed_rays)(batch["camera"], at))
        true = (true.reshape(-1, 3) + 1) / 2
        errors = [jnp.square(colour(each) - true).mean() for each in see(params, context, origin, direction, way)]
        total = sum(errors[1:], errors[0])
        new = refresh(params, context, fresh) if refresh else {}
        return total, Aux({"psnr": -10 * jnp.log10(jnp.maximum(errors[-1], 1e-10))}, new)

    def apply(params: Params, context: Context, given: Batch, keys: Key, scale: float = 1.0) -> dict[str, Array]:
        del keys, scale
        at = posed_rays.pixel_centres(height, width)
        rays = jax.vmap(lambda camera: posed_rays.posed_rays(camera, at))(given["camera"])
        count = rays[0].shape[0] * rays[0].shape[1]
        size = min(AT_ONCE, count)
        parts = -(-count // size)
        # The last part goes on at the first ray.
        flat = [jnp.resize(x.reshape(-1, 3), (parts * size, 3)).reshape(parts, size, 3) for x in rays]

        def some(rays: Any):
            seen = see(params, context, *rays, None)[-1]
            return colour(seen), seen.distance

        made, distance = jax.lax.map(some, tuple(flat))
        made = made.reshape(-1, 3)[:count].reshape(-1, *model.image)
        return {
            "image": jnp.clip(made, 0, 1) * 2 - 1,
            "distance": distance.reshape(-1)[:count].reshape(-1, height, width, 1),
        }

    camera = ArraySpec("camera", posed_rays.SHAPE)
    example = {"image": image_spec(model.image), "camera": camera}
    return Task(
        init=lambda key, _: init(key),
        example=example,
        learners={"scene": Learner(nets, optimizer)},
        phases=(Phase("scene", "scene", loss),),
        ema=tuple(Ema(net, ramped(model.ema)) for net in nets) if model.ema else (),
        capabilities=(Transform(apply, {"camera": camera}, {"image": example["image"]}, subject="camera"),),
    )


def check_cameras(run: Any):
    """Raise InputError for settings of a run that would change images without changing their cameras."""
    data = run.data
    if data.crop not in ("none", "center"):
        raise InputError(f"data.crop={data.crop} would not fit the images' cameras: choose center or none.")
    if wrong := [name for name in ("flip", "turn", "shift") if getattr(data, name)]:
        raise InputError(f"data.{wrong[0]} would not fit the images' cameras: leave it out.")
