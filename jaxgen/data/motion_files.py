"""Files of motions: BVH, the text of the CMU split, DeepMimic's JSON, and .npz files as AMASS or jaxgen write them."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.data import bvh
from jaxgen.data.arrays import load_npz, npz_names
from jaxgen.data.known_skeletons import CMU, DEEPMIMIC, SMPL
from jaxgen.data.skeleton import Motion, Skeleton
from jaxgen.nn import rotations

SUFFIXES = (".bvh", ".txt", ".json", ".npz")
CMU_RATE = 50.0  # frames in a second by the convention of the literature, which calls every second one 25
OWN = ("names", "parents", "offsets", "rotations", "root", "rate")  # arrays of jaxgen's .npz


def open_motion(path: Path) -> Motion:
    """Return the motion of a file. Raises InputError, which names the file and what is wrong."""
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    suffix = path.suffix.lower()
    if suffix == ".bvh":
        return bvh.read(path).motion
    if suffix == ".npz":
        return _named(str(path), lambda: _npz(path))
    if suffix in SUFFIXES:
        return motion_of_text(path.read_bytes(), str(path))
    raise InputError(f"{path} is no file of a motion: these end in {', '.join(SUFFIXES)}.")


def motion_of_text(data: bytes, name: str) -> Motion:
    """Return the motion of the bytes of a .bvh, .txt or .json file. Raises InputError, with the file's name."""
    text = data.decode("utf-8-sig", errors="replace")
    if name.lower().endswith(".bvh"):
        return _named(name, lambda: bvh.parse(text).motion)
    return _named(name, lambda: deepmimic(text) if text.lstrip().startswith("{") else cmu(text))


def _named(name: str, read: Any) -> Motion:
    try:
        return read()
    except InputError as error:
        said = str(error)
        if name in said:
            raise
        raise InputError(f"{name} can't be used: {said[0].lower()}{said[1:]}") from error


def cmu(text: str) -> Motion:
    """Return a motion of the CMU split: lines of 3 numbers for the root's place and 38 exponential maps.

    These belong to row vectors: their inverses turn the column vectors of jaxgen. Raises InputError.
    """
    columns = 3 + 3 * len(CMU)
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError("It has no frame.")
    for i, line in enumerate(lines):
        if (count := line.count(",") + 1) != columns:
            raise InputError(f"Line {i + 1} has {count} values: the CMU split has {columns}.")
    try:
        values = np.loadtxt(io.StringIO("\n".join(lines)), delimiter=",", ndmin=2)
    except ValueError as error:
        raise InputError(f"It has a value that is no number: {str(error).splitlines()[0].rstrip('.')}.") from None
    turned = rotations.expmap_to_matrix(-values[:, 3:].reshape(len(values), len(CMU), 3))
    return Motion(CMU, np.asarray(turned), 70 * values[:, :3], CMU_RATE)


def deepmimic(text: str) -> Motion:
    """Return a motion of DeepMimic's JSON: frames of 44 numbers, seconds, the root's place, quaternions and angles.

    Knees and elbows have one angle, about z. Raises InputError.
    """
    try:
        frames = json.loads(text)["Frames"]
        values = np.asarray(frames, np.float64)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("It is no motion of DeepMimic: it needs 'Frames', lists of 44 numbers.") from error
    if values.ndim != 2 or values.shape[1] != 44 or not len(values):
        raise InputError(f"Its 'Frames' have shape {values.shape}: at least one frame of 44 numbers is needed.")
    if not np.isfinite(values).all():
        raise InputError(f"Frame {int(np.nonzero(~np.isfinite(values))[0][0])} has a value that is not finite.")
    turned = np.broadcast_to(np.eye(3), (len(values), len(DEEPMIMIC), 3, 3)).copy()
    column = 4
    for joint, name in enumerate(DEEPMIMIC.names):
        if name.endswith("wrist"):
            continue
        if name.endswith(("knee", "elbow")):
            turned[:, joint] = rotations.about(values[:, column], "Z")
            column += 1
            continue
        q = values[:, column : column + 4]
        column += 4
        if (np.square(q).sum(1) < 1e-8).any():
            raise InputError(f"A quaternion of {name!r} is 0: it is no rotation.")
        turned[:, joint] = rotations.quaternion_to_matrix(q)
    steps = values[:-1, 0] if len(values) > 1 else values[:, 0]  # the last frame lasts 0 s in many files
    if not steps.mean() > 0:
        raise InputError("Its frames last no time: the first number of each is in seconds.")
    return Motion(DEEPMIMIC, turned, values[:, 1:4], 1 / float(steps.mean()))


def _npz(path: Path) -> Motion:
    names = npz_names(path)
    if set(OWN) <= set(names):
        found = load_npz(path, OWN)
        parents = tuple(int(x) for x in found["parents"].ravel())
        skeleton = Skeleton(tuple(map(str, found["names"].ravel())), parents, np.asarray(found["offsets"], np.float64))
        q = np.asarray(found["rotations"], np.float64)
        if q.ndim != 3 or q.shape[2] != 4 or q.shape[:2] != (len(found["root"]), len(skeleton)):
            raise InputError(f"Its 'rotations' have shape {q.shape}: they are quaternions [frames joints 4].")
        turned = np.asarray(rotations.quaternion_to_matrix(q))
        return Motion(skeleton, turned, np.asarray(found["root"], np.float64), float(found["rate"]))
    rate = next((name for name in ("mocap_framerate", "mocap_frame_rate") if name in names), None)
    if not ({"poses", "trans"} <= set(names) and rate):
        raise InputError(
            f"It holds {', '.join(names) or 'nothing'}: a motion has {', '.join(OWN)}, or AMASS's poses, trans and "
            "mocap_framerate."
        )
    found = load_npz(path, ("poses", "trans", rate))
    return amass(found["poses"], found["trans"], float(found[rate]))


def amass(poses: np.ndarray, places: np.ndarray, rate: float) -> Motion:
    """Return a motion of AMASS: axes times angles [t 3k] of SMPL's joints, of which the first 22 are used.

    z is up in AMASS and y here. The skeleton is SMPL's of a mean shape: `betas` need the body model. Raises InputError.
    """
    joints, frames = len(SMPL), len(poses)
    if poses.ndim != 2 or poses.shape[1] < 3 * joints or np.shape(places) != (frames, 3):
        shapes = f"{poses.shape} and {np.shape(places)}"
        raise InputError(f"Its 'poses' and 'trans' have shapes {shapes}: they are [t {3 * joints} or more] and [t 3].")
    maps = np.asarray(poses, np.float64)[:, : 3 * joints].reshape(frames, joints, 3)
    turned = np.asarray(rotations.expmap_to_matrix(maps)).copy()
    upright = rotations.about(np.asarray(-np.pi / 2), "X")
    turned[:, 0] = upright @ turned[:, 0]
    return Motion(SMPL, turned, np.asarray(places, np.float64) @ upright.T, rate)


def arrays_of(motion: Motion) -> dict[str, np.ndarray]:
    """Return the arrays of jaxgen's .npz of a motion: rotations are quaternions f64[t j 4]. Raises InputError."""
    if motion.shifts is not None:
        raise InputError("A .npz holds no joints that move apart from each other: write a .bvh.")
    return {
        "names": np.asarray(motion.skeleton.names),
        "parents": np.asarray(motion.skeleton.parents),
        "offsets": motion.skeleton.offsets,
        "rotations": np.asarray(rotations.matrix_to_quaternion(motion.rotations)),
        "root": motion.root,
        "rate": np.asarray(motion.rate),
    }


def natural(name: str) -> list[tuple[int, int, str]]:
    """Return a sorting key by which take 10 follows take 9."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]
