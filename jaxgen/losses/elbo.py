"""Terms of the evidence lower bound, per example in nats: likelihoods of images and KL terms of latents.

log p(x) >= E_q [log p(x | z)] - KL(q(z | x) || p(z)). Kingma and Welling 2014, "Auto-Encoding Variational Bayes".
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import log_sigmoid, softplus
from jax.scipy.special import log_ndtr

Array = jax.Array
HALF_LEVEL = 1 / 255  # half the distance between two of the 256 levels k / 127.5 - 1


class Likelihood(NamedTuple):
    """A likelihood p(x | z), parameterised by a decoder's output `out` f32[b h w parts*c].

    parts:    decoder outputs per element of the image
    log_prob: (x f32[b h w c] in [-1, 1], out) -> nats f32[b]
    mean:     out -> E[x | z] f32[b h w c]
    levels:   whether log_prob is of the 8-bit levels, as bits per dimension requires
    values:   x -> the modelled variable, the input of an encoder
    """

    parts: int
    log_prob: Callable[[Array, Array], Array]
    mean: Callable[[Array], Array]
    levels: bool = False
    values: Callable[[Array], Array] = lambda x: x


def sum_per_example(x: Array) -> Array:
    """Return the sum over all axes but the first, f32[b ...] -> f32[b]."""
    return x.sum(range(1, x.ndim))


def bernoulli_log_prob(x: Array, logits: Array) -> Array:
    """Return log p of images in [-1, 1] with pixels (1 + x) / 2 in {0, 1} and p(1) = sigmoid(logits).

    For grey pixels it is minus the binary cross-entropy, which is not a likelihood (Loaiza-Ganem and Cunningham 2019).
    """
    p = (x + 1) / 2
    return sum_per_example(p * logits - softplus(logits))


def normal_log_prob(x: Array, mean: Array, log_scale: Array) -> Array:
    """Return the log density of N(mean, exp(log_scale)^2), summed over all axes but the first."""
    return -sum_per_example(0.5 * ((x - mean) * jnp.exp(-log_scale)) ** 2 + log_scale + 0.5 * math.log(2 * math.pi))


def normal_log_density(z: Array) -> Array:
    """Return the log density of N(0, 1) at each element, f32[...]."""
    return -0.5 * (z**2 + math.log(2 * math.pi))


def discretised_logistic_log_prob(x: Array, mean: Array, log_scale: Array) -> Array:
    """Return the sum of `discretised_logistic` over all axes but the first, f32[b]."""
    return sum_per_example(discretised_logistic(x, mean, log_scale))


def discretised_logistic(x: Array, mean: Array, log_scale: Array) -> Array:
    """Return the log probability of each pixel x in [-1, 1], which is an 8-bit level k / 127.5 - 1, f32[...].

    P(x) = F(x + 1/255) - F(x - 1/255), F the logistic distribution function. The outermost levels include the tails, so
    that the 256 probabilities sum to 1. Salimans et al. 2017, "PixelCNN++", section 2.1.
    """
    scale = jnp.exp(-log_scale)
    above, below = (x - mean + HALF_LEVEL) * scale, (x - mean - HALF_LEVEL) * scale
    # sigma(a) - sigma(b) = sigma(a) sigma(-b) (1 - exp(b - a)), which keeps its digits in the tails
    inside = log_sigmoid(above) + log_sigmoid(-below) + jnp.log(-jnp.expm1(-2 * HALF_LEVEL * scale))
    return jnp.where(
        x < -1 + HALF_LEVEL, log_sigmoid(above), jnp.where(x > 1 - HALF_LEVEL, log_sigmoid(-below), inside)
    )


def discretised_normal_log_prob(x: Array, mean: Array, log_scale: Array) -> Array:
    """Return the log probability of pixels x in [-1, 1], which are 8-bit levels k / 127.5 - 1, of a normal variable.

    As `discretised_logistic_log_prob` with F the normal distribution function. Ho et al. 2020, equation 13.
    """
    scale = jnp.exp(-log_scale)
    above, below = (x - mean + HALF_LEVEL) * scale, (x - mean - HALF_LEVEL) * scale
    # Both ends are flipped to the side where F is small, where differences keep their digits.
    flip = x < mean
    high, low = jnp.where(flip, above, -below), jnp.where(flip, below, -above)
    log_high, log_low = log_ndtr(high), log_ndtr(low)
    inside = log_high + jnp.log(-jnp.expm1(jnp.minimum(log_low - log_high, -1e-7)))
    log_p = jnp.where(x < -1 + HALF_LEVEL, log_ndtr(above), jnp.where(x > 1 - HALF_LEVEL, log_ndtr(-below), inside))
    return sum_per_example(log_p)


def _with_scale(log_prob: Callable[[Array, Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """Return log_prob(x, out) with a location and a scale per element; the scale is at least half an 8-bit level.

    Without the bound the density has no maximum: a pixel that is always black would make it infinite.
    """

    def of(x: Array, out: Array) -> Array:
        mean, raw = jnp.split(out, 2, -1)
        lowest = math.log(HALF_LEVEL)
        return log_prob(x, mean, lowest + softplus(raw - lowest))

    return of


def _location(out: Array) -> Array:
    return jnp.split(out, 2, -1)[0]


LIKELIHOODS = {
    "bernoulli": Likelihood(
        1, bernoulli_log_prob, lambda out: 2 * jax.nn.sigmoid(out) - 1, values=lambda x: (x + 1) / 2
    ),
    "gaussian": Likelihood(2, _with_scale(normal_log_prob), _location),
    "logistic": Likelihood(2, _with_scale(discretised_logistic_log_prob), _location, levels=True),
}


def kl_standard(mean: Array, log_var: Array) -> Array:
    """Return KL(N(mean, exp(log_var)) || N(0, 1)) of each latent, f32[b d]. Kingma and Welling 2014, appendix B."""
    return 0.5 * (mean**2 + jnp.exp(log_var) - 1 - log_var)


def kl_normal(mean_q: Array, log_q: Array, mean_p: Array, log_p: Array) -> Array:
    """Return KL(N(mean_q, exp(log_q)^2) || N(mean_p, exp(log_p)^2)) per element, f32[...]; log_q, log_p: log scales."""
    ratio = log_q - log_p
    return 0.5 * (jnp.exp(2 * ratio) + ((mean_q - mean_p) * jnp.exp(-log_p)) ** 2 - 1) - ratio


def free_bits(kl: Array, nats: float) -> Array:
    """Return the batch mean of the KL of each latent, at least `nats`, f32[d]: free bits, without a gradient below.

    Kingma et al. 2016, equation 15.
    """
    return jnp.maximum(kl.mean(0), nats)


def active_units(mean: Array) -> Array:
    """Return the number of active latents, f32[]: those with variance of mean f32[b d] above 0.01 over the images.

    mean: the mean of q(z | x). Burda et al. 2016, "Importance Weighted Autoencoders": A_u = Cov_x(E[u]).
    """
    return (mean.var(0) > 0.01).sum(dtype=jnp.float32)
