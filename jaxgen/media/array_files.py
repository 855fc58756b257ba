"""Arrays written to files by their kind: image grids, animations, sound, skeletons, text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.core.spec import ArraySpec
from jaxgen.data.motion_clips import format_of
from jaxgen.media.animation import ANIMATIONS, check_animation, save_animation, strip
from jaxgen.media.audio import save_wav, spectrograms
from jaxgen.media.image_grid import grid, save_npz, save_png, to_u8
from jaxgen.media.marks import Mark, marked
from jaxgen.media.motion_output import save_motion
from jaxgen.media.skeletons import draw_spec

RATE = {"video": 10.0, "audio": 16_000.0, "pose": 10.0}  # per second, for a spec without a rate


def save_arrays(path: Path, spec: ArraySpec, arrays: np.ndarray, mark: Mark | None, columns: int = 0, rows: int = 0):
    """Write arrays [n ...] of a kind to one file, with a mark. Its suffix must be in SUFFIXES[spec.kind].

    Of videos and poses a .png holds strips: the frames of each in a row. Of sounds it holds their spectrograms.

    columns, rows: the layout of a grid of images, videos, poses or spectrograms; 0: as square as possible
    """
    if path.suffix.lower() in alone(spec):
        (one,) = arrays
        return save_motion(path, format_of(spec).decode(one), mark)
    _SAVE[spec.kind][1](path, spec, arrays, mark, columns, rows)


def alone(spec: ArraySpec) -> tuple[str, ...]:
    """Return the suffixes of files that hold one example of a spec, as a motion."""
    return (".bvh", ".glb") if spec.offsets else ()


def check_arrays(path: Path, spec: ArraySpec):
    """Raise InputError if `save_arrays` can't write a file of this type for want of an encoder."""
    if spec.kind in MOVING and path.suffix.lower() not in (".png", *alone(spec)):
        check_animation(path, min(_rate(spec), 50))


def still(spec: ArraySpec, arrays: np.ndarray, columns: int = 0, rows: int = 0) -> np.ndarray | None:
    """Return a grid u8[h w] or u8[h w 3] of arrays [n ...]; videos and poses are shown by their first frames, sounds
    by their spectrograms.

    None for a kind that can't be drawn.
    """
    if spec.kind == "image":
        return grid(arrays, columns, rows)
    if spec.kind == "audio":
        return grid(spectrograms(arrays, _rate(spec)), columns, rows)
    frames = _frames(spec, arrays, columns, rows)
    return next(iter(frames)) if frames is not None else None


def strips(spec: ArraySpec, arrays: np.ndarray) -> np.ndarray:
    """Return one image u8[h w] or u8[h w 3] of videos or poses [n t ...]: a row for each, its frames from the left."""
    drawn = arrays if spec.kind == "video" else draw_spec(spec, arrays)  # [n t h w c]
    rows = [strip(list(frames)) for frames in to_u8(drawn[..., :1] if drawn.shape[-1] == 2 else drawn[..., :3])]
    whole = strip([row.swapaxes(0, 1) for row in rows]).swapaxes(0, 1)  # [h w c]
    return whole[..., 0] if whole.shape[2] == 1 else whole


def stored(spec: ArraySpec, arrays: np.ndarray) -> np.ndarray:
    """Return arrays as a .npz stores them: images and videos as u8, other kinds unchanged."""
    return to_u8(arrays) if spec.kind in ("image", "video") else np.asarray(arrays)


def _frames(spec: ArraySpec, arrays: np.ndarray, columns: int, rows: int) -> list[np.ndarray] | None:
    """Return the frames u8[h w] or u8[h w 3] of an animated grid; None for a kind without frames."""
    if spec.kind == "video":  # [n t h w c]
        return [grid(arrays[:, t], columns, rows) for t in range(arrays.shape[1])]
    if spec.kind == "pose":  # [n t j d] -> [n t h w 1]
        drawn = draw_spec(spec, arrays)
        return [grid(drawn[:, t], columns, rows) for t in range(drawn.shape[1])]
    return None


def _rate(spec: ArraySpec) -> int:
    return max(round(spec.rate or RATE[spec.kind]), 1)


def _images(path: Path, spec: ArraySpec, arrays: np.ndarray, mark: Mark | None, columns: int, rows: int):
    save_png(path, grid(arrays, columns, rows), mark)


def _moving(path: Path, spec: ArraySpec, arrays: np.ndarray, mark: Mark | None, columns: int, rows: int):
    if path.suffix.lower() == ".png":
        save_png(path, strips(spec, arrays), mark)
    else:
        save_animation(path, _frames(spec, arrays, columns, rows) or [], min(_rate(spec), 50), mark)


def _sound(path: Path, spec: ArraySpec, arrays: np.ndarray, mark: Mark | None, columns: int, rows: int):
    if path.suffix.lower() == ".png":
        save_png(path, grid(spectrograms(arrays, _rate(spec)), columns, rows), mark)
    else:
        save_wav(path, arrays, _rate(spec), mark)


def _text(path: Path, spec: ArraySpec, arrays: np.ndarray, mark: Mark | None, columns: int, rows: int):
    lines = [" ".join(map(str, np.ravel(row))) for row in np.asarray(arrays)]
    with marked(path, mark) as part:
        part.write_text("\n".join(lines) + "\n")


def _numbers(path: Path, spec: ArraySpec, arrays: np.ndarray, mark: Mark | None, columns: int, rows: int):
    save_npz(path, mark, **{spec.kind: np.asarray(arrays)})


_SAVE: dict[str, tuple[str, Callable[..., Any]]] = {
    "image": (".png", _images),
    "video": (".gif", _moving),
    "audio": (".wav", _sound),
    "pose": (".gif", _moving),
    "tokens": (".txt", _text),
    "label": (".txt", _text),
    "camera": (".npz", _numbers),
}
MOVING = ("video", "pose")
SUFFIXES: dict[str, tuple[str, ...]] = {
    kind: (*ANIMATIONS, ".png") if kind in MOVING else (ending,) for kind, (ending, _) in _SAVE.items()
}
SUFFIXES["audio"] = (".wav", ".png")
SHOWN_BY = {"audio": ".png"}  # written beside previews that are no images themselves
ENDINGS = {kind: ending for kind, (ending, _) in _SAVE.items()}
