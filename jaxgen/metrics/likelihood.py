"""Likelihoods: bits per dimension, and the importance-weighted bound of a model with latent variables."""

import math

import jax
from jax.nn import logsumexp

from jaxgen.core.errors import InputError
from jaxgen.metrics.accumulate import MOMENTS, Moments, summary
from jaxgen.metrics.metric import Metric

Array = jax.Array

# A level of 8-bit data k / 127.5 - 1, as this package's, is 2 / 255 wide. Dequantised by u in [0, 1) it is
# (k + u) / 127.5 - 1, and a density of that costs log2(255 / 2) = 6.994 bits a dimension more than in units of levels.
EIGHT_BIT = 2 / 255
DISCRETE = 1.0  # the model gives probabilities of the levels themselves, not densities


def bits_per_dimension(log_prob: Array, dimensions: int, bin_width: float) -> Array:
    """Return the bits f[b] that an example takes, by its log probability in nats f[b], for each of its dimensions.

    -(log p / D + log bin_width) / log 2. A density of dequantised data bounds the probability of the levels,
    log P(k) >= E_u log p(k + u), once it is in units of the level's width (Theis et al. 2016,
    https://arxiv.org/abs/1511.01844, section 3.1): bin_width is EIGHT_BIT, or DISCRETE where log_prob is log P itself.
    """
    return -(log_prob / dimensions + math.log(bin_width)) / math.log(2)


def importance_weighted_bound(log_joint: Array, log_proposal: Array) -> Array:
    """Return log 1/k sum_i p(x, z_i) / q(z_i | x) <= log p(x) in nats, f[b].

    log_joint: log p(x, z_i) f[k b], and log_proposal: log q(z_i | x) f[k b], of k samples z_i from q. With k = 1 it is
    the evidence lower bound; its mean grows with k. Burda et al. 2016 (https://arxiv.org/abs/1509.00519), equation 8.
    """
    log_weights = log_joint - log_proposal  # [k b]
    return logsumexp(log_weights, axis=0) - math.log(len(log_weights))


def mean_of(name: str) -> Metric:
    """Return the metric {name: mean, name_stderr: standard error} of one number f[b] for each example.

    Its state is empty(). The result raises InputError for numbers not finite, or fewer than two.
    """

    def update(state: Moments, values: Array, valid: Array) -> Moments:
        return MOMENTS.update(state, values[:, None], valid)  # -> [b 1]

    def result(state: Moments) -> dict[str, float]:
        found = summary(state, name)
        if found.count < 2:
            raise InputError(f"{name} needs at least 2 samples for its standard error, got {found.count}.")
        error = math.sqrt(float(found.covariance[0, 0]) / found.count)
        return {name: float(found.mean[0]), f"{name}_stderr": error}

    return Metric(lambda: MOMENTS.empty(1), update, MOMENTS.merge, result)


BITS_PER_DIMENSION = mean_of("bits_per_dimension")
IMPORTANCE_WEIGHTED_BOUND = mean_of("importance_weighted_bound")
