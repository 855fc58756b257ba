"""Spectrograms: sounds to bands and back, and the flow of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import signal

from jaxgen.core.capabilities import Denoiser, Transform
from jaxgen.core.types import Context
from jaxgen.models.audio.spectrogram_flow import SMALL
from jaxgen.nn.spectrogram import Mel, griffin_lim, inverse_stft, log_mel, mel_filters, stft, window
from tests.helpers.untrained import drawn_state

RATE, MEL = 8000, Mel(256, 64, 40)
NOTHING = Context(extra={}, ema={}, frozen={}, step=jnp.int32(0))


def sound(count: int = 2048) -> np.ndarray:
    """Return two sines and a little noise, f32[1 t]."""
    time, draw = np.arange(count) / RATE, np.random.default_rng(0)
    tones = 0.3 * np.sin(2 * np.pi * 500 * time) + 0.2 * np.sin(2 * np.pi * 1750 * time)
    return (tones + 0.01 * draw.normal(size=count)).astype(np.float32)[None]


def test_the_transform_is_that_of_scipy_and_its_inverse_gives_the_sound_back():
    x = sound()
    how: dict[str, Any] = {"window": window(256), "nperseg": 256, "noverlap": 192, "boundary": None, "padded": False}
    found = signal.stft(np.pad(x[0], 128, "reflect"), **how)[2]
    made, back = jax.jit(lambda x: (stft(x, 256, 64), inverse_stft(stft(x, 256, 64), 256, 64, 2048)))(x)
    np.testing.assert_allclose(made[0] / window(256).sum(), found.T, atol=1e-6)
    np.testing.assert_allclose(back, x, atol=1e-5)


def test_bands_have_the_amplitude_of_a_sine_and_its_place():
    filters = mel_filters(RATE, 256, 40)
    np.testing.assert_allclose(filters.sum(0), 1, rtol=1e-5)
    mel = lambda f: 2595 * np.log10(1 + f / 700)  # noqa: E731
    for pitch in (500.0, 1750.0):
        tone = 0.5 * np.sin(2 * np.pi * pitch * np.arange(2048) / RATE)
        bands = np.exp(log_mel(jnp.asarray(tone[None], jnp.float32), RATE, MEL))[0, 16]
        expected = mel(pitch) / mel(RATE / 2) * 41 - 1  # the band whose middle is nearest
        assert abs(bands.argmax() - expected) <= 1 and 0.1 < bands.max() <= 0.5


def test_griffin_lim_finds_a_sound_with_the_given_spectrogram():
    x = jnp.asarray(sound())
    target = log_mel(x, RATE, MEL)
    made, rough = jax.jit(lambda target: [griffin_lim(target, RATE, MEL, 2048, count) for count in (32, 0)])(target)
    assert made.shape == x.shape and 0.2 < float(jnp.abs(made).max()) <= 1
    bands = lambda log: np.exp(np.asarray(log))[:, 4:-4]  # noqa: E731
    away = lambda x: np.linalg.norm(bands(log_mel(x, RATE, MEL)) - bands(target)) / np.linalg.norm(bands(target))  # noqa: E731
    assert away(made) < 0.25 and away(made) < 0.5 * away(rough)


def test_a_flow_of_spectrograms_denoises_them_and_draws_sounds():
    task, audio = SMALL.task(1), 0.1 * np.random.default_rng(0).normal(size=(2, 64, 1)).astype(np.float32)
    params, denoiser = drawn_state(task, 2).params, task.get(Denoiser)
    assert denoiser.encode is not None and denoiser.decode is not None
    x0 = denoiser.encode(params, NOTHING, jnp.asarray(audio))
    assert x0.shape[1:] == denoiser.shape == (8, 4, 1)
    whole = log_mel(jnp.asarray(audio[..., 0]), RATE, SMALL.mel)[:, :-1]
    np.testing.assert_allclose(x0[..., 0] * 3 - 6, whole, rtol=1e-5)
    label = {"label": jnp.asarray([0, 2])}
    found = denoiser.predict_x0(params, NOTHING, x0, jnp.zeros(2), label)
    np.testing.assert_allclose(found, x0, atol=1e-5)  # without noise x is x0
    keys = jax.random.split(jax.random.key(0), 2)
    made = jax.jit(lambda keys, label: task.get(Transform).apply(params, NOTHING, label, keys))(keys, label)
    assert made["audio"].shape == (2, 64, 1) and float(jnp.abs(made["audio"]).max()) <= 1
