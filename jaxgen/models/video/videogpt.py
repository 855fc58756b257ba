"""VideoGPT: Yan, Zhang, Abbeel and Srinivas 2021, "VideoGPT: Video Generation using VQ-VAE and Transformers".

A VQ-VAE of clips, and a transformer that makes its tokens one after the other. The autoencoder has strided convolutions
over time and space, and residual blocks with attention along each axis (section 3.1, appendix A). Sizes and initial
values are those of the authors' code, with group norm in place of batch norm. The prior (section 3.2) is that of the
zoo's VQ-VAE: it learns an embedding of the tokens where the paper projects the codes. It is trained together with the
autoencoder, and has no influence on it.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.core.capabilities import Autoregressive
from jaxgen.core.ranges import Count, check_settings
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Context, Key, Params, PyTree
from jaxgen.models.vae._quantisers import Quantiser
from jaxgen.models.vae.vq_vae import TokenAutoencoder
from jaxgen.models.video._autoencoders import ClipDecoder, ClipEncoder, check_clip
from jaxgen.models.video.vgan import row
from jaxgen.tasks.autoregressive import draw_tokens
from jaxgen.tasks.video_prediction import Image


@dataclass(frozen=True)
class VideoGPT(TokenAutoencoder):
    """Hyper-parameters of a VideoGPT."""

    frames: Count = 16  # of a clip
    image: Image = (64, 64, 3)  # a frame's height, width, channels
    down: tuple[Count, Count, Count] = (4, 4, 4)  # factors on frames, height and width
    width: Count = 240  # channels of the hidden layers
    blocks: int = 4  # residual blocks of each net
    quantiser: Quantiser = Quantiser(codes=2048, size=256)
    prior: int = 8  # layers of the transformer prior; 0: no prior, so no samples
    prior_width: Count = 576  # channels of the prior
    learning_rate: float = 3e-4  # of Adam

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for clips that the factors do not divide."""
        task = super().task(steps)
        own = Autoregressive(self.init_cache, self.step, self.token_count)
        return task.having(own) if self.prior else task

    def check(self):
        check_settings(self, "model.")
        check_clip(self.down, self.frames, self.image)
        self.quantiser.check()
        self.check_prior()

    @property
    def video(self) -> tuple[int, ...]:
        """The shape of a clip."""
        return self.frames, *self.image

    @property
    def encoder(self) -> Any:
        return ClipEncoder(self.down, self.width, self.blocks, self.quantiser.vector_size)

    @property
    def decoder(self) -> Any:
        return ClipDecoder(self.down, self.width, self.blocks, self.image[2])

    @property
    def sides(self) -> tuple[int, ...]:
        return tuple(size // side for size, side in zip(self.video, self.down, strict=False))

    def init_cache(self, params: Params, context: Context, conditioning, count: int) -> PyTree:
        """Return the keys and values of no tokens, for `count` sequences."""
        shapes = jax.eval_shape(lambda: self.next_logits(params, {}, jnp.zeros(count, jnp.int32), jnp.int32(0)))[1]
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def step(self, params: Params, context: Context, cache: PyTree, token: Array, i: Array) -> tuple[Array, PyTree]:
        """Return the logits f32[b k] of token i, given the one before it."""
        return self.next_logits(params, cache, jnp.maximum(token, 0), i)

    def next_logits(self, params: Params, cache: PyTree, token: Array, i: Array) -> tuple[Array, PyTree]:
        nets = {"params": params["prior"], **cache}
        found: Any = self.transformer.apply(nets, token[:, None], i, self.token_count, mutable=["cache"])
        return found[0][:, 0], found[1]

    def generate(self, params: Params, context: Context, keys: Key, given) -> dict[str, Array]:
        """Return clips decoded from tokens that are drawn from the prior."""
        own = Autoregressive(self.init_cache, self.step, self.token_count)
        tokens = draw_tokens(own, params, context, given, keys).reshape(-1, *self.sides, self.quantiser.depth)
        return {"video": self.decode(params, context, self.values(params, context, tokens), given)}


TINY = VideoGPT(
    frames=4,
    image=(8, 8, 3),
    down=(2, 2, 2),
    width=8,
    blocks=1,
    quantiser=Quantiser(codes=8, size=4),
    prior=1,
    prior_width=8,
    learning_rate=1e-3,
)
PRESETS = {"videogpt": row(VideoGPT(), TINY, 56_004_915, batch=16)}
