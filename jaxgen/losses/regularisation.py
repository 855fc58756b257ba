"""Regularisation of discriminators: gradient penalties, per example, and spectral normalisation."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxgen.core import rng
from jaxgen.core.types import Array, Key, PyTree
from jaxgen.nn.precision import to_f32

Critic = Callable[[Array], Array]  # images f32[b h w c] -> logits f32[b]; row i depends on image i only


def squared_gradient(critic: Critic, x: Array) -> Array:
    """Return |dD(x)/dx|^2, f32[b]."""
    gradient = jax.grad(lambda x: critic(x).sum())(x)
    return (to_f32(gradient) ** 2).sum(range(1, x.ndim))


def zero_centred(critic: Critic, x: Array) -> Array:
    """Return 1/2 |dD(x)/dx|^2, f32[b]: R1 on real images, R2 on generated ones. Mescheder et al. 2018, equation 9."""
    return squared_gradient(critic, x) / 2


def one_centred(critic: Critic, x: Array) -> Array:
    """Return (|dD(x)/dx| - 1)^2, f32[b]."""
    return (jnp.sqrt(squared_gradient(critic, x) + 1e-12) - 1) ** 2  # the constant keeps the derivative at 0 finite


def wasserstein_penalty(critic: Critic, real: Array, fake: Array, key: Key) -> Array:
    """Return (|dD(x^)/dx^| - 1)^2 between random pairs of images, f32[b]. Gulrajani et al. 2017, equation 3."""
    t = jax.random.uniform(key, (len(real), *(1,) * (real.ndim - 1)), real.dtype)
    t = jnp.broadcast_to(t, real.shape)
    return one_centred(critic, t * real + (1 - t) * fake)


def dragan_penalty(critic: Critic, real: Array, key: Key) -> Array:
    """Return (|dD(x^)/dx^| - 1)^2 around real images, f32[b]. Kodali et al. 2017, algorithm 1.

    As in the authors' code x^ = x + t (x_p - x) with x_p = x + std(batch) / 2 u; u (per pixel) and t (per image) are
    uniform in [0, 1).
    """
    shape = (len(real), *(1,) * (real.ndim - 1))
    t = jnp.broadcast_to(jax.random.uniform(rng.fold(key, "t"), shape, real.dtype), real.shape)
    u = jax.random.uniform(rng.fold(key, "u"), real.shape, real.dtype)
    return one_centred(critic, real + t * real.std() / 2 * u)


def init_spectral(key: Key, params: PyTree, spare: str = "") -> dict[str, Array]:
    """Return the initial vectors of power iteration, {path: u f32[c_out]}, for each matrix not named `spare`."""
    matrices = {name: x for name, x in _named(params) if x.ndim > 1 and name.rpartition("/")[2] != spare}
    keys = jax.random.split(key, len(matrices))
    return {
        name: _unit(jax.random.normal(k, x.shape[-1:])) for k, (name, x) in zip(keys, matrices.items(), strict=True)
    }


def _named(tree: PyTree) -> list[tuple[str, Array]]:
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), x) for path, x in paths]


def _unit(v: Array) -> Array:
    return v / (jnp.linalg.norm(v) + 1e-12)


def spectral_normalise(
    params: PyTree, vectors: Mapping[str, Array], iterations: int = 1
) -> tuple[PyTree, dict[str, Array]]:
    """Return params with each matrix in `vectors` divided by its largest singular value, and the updated vectors.

    sigma = v^T W u after power iterations v = W u / |W u|, u = W^T v / |W^T v|, which are not differentiated. A
    kernel [kh kw c_in c_out] is the matrix [kh*kw*c_in c_out].
    Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks", algorithm 1.
    """
    moved, leaves = {}, []
    for name, w in _named(params):
        if name in vectors:
            w, moved[name] = _normalised(w, vectors[name], iterations)
        leaves.append(w)
    return jax.tree.unflatten(jax.tree.structure(params), leaves), moved


def _normalised(w: Array, u: Array, iterations: int) -> tuple[Array, Array]:
    matrix = w.reshape(-1, w.shape[-1]).astype(u.dtype)
    still = jax.lax.stop_gradient(matrix)
    v = _unit(still @ u)
    for i in range(iterations):
        u = _unit(v @ still)
        v = _unit(still @ u) if i + 1 < iterations else v
    u, v = jax.lax.stop_gradient((u, v))
    return w / (v @ matrix @ u).astype(w.dtype), u
