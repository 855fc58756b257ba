"""Clips of motion as generators see them: rotations as six numbers, and the root relative to its heading.

A frame has a row of six numbers for each joint that has children, in the order of the skeleton: the first two columns
of its rotation matrix (Zhou et al. 2019). That of the root is relative to its heading, the turn about the vertical axis
y. A last row holds the root's velocity along x and z in the frame of its heading before, in metres a second, its height
in metres, its turn about y in radians a second, and whether the left and the right foot stand on the ground, 0 or 1. So
a clip is the same wherever it starts and whichever way it looks. Velocities lead to a frame from the one before.

All functions take NumPy arrays or JAX arrays, through which they can be differentiated.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.core.spec import ArraySpec
from jaxgen.data.known_skeletons import NAMED
from jaxgen.data.motion_files import open_motion
from jaxgen.data.skeleton import Motion, Skeleton
from jaxgen.nn import rotations
from jaxgen.nn.kinematics import forward
from jaxgen.nn.rotations import product

Array = Any  # of NumPy or of JAX
MAN = 1.7  # metres, of a skeleton whose unit is not known
LOW, SLOW = 0.06, 0.35  # a foot stands that is lower, in metres above the ground, and slower, in metres a second
GROUND = 5  # per cent of the frames in which a foot is below its ground


@dataclass(frozen=True)
class ClipFormat:
    """The skeleton of clips, its lengths in metres, and their frames in a second."""

    skeleton: Skeleton
    rate: float

    @cached_property
    def joints(self) -> tuple[int, ...]:
        """The joints that have a row: those with children."""
        return inner(self.skeleton.parents)

    @cached_property
    def feet(self) -> tuple[int, int]:
        """The left and the right foot: the lowest two joints at rest that are each other's mirror image."""
        skeleton = self.skeleton
        still = np.broadcast_to(np.eye(3), (1, len(skeleton), 3, 3))
        height = forward(still, np.zeros((1, 3)), skeleton.offsets, skeleton.parents)[0][0, :, 1]
        pairs = [(i, j) for i, j in enumerate(skeleton.symmetry) if i < j]
        if not pairs:
            low = int(np.argmin(height))
            return low, low
        left, right = min(pairs, key=lambda pair: height[pair[0]] + height[pair[1]])
        return (left, right) if "l" in skeleton.names[left].lower()[:1] else (right, left)

    def spec(self, frames: int, **more: Any) -> ArraySpec:
        """Return the spec of clips of this format."""
        skeleton, shape = self.skeleton, (frames, len(self.joints) + 1, 6)
        offsets = tuple(tuple(map(float, offset)) for offset in skeleton.offsets)
        return ArraySpec(
            "pose", shape, rate=self.rate, parents=skeleton.parents, offsets=offsets, names=skeleton.names, **more
        )

    def encode(self, motion: Motion) -> np.ndarray:
        """Return a motion of a skeleton with the same joints as a clip f64[t k 6].

        Its lengths are scaled to those of this skeleton, whose bones it gets. The first velocity is the second
        one. Raises InputError for another skeleton, and for joints that move apart.
        """
        if motion.skeleton.parents != self.skeleton.parents or motion.shifts is not None:
            raise InputError("Its joints are not those of the model's skeleton, or move apart from each other.")
        unit = length(self.skeleton) / max(length(motion.skeleton), 1e-12)
        frames, turned = len(motion), motion.rotations[:, list(self.joints)]
        place = (motion.root + motion.skeleton.offsets[0]) * unit
        yaw = heading(turned[:, 0])
        six = rotations.matrix_to_six(np.concatenate([(upright(-yaw) @ turned[:, 0])[:, None], turned[:, 1:]], 1))
        root = np.zeros((frames, 6))
        root[:, 2] = place[:, 1]
        if frames > 1:
            moved = np.diff(place, axis=0)
            root[1:, [0, 1]] = (upright(-yaw[:-1]) @ moved[..., None])[:, [0, 2], 0] * self.rate
            root[1:, 3] = (np.diff(yaw) + np.pi) % (2 * np.pi) * self.rate - np.pi * self.rate
            root[0, [0, 1, 3]] = root[1, [0, 1, 3]]
        places = forward(
            motion.rotations, place - self.skeleton.offsets[0], self.skeleton.offsets, self.skeleton.parents
        )
        root[:, 4:] = contacts(places[0][:, list(self.feet)], self.rate)
        return np.concatenate([six, root[:, None]], 1)

    def world(self, clip: Array, place: Any = (0.0, 0.0), yaw: float = 0.0) -> tuple[Array, Array]:
        """Return the rotations [... t j 3 3] of all joints in their parents' frames and the root's place [... t 3].

        clip: [... t k 6], of which any six numbers of a joint give a rotation; it starts at place (x, z) with a heading
        """
        xp = np if isinstance(clip, np.ndarray) else jnp
        root = clip[..., -1, :]
        head = xp.cumsum(_from_start(xp, root[..., 3], yaw * self.rate), -1) / self.rate  # [... t]
        ahead = upright(head)
        step = xp.stack([root[..., 0], xp.zeros_like(root[..., 0]), root[..., 1]], -1)
        before = xp.concatenate([ahead[..., :1, :, :], ahead[..., :-1, :, :]], -3)
        step = (before * step[..., None, :]).sum(-1)
        x, z = (xp.cumsum(_from_start(xp, step[..., i], place[i // 2] * self.rate), -1) / self.rate for i in (0, 2))
        turned = rotations.six_to_matrix(clip[..., :-1, :])  # [... t k 3 3]
        turned = xp.concatenate([product(ahead[..., None, :, :], turned[..., :1, :, :]), turned[..., 1:, :, :]], -3)
        still = xp.broadcast_to(xp.eye(3, dtype=turned.dtype), (*turned.shape[:-3], 1, 3, 3))
        number = {joint: row for row, joint in enumerate(self.joints)}
        rows = [number.get(joint, len(self.joints)) for joint in range(len(self.skeleton))]
        return xp.concatenate([turned, still], -3)[..., np.asarray(rows), :, :], xp.stack([x, root[..., 2], z], -1)

    def places(self, clip: Array, place: Any = (0.0, 0.0), yaw: float = 0.0) -> Array:
        """Return the places [... t j 3] of all joints, in metres."""
        turned, root = self.world(clip, place, yaw)
        xp: Any = np if isinstance(clip, np.ndarray) else jnp
        skeleton, offsets = self.skeleton, xp.asarray(self.skeleton.offsets, clip.dtype)
        return forward(turned, root - xp.broadcast_to(offsets[0], root.shape), offsets, skeleton.parents)[0]

    def decode(self, clip: np.ndarray, place: Any = (0.0, 0.0), yaw: float = 0.0) -> Motion:
        """Return the motion of a clip [t k 6], in metres. Raises InputError for values that are not finite."""
        turned, root = self.world(np.asarray(clip, np.float64), place, yaw)
        return Motion(self.skeleton, turned, root - self.skeleton.offsets[0], self.rate)


def contacts(feet: np.ndarray, rate: float) -> np.ndarray:
    """Return whether each foot stands on the ground, bool[t f], by its places f64[t f 3] in metres.

    The ground is the height below which a foot is in a twentieth of the frames: a single low frame moves no ground.
    """
    height = feet[..., 1] - np.percentile(feet[..., 1], GROUND, axis=0)
    moved = np.gradient(feet, axis=0) if len(feet) > 1 else np.zeros_like(feet)
    return (height < LOW) & (np.linalg.norm(moved, axis=-1) * rate < SLOW)


def _from_start(xp: Any, values: Array, start: float) -> Array:
    """Return values [... t], the first one replaced: velocities lead to the frames after it."""
    return xp.concatenate([xp.full_like(values[..., :1], start), values[..., 1:]], -1)


def inner(parents: tuple[int, ...]) -> tuple[int, ...]:
    """Return the joints that have children."""
    return tuple(joint for joint in range(len(parents)) if joint in parents)


def heading(turned: np.ndarray) -> np.ndarray:
    """Return the angle about y f64[t] of rotations f64[t 3 3]: that of the swing and twist about the vertical axis."""
    q = rotations.matrix_to_quaternion(turned)
    return 2 * np.arctan2(q[:, 2], q[:, 0])


def upright(angle: Array) -> Array:
    """Return rotations [... 3 3] about y."""
    return rotations.about(angle, "Y")


def length(skeleton: Skeleton) -> float:
    """Return the length of all bones together."""
    return float(np.linalg.norm(skeleton.offsets[1:], axis=1).sum())


def format_of(spec: ArraySpec) -> ClipFormat:
    """Return the format of a spec that `ClipFormat.spec` made."""
    return ClipFormat(Skeleton(spec.names, spec.parents, np.asarray(spec.offsets)), spec.rate)


def clip_format(skeleton: str, rate: float, unit: float = 0.0) -> ClipFormat:
    """Return the format of a known skeleton, or of that of a file of a motion.

    unit: metres of one of its lengths; 0: the power of ten that makes it man-sized
    Raises InputError for a name of neither.
    """
    found = NAMED.get(skeleton) or _skeleton_of(skeleton)
    if not unit:
        still = np.broadcast_to(np.eye(3), (1, len(found), 3, 3))
        size = float(np.ptp(forward(still, np.zeros((1, 3)), found.offsets, found.parents)[0][0], 0).max())
        unit = 10.0 ** round(np.log10(MAN / size)) if size > 0 else 1.0
    # Places of the root hold its offset: so it has none here.
    offsets = found.offsets * unit * (np.arange(len(found)) > 0)[:, None]
    return ClipFormat(replace(found, offsets=offsets, turns=()), rate)


def _skeleton_of(name: str) -> Skeleton:
    path = Path(name).expanduser()
    if not path.is_file():
        raise InputError(
            f"model.skeleton={name!r} is no skeleton: name {', '.join(NAMED)}, or a file of a motion that has it."
        )
    return open_motion(path).skeleton
