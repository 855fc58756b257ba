"""Footage written as a video file, frame by frame, with its sound."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.data.video_files import opened
from jaxgen.media import output_files
from jaxgen.media.animation import ENCODINGS, Encoding, begin_stream, check_animation, to_video_frame
from jaxgen.media.marks import Mark, marked
from jaxgen.media.video_edits.footage import Footage, Frame
from jaxgen.media.video_edits.sound import Samples, Sound, audio_frame, start_of

SUFFIXES = tuple(ENCODINGS)
CLOCK = 90_000  # ticks per second of time stamps: whole numbers at 24, 25, 30, 50, 60 and 30000/1001 frames per second
SOUND = {  # the encoder, and the codecs that a container takes as they are
    ".mp4": ("aac", ("aac", "mp3", "mp3float", "ac3", "alac")),
    ".webm": ("libopus", ("opus", "libopus", "vorbis")),
    ".mkv": ("flac", ("aac", "mp3", "mp3float", "ac3", "alac", "opus", "libopus", "vorbis", "flac", "pcm_s16le")),
}
OPUS = (8000, 12000, 16000, 24000, 48000)  # the sample rates of Opus


def check(path: Path, overwrite: bool, given: list[Path]):
    """Raise InputError if a video can't be written there."""
    if find_spec("av") is None:
        raise InputError("Editing videos needs PyAV: pip install 'jaxgen[video]'.")
    output_files.check(path, SUFFIXES, overwrite, given=given)
    check_animation(path, 25)


def write(
    path: Path, footage: Footage, mark: Mark | None, show: Callable[[int], Any] = lambda done: None, own: bytes = b""
) -> int:
    """Write footage, with a mark, and return the number of its frames.

    show: called with the number of frames that are done
    own:  the XMP packet of the file that it is made of
    Nothing is left under the file's name unless all of it was written.
    """
    with marked(path, mark, own or None) as part, writer(part, path.suffix.lower(), footage.sound, footage.rate) as add:
        done = 0
        for done, frame in enumerate(footage.frames, 1):
            add(frame, None)
            show(done)
        add(None, footage.seconds)
    return done


Add = Callable[[Frame | None, float | None], None]


@contextmanager
def writer(part: Path, suffix: str, sound: Sound | None, rate: float) -> Iterator[Add]:
    """Yield the function that adds a frame to a file; the last call is (None, the clip's length in seconds)."""
    import av

    how = ENCODINGS[suffix]
    with av.open(str(part), "w", format=how.container) as file:
        tracks: list[Any] = []
        waiting: list[Frame] = []  # a frame is written once the next one says how long it is shown

        def begin(pixels: np.ndarray):
            height, width = (-(-side // how.multiple) * how.multiple for side in pixels.shape[:2])
            hint = Fraction(rate).limit_denominator(1001)
            stream: Any = file.add_stream(how.codec, rate=hint, options=how.options)
            begin_stream(stream, height, width, how)
            stream.codec_context.time_base = Fraction(1, CLOCK)
            tracks.extend(
                [stream, _Copied(file, sound, suffix) if _copies(sound, suffix) else _Encoded(file, sound, suffix)]
            )

        def put(frame: Frame, until: float):
            if not tracks:
                begin(frame.pixels)
            stream, track = tracks
            made = _encoded(frame.pixels, stream, how)
            made.pts, made.time_base = round(frame.time * CLOCK), Fraction(1, CLOCK)
            made.duration = max(round(until * CLOCK) - made.pts, 1)
            file.mux(stream.encode(made))
            track.write(until)

        def add(frame: Frame | None, end: float | None):
            if waiting:
                put(waiting[0], frame.time if frame else max(end or 0, waiting[0].time + 1 / rate / 2))
                waiting.clear()
            if frame is not None:
                waiting.append(frame)
            else:
                assert tracks, "a clip has frames"
                file.mux(tracks[0].encode())
                tracks[1].end()

        yield add


def _encoded(pixels: np.ndarray, stream: Any, how: Encoding) -> Any:
    """Return FFmpeg's frame of u8[h w 3]; its last line is repeated where the sides must be even."""
    more = stream.height - pixels.shape[0], stream.width - pixels.shape[1]
    grown = np.pad(pixels, ((0, more[0]), (0, more[1]), (0, 0)), "edge") if any(more) else pixels
    return to_video_frame(grown, how)


def _copies(sound: Sound | None, suffix: str) -> bool:
    return sound is not None and sound.file is not None and sound.codec in SOUND[suffix][1]


class _Copied:
    """The sound of a file that was not changed: its packets, as they are."""

    def __init__(self, file: Any, sound: Sound | None, suffix: str):
        del suffix
        assert sound is not None and sound.file is not None
        self.file, self.context = file, opened(sound.file)
        source, _ = self.context.__enter__()
        self.stream = file.add_stream_from_template(source.streams.audio[0])
        self.begin, self.packets = start_of(source), source.demux(source.streams.audio[0])
        self.next: Any = None

    def write(self, until: float):
        while self.next is not None or (packet := self._packet()) is not None:
            packet = self.next if self.next is not None else packet
            if packet.pts is not None and float(packet.pts * packet.time_base) >= until:
                self.next = packet
                return
            self.next = None
            packet.stream = self.stream
            self.file.mux(packet)

    def _packet(self) -> Any:
        import av.error

        while True:
            try:
                packet = next(self.packets)
            except (StopIteration, av.error.FFmpegError):
                return None
            if packet.dts is None or packet.pts is None or not packet.size:
                continue
            shift = round(self.begin / float(packet.time_base))
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            if float((packet.pts + (packet.duration or 0)) * packet.time_base) > -0.1:  # a codec's first, silent one
                return packet

    def end(self):
        self.write(float("inf"))
        self.context.__exit__(None, None, None)


class _Encoded:
    """A sound that was changed, or that the container can't hold as it is; or none."""

    def __init__(self, file: Any, sound: Sound | None, suffix: str):
        self.file, self.sound, self.done, self.stream = file, sound, 0, None
        if sound is None:
            return
        codec = SOUND[suffix][0]
        self.rate = next((rate for rate in OPUS if rate >= sound.rate), OPUS[-1]) if codec == "libopus" else sound.rate
        layout = "mono" if sound.channels == 1 else "stereo"
        self.stream = file.add_stream(codec, rate=self.rate, layout=layout)
        if codec != "flac":
            self.stream.codec_context.bit_rate = 96_000 * sound.channels
        self.stream.codec_context.time_base = Fraction(1, self.rate)
        self.samples = Samples(sound.blocks, sound.channels)

    def write(self, until: float):
        """Write the sound up to a time in seconds."""
        if self.sound is None:
            return
        block = self.samples.take(round(until * self.sound.rate) - self.done) if until < np.inf else self.rest()
        if block.shape[1]:
            self._mux(audio_frame(np.clip(block, -1, 1), self.sound.rate, self.done))
            self.done += block.shape[1]

    def rest(self) -> np.ndarray:
        """Return up to a second beyond the last frame: sound is often a little longer."""
        assert self.sound is not None
        return self.samples.take(self.sound.rate)

    def _mux(self, frame: Any):
        assert self.stream is not None and self.sound is not None
        if frame is not None:
            frame.time_base = Fraction(1, self.sound.rate)
        self.file.mux(self.stream.encode(frame))

    def end(self):
        if self.stream is not None:
            self.write(np.inf)
            self._mux(None)
