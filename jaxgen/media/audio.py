"""Sound files: 16-bit PCM in a .wav; and images of sounds."""

import wave
from pathlib import Path

import numpy as np

from jaxgen.media.marks import Mark, marked

PAUSE = 0.1  # seconds of silence after each sound
WINDOW = 0.032  # seconds of a window of a spectrogram
NARROWEST, WIDEST, HEIGHT = 96, 320, 96  # pixels of a spectrogram
DECIBELS = 70.0  # from black to the brightest colour


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


def spectrograms(sounds: np.ndarray, rate: int) -> np.ndarray:
    """Return images f32[n h w 3] in [-1, 1] of sounds f32[n t] or f32[n t c]: time to the right, frequency upwards.

    Brightness is the level in decibels below the loudest place of each sound; channels are mixed.
    """
    from matplotlib import colormaps

    sounds = np.asarray(sounds, np.float32)
    sounds = sounds.mean(2) if sounds.ndim == 3 else sounds
    size = min(2 ** max(round(np.log2(WINDOW * rate)), 4), 4 * HEIGHT)
    length = sounds.shape[1]
    count = min(WIDEST, max(length // (size // 4), NARROWEST))
    centres = np.linspace(0, max(length - 1, 0), count).round().astype(int)
    padded = np.pad(sounds, ((0, 0), (size // 2, size // 2)))
    frames = padded[:, centres[:, None] + np.arange(size)] * np.hanning(size + 1)[:-1].astype(np.float32)
    levels = np.abs(np.fft.rfft(frames))[..., ::-1].swapaxes(1, 2)  # [n frequencies frames], the highest first
    loudest = np.maximum(levels.max((1, 2), keepdims=True), 1e-3)
    decibels = 20 * np.log10(np.maximum(levels / loudest, 1e-8))
    shown = np.clip(1 + decibels / DECIBELS, 0, 1)
    rows = np.linspace(0, shown.shape[1] - 1, HEIGHT).round().astype(int)
    return (colormaps["magma"](shown[:, rows])[..., :3] * 2 - 1).astype(np.float32)
