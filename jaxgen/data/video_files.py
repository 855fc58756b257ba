"""One clip of a video file: an index of its frames, and exact random access to them.

A file is decoded once, from start to end, one frame in memory at a time. Its index (the time of each frame and the key
frames) is kept in the cache folder. A frame is then found from the nearest key frame before it. Sound is ignored.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxgen.core.cache import cache_folder
from jaxgen.core.errors import InputError
from jaxgen.core.whole_file import replacing
from jaxgen.data.arrays import first_line

SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".ogv"}
    | {".3gp", ".mxf", ".ivf", ".h264", ".hevc", ".y4m"}
)
# FFmpeg reads more formats, but some of them name other files and addresses, which would be opened.
DEMUXERS = "mov,matroska,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg,mxf,ivf,h264,hevc,yuv4mpegpipe"
ALPHA = ("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya8", "ya16")  # parts of the names of FFmpeg's pixel formats
VERSION = 1  # of the index
HD = 720  # lines from which on a clip that does not say its colours has those of BT.709, as most programs take it
YUV, UNSAID, BT709 = ("yuv", "nv", "p0"), 2, "ITU709"  # beginnings of formats' names; FFmpeg's number; PyAV's name
FEW, FAR = 64, 16  # frames: so few are decoded by one thread; so many are skipped by another seek
EQUAL = 0.01  # intervals that differ by no more than this part, or by the rounding of times, are of one rate


class Unreadable(ValueError):
    """The reason why a clip can't be used, as a part of a sentence."""


@dataclass(frozen=True)
class Index:
    """The frames of a clip in the order in which they are shown.

    stamps: the file's own time stamps i64[n], strictly rising; None: it has none, and is always read from its start
    keys:   the numbers of the key frames i64[k]
    times:  in seconds, from the first frame f64[n]
    size:   height and width of the frames as they are shown: upright, with square pixels
    turns:  quarter turns, anticlockwise, that put the stored frames upright
    fault:  why the rest of the file can't be used; "" for a whole file
    """

    stamps: np.ndarray | None
    keys: np.ndarray
    times: np.ndarray
    size: tuple[int, int]
    turns: int = 0
    fault: str = ""


@dataclass(frozen=True)
class VideoFile:
    """A clip that FFmpeg reads."""

    path: Path
    index: Index = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> "VideoFile":
        """Return a clip with its index, read from the cache or made. Raises Unreadable and OSError."""
        store = _store(path)
        index = _load(store)
        if index is None:
            index = make_index(path)
            _save(store, index)
        return cls(path, index)

    def __len__(self) -> int:
        return len(self.index.times)

    def frames(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield the frames u8[h w c] of rising numbers, equal to those of a decoding from the start.

        c is 3, 1 for a grey clip, or 4 with alpha. One frame is in memory at a time. Raises Unreadable.
        """
        at = 0
        while at < len(numbers):
            key = self._key(numbers[at])
            while True:
                done = yield from self._run(numbers, at, key)
                if done > at:
                    break
                if key < 0:
                    raise Unreadable(f"frame {numbers[at]} can no longer be read")
                key = min(key // 2, key - 1)  # the seek was not exact: from further ahead, at last from the start
            at = done

    def _key(self, number: int) -> int:
        """Return which key frame is the last one up to a frame; -1 for the file's start, which needs no seek."""
        key = int(np.searchsorted(self.index.keys, number, "right")) - 1
        return -1 if self.index.stamps is None or key < 0 or not self.index.keys[key] else key

    def _run(self, numbers: Sequence[int], at: int, key: int) -> Generator[np.ndarray, None, int]:
        """Yield frames from numbers[at] on, decoded from a key frame (-1: the start). Return how many are done in all.

        It stops before a frame that a later key frame is nearer to.
        """
        with opened(self.path) as (file, stream):
            if numbers[-1] - numbers[at] < FEW:  # the loader has threads of its own
                stream.thread_type = "NONE"
            if self.index.stamps is not None and key >= 0:
                start = int(self.index.stamps[self.index.keys[key]])
                file.seek(start, stream=stream, backward=True, any_frame=False)
            return (yield from self._decoded(file, stream, numbers, at, key))

    def _decoded(
        self, file: Any, stream: Any, numbers: Sequence[int], at: int, key: int
    ) -> Generator[np.ndarray, None, int]:
        stamps, number = self.index.stamps, -1
        first = int(self.index.keys[key]) if key >= 0 else 0
        for frame in decoded(file, stream, strict=False):
            if stamps is None or key < 0:
                number += 1
            else:
                number = -1 if frame.pts is None else int(np.searchsorted(stamps, frame.pts))
                if number < 0 or number >= len(stamps) or stamps[number] != frame.pts or number > numbers[at]:
                    return at
                if number < first:  # before the key frame, and perhaps without the frames it depends on
                    continue
            while number == numbers[at]:
                yield self.pixels(frame)
                at += 1
                if at == len(numbers):
                    return at
                if self._key(numbers[at]) > self._key(number) and numbers[at] - number > FAR:
                    return at
            if number > numbers[at]:
                return at
        return at

    def pixels(self, frame: Any) -> np.ndarray:
        """Return the pixels u8[h w c] of a frame, upright and square."""
        return pixels(frame, self.index.size, self.index.turns)


def pixels(frame: Any, size: tuple[int, int], turns: int) -> np.ndarray:
    """Return a frame of FFmpeg as u8[h w c], at a size, after quarter turns anticlockwise."""
    height, width = size if turns % 2 == 0 else size[::-1]
    name = frame.format.name
    clear = any(each in name for each in ALPHA)
    form = "rgba" if clear else "gray" if name.startswith("gray") else "rgb24"
    hd = frame.height >= HD and frame.colorspace == UNSAID and name.startswith(YUV)
    space = BT709 if hd else None  # None: what the frame says, and BT.601 where it says nothing
    values = frame.reformat(width, height, form, src_colorspace=space, interpolation="BICUBIC").to_ndarray()
    values = values[..., None] if values.ndim == 2 else values
    return np.ascontiguousarray(np.rot90(values, turns)) if turns else values


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Yield FFmpeg's container and its video stream. Raises Unreadable, and OSError for a file that isn't there."""
    if find_spec("av") is None:
        raise InputError("Reading videos needs PyAV: pip install 'jaxgen[video]', or use GIFs or folders of frames.")
    import av.error

    if not path.stat().st_size:
        raise Unreadable("the file is empty")
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    try:
        file = av.open(f"file:{path}", options=options)
    except (av.error.FFmpegError, ValueError, UnicodeError) as error:
        hint = ", or its end is missing" if path.suffix.lower() in (".mp4", ".mov", ".m4v", ".3gp") else ""
        raise Unreadable(f"its content is no video that FFmpeg reads{hint}") from error
    with file:
        if not file.streams.video:
            raise Unreadable("it has no video stream")
        stream = file.streams.video[0]
        if stream.codec_context is None:
            raise Unreadable("FFmpeg has no decoder for its video")
        stream.thread_type = "AUTO"
        limit, pixels = Image.MAX_IMAGE_PIXELS, stream.codec_context.width * stream.codec_context.height
        if limit and pixels > limit:
            raise Unreadable(f"its frames have more than {limit:,} pixels, and only a larger --max-pixels allows them")
        yield file, stream


def decoded(file: Any, stream: Any, strict: bool = True) -> Iterator[Any]:
    """Yield the frames of a video stream up to its end or its first fault, which raises Unreadable if `strict`."""
    packets, fault = 0, ""
    for packet in _packets(file, stream):
        if isinstance(packet, str) or (packet.is_corrupt and packet.size):
            fault = packet if isinstance(packet, str) else "it is cut short"
            break
        packets += bool(packet.size)
        frames, fault = _of_packet(packet.decode)
        for frame in frames:
            if frame.is_corrupt:
                fault = "the next one is damaged"
                break
            yield frame
        if fault:
            break
    if fault:  # whole frames may still be in the decoder
        frames, _ = _of_packet(stream.codec_context.decode)
        for frame in frames:
            if frame.is_corrupt:
                break
            yield frame
    elif stream.frames > packets:
        fault = f"{packets:,} of {stream.frames:,} frames are there"
    if strict and fault:
        raise Unreadable(fault)


def _packets(file: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets of a stream, at last the reason why the next one can't be read."""
    import av.error

    try:
        yield from file.demux(stream)
    except (av.error.FFmpegError, ValueError) as error:
        yield f"FFmpeg says: {first_line(error)}"


def _of_packet(decode: Callable[[], Iterable[Any]]) -> tuple[list[Any], str]:
    """Return the frames that a decoder gives, and the reason why it gives no more; "" for none."""
    import av.error

    try:
        return list(decode()), ""
    except (av.error.FFmpegError, ValueError) as error:
        return [], f"FFmpeg says: {first_line(error)}"


def make_index(path: Path) -> Index:
    """Return the index of a file by decoding it. Raises Unreadable if it has no frame, and OSError."""
    stamps, keys, fault, first = [], [], "", None
    with opened(path) as (file, stream):
        rate, base = float(stream.average_rate or stream.guessed_rate or 25), stream.time_base
        ratio, declared = stream.sample_aspect_ratio, _declared(file, stream)
        try:
            for frame in decoded(file, stream):
                if first is None:
                    first = (frame.height, frame.width, round(frame.rotation / 90) % 4)
                if frame.key_frame:
                    keys.append(len(stamps))
                stamps.append(frame.pts)
        except Unreadable as error:
            fault = str(error)
    if first is None:
        raise Unreadable(fault or "it has no frames")
    height, width, turns = first
    if ratio and ratio > 0:
        width = max(round(width * ratio), 1)
    known = all(stamp is not None for stamp in stamps)
    marks = np.asarray(stamps if known else range(len(stamps)), np.int64)
    if not known or not base or (np.diff(marks) <= 0).any():
        times, marks = np.arange(len(stamps)) / rate, None
    else:
        times = (marks - marks[0]) * float(base)
    size = (height, width) if turns % 2 == 0 else (width, height)
    if not fault and len(times) > 1 and times[-1] + 2 * (times[-1] / (len(times) - 1)) < declared:
        fault = f"it ends after {times[-1]:.2f} of {declared:.2f} s"
    return Index(marks, np.asarray(keys, np.int64), times, size, turns, fault)


def _declared(file: Any, stream: Any) -> float:
    """Return how long a Matroska file says its video is, in seconds, or 0. A cut ends it without a fault."""
    if "matroska" not in file.format.name:
        return 0.0
    tag = stream.metadata.get("DURATION", "")  # 00:00:01.600000000
    if tag.count(":") == 2:
        with contextlib.suppress(ValueError):
            hours, minutes, seconds = map(float, tag.split(":"))
            return 3600 * hours + 60 * minutes + seconds - float((stream.start_time or 0) * stream.time_base)
    return (file.duration or 0) / 1e6 if len(file.streams) == 1 else 0.0


def slots(times: np.ndarray) -> np.ndarray:
    """Return which frame is shown at each step of a clip's rate, i64[k].

    For a steady rate each frame, 0 ... n - 1. Otherwise the step is the median interval, and a frame that lasts longer
    is shown at several steps.
    """
    intervals = np.diff(times)
    if not len(intervals):
        return np.arange(len(times))
    step = float(np.median(intervals))
    if step <= 0 or np.abs(intervals - step).max() <= max(EQUAL * step, 0.0011):
        return np.arange(len(times))
    grid = np.arange(int(times[-1] / step + 1e-6) + 1) * step
    return np.searchsorted(times, grid + 1e-3 * step, "right") - 1


def _store(path: Path) -> Path:
    import importlib.metadata

    found = path.stat()
    reader = importlib.metadata.version("av") if find_spec("av") else ""
    key = json.dumps([VERSION, reader, str(path.resolve()), found.st_size, found.st_mtime_ns])
    return cache_folder() / "video" / f"{hashlib.sha256(os.fsencode(key)).hexdigest()[:24]}.npz"


def _load(store: Path) -> Index | None:
    try:
        with store.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            about = json.loads(str(saved["about"]))
            stamps = saved["stamps"] if about["stamps"] else None
            return Index(stamps, saved["keys"], saved["times"], tuple(about["size"]), about["turns"], about["fault"])
    except Exception:  # not there, or damaged: it is made again
        return None


def _save(store: Path, index: Index):
    about = {"stamps": index.stamps is not None, "size": index.size, "turns": index.turns, "fault": index.fault}
    stamps = index.times[:0] if index.stamps is None else index.stamps
    with contextlib.suppress(OSError):  # without a cache folder, the next start decodes the file again
        store.parent.mkdir(parents=True, exist_ok=True)
        with replacing(store) as part, part.open("wb") as file:
            np.savez(file, about=json.dumps(about), stamps=stamps, keys=index.keys, times=index.times)
