"""Denoisers of small images, and stubs for their nets."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.types import Context
from jaxgen.models.diffusion import _nets
from jaxgen.models.diffusion._nets import BackboneConfig

CONTEXT = Context({}, {}, {}, jnp.zeros((), jnp.int32))
IMAGE = (4, 4, 1)
NET = BackboneConfig("unet", 8, 1, 2, (1,), ())


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def stub_net(monkeypatch, answer):
    """Replace the output of every net by answer(x, t, label)."""
    monkeypatch.setattr(_nets, "call", lambda module, params, x, t, label=None, **rest: answer(x, t, label))


def random_images(count, seed=0):
    levels = np.random.default_rng(seed).integers(0, 256, (count, *IMAGE))
    return jnp.asarray(levels / 127.5 - 1, jnp.float32)
