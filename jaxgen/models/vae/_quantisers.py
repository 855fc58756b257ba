"""Quantisers: vector quantisation with one codebook or several (residual), and finite scalar quantisation.

The gradient is the straight-through estimate: it passes through the rounding unchanged. A codebook is learned by moving
averages of the vectors that are assigned to each code, or by gradient descent. A code that is not used is replaced by a
random vector of the batch; without replacement (`revive=0`) it moves to 0, by the smoothing of its use. The smoothing
changes a code by at most 0.01% as long as unused codes are replaced; codebooks of version 0.1 were trained without it.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Count, Decay, Range
from jaxgen.core.types import Array, Key, PyTree

stop_gradient = jax.lax.stop_gradient
MOST = 2**24  # tokens of finite levels; they are counted one by one, in f32
EPSILON = 1e-5  # of Laplace smoothing, in units of the mean use of a code


@dataclass(frozen=True)
class Quantiser:
    """Settings of a quantiser of latent vectors.

    average:  a codebook learned by moving averages (van den Oord et al. 2017, "Neural Discrete Representation
              Learning")
    gradient: a codebook learned by a loss term (the same paper)
    finite:   no codebook; each number has a few levels (Mentzer et al. 2024, "Finite Scalar Quantization")
    """

    kind: Literal["average", "gradient", "finite"] = "average"
    codes: Annotated[int, Range(2)] = 512  # K: codes in a codebook
    size: Count = 64  # D: size of a code
    depth: Count = 1  # codebooks, each for the residual of those before (Zeghidour et al. 2021, "SoundStream")
    levels: tuple[int, ...] = (8, 5, 5, 5)  # levels of each number (kind finite)
    commitment: float = 0.25  # beta: weight of the commitment loss
    decay: Decay = 0.99  # of the moving averages
    revive: Decay = 0.1  # replace a code when the moving average of its use falls below revive / K; 0: never

    def check(self):
        """Raise InputError for settings that no quantiser can have."""
        at_least(2, model__quantiser__levels=min(self.levels, default=0))
        if self.kind == "finite" and math.prod(self.levels) > MOST:
            raise InputError(
                f"model.quantiser.levels make {math.prod(self.levels)} different tokens: give fewer or smaller levels, "
                f"for at most {MOST}."
            )
        if self.kind == "finite" and self.depth > 1:
            raise InputError("model.quantiser.depth must be 1 with kind=finite, which has no residual quantisation.")

    @property
    def vector_size(self) -> int:
        """Size of the vectors that are quantised."""
        return len(self.levels) if self.kind == "finite" else self.size

    @property
    def vocabulary(self) -> int:
        """Number of different tokens."""
        return int(np.prod(self.levels)) if self.kind == "finite" else self.codes

    def init(self, key: Key) -> tuple[PyTree, PyTree]:
        """Return the parameters and the state of the codebooks; both empty for kind finite."""
        if self.kind == "finite":
            return {}, {}
        codes = jax.random.normal(key, (self.depth, self.codes, self.size)) / self.size**0.5
        if self.kind == "gradient":
            return {"codes": codes}, {}
        return {}, {"share": jnp.full(codes.shape[:2], 1 / self.codes), "sum": codes / self.codes}

    def codebooks(self, params: PyTree, state: PyTree) -> Array:
        """Return the codes e f32[depth K D]."""
        if self.kind == "gradient":
            return params["codes"]
        return state["sum"] / self.smoothed(state["share"])[..., None]

    def smoothed(self, share: Array) -> Array:
        """Return the codes' shares f32[depth K], smoothed as by Laplace so that none is 0; their sum is unchanged.

        As in google-deepmind/sonnet's VectorQuantizerEMA. Without it a code that is not used becomes 0 / 0.
        """
        total = share.sum(-1, keepdims=True)
        floor = jnp.full_like(total, EPSILON / self.codes)
        return (share + floor) * (total / (total + EPSILON))

    def __call__(self, params: PyTree, state: PyTree, z: Array, key: Key | None = None) -> "Quantised":
        """Return the vectors z f32[b ... D] quantised. With a key, as in training, the codebooks are updated."""
        return self.quantise_finite(z) if self.kind == "finite" else self.quantise_nearest(params, state, z, key)

    def quantise_finite(self, z: Array) -> "Quantised":
        """Return each number rounded to its levels, which are evenly spaced in [-1, 1].

        With an even number of levels, -1 is a level and 1 is not. A shifted tanh bounds the numbers and keeps 0 at 0.
        Of two levels, -1 and 0, the boundary is at 0: the shift that keeps 0 at 0 would move it to -3.8, which vectors
        of a standardised net don't reach. The bound is slightly outside the outermost levels (the paper's is slightly
        inside).
        """
        levels = np.asarray(self.levels, np.float32)
        half, odd = (levels - 1) * (1 + 1e-3) / 2, np.where(levels % 2, 0, 0.5)
        shift = np.where(levels > 2, np.arctanh(odd / half), 0)
        half, odd, shift = (jnp.broadcast_to(jnp.float32(v), z.shape) for v in (half, odd, shift))
        bounded = jnp.tanh(z + shift) * half - odd
        near = bounded + stop_gradient(jnp.rint(bounded) - bounded)
        width = levels // 2
        digits = stop_gradient(near).astype(jnp.int32) + np.broadcast_to(np.int32(width), z.shape)
        token = (digits * np.broadcast_to(self.place_values, z.shape)).sum(-1)
        return Quantised(near / np.broadcast_to(width, z.shape), token[..., None], jnp.zeros(z.shape[0]), {})

    @property
    def place_values(self) -> np.ndarray:
        """The token's increase for one level of each number, i32[D]."""
        return np.cumprod([1, *self.levels[:-1]]).astype(np.int32)

    def quantise_nearest(self, params: PyTree, state: PyTree, z: Array, key: Key | None) -> "Quantised":
        """Return each vector replaced by its nearest code, or by the sum of one code of each codebook."""
        codebooks = self.codebooks(params, state)
        residual, found, tokens, cost, new = z, jnp.zeros_like(z), [], jnp.zeros(z.shape[0]), []
        for number, codes in enumerate(codebooks):  # [K D]
            flat = residual.reshape(-1, self.size)  # [n D]
            token = nearest_code(stop_gradient(flat), stop_gradient(codes))  # [n]
            e = codes[token].reshape(z.shape)
            error = per_example((residual - stop_gradient(e)) ** 2)
            cost = cost + self.commitment * error  # the paper's equation 3, last term
            if self.kind == "gradient":
                cost = cost + per_example((stop_gradient(residual) - e) ** 2)  # equation 3, second term
            if self.kind == "average" and key is not None:
                own_key = jax.random.fold_in(key, number)
                averages = state["share"][number], state["sum"][number]
                new.append(self.update_codebook(*averages, stop_gradient(flat), token, own_key))
            residual, found = residual - stop_gradient(e), found + stop_gradient(e)
            tokens.append(token.reshape(z.shape[:-1]))
        if new:
            state = dict(zip(("share", "sum"), map(jnp.stack, zip(*new, strict=True)), strict=True))
        return Quantised(z + stop_gradient(found - z), jnp.stack(tokens, -1), cost, state)

    def update_codebook(self, share: Array, total: Array, flat: Array, token: Array, key: Key) -> tuple[Array, Array]:
        """Return a codebook's moving averages, updated by vectors flat f32[n D] with the codes token i32[n].

        share f32[K] is the share of the vectors that are assigned to each code. total f32[K D] is the sum of these
        vectors divided by the number of all vectors. e = total / share, smoothed (van den Oord et al. 2017, appendix
        A.1, divided by the number of vectors).
        """
        chosen = jax.nn.one_hot(token, self.codes, dtype=flat.dtype)  # [n K]
        share = self.decay * share + (1 - self.decay) * chosen.mean(0)
        total = self.decay * total + (1 - self.decay) * jnp.matmul(chosen.T, flat) / len(flat)
        if self.revive:
            dead = share < self.revive / self.codes
            replacement = flat[jax.random.randint(key, (self.codes,), 0, len(flat))]  # [K D]
            share = jnp.where(dead, 1 / self.codes, share)
            total = jnp.where(dead[:, None], replacement / self.codes, total)
        return share, total

    def values(self, params: PyTree, state: PyTree, tokens: Array) -> Array:
        """Return the vectors f32[b ... D] of tokens i32[b ... depth]."""
        if self.kind == "finite":
            shape = (*tokens.shape[:-1], len(self.levels))
            place_values, levels = (
                np.broadcast_to(np.asarray(v, np.int32), shape) for v in (self.place_values, self.levels)
            )
            digits = tokens // place_values % levels
            return (digits - levels // 2).astype(jnp.float32) / (levels // 2)
        codebooks = self.codebooks(params, state)
        return jnp.stack([codebooks[i][tokens[..., i]] for i in range(self.depth)]).sum(0)


class Quantised(NamedTuple):
    """The result of a quantiser."""

    values: Array  # f32[b ... D], the quantised vectors, with the straight-through gradient
    tokens: Array  # i32[b ... depth]
    cost: Array  # f32[b], the loss of the quantiser
    state: PyTree  # the new state of the codebooks


def nearest_code(flat: Array, codes: Array) -> Array:
    """Return the index of the nearest of codes f32[K D] for each vector of flat f32[n D], i32[n]."""
    centre = codes.mean(0)[None]  # far from 0 the squares would be too large beside their differences
    flat, codes = flat - centre, codes - centre
    squares = (codes**2).sum(1)  # [K]; the squares of the vectors are left out: they are the same for all codes
    return jnp.argmin(squares[None] - 2 * jnp.matmul(flat, codes.T), axis=1)


def per_example(x: Array) -> Array:
    """Return the mean over all axes but the first."""
    return x.mean(range(1, x.ndim))


def usage(tokens: Array, vocabulary: int) -> dict[str, Array]:
    """Return the perplexity exp(entropy) of tokens i32[b ... depth] and the share of codes in use, means over depth.

    Few codes in use means codebook collapse. The perplexity is at most the number of codes in use.
    """
    depth = tokens.shape[-1]
    flat = tokens.reshape(-1, depth)
    counts = jax.vmap(lambda t: jnp.zeros(vocabulary).at[t].add(1.0), 1)(flat)  # [depth K]
    p = counts / len(flat)
    entropy = -(p * jnp.log(jnp.where(p > 0, p, 1))).sum(1)
    return {"perplexity": jnp.exp(entropy).mean(), "codes_used": (counts > 0).mean(dtype=jnp.float32)}
