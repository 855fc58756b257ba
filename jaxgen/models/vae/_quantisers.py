"""Quantisers: vectors to the nearest of a codebook, of several one after the other, or each number to a few levels.

The gradient goes straight through, to the vectors as if it were theirs. A codebook is learned by moving averages of the
vectors that chose each code, or by gradient; a code that nobody chooses is put on a vector of the batch.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.errors import InputError, at_least
from jaxgen.core.types import Array, Key, PyTree

straight = jax.lax.stop_gradient


@dataclass(frozen=True)
class Quantiser:
    """What a vector of the code map is rounded to.

    average:  a codebook that follows the vectors: van den Oord et al. 2017, "Neural Discrete Representation Learning"
    gradient: a codebook that is drawn to the vectors by a loss, the same paper
    finite:   no codebook, each number has so many levels: Mentzer et al. 2024, "Finite Scalar Quantization"
    """

    kind: Literal["average", "gradient", "finite"] = "average"
    codes: int = 512  # K: in a codebook
    size: int = 64  # D: numbers in a code
    depth: int = 1  # codebooks, each for what the ones before left over: Zeghidour et al. 2021, "SoundStream"
    levels: tuple[int, ...] = (8, 5, 5, 5)  # of each number, where they are finite
    commitment: float = 0.25  # beta: weight of the vectors' distance to their codes
    decay: float = 0.99  # of the moving averages
    revive: float = 0.1  # a code is put elsewhere when its moving share falls below so many K-ths; 0: never

    def check(self):
        """Raise InputError for what nothing can be rounded to."""
        at_least(2, model__quantiser__codes=self.codes, model__quantiser__levels=min(self.levels, default=0))
        at_least(1, model__quantiser__size=self.size, model__quantiser__depth=self.depth)
        at_least(0, model__quantiser__commitment=self.commitment, model__quantiser__revive=self.revive)
        if not 0 <= self.decay < 1:
            raise InputError(f"model.quantiser.decay must be from 0 to below 1, not {self.decay}.")
        if self.revive >= 1:
            raise InputError(f"model.quantiser.revive must be below 1, the mean share, not {self.revive}.")
        if self.kind == "finite" and self.depth > 1:
            raise InputError("Finite levels leave no vector over: model.quantiser.depth must be 1.")

    @property
    def numbers(self) -> int:
        """How many numbers a vector has."""
        return len(self.levels) if self.kind == "finite" else self.size

    @property
    def vocabulary(self) -> int:
        """How many values a token has."""
        return int(np.prod(self.levels)) if self.kind == "finite" else self.codes

    def init(self, key: Key) -> tuple[PyTree, PyTree]:
        """Return the parameters and the state of the codebooks; empty where there are none."""
        if self.kind == "finite":
            return {}, {}
        codes = jax.random.normal(key, (self.depth, self.codes, self.size)) / self.size**0.5
        if self.kind == "gradient":
            return {"codes": codes}, {}
        return {}, {"share": jnp.full(codes.shape[:2], 1 / self.codes), "sum": codes / self.codes}

    def codebooks(self, params: PyTree, state: PyTree) -> Array:
        """Return e f32[depth K D]."""
        if self.kind == "gradient":
            return params["codes"]
        return state["sum"] / state["share"][..., None]

    def __call__(self, params: PyTree, state: PyTree, z: Array, key: Key | None = None) -> "Quantised":
        """Round vectors z f32[b ... D]. With a key, as in training, the codebooks move."""
        return self.rounded(z) if self.kind == "finite" else self.nearest(params, state, z, key)

    def rounded(self, z: Array) -> "Quantised":
        """Round each number to its levels, which lie evenly in [-1, 1]; for an even number of them -1 is one, 1 is not.

        tanh bounds them, moved so that 0 stays 0. The bound is a little beyond the outermost levels, where the paper's
        is a little within: so two levels work as well.
        """
        levels = np.asarray(self.levels, np.float32)
        half, odd = (levels - 1) * (1 + 1e-3) / 2, np.where(levels % 2, 0, 0.5)
        half, odd, shift = (jnp.broadcast_to(jnp.float32(v), z.shape) for v in (half, odd, np.arctanh(odd / half)))
        bounded = jnp.tanh(z + shift) * half - odd
        near = bounded + straight(jnp.rint(bounded) - bounded)
        width = levels // 2
        digits = straight(near).astype(jnp.int32) + np.broadcast_to(np.int32(width), z.shape)
        token = (digits * np.broadcast_to(self.places, z.shape)).sum(-1)
        return Quantised(near / np.broadcast_to(width, z.shape), token[..., None], jnp.zeros(len(z)), {})

    @property
    def places(self) -> np.ndarray:
        """What a step of each number's level adds to the token, i32[D]."""
        return np.cumprod([1, *self.levels[:-1]]).astype(np.int32)

    def nearest(self, params: PyTree, state: PyTree, z: Array, key: Key | None) -> "Quantised":
        codebooks = self.codebooks(params, state)
        left, found, tokens, cost, new = z, jnp.zeros_like(z), [], jnp.zeros(len(z)), []
        for number, codes in enumerate(codebooks):  # [K D]
            flat = left.reshape(-1, self.size)  # [n D]
            token = nearest_code(straight(flat), straight(codes))  # [n]
            e = codes[token].reshape(z.shape)
            error = per_example((left - straight(e)) ** 2)
            cost = cost + self.commitment * error  # the paper's equation 3, its last term
            if self.kind == "gradient":
                cost = cost + per_example((straight(left) - e) ** 2)  # and its middle one
            if self.kind == "average" and key is not None:
                some = jax.random.fold_in(key, number)
                mine = state["share"][number], state["sum"][number]
                new.append(self.moved(*mine, straight(flat), token, some))
            left, found = left - straight(e), found + straight(e)
            tokens.append(token.reshape(z.shape[:-1]))
        if new:
            state = dict(zip(("share", "sum"), map(jnp.stack, zip(*new, strict=True)), strict=True))
        return Quantised(z + straight(found - z), jnp.stack(tokens, -1), cost, state)

    def moved(self, share: Array, total: Array, flat: Array, token: Array, key: Key) -> tuple[Array, Array]:
        """Return the averages of a codebook after the vectors flat f32[n D] chose the codes token i32[n].

        share f32[K] is the part of the vectors that chose a code, total f32[K D] their sum over the number of all
        vectors; e = total / share (van den Oord et al. 2017, appendix A.1, in shares).
        """
        chosen = jax.nn.one_hot(token, self.codes, dtype=flat.dtype)  # [n K]
        share = self.decay * share + (1 - self.decay) * chosen.mean(0)
        total = self.decay * total + (1 - self.decay) * jnp.matmul(chosen.T, flat) / len(flat)
        if self.revive:
            dead = share < self.revive / self.codes
            some = flat[jax.random.randint(key, (self.codes,), 0, len(flat))]  # [K D]
            share = jnp.where(dead, 1 / self.codes, share)
            total = jnp.where(dead[:, None], some / self.codes, total)
        return share, total

    def values(self, params: PyTree, state: PyTree, tokens: Array) -> Array:
        """Return the vectors f32[b ... D] of tokens i32[b ... depth]."""
        if self.kind == "finite":
            shape = (*tokens.shape[:-1], len(self.levels))
            places, levels = (np.broadcast_to(np.asarray(v, np.int32), shape) for v in (self.places, self.levels))
            digits = tokens // places % levels
            return (digits - levels // 2).astype(jnp.float32) / (levels // 2)
        codebooks = self.codebooks(params, state)
        return jnp.stack([codebooks[i][tokens[..., i]] for i in range(self.depth)]).sum(0)


class Quantised(NamedTuple):
    """values f32[b ... D], to which a gradient is the vectors' own; tokens i32[b ... depth]; cost f32[b]; new state."""

    values: Array
    tokens: Array
    cost: Array
    state: PyTree


def nearest_code(flat: Array, codes: Array) -> Array:
    """Return which of codes f32[K D] is nearest to each of flat f32[n D], i32[n]."""
    squares = (codes**2).sum(1)  # [K]; the vectors' own squares are the same for all codes
    return jnp.argmin(squares[None] - 2 * jnp.matmul(flat, codes.T), axis=1)


def per_example(x: Array) -> Array:
    """Return the mean over all axes but the first."""
    return x.mean(range(1, x.ndim))


def usage(tokens: Array, vocabulary: int) -> dict[str, Array]:
    """Return the perplexity exp(entropy) of tokens i32[b ... depth], and the share of codes in use; means over depth.

    Few codes in use is codebook collapse; the perplexity can't be above their number, nor above that of the tokens.
    """
    depth = tokens.shape[-1]
    flat = tokens.reshape(-1, depth)
    counts = jax.vmap(lambda t: jnp.zeros(vocabulary).at[t].add(1.0), 1)(flat)  # [depth K]
    p = counts / len(flat)
    entropy = -(p * jnp.log(jnp.where(p > 0, p, 1))).sum(1)
    return {"perplexity": jnp.exp(entropy).mean(), "codes_used": (counts > 0).mean(dtype=jnp.float32)}
