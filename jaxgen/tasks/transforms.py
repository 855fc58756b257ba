"""Transforms made of the functions of a family, and the capabilities that belong to them."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from jaxgen.core.capabilities import Degradation, Transform
from jaxgen.core.spec import ArraySpec, Example, any_image_spec, image_spec, label_spec
from jaxgen.core.types import Array, Batch, Context, Key, Params

Shape = tuple[int, int, int]


def generation(generate: Callable, outputs: Example, inputs: Example = {}, stochastic: bool = True) -> Transform:  # noqa: B006
    """Return the Transform of `generate`, (params, context, keys, inputs) -> {name: [b ...]}.

    inputs: what samples are conditioned on; "truncation" f32[b] is an option of generators with a latent
    """

    def apply(params: Params, context: Context, inputs: Batch, keys: Key, scale: float = 1.0) -> dict[str, Array]:
        del scale
        return generate(params, context, keys, inputs)

    return Transform(apply, inputs, outputs, stochastic=stochastic)


def example_generation(generate: Callable, example: Example, conditions: Example = {}) -> Transform:  # noqa: B006
    """Return the Transform of a `generate` that draws an example's first array, for its label where it has one.

    conditions: what else samples are conditioned on
    """
    main = next(iter(example))
    label = {k: v for k, v in example.items() if k == "label"}
    return generation(generate, {main: example[main]}, {**label, **conditions})


CONDITIONS: Mapping[str, ArraySpec] = {
    "sigma": ArraySpec("label", ()),  # standard deviation of the noise, of 255
    "mask": image_spec(("h", "w", 1)),  # 1 where the image is hidden
    "region": image_spec(("h", "w", 1)),  # 1 where the image is to be changed
}


def restoration(
    degrade: Callable,
    restore: Callable,
    *,
    scales: tuple[float, ...] = (1,),
    conditions: tuple[str, ...] = (),
    multiple: int = 1,
    channels: tuple[int, ...] = (3,),
    colours: bool = False,
    stochastic: bool = False,
    whole: bool = False,
    size: tuple[int, ...] = (),
) -> tuple[Transform, Degradation]:
    """Return the Transform and the Degradation of a restoration model.

    degrade:    (clean f32[b h w c], keys Key[b], scale) -> {"degraded": f32[b h/scale w/scale c], and the conditions}
    restore:    (params, context, inputs, keys Key[b], scale) -> f32[b H W c], H the rounded h times the scale
    conditions: what `restore` reads beside "degraded": names of CONDITIONS
    channels:   of "degraded"; grey nets take 1 and 3
    colours:    whether a grey image becomes one in colour
    size:       the only height and width of "degraded" that it takes; (): any
    """

    def apply(params: Params, context: Context, inputs: Batch, keys: Key, scale: float = 1.0) -> dict[str, Array]:
        return {"image": restore(params, context, inputs, keys, scale)}

    degraded = ArraySpec("image", (*(size or ("h", "w")), "c"), multiple=multiple, allowed={"c": channels})
    inputs = {"degraded": degraded, **{name: CONDITIONS[name] for name in conditions}}
    # An axis of the same name has the same size: what comes in grey goes out grey.
    made = image_spec(("h", "w", 3)) if colours else any_image_spec(channels)
    return (
        Transform(apply, inputs, {"image": made}, "degraded", scales, stochastic, whole),
        Degradation(degrade),
    )


def translation(
    translate: Callable,
    *,
    domains: tuple[str, ...] = ("image",),
    classes: int = 0,
    default: int = 0,
    conditions: tuple[str, ...] = (),
    multiple: int = 1,
    channels: int = 3,
    stochastic: bool = False,
) -> Transform:
    """Return the Transform of a model that translates images.

    translate:  (params, context, inputs, keys Key[b], to i32[b]) -> f32[b h w c]; inputs: {"source": f32[b h w c], ...}
    domains:    names of what it can make of an image; "image" where it goes one way only
    classes:    the number of domains where they are the classes of the data, which have the names; then `domains` is ()
    default:    the domain where no other is asked for
    conditions: what it reads beside the source: "style" f32[b h' w' c], an image of that style
    """

    def apply(params: Params, context: Context, inputs: Batch, keys: Key, scale: float = 1.0) -> dict[str, Array]:
        del scale
        to: Any = inputs["to"] if "to" in inputs else jnp.full(inputs["source"].shape[0], default, jnp.int32)
        return {"image": translate(params, context, inputs, keys, to)}

    any_size = any_image_spec((channels,), multiple=multiple)
    inputs = {"source": any_size, "to": label_spec(classes, domains, optional=True)}
    inputs |= {name: any_image_spec((channels,)) for name in conditions}
    return Transform(apply, inputs, {"image": any_size}, "source", stochastic=stochastic)
