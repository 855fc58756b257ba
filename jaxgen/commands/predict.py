"""python -m jaxgen predict: the next frames of a clip."""

from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from jaxgen.commands.shared import Named
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.progress import progress
from jaxgen.core.ranges import Seed
from jaxgen.media import marks, output_files

Clip = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CLIP")]
ENDINGS = (".gif", ".mp4", ".npz")


def predict(
    run: Named,
    clip: Clip,
    frames: int = 0,
    at: float | None = None,
    stride: int = 0,
    out: Path | None = None,
    seed: Seed = 0,
    overwrite: bool = False,
):
    """Predict the next frames of a clip or a motion, and write them after the frames that they were predicted from.

    The frames have the model's size; the clip's are cropped to its shape. Where the clip goes on after --at, the true
    frames are shown beside the predicted ones. The PSNR is printed, beside that of repeating the last frame: of these
    frames, or of the clip's own last ones, which are predicted too. It warns where a repeated frame is better.

    Args:
        run: the folder of a run of train.video or train.motion, or a file of weights that states its model
        clip: a video file, an animated GIF, WebP or PNG, or a folder of frames; of motions a .bvh, a .npz, or a .txt
            or .json as `mocap:` reads them
        frames: number of predicted frames; unset: as many as the model predicts at once
        at: seconds of the clip after which frames are predicted; unset: its end
        stride: frames of the clip from one frame to the next; unset: that of the training
        out: the output file: a .gif, a .mp4, or a .npz ("past" u8[t h w c], "future", and "true" where there is one);
            of motions also a .bvh, a .glb for 3-D programs, and a .npz of places f32[t j 3]; unset:
            CLIP-predicted.gif
        seed: the random seed of a model with several answers
        overwrite: replace existing files
    """
    import jax

    from jaxgen.core.types import averaged
    from jaxgen.data.transforms import clip_to_size
    from jaxgen.data.video_files import slots
    from jaxgen.data.video_folder import open_clip
    from jaxgen.inference.opening import mark_of, open_trained, task_of
    from jaxgen.inference.video_prediction import continued, next_frames, predictor_of
    from jaxgen.media.animation import check_animation, save_animation
    from jaxgen.media.image_grid import grid, save_npz, to_u8

    transform = predictor_of(task_of(run), run)
    at_least(0, frames=frames, stride=stride, at=at)
    if transform.source.kind == "pose":
        from jaxgen.commands.predict_motion import predict_motion

        return predict_motion(run, transform, clip, frames, at, stride, out, overwrite)
    count, height, width, channels = map(int, transform.source.shape)
    frames = frames or int(transform.outputs[transform.main].shape[0])
    target = out or clip.with_name(f"{clip.stem}-predicted.gif")
    output_files.check(target, ENDINGS, overwrite, given=[clip])
    file = open_clip(clip)
    opened = open_trained(run)
    stride = stride or opened.run.data.stride
    steps, times = slots(file.index.times), file.index.times
    if at is not None and at >= times[-1]:
        raise InputError(f"The last frame of {clip} is at {times[-1]:.3g} s: --at must be before it, not {at:g}.")
    end = len(steps) if at is None else int(np.searchsorted(times[steps], at + 1e-6, "right"))
    first = end - 1 - (count - 1) * stride
    if first < 0:
        often = f" at a stride of {stride}" if stride > 1 else ""
        where = f"the first {at:g} s of {clip} have" if at is not None else f"{clip} has"
        raise InputError(f"The model needs {count} frames{often} to predict from, and {where} {end}.")
    true_steps = steps[end - 1 + stride : end + frames * stride : stride][:frames]
    rate = pace(times, stride)
    if target.suffix.lower() != ".npz":
        check_animation(target, rate)
    read = lambda numbers: clip_to_size(file.frames(numbers.tolist()), (height, width, channels), "center")  # noqa: E731
    past = read(steps[first:end:stride])  # u8[t h w c]
    true = read(true_steps) if len(true_steps) else past[:0]
    mark, made = mark_of(marks.EDITED, run, opened, seed if transform.stochastic else None), []
    nets, step = averaged(opened.state, opened.frozen), next_frames(transform)
    # Where the truth is not known, the last frames that are known are predicted from those before, too.
    known = steps[end - 1 :: -stride][::-1][-(count + min(frames, int(transform.outputs[transform.main].shape[0]))) :]
    known = read(known) if not len(true) and len(known) > count else past[:0]
    with progress("predicting frames", frames) as show:
        for frame in continued(step, nets, past / np.float32(127.5) - 1, frames, jax.random.key(seed)):
            made.append(frame)
            show(len(made))
        given, held = known[:count], known[count:]
        guess = list(continued(step, nets, given / np.float32(127.5) - 1, len(held), jax.random.key(seed)))
    future = to_u8(np.stack(made))  # [t' h w c]
    with output_files.together():
        if target.suffix.lower() == ".npz":
            save_npz(target, mark, past=past, future=future, **({"true": true} if len(true) else {}))
        else:
            rows = [future, true] if len(true) == frames else [future]  # the true frames beside the predicted ones
            shown = np.stack([np.concatenate([past, each]) for each in rows])  # [n t h w c]
            pixels = shown.astype(np.float32) / 127.5 - 1
            save_animation(target, (grid(pixels[:, t], len(pixels)) for t in range(pixels.shape[1])), rate, mark)
    print(f"{target}: {count} frames of {clip}, and {frames} that were predicted after them.")
    if len(true):
        print(compared(f"Beside the {len(true)} frames that the clip has there", future[: len(true)], true, past[-1:]))
    elif len(held):
        words = f"The clip's own last {len(held)} frames, predicted in the same way from those before"
        print(compared(words, to_u8(np.stack(guess)), held, given[-1:]))


def compared(what: str, made: np.ndarray, true: np.ndarray, last: np.ndarray) -> str:
    """Return what the PSNR of predicted frames u8[t h w c] is, and that of repeating the last one [1 h w c]."""
    ours, copied = (10 * np.log10(255**2 / max(np.square(x.astype(float) - true).mean(), 1e-10)) for x in (made, last))
    text = f"{what}: PSNR {ours:.4g} dB; {copied:.4g} dB where the last frame is repeated."
    if ours < copied:
        text += " The prediction is worse: this model does not know such clips. Train it on clips that are like them."
    return text


def pace(times: np.ndarray, stride: int) -> int:
    """Return the frames per second of what is written, at most 50 as a .gif has them."""
    step = float(np.median(np.diff(times))) * stride if len(times) > 1 else 0.1
    return int(np.clip(round(1 / max(step, 1e-3)), 1, 50))
