"""Metrics of pairs by a trained net: perceptual distances of images and frames, and the warping error of videos.

`st_lpips_alex`, `st_lpips_vgg`: the shift-tolerant LPIPS (Ghildyal and Liu 2022), the mean over images or frames;
`st_lpips_alex_by_frame` for each frame.

`warping_error_X`: Lai et al. 2018, with the flow of the true clip by the net X: `spynet` (the one in BasicVSR), a
run's folder or a file of weights. `true_warping_error_X` is that of the true clip itself, which has one, too.
"""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgen.core.errors import InputError
from jaxgen.core.spec import ArraySpec
from jaxgen.core.types import Array
from jaxgen.inference.optical_flow import DEFAULT, FlowNet, open_flow
from jaxgen.metrics.metric import Metric, State
from jaxgen.metrics.pairs import BY_FRAME, mean_of
from jaxgen.metrics.temporal import not_occluded, warping_error
from jaxgen.pretrained.perceptual_distances import st_lpips

DISTANCES = {"st_lpips_alex": "alex", "st_lpips_vgg": "vgg"}
WARPING = re.compile(r"(true_)?warping_error_(.+)")
NET_METRICS = (*DISTANCES, *(f"{name}{BY_FRAME}" for name in DISTANCES), "warping_error_spynet")


def is_net_metric(name: str) -> bool:
    """Return whether a name is a metric of pairs by a net."""
    return name.removesuffix(BY_FRAME) in DISTANCES or WARPING.fullmatch(name) is not None


def net_metric(name: str, spec: ArraySpec) -> Metric:
    """Return the metric of a name, whose update is (state, true, made [b ...], valid bool[b]) -> state.

    Raises InputError where it is not defined for this kind of array, and where its weights can't be had.
    """
    match, by_frame = WARPING.fullmatch(name), name.endswith(BY_FRAME)
    if spec.kind != "video" and (match or by_frame or spec.kind != "image"):
        raise InputError(f"{name} is a metric of videos, not of {spec.kind}.")
    if match:
        net = open_flow(DEFAULT if match[2] == "spynet" else match[2])
        return with_variables(net.variables, clip_warping_error(net, bool(match[1])), (name,))
    stem = name.removesuffix(BY_FRAME)
    distance = st_lpips(DISTANCES[stem])  # pyright: ignore[reportArgumentType]

    def measure(distance, true: Array, made: Array) -> Array | list[Array]:
        frames = true.reshape(-1, *true.shape[-3:]), jnp.clip(made, -1, 1).reshape(-1, *made.shape[-3:])
        if frames[0].shape[-1] == 1:
            frames = frames[0].repeat(3, -1), frames[1].repeat(3, -1)
        found = distance(*frames).reshape(len(true), -1)  # [b t]
        return list(found.T) if by_frame else found.mean(1)

    names = tuple(f"{stem}_frame{i + 1}" for i in range(int(spec.shape[0]))) if by_frame else (name,)
    return with_variables(distance, measure, names)


def clip_warping_error(net: FlowNet, of_true: bool = False) -> Callable[..., Array]:
    """Return (variables, true, made f32[b t h w c]) -> the mean warping error of consecutive frames, f32[b]."""

    def measure(variables, true: Array, made: Array) -> Array:
        made = true if of_true else jnp.clip(made, -1, 1)

        def step(total: Array, frames: tuple[Array, ...]) -> tuple[Array, None]:
            a, b, x, y = frames  # [b h w c] each
            flow, back = net.apply(variables, a, b), net.apply(variables, b, a)
            return total + warping_error(x, y, flow, not_occluded(flow, back)), None

        ahead = lambda x: (jnp.moveaxis(x[:, :-1], 1, 0), jnp.moveaxis(x[:, 1:], 1, 0))  # noqa: E731
        total, _ = jax.lax.scan(step, jnp.zeros(len(true)), (*ahead(true), *ahead(made)))
        return total / max(true.shape[1] - 1, 1)

    return measure


def with_variables(variables, measure: Callable[..., Array | list[Array]], names: tuple[str, ...]) -> Metric:
    """Return the metric of the means of measure(variables, true, made) over examples.

    The variables travel with the state: as constants they would be compiled into the program.
    """
    means = mean_of(lambda *found: list(found), names)

    def empty() -> State:
        return {"variables": jax.tree.map(jnp.copy, variables), "means": means.empty()}  # the state may be donated

    def update(total: State, true: Array, made: Array, valid: Array) -> State:
        found = measure(total["variables"], true, made)
        found = found if isinstance(found, list) else [found]
        return {**total, "means": means.update(total["means"], *found, valid)}

    def merge(a: State, b: State) -> State:
        return {**a, "means": means.merge(a["means"], b["means"])}

    return Metric(empty, update, merge, lambda total: means.result(total["means"]))
