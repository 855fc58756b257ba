"""SVG-LP: Denton and Fergus 2018, "Stochastic Video Generation with a Learned Prior".

A recurrent predictor with a latent variable for each frame. The prior of z_t is read off the frames before t, the
posterior off frame t as well; both are Gaussians by an LSTM (section 3.2). The predictor's LSTM maps the features of
the last frame and z_t to those of the next one, and a decoder to pixels; skip connections come from the last frame that
was given. The loss is the squared error, plus beta times KL(posterior || prior), summed over the frames. Other keys are
other futures.

Sizes and names are those of the authors' code for Moving-MNIST: DCGAN's encoder and decoder. There the statistics of
batch norm are of one frame of the batch; here of all frames.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count, Decay, check_settings
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Context, Key
from jaxgen.interop.weight_names import renamed
from jaxgen.losses.elbo import kl_normal
from jaxgen.nn.conv import Conv, ConvTranspose, Dense
from jaxgen.nn.norm import BatchNorm
from jaxgen.nn.precision import to_f32
from jaxgen.nn.recurrent import LSTMCell
from jaxgen.nn.stages import count_stages
from jaxgen.tasks.video_prediction import Image, mean_squared, prediction_task, row

WEIGHTS = nn.initializers.normal(0.02)
ONE, NONE = ((1, 1), (1, 1)), ((0, 0), (0, 0))
State = Any  # of LSTMs: (h, c) for each layer


@dataclass(frozen=True)
class SVGLP:
    """Hyper-parameters of an SVG-LP."""

    image: Image = (64, 64, 1)  # frames: height, width, channels
    past: Count = 5  # frames that are given
    future: Count = 10  # frames that are predicted
    features: Count = 128  # of a frame
    latent: Count = 10  # size of z
    hidden: Count = 256  # of the LSTMs
    layers: Count = 2  # LSTM layers of the predictor; prior and posterior have one
    width: Count = 64  # channels of the layers next to the frame
    beta: float = 1e-4  # weight of the KL
    learning_rate: float = 2e-3
    ema: Decay = 0.999

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for sizes that do not fit strides of 2."""
        del steps
        check_settings(self, "model.")
        stages = count_stages(*self.image[:2])
        if self.past < 2:
            raise InputError(f"model.past must be at least 2, not {self.past}.")
        widths = tuple(self.width << i for i in range(stages))
        base = self.image[0] >> stages, self.image[1] >> stages
        net = SVGNet(self, widths, base)

        def loss(nets, clip: Array, context: Context, key: Key):
            noise = rng.normal(jax.random.split(key, len(clip)), (clip.shape[1] - 1, self.latent))
            args = (nets, clip, noise, context.train)
            found: Any = net.apply(*args, mutable=["batch_stats"] if context.train else [])
            (made, kl), stats = found
            frames = clip.shape[1] - 1
            return frames * mean_squared(made, clip[:, 1:]) + self.beta * kl.mean(), stats

        def predict(nets, past: Array, keys: Key) -> Array:
            steps = self.past - 1 + self.future
            noise = rng.normal(jax.vmap(lambda key: rng.fold(key, "z"))(keys), (steps, self.latent))
            return net.apply(nets, past, noise, method="predict")  # pyright: ignore

        frames = self.past + self.future
        start = jnp.zeros((2, frames, *self.image)), jnp.zeros((2, frames - 1, self.latent))
        return prediction_task(self, net, predict, loss, start, stochastic=True)


class SVGNet(nn.Module):
    """clip f32[b T h w c] in [0, 1] and noise f32[b T-1 latent] -> frames 2 to T predicted, KL in nats f32[b]."""

    model: SVGLP
    widths: tuple[int, ...]
    base: tuple[int, int]

    def setup(self):
        m = self.model
        self.encoder = Encoder(self.widths, self.base, m.features)
        self.decoder = Decoder(self.widths, self.base, m.image[2])
        self.frame_predictor = Recurrent(m.hidden, m.layers, m.features, gaussian=False)
        self.posterior = Recurrent(m.hidden, 1, m.latent, gaussian=True)
        self.prior = Recurrent(m.hidden, 1, m.latent, gaussian=True)

    def __call__(self, clip: Array, noise: Array, train: bool = False) -> tuple[Array, Array]:
        b, frames = clip.shape[:2]
        h, skips = self.encoder(clip.reshape(-1, *clip.shape[2:]), train)  # of every frame
        h = h.reshape(b, frames, -1)  # [b T features]
        (_, (mean, log_var)), (_, (own, own_log_var)) = self.posterior.whole(h[:, 1:]), self.prior.whole(h[:, :-1])
        z = mean + jnp.exp(log_var / 2) * noise
        _, g = self.frame_predictor.whole(jnp.concatenate([h[:, :-1], z], -1))  # [b T-1 features]
        given = jnp.minimum(jnp.arange(frames - 1), self.model.past - 1)  # the frame of the skip connections
        skips = [x.reshape(b, frames, *x.shape[1:])[:, given].reshape(-1, *x.shape[1:]) for x in skips]
        made = self.decoder(g.reshape(-1, g.shape[-1]), skips, train)
        kl = kl_normal(*map(to_f32, (mean, log_var / 2, own, own_log_var / 2))).sum((1, 2))  # [b]
        return made.reshape(b, frames - 1, *made.shape[1:]), kl

    def predict(self, past: Array, noise: Array) -> Array:
        """Return the frames after the given ones, f32[b t h w c] and noise f32[b t-1+future latent]."""
        b, count = past.shape[:2]
        h, skips = self.encoder(past.reshape(-1, *past.shape[2:]), False)
        h = h.reshape(b, count, -1)
        skips = [x.reshape(b, count, *x.shape[1:])[:, -1] for x in skips]
        _, (mean, log_var) = self.posterior.whole(h[:, 1:])
        z = mean + jnp.exp(log_var / 2) * noise[:, : count - 1]
        prior, _ = self.prior.whole(h[:, :-1])
        predictor, _ = self.frame_predictor.whole(jnp.concatenate([h[:, :-1], z], -1))

        def step(net: "SVGNet", carry: Any, eps: Array):
            (prior, predictor), frame = carry
            h, _ = net.encoder(frame, False)
            prior, (mean, log_var) = net.prior(prior, h)
            z = mean + jnp.exp(log_var / 2) * eps
            predictor, g = net.frame_predictor(predictor, jnp.concatenate([h, z], -1))
            made = net.decoder(g, skips, False).astype(frame.dtype)
            return ((prior, predictor), made), made

        rest: Any = {"variable_broadcast": ("params", "batch_stats"), "split_rngs": {"params": False}}
        loop = nn.scan(step, in_axes=1, out_axes=1, **rest)
        return loop(self, ((prior, predictor), past[:, -1]), noise[:, count - 1 :])[1]


class Recurrent(nn.Module):
    """(state, x f32[b n]) -> the next state, tanh of a linear map f32[b outputs]; or the mean and the log variance."""

    hidden: int
    layers: int
    outputs: int
    gaussian: bool

    def setup(self):
        self.embed = Dense(self.hidden, kernel_init=WEIGHTS)
        self.lstm = [LSTMCell(self.hidden) for _ in range(self.layers)]
        if self.gaussian:
            self.mu_net = Dense(self.outputs, kernel_init=WEIGHTS)
            self.logvar_net = Dense(self.outputs, kernel_init=WEIGHTS)
        else:
            self.output_0 = Dense(self.outputs, kernel_init=WEIGHTS)

    def __call__(self, state: State, x: Array) -> tuple[State, Any]:
        x, after = self.embed(x), []
        for cell, own in zip(self.lstm, state, strict=True):
            new = cell(own, x)
            after.append(jax.tree.map(lambda a, b: a.astype(b.dtype), new, own))
            x = new[0]
        if self.gaussian:
            return after, (to_f32(self.mu_net(x)), to_f32(self.logvar_net(x)))
        return after, jnp.tanh(to_f32(self.output_0(x)))

    def whole(self, x: Array) -> tuple[State, Any]:
        """Return the last state and all outputs of a sequence f32[b t n], from a state of zeros on."""
        zero = jnp.zeros((len(x), self.hidden))
        start = [(zero, zero) for _ in range(self.layers)]
        loop = nn.scan(
            lambda net, state, x: net(state, x),
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
        )
        return loop(self, start, x)


class Encoder(nn.Module):
    """frames f32[b h w c] -> features f32[b n], and the maps of each size, the largest first."""

    widths: tuple[int, ...]
    base: tuple[int, int]
    features: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, list[Array]]:
        skips = []
        for i, width in enumerate(self.widths):
            x = Conv(width, (4, 4), (2, 2), ONE, kernel_init=WEIGHTS, name=f"c{i + 1}_main_0")(x)  # [b h/2 w/2 c]
            x = nn.leaky_relu(norm(x, train, f"c{i + 1}_main_1"), 0.2)
            skips.append(x)
        last = f"c{len(self.widths) + 1}"
        x = Conv(self.features, self.base, padding=NONE, kernel_init=WEIGHTS, name=f"{last}_0")(x)
        return jnp.tanh(to_f32(norm(x, train, f"{last}_1"))[:, 0, 0]), skips


class Decoder(nn.Module):
    """features f32[b n] and the maps of an encoder -> frames f32[b h w channels] in [0, 1]."""

    widths: tuple[int, ...]
    base: tuple[int, int]
    channels: int

    @nn.compact
    def __call__(self, g: Array, skips: list[Array], train: bool) -> Array:
        first = ConvTranspose(self.widths[-1], self.base, padding=NONE, kernel_init=WEIGHTS, name="upc1_0")
        x = nn.leaky_relu(norm(first(g[:, None, None]), train, "upc1_1"), 0.2)
        double = lambda c, name: ConvTranspose(c, (4, 4), (2, 2), ONE, kernel_init=WEIGHTS, name=name)  # noqa: E731
        for i, width in enumerate(reversed(self.widths[:-1]), 2):
            x = jnp.concatenate([x, skips[1 - i].astype(x.dtype)], -1)
            x = double(width, f"upc{i}_main_0")(x)  # [b 2h 2w c]
            x = nn.leaky_relu(norm(x, train, f"upc{i}_main_1"), 0.2)
        x = jnp.concatenate([x, skips[0].astype(x.dtype)], -1)
        return jax.nn.sigmoid(to_f32(double(self.channels, f"upc{len(self.widths) + 1}_0")(x)))


def norm(x: Array, train: bool, name: str) -> Array:
    return BatchNorm(scale_init=lambda *args: 1 + WEIGHTS(*args), name=name)(x, train)


WEIGHT_NAMES = renamed((r"(c\d)_main", r"\1.main"), (r"(lstm\.\d)\.(ih|hh)\.(weight|bias)", r"\1.\3_\2"))
TINY = SVGLP((16, 16, 1), past=3, future=2, features=8, latent=8, hidden=16, layers=1, width=16)
PRESETS = {"svg-lp": row(SVGLP(), TINY, 12_614_057, steps=180_000, batch=100)}
