"""log p(x) by the probability-flow ODE: the instantaneous change of variables. Song et al. 2021, section 4.3.

In the "ve" frame dx/dtau = f(x, tau) = (x - D) / tau and d log p / dtau = -div f. The ODE runs from the lowest level,
where x is the image, to the highest, where x is approximately N(0, (high^2 + spread^2) I).
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from jaxgen.core import rng
from jaxgen.diffusion.ode import dormand_prince
from jaxgen.diffusion.samplers import Denoise
from jaxgen.diffusion.schedules import expand_like

Array = jax.Array
Key = jax.Array


def log_prob(
    denoise: Denoise,
    x: Array,
    keys: Key,
    low: float,
    high: float,
    trace: Literal["exact", "hutchinson"] = "hutchinson",
    tolerance: float = 1e-5,
    spread: float = 0.0,
) -> Array:
    """Return log p(x) in nats f[b] of x f[b ...] at noise level `low`, by an ODE up to `high`.

    trace: "exact" takes one derivative per element of x; "hutchinson" takes one along a random sign vector, drawn from
    Key[b] and fixed along the path, which is unbiased (Grathwohl et al. 2019, equation 7).
    spread: the standard deviation of the data around 0, which is part of the variance at `high`.
    """
    shape, size = x.shape, math.prod(x.shape[1:])

    def velocity(x, tau):
        return (x - denoise(x, tau)) / expand_like(x, tau)

    signs = jax.vmap(lambda key: jax.random.rademacher(rng.fold(key, "probe"), shape[1:], x.dtype))(keys)

    def slope(carry, s):
        x, tau = carry[0], jnp.exp(s)  # steps uniform in log tau are more efficient
        f = lambda x: velocity(x, tau)  # noqa: E731
        if trace == "exact":
            basis = jnp.eye(size, dtype=x.dtype).reshape(size, *shape[1:])

            def along(total, e):
                e = jnp.broadcast_to(e[None], shape)
                return total + (e * jax.jvp(f, (x,), (e,))[1]).reshape(len(x), -1).sum(1), None

            divergence, _ = jax.lax.scan(along, jnp.zeros(len(x), x.dtype), basis)
            out = f(x)
        else:
            out, moved = jax.jvp(f, (x,), (signs,))
            divergence = (signs * moved).reshape(len(x), -1).sum(1)
        return expand_like(x, tau) * out, tau * divergence

    start = (x, jnp.zeros(len(x), x.dtype))
    (end, change), _ = dormand_prince(slope, start, math.log(low), math.log(high), tolerance)
    variance = high**2 + spread**2
    log_prior = -0.5 * (jnp.square(end).reshape(len(x), -1).sum(1) / variance + size * math.log(2 * math.pi * variance))
    return log_prior + change
