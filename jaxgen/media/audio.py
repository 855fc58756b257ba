"""Sound files: 16-bit PCM in a .wav."""

import wave
from pathlib import Path

import numpy as np

from jaxgen.media.marks import Mark, marked

PAUSE = 0.1  # seconds of silence after each sound


def save_wav(path: Path, sounds: np.ndarray, rate: int, mark: Mark | None):
    """Write sounds f32[n t] or f32[n t c] in [-1, 1] one after another, with a pause between them, and a mark.

    c is 1 or 2.
    """
    sounds = np.asarray(sounds, np.float32)
    sounds = sounds[..., None] if sounds.ndim == 2 else sounds  # [n t] -> [n t 1]
    silence = np.zeros((round(PAUSE * rate), sounds.shape[2]), np.float32)
    parts = [part for sound in sounds for part in (sound, silence)]
    samples = np.clip(np.rint(np.concatenate(parts) * 32767), -32768, 32767).astype("<i2")  # [t c]
    with marked(path, mark) as part, part.open("wb") as file, wave.open(file, "wb") as out:
        out.setnchannels(samples.shape[1])
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.tobytes())
