"""Flow matching of spectrograms: Lipman, Chen, Ben-Hamu, Nickel and Le 2023, "Flow Matching for Generative Modeling".

The flow of models/diffusion/flow.py on log mel spectrograms of sounds: x0 is the spectrogram of an example, and samples
become sounds by the fast Griffin-Lim algorithm, which finds the phases (nn/spectrogram.py). The spectrogram is an image
of frames by bands. A sound of n hops has n + 1 frames; the last one, which is centred at its end, is left out.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import jax.numpy as jnp

from jaxgen.core.capabilities import Denoiser
from jaxgen.core.ranges import Count, Decay, check_settings
from jaxgen.core.spec import ArraySpec, label_spec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, ramped
from jaxgen.models.audio.wavenet import DIGITS, row
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.models.diffusion.flow import EVEN, Flow
from jaxgen.nn.spectrogram import Mel, griffin_lim, log_mel
from jaxgen.tasks.denoising import Sampling, generator
from jaxgen.tasks.transforms import example_generation

MIDDLE, UNIT = -6.0, 3.0  # of log magnitudes: x0 is (log mel - MIDDLE) / UNIT
ITERATIONS = 32  # of Griffin-Lim


@dataclass(frozen=True)
class SpectrogramFlow:
    """Hyper-parameters of a flow of spectrograms."""

    length: Count = 4096  # samples of a sound
    rate: Count = 8000  # samples in a second
    mel: Mel = Mel(256, 64, 40)
    classes: int = 10  # number of classes; 0: unconditional
    net: BackboneConfig = BackboneConfig("dit", width=128, depth=6, heads=4, patch=4)
    times: Literal["uniform", "logit-normal"] = "logit-normal"  # in training
    drop: Decay = 0.1  # share of labels replaced by the null label in training
    sampling: Sampling = EVEN
    learning_rate: float = 5e-4  # of Adam
    ema: Decay = 0.999  # decay of the EMA

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings that are invalid, alone or together."""
        check_settings(self, "model.")
        self.mel.check(self.length)
        self.flow.check()
        audio = {"audio": ArraySpec("audio", (self.length, 1), rate=float(self.rate))}
        example = audio | ({"label": label_spec(self.classes)} if self.classes else {})
        return Task(
            init=self.flow.init,
            example=example,
            learners={"denoiser": Learner(("denoiser",), self.net.adam(self.learning_rate))},
            phases=(Phase("denoiser", "denoiser", self.loss),),
            ema=(Ema("denoiser", ramped(self.ema)),),
            capabilities=(example_generation(self.generate, example), self.denoiser),
        )

    @property
    def flow(self) -> Flow:
        """The flow of spectrograms as images [frames bands 1]."""
        image = self.mel.frames(self.length) - 1, self.mel.bands, 1
        rest: dict[str, Any] = {"learning_rate": self.learning_rate, "ema": self.ema}
        return Flow(image, self.classes, self.net, times=self.times, drop=self.drop, sampling=self.sampling, **rest)

    @property
    def denoiser(self) -> Denoiser:
        return replace(self.flow.denoiser, encode=self.encode, decode=self.decode)

    def encode(self, params: Params, context: Context, audio: Array) -> Array:
        """Return x0 f32[b frames bands 1] of sounds f32[b t 1]."""
        return ((log_mel(audio[..., 0], self.rate, self.mel) - MIDDLE) / UNIT)[:, :-1, :, None]

    def decode(self, params: Params, context: Context, x0: Array) -> Array:
        """Return sounds f32[b t 1] in [-1, 1] of x0."""
        whole = jnp.concatenate([x0, x0[:, -1:]], 1)[..., 0] * UNIT + MIDDLE  # [b frames+1 bands]
        return griffin_lim(jnp.minimum(whole, 0), self.rate, self.mel, self.length, ITERATIONS)[..., None]

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        return self.flow.loss(params, context, {**batch, "image": self.encode(params, context, batch["audio"])}, key)

    def generate(self, params: Params, context: Context, keys: Key, given: Batch) -> dict[str, Array]:
        made = dict(generator(self.denoiser, self.sampling)(params, context, keys, given))
        return {"audio": self.decode(params, context, made.pop("image")), **made}


SMALL = SpectrogramFlow(64, mel=Mel(16, 8, 4), net=BackboneConfig("dit", 16, 1, 2, patch=2))
PRESETS = {
    "spectrogram-flow": row(
        SpectrogramFlow(), replace(SMALL, sampling=replace(EVEN, steps=2)), 1_869_072, DIGITS, 3000, 16
    )
}
