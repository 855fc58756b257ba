"""Restoration of clips of any length: windows of frames one after the other, each of them in tiles."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.inference.restoration import Model
from jaxgen.inference.tiled_restoration import restored_lines
from jaxgen.media import tiling

WINDOW, CONTEXT = 30, 4  # frames that a model of videos sees at once, and those of them at each end that only help
TILE, OVERLAP = 192, 32  # pixels


def restored_frames(
    model: Model,
    frames: Iterable[np.ndarray],
    tile: int = TILE,
    overlap: int = OVERLAP,
    window: int = WINDOW,
    context: int = CONTEXT,
    seed: int = 0,
    conditioning: Mapping[str, Any] = {},
    check: Callable[[float], object] | None = None,
) -> Iterator[np.ndarray]:
    """Yield the restored frames f32[H W c] of a clip, frames f32[h w c] in [-1, 1] of one size.

    A model of videos gets windows of frames; a model of images gets each frame alone. No more than a window is in
    memory, whatever the length of the clip.

    tile, overlap: the sides of tiles in pixels, and of what neighbours share; tile 0: whole frames
    window:        frames that are restored at once
    context:       frames at each end of a window that are restored again in the next one
    seed:          of a model with several answers
    conditioning:  what a model of images takes beside each frame
    check:         called with the bytes that a tile needs, before it is begun
    Raises InputError for frames of several sizes, for none, and for colour where the model takes grey frames only.
    """
    if model.transform.source.kind != "video":
        for number, frame in enumerate(frames):
            lines = restored_lines(model, frame, conditioning, tile, overlap, seed=seed, number=number, check=check)
            yield np.concatenate(list(lines))
        return
    if not 0 <= 2 * context < window:
        raise InputError(f"A window of {window} frames must be longer than its context of {context} at both ends.")

    def restore(clip: np.ndarray) -> np.ndarray:
        return restored_clip(model, clip, tile, overlap, seed, check)

    yield from in_windows(restore, frames, window, context)


def in_windows(
    restore: Callable[[np.ndarray], np.ndarray], frames: Iterable[np.ndarray], window: int, context: int
) -> Iterator[np.ndarray]:
    """Yield restore(clip [t ...]) of windows of frames, of each window the frames that no earlier one has given.

    All windows have the same number of frames, so that one program serves them: the last one reaches back.
    """
    recent: deque[np.ndarray] = deque(maxlen=window)
    first = given = 0  # the number of the first recent frame, and of frames that are given
    for frame in frames:
        if len(recent) == window:
            if first == max(given - context, 0):
                yield from restore(np.stack(recent))[given - first : window - context]
                given = first + window - context
            first += 1
        if recent and frame.shape != recent[0].shape:
            sizes = ("x".join(map(str, x.shape)) for x in (recent[0], frame))
            raise InputError("The frames of a clip must have one size, not {} and {}.".format(*sizes))
        recent.append(frame)
    if not recent:
        raise InputError("The clip has no frames.")
    yield from restore(np.stack(recent))[given - first :]


def restored_clip(
    model: Model,
    clip: np.ndarray,
    tile: int,
    overlap: int,
    seed: int = 0,
    check: Callable[[float], object] | None = None,
) -> np.ndarray:
    """Return a clip f32[t h w c] restored by a model of videos at once, f32[t H W c]. Grey frames stay grey."""
    source = model.transform.source
    grey = clip.shape[-1] == 1 and source.sizes(-1)[0] == 3
    clip = np.repeat(clip, 3, -1) if grey else clip
    if clip.shape[-1] not in source.sizes(-1):
        raise InputError(f"{model.name} restores frames of {source.sizes(-1)[0]} channels, not of {clip.shape[-1]}.")
    count, channels = len(clip), clip.shape[-1]

    def as_image(x: np.ndarray) -> np.ndarray:  # [t h w c] -> [h w t*c]
        return np.moveaxis(x, 0, 2).reshape(*x.shape[1:3], -1)

    def as_clip(x: np.ndarray) -> np.ndarray:
        return np.moveaxis(x.reshape(*x.shape[:2], count, channels), 2, 0)

    def restore_tile(part: np.ndarray, place: tuple[slice, slice]) -> np.ndarray:
        del place
        return as_image(model.padded({"degraded": as_clip(part)}, seed, 0, check))

    lines = tiling.rows(as_image(clip), restore_tile, model.scale, model.tile(tile), overlap, source.multiple)
    made = as_clip(np.concatenate(list(lines)))
    return made.mean(-1, keepdims=True) if grey else made
