"""Spectrograms: the short-time Fourier transform, mel bands, their logarithm, and sounds from them.

Frame j is centred at sample j hop; beyond its ends a sound is mirrored. Windows are periodic Hann windows.
"""

import functools
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count, Range
from jaxgen.core.types import Array

FLOOR = 1e-5  # the smallest magnitude in a logarithm
MOMENTUM = 0.99  # of the fast Griffin-Lim algorithm


@dataclass(frozen=True)
class Mel:
    """The sizes of a mel spectrogram."""

    fft: Annotated[int, Range(4)] = 1024  # samples of a window; even
    hop: Count = 256  # samples from one frame to the next; half of a window at most
    bands: Count = 80

    def check(self, length: int):
        """Raise InputError for sizes that do not fit each other, or a sound of so many samples."""
        if self.fft % 2 or self.hop > self.fft // 2:
            raise InputError(f"model.mel.fft={self.fft} must be even, and model.mel.hop={self.hop} at most half of it.")
        if length % self.hop or length <= self.fft // 2:
            raise InputError(
                f"model.length={length} must be a multiple of model.mel.hop={self.hop}, and more than half a window, "
                f"{self.fft // 2} samples."
            )
        if self.bands > self.fft // 4:
            raise InputError(f"model.mel.bands={self.bands} are more than a window of {self.fft} samples resolves.")

    def frames(self, length: int) -> int:
        """Return the number of frames of a sound."""
        return length // self.hop + 1


def window(size: int) -> np.ndarray:
    """Return the periodic Hann window f32[size]."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


def stft(x: Array, fft: int, hop: int) -> Array:
    """Return the Fourier transform c64[b frames fft/2+1] of the windows of sounds f32[b t]."""
    padded = jnp.pad(x, ((0, 0), (fft // 2, fft // 2)), "reflect")
    starts = hop * np.arange((padded.shape[1] - fft) // hop + 1)
    frames = padded[:, starts[:, None] + np.arange(fft)]  # [b frames fft]
    return jnp.fft.rfft(frames * window(fft)[None, None])


def inverse_stft(spectrum: Array, fft: int, hop: int, length: int) -> Array:
    """Return the sounds f32[b length] whose windows are nearest to a transform c64[b frames fft/2+1].

    Griffin and Lim 1984, equation 6: windowed again, added, and divided by the sum of the squared windows.
    """
    frames = jnp.fft.irfft(spectrum, fft) * window(fft)[None, None]  # [b frames fft]
    count = frames.shape[1]
    places = (hop * np.arange(count)[:, None] + np.arange(fft)).reshape(-1)
    whole = (count - 1) * hop + fft
    weight = np.zeros(whole, np.float32)
    np.add.at(weight, places, np.tile(window(fft) ** 2, count))
    summed = jnp.zeros((len(frames), whole)).at[:, places].add(frames.reshape(len(frames), -1))
    return (summed / np.maximum(weight, 1e-6)[None])[:, fft // 2 : fft // 2 + length]


@functools.cache
def mel_filters(rate: int, fft: int, bands: int) -> np.ndarray:
    """Return triangular filters f32[fft/2+1 bands] from 0 to half of the rate, evenly spaced in mel; each sums to 1.

    mel = 2595 log10(1 + f / 700), O'Shaughnessy 1987. A band that is narrower than the distance of frequencies has the
    nearest one.
    """
    frequencies = np.linspace(0, rate / 2, fft // 2 + 1)
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (frequencies[:, None] - low) / (middle - low)
    falling = (high - frequencies[:, None]) / (high - middle)
    filters = np.maximum(np.minimum(rising, falling), 0)
    empty = filters.sum(0) < 1e-3
    filters[np.abs(frequencies[:, None] - middle).argmin(0)[empty], np.flatnonzero(empty)] = 1
    return (filters / filters.sum(0)).astype(np.float32)


def log_mel(x: Array, rate: int, mel: Mel) -> Array:
    """Return the natural logarithm of the mean magnitudes in each band, f32[b frames bands] of sounds f32[b t].

    Magnitudes are those of a window's sine waves: a sine of amplitude 1 has 1 at its frequency.
    """
    magnitude = jnp.abs(stft(x, mel.fft, mel.hop)) * (2 / window(mel.fft).sum())
    return jnp.log(jnp.maximum(magnitude @ mel_filters(rate, mel.fft, mel.bands), FLOOR))


@functools.cache
def inverse_filters(rate: int, fft: int, bands: int) -> np.ndarray:
    """Return what maps the magnitudes of bands back to those of frequencies, the pseudo-inverse f32[bands fft/2+1]."""
    return np.linalg.pinv(mel_filters(rate, fft, bands)).astype(np.float32)


def griffin_lim(spectrum: Array, rate: int, mel: Mel, length: int, iterations: int = 32) -> Array:
    """Return sounds f32[b length] in [-1, 1] of log mel spectrograms f32[b frames bands].

    The fast algorithm of Perraudin, Balazs and Sondergaard 2013, from phases 0: transforms of sounds alternate with
    those that have the given magnitudes.
    """
    bands = jnp.exp(spectrum)
    magnitude = jnp.maximum(bands @ inverse_filters(rate, mel.fft, mel.bands), 0) * (window(mel.fft).sum() / 2)

    def one(carry, _):
        angles, before = carry
        x = inverse_stft(magnitude * angles, mel.fft, mel.hop, length)
        now = stft(x, mel.fft, mel.hop)
        mixed = now + MOMENTUM * (now - before)
        return (mixed / jnp.maximum(jnp.abs(mixed), 1e-12), now), None

    start = jnp.ones_like(magnitude, jnp.complex64), jnp.zeros_like(magnitude, jnp.complex64)
    (angles, _), _ = jax.lax.scan(one, start, None, iterations)
    return jnp.clip(inverse_stft(magnitude * angles, mel.fft, mel.hop, length), -1, 1)
