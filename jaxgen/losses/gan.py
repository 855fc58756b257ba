"""Adversarial losses, per example.

Each is a pair of losses to be minimised: discriminator(real logits f32[b], fake logits f32[b]) -> f32[b], and
generator(real, fake) -> f32[b].
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax.nn import relu, sigmoid, softplus

Array = jax.Array


class AdversarialLoss(NamedTuple):
    """The losses of discriminator and generator.

    both:  whether the generator's loss uses the real logits too
    score: the logged value of a logit: the probability that an image is real, or the logit itself
    """

    discriminator: Callable[[Array, Array], Array]
    generator: Callable[[Array, Array], Array]
    both: bool = False
    score: Callable[[Array], Array] = sigmoid


def identity(logits: Array) -> Array:
    return logits


def binary_cross_entropy(real: Array, fake: Array) -> Array:
    """-log D(x) - log(1 - D(G(z))): -log sigmoid(t) = softplus(-t) and -log(1 - sigmoid(t)) = softplus(t)."""
    return softplus(-real) + softplus(fake)


# Goodfellow et al. 2014, equation 1, with the generator's non-saturating form of section 3.
non_saturating = AdversarialLoss(binary_cross_entropy, lambda real, fake: softplus(-fake))

# Goodfellow et al. 2014, equation 1. The term of the real images matters only for unrolled GANs.
minimax = AdversarialLoss(binary_cross_entropy, lambda real, fake: -binary_cross_entropy(real, fake), both=True)

# Lim and Ye 2017; Miyato et al. 2018, equations 16 and 17.
hinge = AdversarialLoss(lambda real, fake: relu(1 - real) + relu(1 + fake), lambda real, fake: -fake, score=identity)

# Mao et al. 2017, equation 9: a = 0, b = c = 1.
least_squares = AdversarialLoss(
    lambda real, fake: ((real - 1) ** 2 + fake**2) / 2, lambda real, fake: (fake - 1) ** 2 / 2, score=identity
)

# Arjovsky et al. 2017, equations 2 and 3: for a 1-Lipschitz critic the difference of the logits is the distance.
wasserstein = AdversarialLoss(lambda real, fake: fake - real, lambda real, fake: -fake, score=identity)

# Jolicoeur-Martineau 2019, equations 3 and 4: each real image is compared with one fake.
relativistic = AdversarialLoss(
    lambda real, fake: softplus(fake - real), lambda real, fake: softplus(real - fake), both=True, score=identity
)

# Jolicoeur-Martineau 2019, equations 5 to 7: each image is compared with the mean of the other kind.
relativistic_average = AdversarialLoss(
    lambda real, fake: softplus(fake.mean() - real) + softplus(fake - real.mean()),
    lambda real, fake: softplus(real - fake.mean()) + softplus(real.mean() - fake),
    both=True,
    score=identity,
)

LOSSES = {
    "non-saturating": non_saturating,
    "minimax": minimax,
    "hinge": hinge,
    "least-squares": least_squares,
    "wasserstein": wasserstein,
    "relativistic": relativistic,
    "relativistic-average": relativistic_average,
}
