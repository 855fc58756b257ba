"""MCVD: Voleti, Jolicoeur-Martineau and Pal 2022, "MCVD: Masked Conditional Video Diffusion for Prediction, Generation,
and Interpolation".

A DDPM of a few frames, conditioned on frames before and after them. In training all frames before are hidden with
probability 1/2, and those after as well, independently (section 3). So one net

predicts      from frames before alone       (python -m jaxgen predict RUN clip.mp4)
generates     from nothing                   (python -m jaxgen generate RUN)
interpolates  between frames before and after

The net is a U-Net of images: frames are channels, given ones beside noisy ones, and hidden ones are 0 (figure 1,
"concat"). It is ADM's; the authors' has the same blocks, resampling and heads in another order.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange

from jaxgen.core import rng
from jaxgen.core.capabilities import Denoiser, Transform
from jaxgen.core.ranges import Count, Decay, Share, check_settings
from jaxgen.core.spec import ArraySpec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, ramped
from jaxgen.diffusion import samplers
from jaxgen.diffusion.parameterisations import from_x0, to_x0
from jaxgen.diffusion.schedules import expand_like
from jaxgen.models.diffusion import _nets
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.models.diffusion.ddpm import DDPM
from jaxgen.models.video._denoisers import row
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.denoising import Sampling, start
from jaxgen.tasks.video_prediction import Image

PREDICT = "eps"
AROUND = "past", "future"  # the conditioning


@dataclass(frozen=True)
class MCVD:
    """Hyper-parameters of an MCVD."""

    image: Image = (64, 64, 1)  # frames: height, width, channels
    past: Count = 5  # frames before
    frames: Count = 5  # frames that are made
    future: Count = 5  # frames after
    net: BackboneConfig = BackboneConfig("unet", 64, 2, 4, (1, 2, 3, 4), (8, 16, 32))
    timesteps: Count = 1000  # number of times, T
    hide_past: Share = 0.5  # probability that the frames before are hidden in training
    hide_future: Share = 0.5  # and those after
    sampling: Sampling = Sampling("ddpm", 100, "time", clip=True)
    learning_rate: float = 2e-4  # of Adam
    ema: Decay = 0.999

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings that are invalid together."""
        del steps
        check_settings(self, "model.")
        self.net.check()
        self.sampling.check(0, 0.0, "ve")
        count = {"past": self.past, "video": self.frames, "future": self.future}
        example = {name: ArraySpec("video", (frames, *self.image)) for name, frames in count.items()}
        given = {name: replace(example[name], optional=True) for name in AROUND}
        return Task(
            init=self.init,
            example=example,
            learners={"denoiser": Learner(("denoiser",), self.net.adam(self.learning_rate))},
            phases=(Phase("denoiser", "denoiser", self.loss),),
            ema=(Ema("denoiser", ramped(self.ema)),),
            capabilities=(
                Transform(self.make, given, {"video": example["video"]}, subject="past", stochastic=True),
                self.denoiser,
            ),
        )

    @property
    def process(self) -> DDPM:
        """The noise of a DDPM."""
        return DDPM(timesteps=self.timesteps, sampling=self.sampling)

    @property
    def module(self):
        return self.net.module(self.frames * self.image[2], 0)

    @property
    def denoiser(self) -> Denoiser:
        return Denoiser(self.predict_x0, "ve", self.process.denoiser.taus, (self.frames, *self.image))

    def init(self, key: Key, spec: Any = None):
        frames = self.past + self.frames + self.future
        channels = frames * self.image[2]
        return {"denoiser": _nets.init(self.module, rng.fold(key, "denoiser"), (*self.image[:2], channels), 0)}, {}

    def net_output(self, params: Params, xt: Array, t: Array, given: Batch, dropout: Key | None = None) -> Array:
        """Return the net's prediction f32[b k h w c] at noisy frames and times t f32[b] from 0 to T - 1.

        given: the frames before f32[b p h w c] and after f32[b f h w c], where they are known
        """
        count = {"past": self.past, "future": self.future}
        none = {name: jnp.zeros((len(xt), frames, *self.image)) for name, frames in count.items()}
        around = {**none, **given}
        whole = jnp.concatenate([around["past"], xt, around["future"]], 1)
        flat = rearrange(whole, "b t h w c -> b h w (t c)")
        out = _nets.call(self.module, params["denoiser"], flat, t * (1000 / self.timesteps), dropout=dropout)
        return rearrange(out, "b h w (t c) -> b t h w c", t=self.frames)

    def predict_x0(self, params: Params, context: Context, x: Array, tau: Array, conditioning: Batch) -> Array:
        """Return E[x0 | x, conditioning] for x = x0 + tau eps."""
        del context
        table = jnp.log(jnp.asarray(self.process.taus, jnp.float32))
        t = jnp.interp(jnp.log(tau), table, jnp.arange(self.timesteps, dtype=jnp.float32))
        alpha = 1 / jnp.sqrt(1 + tau**2)
        xt = expand_like(x, alpha) * x
        given = {name: conditioning[name] for name in AROUND if name in conditioning}
        return to_x0(PREDICT, self.net_output(params, xt, t, given), xt, alpha, tau * alpha)

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        x0 = batch["video"]
        keys = {name: rng.fold(key, name) for name in ("t", "eps", "dropout", *AROUND)}
        t = jax.random.randint(keys["t"], x0.shape[:1], 0, self.timesteps)
        eps = rng.normal(jax.random.split(keys["eps"], len(x0)), x0.shape[1:])
        alpha, sigma = self.process.alpha_sigma(t)
        xt = expand_like(x0, alpha) * x0 + expand_like(x0, sigma) * eps
        shares = {"past": self.hide_past, "future": self.hide_future}
        shown = {name: 1.0 - jax.random.bernoulli(keys[name], share, t.shape) for name, share in shares.items()}
        given = {name: expand_like(batch[name], seen) * batch[name] for name, seen in shown.items()}
        out = self.net_output(params, xt, jnp.float32(t), given, keys["dropout"] if self.net.dropout else None)
        return jnp.square(out - from_x0(PREDICT, x0, xt, alpha, sigma)).mean(), Aux()

    def make(self, params: Params, context: Context, given: Batch, keys: Key, scale: float = 1.0) -> dict[str, Array]:
        """Return frames f32[b k h w c] for the frames around them that are given."""
        del scale
        how, d = self.sampling, self.denoiser
        sample = samplers.sampler_of(how.sampler, "ve", how.churn, how.eta)

        def denoise(x: Array, tau: Array) -> Array:
            x0 = d.predict_x0(params, context, x, tau, given)
            return jnp.clip(x0, -1, 1) if how.clip else x0

        return {"video": jnp.clip(to_f32(sample(denoise, start(d, keys), d.taus, keys)), -1, 1)}


FEW = Sampling("ddpm", 3, "time", clip=True)
SMALL = BackboneConfig("unet", 8, 1, 2, (1,), ())
TINY = MCVD((8, 8, 1), 2, 2, 1, net=SMALL, sampling=FEW, learning_rate=1e-3)
PRESETS = {"mcvd": row(MCVD(), TINY, 25_457_285, "moving-digits", 64)}
