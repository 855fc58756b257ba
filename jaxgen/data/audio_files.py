"""Decoding of sound files: WAV by SciPy, FLAC by PyAV; one channel at any rate."""

import io
import math
import struct
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.data.arrays import first_line

SUFFIXES = ".wav", ".flac"
LOUDEST = 0.999  # of full scale: what is louder is clipped
CLIPPED = 0.005  # share of clipped samples from which on a message says so
SILENT = 1e-4  # of full scale: a sound whose loudest sample is below it, after its mean was taken off, is silent
_WARNINGS = threading.Lock()  # the filters of warnings belong to all threads


def decode(path: Path, name: str, content: bytes | None = None) -> tuple[np.ndarray, int]:
    """Return a file's sound f32[t] in [-1, 1], the mean of its channels, and its rate.

    content: the file's bytes, where it is part of an archive
    Raises InputError with the name of a file that can't be read, or holds no sound.
    """
    samples, rate = (_wav if name.lower().endswith(".wav") else _by_av)(path if content is None else content, name)
    if not samples.size or rate <= 0:
        raise InputError(f"{name} has no samples.")
    if not np.isfinite(samples).all():
        raise InputError(f"{name} has samples that are not finite numbers.")
    return np.clip(samples.mean(1, dtype=np.float32), -1, 1), rate


def resampled(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Return a sound f32[t] at another rate, by a polyphase filter without aliases; clipped to [-1, 1]."""
    if rate == wanted:
        return samples
    from scipy.signal import resample_poly

    common = math.gcd(rate, wanted)
    made = resample_poly(samples.astype(np.float64), wanted // common, rate // common)
    return np.clip(made, -1, 1).astype(np.float32)


def is_silent(samples: np.ndarray) -> bool:
    """Return whether a sound f32[t] can't be heard; a constant offset is no sound."""
    return bool(np.abs(samples - samples.mean()).max() < SILENT)


def clipped_share(samples: np.ndarray) -> float:
    """Return the share of a sound's samples that lie at full scale, where two or more follow each other."""
    loud = np.abs(samples) >= LOUDEST
    pairs = loud[1:] & loud[:-1]
    return float(pairs.mean()) if len(pairs) else 0.0


def _wav(source: Path | bytes, name: str) -> tuple[np.ndarray, int]:
    from scipy.io import wavfile

    file: Any = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of chunks that hold no sound
            warnings.filterwarnings("error", "Reached EOF prematurely")
            rate, found = wavfile.read(file)
    except (ValueError, OSError, EOFError, struct.error, wavfile.WavFileWarning, UnboundLocalError) as error:
        raise InputError(f"{name} can't be read as WAV: {first_line(error)}.") from error
    found = found[:, None] if found.ndim == 1 else found  # [t] -> [t c]
    return _scaled(found), int(rate)


def _scaled(samples: np.ndarray) -> np.ndarray:
    """Return f32 in [-1, 1]; u8 has its zero at 128, 24 bits fill an i32 from above."""
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if np.issubdtype(samples.dtype, np.signedinteger):
        return (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
    return samples.astype(np.float32)


def _by_av(source: Path | bytes, name: str) -> tuple[np.ndarray, int]:
    try:
        import av
        import av.error
    except ImportError as error:
        raise InputError(f"{name} needs PyAV: pip install 'jaxgen[video]'. WAV files don't.") from error
    file: Any = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    try:
        opened: Any = av.open(file, "r", format="flac")
        with opened as container:
            if not container.streams.audio:
                raise InputError(f"{name} has no sound.")
            stream = container.streams.audio[0]
            plain = av.AudioResampler(format="fltp")
            parts = [part.to_ndarray() for frame in container.decode(stream) for part in plain.resample(frame)]
            rate = int(stream.rate or 0)
    except (av.error.FFmpegError, ValueError, OSError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} can't be read as FLAC: {first_line(error)}.") from error
    return (np.concatenate(parts, 1).T if parts else np.zeros((0, 1), np.float32)), rate
