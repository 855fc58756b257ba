"""WaveNet vocoder: Shen, Pang, Weiss, Schuster, Jaitly, Yang, Chen, Zhang, Wang, Skerry-Ryan, Saurous, Agiomyrgiannakis
and Wu 2018, "Natural TTS Synthesis by Conditioning WaveNet on Mel Spectrogram Predictions".

A WaveNet with the log mel spectrogram of a sound as its local conditioning (van den Oord et al. 2016, section 2.5): it
draws the sound again. The frames go through a linear map for each layer and are upsampled by a learned transposed
convolution, which begins as linear interpolation. The paper's net has 30 layers and a mixture of logistics over 16-bit
samples at 24 kHz; ours has the 256 levels of the mu-law.
"""

from dataclasses import dataclass
from typing import Any

from jaxgen.core.capabilities import Transform
from jaxgen.core.spec import ArraySpec
from jaxgen.core.types import Array, Batch, Context, Key, Params
from jaxgen.models.audio.wavenet import SOUNDS, TINY, WaveNet, row, weight_name
from jaxgen.nn.spectrogram import Mel, log_mel


@dataclass(frozen=True)
class WaveNetVocoder(WaveNet):
    """Hyper-parameters of a WaveNet that draws sounds from their mel spectrograms."""

    length: int = 16_384  # samples of a sound
    mel: Mel = Mel()

    def check(self):
        """Raise InputError for settings out of range, or a spectrogram that does not fit the sounds."""
        super().check()
        self.mel.check(self.length)

    @property
    def hop(self) -> int:
        """Samples from one frame of the spectrogram to the next."""
        return self.mel.hop

    def frames(self, given: Batch) -> Array:
        """Return log mel spectrograms f32[b frames bands] of sounds, in units of 4 nats about -6."""
        return (log_mel(given["audio"][..., 0], self.rate, self.mel) + 6) / 4

    @property
    def transform(self) -> Transform:
        """From a sound to one with the same spectrogram."""

        def apply(params: Params, context: Context, inputs: Batch, keys: Key, scale: float = 1.0) -> dict[str, Array]:
            del scale
            return self.generate(params, context, keys, inputs)

        audio = {"audio": self.example["audio"]}
        inputs: dict[str, ArraySpec] = audio | {k: v for k, v in self.example.items() if k == "label"}
        return Transform(apply, inputs, audio, "audio", stochastic=True)


WEIGHT_NAMES = weight_name
SMALL: Any = {**TINY, "mel": Mel(16, 4, 4)}
PRESETS = {"wavenet-vocoder": row(WaveNetVocoder(), WaveNetVocoder(**SMALL), 1_579_904, SOUNDS, 200_000, 8)}
