"""Motion VAE: after Petrovich, Black and Varol 2021, "Action-Conditioned 3D Human Motion Synthesis with Transformer
VAE".

ACTOR: a transformer reads a clip behind two tokens of its action, which become the mean and the log variance of one
latent vector. A second transformer, whose queries are the sinusoids of time alone, turns this vector, shifted by one of
the action, into all frames at once. So a clip may have any number of frames.

The loss compares rotations and, by forward kinematics, places of joints, where the paper has vertices of the body SMPL.
A frame also holds the root's velocity and contacts (jaxgen/data/motion_clips), where the paper has the root's place.

`motion-vae`  the CMU split: 60 frames at 25 a second, 8 actions
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.capabilities import Codec
from jaxgen.core.ranges import Count, Decay, Share
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Batch, Context, Key, Params
from jaxgen.losses.elbo import kl_normal
from jaxgen.nn.conv import Dense
from jaxgen.nn.sequence_transformer import SequenceLayer, positions
from jaxgen.nn.transformer import stack_layers
from jaxgen.tasks.motion_generation import CMU_ACTIONS, RATE, motion_task, row, space_of, squared

DECAY = 0.01  # of AdamW


@dataclass(frozen=True)
class MotionVAE:
    """Hyper-parameters of a motion VAE."""

    skeleton: str = "cmu"  # cmu, deepmimic, smpl, or a file of a motion that has it
    unit: float = 0.0  # metres of one of its lengths; 0: the power of ten that makes it man-sized
    rate: float = RATE  # frames in a second
    frames: Count = 60  # of a clip
    classes: Count = CMU_ACTIONS  # actions
    latent: Count = 256  # features of the latent vector and of the transformers
    heads: Count = 4
    hidden: Count = 1024  # features of the perceptrons
    depth: Count = 8  # layers of each transformer
    dropout: Share = 0.1
    places: float = 1.0  # factor on the squared distance of joints, in square metres
    kl: float = 2e-4  # factor on the divergence of a clip: the authors' 1e-5, of the sum over a batch of 20
    learning_rate: float = 1e-4
    ema: Decay = 0.999

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        space = space_of(self)
        net = self.net(space.channels)

        def init(key: Key) -> Params:
            x = jnp.zeros((1, self.frames, space.channels))
            return {"generator": net.init(key, x, jnp.zeros(1, jnp.int32))["params"]}

        def loss(params: Params, context: Context, x: Array, clip: Array, label: Array, key: Key):
            keys = {name: rng.fold(key, name) for name in ("latent", "dropout")}
            own = self.net(space.channels, context.train)
            use, rngs = {"params": params["generator"]}, {"dropout": keys["dropout"]}
            found: Any = own.apply(use, x, label, method="encode", rngs=rngs)
            mean, log_var = found
            z = mean + jnp.exp(0.5 * log_var) * jax.random.normal(keys["latent"], mean.shape)
            made: Any = own.apply(use, z, label, x.shape[1], method="decode", rngs=rngs)
            full = space.leave(context.extra["clips"], made)
            rotations = squared(made, x)  # section 3.3, L_P
            places = squared(space.format.places(full), space.format.places(clip))  # L_V
            zero = jnp.zeros_like(mean)
            kl = kl_normal(mean, 0.5 * log_var, zero, zero).sum(-1).mean()
            metrics = {"rotations": rotations, "places": places, "kl": kl}
            return rotations + self.places * places + self.kl * kl, metrics

        def encode(params: Params, context: Context, batch: Batch) -> Array:
            x = space.enter(context.extra["clips"], batch["motion"])
            return net.apply({"params": params["generator"]}, x, batch["label"], method="encode")[0]

        def decode(params: Params, context: Context, z: Array, given: Batch) -> Array:
            made: Any = net.apply({"params": params["generator"]}, z, given["label"], self.frames, method="decode")
            return space.leave(context.extra["clips"], made)

        def draw(params: Params, context: Context, keys: Key, given: Batch) -> dict[str, Array]:
            z, use = rng.normal(keys, (self.latent,)), {"params": params["generator"]}
            made: Any = net.apply(use, z, given["label"], self.frames, method="decode")
            return {"motion": made}

        codec = Codec(encode, decode, ("label",))
        return motion_task(self, space, init, loss, draw, optax.adamw(self.learning_rate, weight_decay=DECAY), (codec,))

    def net(self, channels: int, train: bool = False) -> "MotionVAENet":
        return MotionVAENet(
            channels, self.classes, self.latent, self.heads, self.hidden, self.depth, self.dropout, train
        )


class MotionVAENet(nn.Module):
    """The encoder and the decoder. Section 3.2, figure 2."""

    channels: int
    classes: int
    latent: int
    heads: int
    hidden: int
    depth: int
    dropout: float
    train: bool = False

    def setup(self):
        token = nn.initializers.normal(1.0)
        layer = SequenceLayer(self.heads, self.hidden, self.dropout, self.train)
        self.mean_token = self.param("mean_token", token, (self.classes, self.latent))
        self.log_var_token = self.param("log_var_token", token, (self.classes, self.latent))
        self.action_bias = self.param("action_bias", token, (self.classes, self.latent))
        self.embed, self.final = Dense(self.latent), Dense(self.channels)
        self.encoder, self.decoder = layer.clone(), layer.clone()
        self.drop = nn.Dropout(self.dropout, deterministic=not self.train)

    def __call__(self, x: Array, label: Array) -> Array:
        return self.decode(self.encode(x, label)[0], label, x.shape[1])

    def encode(self, x: Array, label: Array) -> tuple[Array, Array]:
        """x f32[b t c], label i32[b] -> mean and log variance [b latent]."""
        tokens = jnp.stack([self.mean_token[label], self.log_var_token[label]], 1)  # [b 2 latent]
        y = jnp.concatenate([tokens.astype(x.dtype), self.embed(x)], 1)  # [b t+2 latent]
        y = self.drop(y + positions(y.shape[1], self.latent)[None].astype(y.dtype))
        y = stack_layers(self.encoder, self.depth, y)
        return y[:, 0], y[:, 1]

    def decode(self, z: Array, label: Array, frames: int) -> Array:
        """z f32[b latent], label i32[b] -> clips [b frames c]."""
        memory = z + self.action_bias[label].astype(z.dtype)  # section 3.2
        times = jnp.broadcast_to(positions(frames, self.latent)[None].astype(z.dtype), (len(z), frames, self.latent))
        return self.final(stack_layers(self.decoder, self.depth, self.drop(times), memory))


SMALL = MotionVAE("deepmimic", frames=4, classes=3, latent=8, heads=2, hidden=8, depth=2)
PRESETS = {"motion-vae": row(MotionVAE(), SMALL, 13_797_824, 100_000, 64)}
