"""Adversarial losses, per example.

Each is a pair, discriminator(real logits f32[b], fake logits f32[b]) -> f32[b] and generator(fake logits f32[b])
-> f32[b], each to be minimised by its player.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax.nn import relu, softplus

Array = jax.Array


class Loss(NamedTuple):
    """The two players' losses."""

    discriminator: Callable[[Array, Array], Array]
    generator: Callable[[Array], Array]


# -log sigmoid(t) = softplus(-t) and -log(1 - sigmoid(t)) = softplus(t).
# Goodfellow et al. 2014, equation 1, with the generator's non-saturating form of section 3.
non_saturating = Loss(lambda real, fake: softplus(-real) + softplus(fake), lambda fake: softplus(-fake))

# Goodfellow et al. 2014, equation 1 as it stands.
minimax = Loss(non_saturating.discriminator, lambda fake: -softplus(fake))

# Lim and Ye 2017; Miyato et al. 2018, equations 16 and 17.
hinge = Loss(lambda real, fake: relu(1 - real) + relu(1 + fake), lambda fake: -fake)

# Mao et al. 2017, equation 9: a = 0, b = c = 1.
least_squares = Loss(lambda real, fake: ((real - 1) ** 2 + fake**2) / 2, lambda fake: (fake - 1) ** 2 / 2)

LOSSES = {"non-saturating": non_saturating, "minimax": minimax, "hinge": hinge, "least-squares": least_squares}
