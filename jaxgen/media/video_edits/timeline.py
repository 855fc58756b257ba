"""Edits of time: clips joined with cross-fades, and the speed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.media.video_edits.footage import Footage, Frame, fitted
from jaxgen.media.video_edits.sound import check_speed, joined


def span(text: str, option: str) -> tuple[float, float | None]:
    """Return the times in seconds of "3:8", "3:" or ":8"; minutes are written as seconds. Raises InputError."""
    start, colon, end = text.partition(":")
    try:
        first, last = float(start or 0), float(end) if end else None
    except ValueError:
        colon, first, last = "", 0.0, None
    if not colon or not 0 <= first < float("inf") or (last is not None and not first < last < float("inf")):
        raise InputError(f"{option} takes two times in seconds, the earlier one first, such as 3:8, not {text!r}.")
    return first, last


def join(parts: Sequence[Footage], fade: float) -> Footage:
    """Return clips one after the other, each faded into the next over so many seconds.

    All have the size of the first, between black bars where their shape differs. Raises InputError for a fade that is
    longer than a clip.
    """
    whole, *rest = parts
    for number, part in enumerate(parts, 1):
        if fade and fade * min(2, len(parts) - 1) > part.seconds:  # one at each end
            raise InputError(f"--fade {fade:g} is too long: part {number} lasts {part.seconds:.3g} s.")
    for part in rest:
        sound = joined(whole.sound, whole.seconds, part.sound, fade)
        frames = _faded(whole, part, fade)
        count = whole.count + part.count - round(fade * part.rate)
        whole = Footage(frames, count, whole.seconds + part.seconds - fade, whole.size, sound)
    return whole


def _faded(first: Footage, second: Footage, fade: float) -> Iterator[Frame]:
    begin = first.seconds - fade  # of the second clip
    later = (Frame(begin + frame.time, fitted(frame.pixels, first.size)) for frame in second.frames)
    shown, coming = None, next(later)
    for frame in first.frames:
        if frame.time < begin - 1e-6:
            yield frame
            continue
        while coming is not None and coming.time <= frame.time + 1e-6:
            shown, coming = coming, next(later, None)
        if shown is None:
            yield frame
            continue
        share = np.float32(min(max((frame.time - begin) / fade, 0), 1))
        mixed = frame.pixels * (1 - share) + shown.pixels * share
        yield Frame(frame.time, np.rint(mixed).astype(np.uint8))
    if coming is not None:
        yield coming
    yield from later


def paced(footage: Footage, speed: float) -> Footage:
    """Return a clip at a speed: faster, with frames left out so that there are no more per second than before.

    Raises InputError for a speed that is not from 1/16 to 16.
    """
    check_speed(speed)
    step = max(speed, 1.0)  # of how many frames one is kept
    frames = _paced(footage.frames, speed, step / footage.rate / speed if step > 1 else 0.0)
    sound = footage.sound and footage.sound.faster(speed)
    return replace(
        footage, frames=frames, count=max(int(footage.count / step), 1), seconds=footage.seconds / speed, sound=sound
    )


def _paced(frames: Iterator[Frame], speed: float, step: float) -> Iterator[Frame]:
    """Yield frames at a speed; of those nearer than `step` seconds only the first."""
    due = 0.0
    for frame in frames:
        time = frame.time / speed
        if time >= due - 0.01 * step:
            yield Frame(time, frame.pixels)
            due = max(due + step, time)
