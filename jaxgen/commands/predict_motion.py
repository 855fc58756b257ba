"""The part of `predict` for motions: the next poses of a take."""

from pathlib import Path

import numpy as np

from jaxgen.core.capabilities import Transform
from jaxgen.core.errors import InputError
from jaxgen.core.progress import progress
from jaxgen.media import marks, output_files


def predict_motion(
    run: str,
    transform: Transform,
    take: Path,
    frames: int,
    at: float | None,
    stride: int,
    out: Path | None,
    write: bool,
):
    """Predict the next poses of a take, and write them after those that they were predicted from."""
    import jax

    from jaxgen.core.types import averaged
    from jaxgen.data import bvh
    from jaxgen.data.mocap import check_joints
    from jaxgen.data.motion_files import open_motion
    from jaxgen.inference.motion_prediction import continued_motion
    from jaxgen.inference.opening import mark_of, open_trained
    from jaxgen.inference.video_prediction import continued, next_frames
    from jaxgen.media.array_files import check_arrays, save_arrays
    from jaxgen.media.image_grid import save_npz
    from jaxgen.media.motion_output import ENDINGS, save_motion

    past, future = transform.source, transform.outputs[transform.main]
    count, frames = int(past.shape[0]), frames or int(future.shape[0])
    target = out or take.with_name(f"{take.stem}-predicted.gif")
    output_files.check(target, ENDINGS, write, given=[take])
    motion = open_motion(take)
    check_joints(motion, transform.inputs, str(take))
    opened = open_trained(run)
    stride = stride or opened.run.data.stride
    end = len(motion) if at is None else int(at * motion.rate + 1e-6) + 1
    if at is not None and end >= len(motion):
        last = (len(motion) - 1) / motion.rate
        raise InputError(f"The last frame of {take} is at {last:.3g} s: --at must be before it, not {at:g}.")
    first = end - 1 - (count - 1) * stride
    if first < 0:
        often = f" at a stride of {stride}" if stride > 1 else ""
        raise InputError(f"The model needs {count} frames{often} to predict from, and {take} has {end}.")
    if target.suffix.lower() in (".gif", ".mp4"):
        check_arrays(target, past)
    given = motion.part(first, end, stride)
    joints = list(motion.skeleton.moving)
    known = given.places_of_body()[:, joints].astype(np.float32)
    true = motion.part(end - 1 + stride, end + frames * stride, stride) if end - 1 + stride < len(motion) else None
    made = []
    with progress("predicting frames", frames) as show:
        step, nets = next_frames(transform), averaged(opened.state, opened.frozen)
        for frame in continued(step, nets, known, frames, jax.random.key(0)):
            made.append(frame)
            show(len(made))
    poses = np.stack(made)
    mark = mark_of(marks.EDITED, run, opened, None)
    right = None if true is None else true.places_of_body()[:frames, joints].astype(np.float32)
    with output_files.together():
        whole = given.followed_by(continued_motion(given, poses))
        if target.suffix.lower() in (".glb", ".bvh"):
            save_motion(target, whole, mark, bvh.read(take) if take.suffix.lower() == ".bvh" else None)
        elif target.suffix.lower() == ".npz":
            save_npz(target, mark, past=known, future=poses, **({} if right is None else {"true": right}))
        else:
            rows = [poses, right] if right is not None and len(right) == frames else [poses]
            save_arrays(target, past, np.stack([np.concatenate([known, each]) for each in rows]), mark, len(rows))
    text = f"{frames} frames after {count} of {take}: {target}"
    if right is not None:
        error = lambda a: float(np.linalg.norm(a - right, axis=-1).mean())  # noqa: E731
        still = np.broadcast_to(known[-1:], right.shape)
        text += (
            f", mean distance of joints {error(poses[: len(right)]):.4g} (the last pose repeated: {error(still):.4g})"
        )
    print(text)
