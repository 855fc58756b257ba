"""Sampling of few-step models: from noise to an image over evenly spaced times, one call of the net for each step."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxgen.core import rng
from jaxgen.core.errors import check_labels
from jaxgen.core.ranges import Count
from jaxgen.core.types import Array, Context, Key, Params

# (params, context, x, t f32[b], r f32[b], label) -> u
MeanVelocity = Callable[[Params, Context, Array, Array, Array, Array | None], Array]


@dataclass(frozen=True)
class FewStepSampling:
    """Settings of sampling. They do not affect training; `generate` and `evaluate` accept others."""

    steps: Count = 1  # of sampling

    @property
    def nfe(self) -> int:
        """Function evaluations (NFE) for each image."""
        return self.steps


def few_step_generator(mean_velocity: MeanVelocity, steps: int, image: tuple[int, ...], classes: int) -> Callable:
    """Return a task's `generate`: x_r = x_t - (t - r) u from t = 1 (noise) to 0, with u the mean velocity."""

    def generate(params: Params, context: Context, keys: Key, given):
        check_labels(classes, given)
        label = given["label"] if classes else None
        x = rng.normal(jax.vmap(lambda key: rng.fold(key, "start"))(keys), image)

        def step(x, times):
            t, r = (jnp.full(x.shape[0], time) for time in times)
            return x - (times[0] - times[1]) * mean_velocity(params, context, x, t, r, label), None

        times = jnp.linspace(1.0, 0.0, steps + 1)
        x, _ = jax.lax.scan(step, x, (times[:-1], times[1:]))
        return {"image": x}

    return generate
