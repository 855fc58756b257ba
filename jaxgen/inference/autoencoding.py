"""The nets of a trained autoencoder, applied to any number of images and latents."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core import rng
from jaxgen.core.capabilities import Codec, Density
from jaxgen.core.config import Data
from jaxgen.core.errors import InputError
from jaxgen.core.progress import tracked
from jaxgen.core.spec import spec_of
from jaxgen.core.step import init_state
from jaxgen.core.task import Task
from jaxgen.core.types import Array, averaged
from jaxgen.data import Source, batches
from jaxgen.runs import sharding
from jaxgen.runs.load import Trained

LARGEST = 4096  # largest size of a latent vector
NO_LATENTS = "This model has no encoder: it makes no latents of images."
BATCH = 200  # images or latents in one call


def check_vectors(task: Task) -> int:
    """Return the size of a latent vector; nothing is computed.

    Raises InputError if the task can't encode and decode, or if its latents are no vectors.
    """
    codec = task.get(Codec, NO_LATENTS)
    if codec.decode is None:
        raise InputError(NO_LATENTS)

    def one(frozen):
        nets = averaged(init_state(task, jax.random.key(0), spec_of(task, 1)), frozen)
        return codec.encode(*nets, {name: jnp.zeros(x.shape, x.dtype) for name, x in spec_of(task, 1).items()})

    latent = jax.eval_shape(one, {net: jax.eval_shape(load) for net, load in task.frozen.items()})
    if latent.ndim != 2 or not jnp.issubdtype(latent.dtype, jnp.floating):
        kind = "x".join(map(str, latent.shape[1:])) + (" numbers" if latent.dtype == jnp.float32 else " whole numbers")
        raise InputError(f"This model's latents are {kind}: this needs latents that are vectors.")
    if latent.shape[1] > LARGEST:
        raise InputError(f"This model's latents have {latent.shape[1]} numbers: this works with at most {LARGEST}.")
    return latent.shape[1]


class Autoencoder:
    """A run's nets, averaged or last, applied to images and latents in batches of one size."""

    def __init__(self, opened: Trained, average: bool = True):
        self.task, mesh = opened.task, opened.mesh
        state = opened.state if average else opened.state.replace(ema={})
        self.nets = averaged(state, opened.frozen)
        self.batch = BATCH + -BATCH % mesh.size
        self.rows, self.whole = sharding.batched(mesh), sharding.replicated(mesh)

    def over(self, f: Callable[..., Array], source: Source, data: Data, text: str) -> np.ndarray:
        """Return f(params, context, batch, indices i32[b]) f32[n ...] of all examples of a source, in order."""
        mapped, found, first = self._jit(f), [], 0
        stream = batches(source, data, self.task.example, batch=self.batch, seed=0, train=False)
        for batch in tracked(stream, text, -(-len(source) // self.batch)):
            some = {name: batch[name] for name in self.task.example}
            count = len(next(iter(some.values())))
            found.append(self._filled(mapped, some, np.arange(first, first + count, dtype=np.int32)))
            first += count
        return np.concatenate(found)

    def encode(self, source: Source, data: Data) -> np.ndarray:
        """Return the latents f32[n d] of a source's images."""
        encode = self.task.get(Codec).encode
        return self.over(lambda params, context, batch, _: encode(params, context, batch), source, data, "encoding")

    def decode(self, latents: np.ndarray, given: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the images f32[n h w c] of latents f32[n d]."""
        mapped = self._jit(self.task.get(Codec).decode)
        parts = [slice(i, i + self.batch) for i in range(0, len(latents), self.batch)]
        return np.concatenate(
            [self._filled(mapped, latents[part], {name: x[part] for name, x in given.items()}) for part in parts]
        )

    def negative_log_likelihoods(self, source: Source, data: Data, samples: int) -> np.ndarray:
        """Return -log p(x) in nats, f32[n], of a source's images, by so many samples of what is integrated over."""
        log_prob = self.task.get(Density).log_prob

        def surprise(params, context, batch, indices):
            keys = rng.sample_keys(rng.fold(jax.random.key(0), "scores"), indices)
            return -log_prob(params, context, batch, keys, samples)

        return self.over(surprise, source, data, "scoring")

    def squared_errors(self, source: Source, data: Data) -> np.ndarray:
        """Return the mean of (x - decode(encode(x)))^2 over an image's numbers, in [-1, 1], f32[n]."""
        codec, name = self.task.get(Codec), next(iter(self.task.example))
        decode = codec.decode
        assert decode is not None

        def error(params, context, batch, _):
            x, conditions = batch[name], {name: batch[name] for name in codec.conditions}
            made = decode(params, context, codec.encode(params, context, batch), conditions)
            return ((made - x) ** 2).mean(range(1, x.ndim))

        return self.over(error, source, data, "scoring")

    def _jit(self, f):
        return jax.jit(lambda nets, *rest: f(*nets, *rest), out_shardings=self.whole)

    def _filled(self, mapped, *trees) -> np.ndarray:
        """Return `mapped` of at most a batch of rows; it is filled up with the last one, and that thrown away."""
        count = len(jax.tree.leaves(trees)[0])
        index = np.minimum(np.arange(self.batch), count - 1)
        return np.asarray(mapped(self.nets, *jax.tree.map(lambda x: sharding.put_whole(self.rows, x[index]), trees)))[
            :count
        ]
