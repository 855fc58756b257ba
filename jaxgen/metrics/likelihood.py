"""Likelihoods: bits per dimension, and the importance-weighted bound of a model with latent variables."""

import math

import jax
from jax.nn import logsumexp

from jaxgen.core.errors import InputError
from jaxgen.metrics.accumulate import MOMENTS, Moments, summary
from jaxgen.metrics.metric import Metric

Array = jax.Array

# The levels k / 127.5 - 1 of 8-bit data are 2 / 255 apart. Dequantised by u in [0, 1) they are (k + u) / 127.5 - 1; a
# density of these needs log2(255 / 2) = 6.994 bits per dimension more than a density in units of levels.
EIGHT_BIT = 2 / 255
DISCRETE = 1.0  # for models of the probabilities of the levels, not of densities


def bits_per_dimension(log_prob: Array, dimensions: int, bin_width: float) -> Array:
    """Return the bits per dimension f[b] of examples with log probabilities in nats f[b].

    -(log p / D + log bin_width) / log 2. A density of dequantised data bounds the probability of the levels,
    log P(k) >= E_u log p(k + u), in units of the distance of levels (Theis et al. 2016,
    https://arxiv.org/abs/1511.01844, section 3.1): bin_width is EIGHT_BIT, or DISCRETE if log_prob is log P itself.
    """
    return -(log_prob / dimensions + math.log(bin_width)) / math.log(2)


def importance_weighted_bound(log_joint: Array, log_proposal: Array) -> Array:
    """Return log 1/k sum_i p(x, z_i) / q(z_i | x) <= log p(x) in nats, f[b].

    log_joint: log p(x, z_i) f[k b], and log_proposal: log q(z_i | x) f[k b], for k samples z_i from q. For k = 1 it is
    the evidence lower bound; its expectation grows with k. Burda et al. 2016 (https://arxiv.org/abs/1509.00519),
    equation 8.
    """
    log_weights = log_joint - log_proposal  # [k b]
    return logsumexp(log_weights, axis=0) - math.log(len(log_weights))


def mean_of(name: str) -> Metric:
    """Return the metric {name: mean, name_stderr: standard error} of one number per example, f[b].

    Its initial state is empty(). The result raises InputError for numbers that are not finite, or fewer than two.
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
