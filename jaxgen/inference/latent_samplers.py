"""Samplers other than the prior: distributions fitted on the latents of training images; their draws are decoded.

A plain autoencoder has no known prior, and the latents of a VAE together may lie far from its prior. A mixture of
Gaussians fitted on them after training: Ghosh et al. 2020, "From Variational to Deterministic Autoencoders". A second,
small VAE on them: Dai and Wipf 2019, "Diagnosing and Enhancing VAE Models". Both see the posterior's means here.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.capabilities import Codec, Latent
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Key
from jaxgen.data import RandomSubset, check_source, open_source
from jaxgen.inference.autoencoding import Autoencoder, check_vectors
from jaxgen.inference.sampling import conditioning_of, drawer
from jaxgen.losses.elbo import kl_standard, normal_log_prob
from jaxgen.nn.conv import Dense
from jaxgen.runs.load import Trained
from jaxgen.tasks.transforms import example_generation

Name = Literal["prior", "mixture", "two-stage"]
Draw = Callable[[Key], Array]  # keys Key[b] -> latents f32[b d], each by its own key
FITTED_IMAGES = 20_000  # the most images whose latents a sampler is fitted on
WIDTH, STEPS, BATCH, RATE = 256, 4000, 256, 3e-3  # of the second VAE
LOG_GAMMA = -1.0  # at first: from gamma = 1, the spread of all latents, u is not used and remains so


def fit_mixture(latents: np.ndarray, components: int = 10) -> Draw:
    """Return a sampler of a mixture of Gaussians with full covariances, fitted on latents f32[n d] by EM from k-means.

    Raises InputError for fewer latents than components.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture  # slow to import

    at_least(1, components=components)
    if components > len(latents):
        raise InputError(f"components={components} is more than the number of latents to fit them to: {len(latents)}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as near as it comes
        latents = np.asarray(latents, np.float64)
        floor = max(1e-6 * latents.var(0).mean(), 1e-30)  # of the covariances, on the scale of the latents
        found: Any = GaussianMixture(components, reg_covar=floor, max_iter=200, random_state=0).fit(latents)
    means, logits = jnp.float32(found.means_), jnp.log(jnp.float32(found.weights_))  # [k d], [k]
    roots = jnp.float32(np.linalg.cholesky(found.covariances_))  # [k d d]

    def draw(keys: Key) -> Array:
        which = jax.vmap(lambda key: jax.random.categorical(rng.fold(key, "component"), logits))(keys)  # [b]
        noise = rng.normal(_folded(keys, "noise"), means.shape[1:])  # [b d]
        moved = means[None] + jnp.einsum("kij,bj->bki", roots, noise)
        return jnp.take_along_axis(moved, which[:, None, None], 1)[:, 0]

    return draw


class Perceptron(nn.Module):
    """x f32[b d] -> f32[b outputs], the last layer seeing x as well."""

    outputs: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = nn.relu(Dense(WIDTH)(nn.relu(Dense(WIDTH)(x))))
        return Dense(self.outputs)(jnp.concatenate([x, y], 1))


def fit_two_stage(latents: np.ndarray, steps: int = STEPS) -> Draw:
    """Return a sampler of a second VAE, trained on latents f32[n d] for so many steps.

    u has the size of a latent z, p(z | u) = N(f(u), gamma^2 I) with one gamma that is learned, and
    E_q [log p(z | u)] - KL(q(u | z) || N(0, I)) is maximised, on latents of mean 0 and variance 1.
    """
    size = latents.shape[1]
    centre, scale = latents.mean(0), np.maximum(latents.std(0), 1e-6)  # [d]
    encoder, decoder = Perceptron(2 * size), Perceptron(size)
    adam = optax.adam(optax.cosine_decay_schedule(RATE, steps))
    key = rng.fold(jax.random.key(0), "two-stage")

    def loss(params, z, noise):
        mean, log_var = jnp.split(encoder.apply(params["encoder"], z), 2, 1)  # pyright: ignore
        made: Any = decoder.apply(params["decoder"], mean + jnp.exp(log_var / 2) * noise)
        log_p = normal_log_prob(z, made, jnp.broadcast_to(params["log_gamma"], z.shape))
        return (kl_standard(mean, log_var).sum(1) - log_p).mean()

    @jax.jit
    def train(z):
        params = {
            "encoder": encoder.init(rng.fold(key, "encoder"), z[:1]),
            "decoder": decoder.init(rng.fold(key, "decoder"), z[:1]),
            "log_gamma": jnp.float32(LOG_GAMMA),
        }

        def step(carry, i):
            params, moments = carry
            rows, noise = jax.random.split(jax.random.fold_in(rng.fold(key, "steps"), i))
            some = z[jax.random.randint(rows, (min(BATCH, len(z)),), 0, len(z))]
            gradients = jax.grad(loss)(params, some, jax.random.normal(noise, some.shape))
            updates, moments = adam.update(gradients, moments)
            return (optax.apply_updates(params, updates), moments), None

        (params, _), _ = jax.lax.scan(step, (params, adam.init(params)), jnp.arange(steps))
        return params

    params: Any = jax.device_get(train(jnp.float32((latents - centre) / scale)))

    def draw(keys: Key) -> Array:
        made: Any = decoder.apply(params["decoder"], rng.normal(_folded(keys, "u"), (size,)))
        z = made + jnp.exp(params["log_gamma"]) * rng.normal(_folded(keys, "noise"), (size,))
        return jnp.float32(centre)[None] + jnp.float32(scale)[None] * z

    return draw


def _folded(keys: Key, name: str) -> Key:
    return jax.vmap(lambda key: rng.fold(key, name))(keys)


def check(task: Task, name: Name, components: int = 10):
    """Raise InputError where a task can't be sampled so."""
    at_least(1, components=components)
    if name != "prior":
        check_vectors(task)


def refit(opened: Trained, name: Name, components: int = 10, average: bool = True) -> Trained:
    """Return the run with a Transform that decodes draws of a sampler fitted on the latents of training images.

    Its conditioning is that of `decode`. The sampler is fitted on all latents, regardless of labels.
    """
    check(opened.task, name, components)
    if name == "prior":
        return opened
    run, task = opened.run, opened.task
    source = open_source(run.data, task.example)
    check_source(source, run.data, task.example)
    some = RandomSubset(source, FITTED_IMAGES)
    print(f"Fitting --sampler {name} on the latents of {len(some):,} training images ...", flush=True)
    latents = Autoencoder(opened, average).encode(some, run.data)
    draw = fit_mixture(latents, components) if name == "mixture" else fit_two_stage(latents)
    decode = task.get(Codec).decode
    assert decode is not None

    def generate(params, context, keys, given):
        return {"image": decode(params, context, draw(keys), given)}

    return opened._replace(task=task.lacking(Latent).having(example_generation(generate, task.example)))


def images(opened: Trained, name: Name, count: int, seed: int, batch: int = 100) -> Iterator[jax.Array]:
    """Yield batches of images f32[b h w c], at least `count` in all; a conditional model gets the labels of examples.

    They are what `Scores.take_in` takes. Sample i depends on the seed and i only.
    """
    run, mesh, task, state, frozen, _ = refit(opened, name)
    source = open_source(run.data, task.example)
    needed = conditioning_of(task, run, source, count)
    return drawer(task, mesh, batch)(state, frozen, seed, count, needed)
