"""python -m jaxgen capture: the motion of an actor in a clip."""

from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from jaxgen.core.errors import InputError, at_least
from jaxgen.core.progress import progress
from jaxgen.media import marks, output_files

Clip = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CLIP")]
With = Annotated[str, tyro.conf.arg(name="with", metavar="RUN|NAME")]
SIDE = 96  # pixels of each frame beside the figure, at least


def capture(clip: Clip, with_: With, out: Path | None = None, frames: int = 0, overwrite: bool = False):
    """Capture the motion of the person in a clip, and write it as a motion of a body of 27 joints, in metres.

    Frames are taken 25 times a second, or as often as the model was trained with, cropped to a square, and read in
    windows that overlap. `python -m jaxgen retarget` moves another character by the result.

    Args:
        clip: a video file, an animated GIF, WebP or PNG, or a folder of frames that show one person, whole
        with_: the folder of a run of train.motion such as of capture-lstm, or a file of weights that states its model
        out: the output file: a .bvh, a .glb for 3-D programs, a .npz, or a .gif or .mp4 of the frames beside the
            figure; unset: CLIP.bvh
        frames: the largest number of frames that are captured; unset: all
        overwrite: replace existing files
    """
    from jaxgen.core.types import averaged
    from jaxgen.data.transforms import clip_to_size
    from jaxgen.data.video_folder import open_clip
    from jaxgen.inference.motion_capture import captured_motion, capturer_of, windows
    from jaxgen.inference.opening import mark_of, open_trained, task_of
    from jaxgen.media.animation import check_animation, save_animation
    from jaxgen.media.motion_output import ENDINGS, save_motion

    at_least(0, frames=frames)
    transform = capturer_of(task_of(with_), with_)
    target = out or clip.with_name(f"{clip.stem}.bvh")
    output_files.check(target, ENDINGS, overwrite, given=[clip])
    moving = target.suffix.lower() in (".gif", ".mp4")
    if moving:
        check_animation(target, 25)
    file = open_clip(clip)
    opened = open_trained(with_)
    rate = transform.source.rate / opened.run.data.stride
    numbers = taken(file.index.times, rate)
    numbers = numbers[:frames] if frames else numbers
    if len(numbers) < 2:
        raise InputError(f"{clip} shows no motion: it lasts less than two frames of {1 / rate:.3g} s.")
    size, *shape = map(int, transform.source.shape)
    seen = clip_to_size(file.frames(numbers.tolist()), (shape[0], shape[1], shape[2]), "center")  # u8[t h w c]
    nets = averaged(opened.state, opened.frozen)
    with progress("capturing the motion", len(windows(max(len(seen), size), size))) as show:
        motion = captured_motion(transform, nets, seen, rate, show)
    mark = mark_of(marks.EDITED, with_, opened)
    with output_files.together():
        if moving:
            save_animation(target, beside(seen, motion), round(rate) or 1, mark)
        else:
            save_motion(target, motion, mark)
    print(f"{target}: {len(motion)} frames of {clip}, {rate:g} a second.")


def taken(times: np.ndarray, rate: float) -> np.ndarray:
    """Return the numbers of the frames that are shown at equal distances of 1 / rate seconds, i64[t]."""
    wanted = np.arange(int(np.floor((times[-1] - times[0]) * rate + 1e-6)) + 1) / rate + times[0]
    return np.searchsorted(times, wanted + 1e-6, "right") - 1


def beside(seen: np.ndarray, motion):
    """Yield each frame u8[t h w c] and the figure beside it, as the camera sees it, u8[h w 3]."""
    from jaxgen.media.image_grid import to_u8
    from jaxgen.media.skeletons import draw_motion

    times = max(-(-SIDE // seen.shape[1]), 1)
    figures = to_u8(draw_motion(motion, 0.0))  # [t h w 1]
    for frame, figure in zip(seen, figures, strict=True):
        large = frame.repeat(times, 0).repeat(times, 1)
        across = np.rint(np.linspace(0, len(figure) - 1, len(large))).astype(int)
        drawn = figure[across][:, across].repeat(3, 2)
        yield np.concatenate([np.broadcast_to(large, drawn.shape), drawn], 1)
