"""The image nets of this zoo applied to the frames of clips."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.inference import restoration, video_restoration
from jaxgen.inference.stylization import Stylist
from jaxgen.inference.tiled_restoration import restored_lines
from jaxgen.inference.tiled_stylization import stylized, tile_of
from jaxgen.media.marks import EDITED, Mark
from jaxgen.media.photo import check_made
from jaxgen.media.video_edits.footage import Frame, Stage, to_bytes, to_float

Change = Callable[[np.ndarray], np.ndarray]  # of a frame f32[h w 3] in [0, 1]
MEMORY = 2**29  # bytes of a whole frame that a stylist paints at once; larger ones are painted in tiles


@dataclass(frozen=True)
class FrameModel:
    """An image model that restores frames one by one."""

    model: restoration.Model
    tile: int

    @property
    def mark(self) -> Mark | None:
        return self.model.mark

    def restored(self, frame: np.ndarray) -> np.ndarray:
        """Return a frame f32[h w 3] in [0, 1], restored."""
        lines = restored_lines(self.model, frame * 2 - 1, {}, self.tile)
        return (np.concatenate(list(lines)) + 1) / 2

    def filled(self, frame: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        """Return a frame f32[h w 3] in [0, 1] whose hidden part, bool[h w], is filled in."""
        given = np.where(hidden[..., None], 0, frame * 2 - 1).astype(np.float32)
        mask = {"mask": hidden[..., None].astype(np.float32)}
        return (np.concatenate(list(restored_lines(self.model, given, mask, self.tile))) + 1) / 2


def frame_model(name: str, mask: bool = False, tile: int = 384) -> FrameModel:
    """Return a run, weights or an interpolation that restores single frames. Raises InputError for any other.

    mask: whether it has to fill in what a mask hides
    """
    model = checked(restoration.open_model(name, "", None), name, mask)
    return FrameModel(model, model.tile(tile))


def checked(model: restoration.Model, name: str, mask: bool) -> restoration.Model:
    """Return a model. Raises InputError where it can't restore single frames in colour, or fill in a mask."""
    if model.by:
        raise InputError(f"{name} learns each image for itself, which takes too long for a clip.")
    if model.transform.source.kind != "image":
        raise InputError(f"{name} restores clips, not single frames: name another model.")
    needs = set(model.transform.inputs) - {"degraded"}
    if needs != ({"mask"} if mask else set()):
        what = "fills in nothing" if mask else f"also needs {', '.join(sorted(needs))}"
        raise InputError(f"{name} {what}: name another model.")
    if 3 not in model.transform.source.sizes(-1):
        raise InputError(f"{name} restores grey images only.")
    return model


def restoring(
    model: restoration.Model,
    tile: int = video_restoration.TILE,
    overlap: int = video_restoration.OVERLAP,
    seed: int = 0,
    conditioning: Mapping[str, Any] = {},
    check: Callable[[float], object] | None = None,
) -> Stage:
    """Return the stage that restores frames by a model of videos, or one by one by a model of images.

    The arguments are those of `video_restoration.restored_frames`.
    """
    (channels, *more) = model.transform.source.sizes(-1)
    if (channels, *more) == (1,):
        raise InputError(f"{model.name} restores grey images only.")

    def stage(frames: Iterator[Frame]) -> Iterator[Frame]:
        times: deque[float] = deque()

        def given() -> Iterator[np.ndarray]:
            for frame in frames:
                times.append(frame.time)
                yield to_float(frame.pixels) * 2 - 1

        found = video_restoration.restored_frames(
            model, given(), tile, overlap, seed=seed, conditioning=conditioning, check=check
        )
        for made in found:
            yield Frame(times.popleft(), to_bytes((made + 1) / 2))

    return stage


def enlarger(name: str, scale: int, size: tuple[int, int]) -> tuple[Stage, Mark | None]:
    """Return the stage that enlarges frames, and its mark. Raises InputError where the model can't.

    name: of a model of videos (preset basicvsr), or of images
    """
    check_made("The clip", size[0] * scale, size[1] * scale)
    model = restoration.open_model(name, "", float(scale))
    if model.transform.source.kind != "video":
        one = checked(model, name, False)
        return restoring(one, one.tile(384)), one.mark
    return restoring(model), model.mark


def painted(stylist: Stylist, colours: str = "style") -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that paints a frame u8[h w 3]."""

    def paint(pixels: np.ndarray) -> np.ndarray:
        content = to_float(pixels) * 2 - 1
        made = stylized(stylist, content, None, colours, tile_of(stylist, content, MEMORY))
        return to_bytes((made + 1) / 2)

    return paint


def mark_of(found: list[Mark | None]) -> Mark | None:
    """Return one mark of the work of several nets; None where no net had a part."""
    marks: list[Any] = [mark for mark in found if mark is not None]
    if not marks:
        return None
    join = lambda name: ", ".join(dict.fromkeys(filter(None, (getattr(mark, name) for mark in marks))))  # noqa: E731
    return Mark(EDITED, join("preset"), join("weights"))
