"""The text that the models of this family are conditioned on: its spec, its encoder, and how it is dropped."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxgen.core.ranges import Count
from jaxgen.core.spec import INTEGER, ArraySpec
from jaxgen.core.types import Array, Key
from jaxgen.nn.backbones.text_encoder import TextEncoder


@dataclass(frozen=True)
class Text:
    """The text, and the transformer that encodes it."""

    context: Count = 24  # tokens of a text; a longer one is cut
    vocabulary: Count = 1024  # tokens that there can be
    width: Count = 128  # of a token
    depth: Count = 3  # layers
    heads: Count = 4

    @property
    def spec(self) -> ArraySpec:
        return ArraySpec("tokens", (self.context,), INTEGER, count=self.vocabulary)

    @property
    def none(self) -> tuple[int, ...]:
        """No text."""
        return (0,) * self.context

    def encoder(self, name: str, features: int = 0) -> TextEncoder:
        """Return the encoder, as a part of a module."""
        return TextEncoder(self.vocabulary, self.width, self.depth, self.heads, features, name=name)


TEXT, SMALL_TEXT = Text(), Text(12, 128, 16, 1, 2)


def drop_text(tokens: Array, share: float, key: Key) -> Array:
    """Return texts i32[b n] with this share of them replaced by none. Ho and Salimans 2022, algorithm 1."""
    return jnp.where(jax.random.bernoulli(key, share, (tokens.shape[0], 1)), 0, tokens)
