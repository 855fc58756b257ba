"""The sound of a clip as a stream of blocks f32[channels n]: cut, joined, faster or slower at the same pitch."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.data.arrays import first_line
from jaxgen.data.video_files import Unreadable, opened

GAP = 0.05  # seconds without sound that are kept as silence; shorter ones are roundings of time stamps
LAYOUTS = {1: "mono", 2: "stereo"}
Blocks = Iterator[np.ndarray]


@dataclass(frozen=True)
class Sound:
    """A clip's sound.

    rate:     samples per second
    channels: 1 or 2
    blocks:   f32[channels n], from the first frame on
    file:     whose sound this is, unchanged; None: it was changed
    codec:    of that file's sound
    """

    rate: int
    channels: int
    blocks: Blocks
    file: Path | None = None
    codec: str = ""

    def cut(self, start: float, end: float) -> "Sound":
        """Return the sound between two times in seconds, as long as they say."""
        count = round(end * self.rate) - round(start * self.rate)
        blocks = exactly(skipped(self.blocks, round(start * self.rate)), count, self.channels)
        return replace(self, blocks=blocks, file=None)

    def faster(self, speed: float) -> "Sound":
        """Return the sound at a speed, at the same pitch."""
        return replace(self, blocks=paced(self.blocks, speed, self.rate, self.channels), file=None)


def joined(first: Sound | None, seconds: float, second: Sound | None, overlap: float) -> Sound | None:
    """Return one sound after the other, which fades in over so many seconds; a clip without sound is silent.

    seconds: how long the first clip lasts
    """
    like = first or second
    if like is None:
        return None
    rate, channels = like.rate, like.channels
    silence = Sound(rate, channels, iter(()))
    first, second = first or silence, second or silence
    if (second.rate, second.channels) != (rate, channels):
        second = replace(second, blocks=resampled(second, rate, channels))
    shared = round(overlap * rate)

    def blocks() -> Blocks:
        before = Samples(exactly(first.blocks, round(seconds * rate), channels), channels)
        yield from before.until(round(seconds * rate) - shared)
        after = Samples(second.blocks, channels)
        if shared:
            gain = (np.arange(shared, dtype=np.float32) + 0.5) / shared
            yield before.take(shared, full=True) * (1 - gain) + after.take(shared, full=True) * gain
        yield from after.rest()

    return Sound(rate, channels, blocks())


class Samples:
    """Blocks that are taken in other lengths."""

    def __init__(self, blocks: Blocks, channels: int):
        self.blocks, self.channels = blocks, channels
        self.left = np.zeros((channels, 0), np.float32)

    def take(self, count: int, full: bool = False) -> np.ndarray:
        """Return the next `count` samples f32[c n], fewer at the end, or silence if `full`."""
        parts, found = [self.left], self.left.shape[1]
        while found < count and (block := next(self.blocks, None)) is not None:
            parts.append(block)
            found += block.shape[1]
        every = np.concatenate(parts, 1)
        self.left = every[:, count:]
        made = every[:, :count]
        return np.pad(made, ((0, 0), (0, count - made.shape[1]))) if full else made

    def until(self, count: int, size: int = 65536) -> Blocks:
        """Yield the next `count` samples in blocks."""
        while count > 0 and (block := self.take(min(count, size))).shape[1]:
            count -= block.shape[1]
            yield block

    def rest(self) -> Blocks:
        """Yield what is left."""
        if self.left.shape[1]:
            yield self.left
        yield from self.blocks


def skipped(blocks: Blocks, count: int) -> Blocks:
    """Yield blocks without their first `count` samples."""
    for block in blocks:
        skip = min(count, block.shape[1])
        count -= skip
        if skip < block.shape[1]:
            yield block[:, skip:]


def exactly(blocks: Blocks, count: int, channels: int) -> Blocks:
    """Yield `count` samples, with silence at the end where there are fewer."""
    for block in blocks:
        if count <= 0:
            return
        yield block[:, :count]
        count -= block[:, :count].shape[1]
    while count > 0:
        size = min(count, 65536)
        yield np.zeros((channels, size), np.float32)
        count -= size


def sound_of(path: Path) -> Sound | None:
    """Return the sound of a video file, or None. Its first sample is heard with the first frame."""
    try:
        with opened(path) as (file, _):
            if not file.streams.audio or file.streams.audio[0].codec_context is None:
                return None
            context = file.streams.audio[0].codec_context
            if not context.sample_rate:
                return None
            channels = 1 if context.channels == 1 else 2
            return Sound(
                context.sample_rate, channels, _decoded(path, context.sample_rate, channels), path, context.name
            )
    except Unreadable:
        return None


def start_of(file: Any) -> float:
    """Return when a container's first frame is shown, in seconds of its own time."""
    video = file.streams.video[0]
    return float((video.start_time or 0) * (video.time_base or 0))


def _decoded(path: Path, rate: int, channels: int) -> Blocks:
    import av
    import av.error

    with opened(path) as (file, _):
        stream, begin, done = file.streams.audio[0], start_of(file), 0
        resampler = av.AudioResampler("fltp", LAYOUTS[channels], rate)
        try:
            for frame in file.decode(stream):
                if frame.pts is not None and frame.time_base:
                    # The sample that this frame should begin with, from the first frame of the video on
                    due = round((float(frame.pts * frame.time_base) - begin) * rate)
                    if due - done > GAP * rate or (not done and due > 0):
                        yield from exactly(iter(()), due - done, channels)
                        done = due
                    early = done - due if not done and due < 0 else 0
                else:
                    early = 0
                for part in resampler.resample(frame):
                    block = part.to_ndarray().astype(np.float32)
                    block, early = block[:, early:], max(early - block.shape[1], 0)
                    done += block.shape[1]
                    if block.shape[1]:
                        yield block
        except (av.error.FFmpegError, ValueError) as error:
            print(f"{path} has sound up to {done / rate:.3g} s only: FFmpeg says {first_line(error)}.", file=sys.stderr)


def resampled(sound: Sound, rate: int, channels: int) -> Blocks:
    """Yield a sound's blocks at another rate or number of channels."""
    import av

    resampler = av.AudioResampler("fltp", LAYOUTS[channels], rate)
    for block in sound.blocks:
        for part in resampler.resample(audio_frame(block, sound.rate)):
            yield part.to_ndarray()
    for part in resampler.resample(None):
        yield part.to_ndarray()


def audio_frame(block: np.ndarray, rate: int, at: int | None = None) -> Any:
    """Return FFmpeg's frame of a block f32[c n]. at: the number of its first sample"""
    import av

    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), "fltp", LAYOUTS[len(block)])
    frame.sample_rate, frame.pts = rate, at
    return frame


def paced(blocks: Blocks, speed: float, rate: int, channels: int) -> Blocks:
    """Yield blocks at a speed and the same pitch, by FFmpeg's atempo."""
    from fractions import Fraction

    import av
    import av.error
    from av.filter import Graph

    graph = Graph()
    source = graph.add_abuffer(sample_rate=rate, format="fltp", layout=LAYOUTS[channels], time_base=Fraction(1, rate))
    last, left = source, speed
    while True:  # one filter slows down to a half at most; above 2 it skips samples
        factor = min(max(left, 0.5), 2.0)
        step = graph.add("atempo", f"{factor:.6f}")
        last.link_to(step)
        last, left = step, left / factor
        if abs(left - 1) < 1e-6:
            break
    planes, sink = graph.add("aformat", "sample_fmts=fltp"), graph.add("abuffersink")  # atempo works on packed samples
    last.link_to(planes)
    planes.link_to(sink)
    graph.configure()

    def ready() -> Blocks:
        while True:
            try:
                yield graph.pull().to_ndarray()
            except (av.error.BlockingIOError, av.error.EOFError):
                return

    at = 0
    for block in blocks:
        graph.push(audio_frame(block, rate, at))
        at += block.shape[1]
        yield from ready()
    graph.push(None)
    yield from ready()


def check_speed(speed: float):
    """Raise InputError for a speed that is not from 1/16 to 16."""
    if not 1 / 16 <= speed <= 16:
        raise InputError(f"A speed must be from 1/16 to 16, not {speed:g}.")
