"""Skeletons as data, and motions of them: rotations of the joints and the place of the root over time."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from jaxgen.core.errors import InputError, choose
from jaxgen.nn import rotations
from jaxgen.nn.kinematics import forward

SIDES = {"left": "right", "right": "left", "l": "r", "r": "l", "L": "R", "R": "L", "Left": "Right", "Right": "Left"}
SIDE = re.compile(r"(?:^|[_ .-])(left|right)|^(Left|Right)|^(l|r)(?=[A-Z_])|[_ .](l|r|L|R)(?=$|[_ .])|^(l|r)(?=[a-z])")


@dataclass(frozen=True)
class Skeleton:
    """Joints in an order in which each one follows its parent.

    names:   different names; parents: the number of each joint's parent, -1 for the root
    offsets: f64[j 3] from the parent, in its frame
    turns:   whether each joint has a rotation of its own; (): all that have children
    Raises InputError for a cycle, an unknown parent, names that are not different, and offsets that are not finite.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    turns: tuple[bool, ...] = ()

    def __post_init__(self):
        count = len(self.names)
        if not count or len(self.parents) != count or np.shape(self.offsets) != (count, 3):
            shapes = f"{count} names, {len(self.parents)} parents and offsets of shape {np.shape(self.offsets)}"
            raise InputError(
                f"A skeleton needs a name, a parent and an offset of 3 numbers for each joint, not {shapes}."
            )
        if twice := next((name for name in self.names if self.names.count(name) > 1), None):
            raise InputError(f"Two joints of the skeleton are called {twice!r}.")
        for joint, parent in enumerate(self.parents):
            if not -1 <= parent < count:
                raise InputError(f"The parent of joint {self.names[joint]!r} is {parent}: there are {count} joints.")
        self._check_order()
        if not np.isfinite(self.offsets).all():
            bad = self.names[int(np.flatnonzero(~np.isfinite(self.offsets).all(1))[0])]
            raise InputError(f"The offset of joint {bad!r} is not finite.")
        if not self.turns:
            object.__setattr__(self, "turns", tuple(i in self.parents for i in range(count)))

    def _check_order(self):
        for joint in range(len(self.names)):
            seen, at = set(), joint
            while at >= 0:
                if at in seen:
                    raise InputError(f"The parents of joint {self.names[joint]!r} are a cycle: a skeleton is a tree.")
                seen.add(at)
                at = self.parents[at]
        late = next((joint for joint, parent in enumerate(self.parents) if parent > joint), None)
        if late is not None:
            raise InputError(f"Joint {self.names[late]!r} is listed before its parent: list parents first.")
        if (roots := self.parents.count(-1)) != 1:
            raise InputError(f"A skeleton has one root, and {roots} joints have no parent.")

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Return the number of a joint. Raises InputError for an unknown name."""
        return self.names.index(choose(name, self.names, "joint"))

    @cached_property
    def symmetry(self) -> tuple[int, ...]:
        """The number of each joint's counterpart on the other side of the body, by the names; its own in the middle."""
        number = {name: i for i, name in enumerate(self.names)}
        found = []
        for i, name in enumerate(self.names):
            match = SIDE.search(name)
            side = next((text for text in match.groups() if text), None) if match else None
            other = i
            if match and side:
                start = match.start(match.lastindex or 0)
                other = number.get(name[:start] + SIDES[side] + name[start + len(side) :], i)
            found.append(other)
        # Only pairs that name each other count: a "leg" without a "reg" stays itself.
        return tuple(other if found[other] == i else i for i, other in enumerate(found))

    @cached_property
    def moving(self) -> tuple[int, ...]:
        """The joints whose places can change in the root's frame, and that differ from their parents' places.

        Those are what predictors of motion see: of the 38 joints of the CMU split they are the 25 of the literature.
        """
        free = [False] * len(self)  # whether a rotation below the root moves the joint
        for joint, parent in enumerate(self.parents):
            free[joint] = parent > 0 and (free[parent] or self.turns[parent])
        lengths = np.abs(self.offsets).max(1)
        return tuple(joint for joint in range(len(self)) if free[joint] and lengths[joint] > 0)

    def parents_among(self, joints: Sequence[int]) -> tuple[int, ...]:
        """Return for each of some joints the number, among them, of the nearest one above it; -1: none."""
        found = []
        for joint in joints:
            at = self.parents[joint]
            while at >= 0 and at not in joints:
                at = self.parents[at]
            found.append(list(joints).index(at) if at >= 0 else -1)
        return tuple(found)


@dataclass(frozen=True)
class Motion:
    """A skeleton over time.

    rotations: f64[t j 3 3] of each joint in its parent's frame; root f64[t 3], to which the root's offset is added
    rate:      frames in a second
    shifts:    f64[t j 3] that are added to the offsets, where joints are moved as well; None: none are
    Raises InputError for no frames, values that are not finite, and a rate that is not positive.
    """

    skeleton: Skeleton
    rotations: np.ndarray
    root: np.ndarray
    rate: float
    shifts: np.ndarray | None = None

    def __post_init__(self):
        frames, joints = len(self.root), len(self.skeleton)
        if not frames:
            raise InputError("A motion needs at least one frame, and this one has none.")
        if self.rotations.shape != (frames, joints, 3, 3):
            raise InputError(f"The rotations have shape {self.rotations.shape}: {frames} frames of {joints} joints.")
        if not (np.isfinite(self.rotations).all() and np.isfinite(self.root).all()):
            bad = ~np.isfinite(self.rotations).all((1, 2, 3)) | ~np.isfinite(self.root).all(1)
            raise InputError(f"Frame {int(np.flatnonzero(bad)[0])} of the motion has a value that is not finite.")
        if not 0 < self.rate < np.inf:
            raise InputError(f"A motion's rate is a positive number of frames in a second, not {self.rate}.")

    def __len__(self) -> int:
        return len(self.root)

    def in_world(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the places f64[t j 3] of all joints, and their rotations f64[t j 3 3] in the world."""
        offsets = self.skeleton.offsets if self.shifts is None else self.skeleton.offsets + self.shifts
        return forward(self.rotations, self.root, offsets, self.skeleton.parents)

    def places(self) -> np.ndarray:
        """Return the places f64[t j 3] of all joints."""
        return self.in_world()[0]

    def places_of_body(self) -> np.ndarray:
        """Return the places f64[t j 3] in the root's frame: the root is at 0 and does not turn."""
        still = self.rotations.copy()
        still[:, 0] = np.eye(3)
        away = -np.broadcast_to(self.skeleton.offsets[0], self.root.shape)
        shifts = None if self.shifts is None else self.shifts * (np.arange(len(self.skeleton)) > 0)[:, None]
        return replace(self, rotations=still, root=away, shifts=shifts).places()

    def part(self, start: int, stop: int, step: int = 1) -> "Motion":
        """Return every `step`-th frame of a part."""
        cut = slice(start, stop, step)
        shifts = None if self.shifts is None else self.shifts[cut]
        return replace(self, rotations=self.rotations[cut], root=self.root[cut], rate=self.rate / step, shifts=shifts)

    def followed_by(self, other: "Motion") -> "Motion":
        """Return the motion with the frames of another one of the same skeleton and rate after its own."""
        shifts = None
        if self.shifts is not None and other.shifts is not None:
            shifts = np.concatenate([self.shifts, other.shifts])
        turned, root = np.concatenate([self.rotations, other.rotations]), np.concatenate([self.root, other.root])
        return replace(self, rotations=turned, root=root, shifts=shifts)

    def at_rate(self, rate: float) -> "Motion":
        """Return the motion at another rate: rotations on the shortest way between two frames, places on a line."""
        if not 0 < rate < np.inf:
            raise InputError(f"A motion's rate is a positive number of frames in a second, not {rate}.")
        last = len(self) - 1
        times = np.arange(int(np.floor(last / self.rate * rate + 1e-6)) + 1) * self.rate / rate  # in old frames
        low = np.minimum(times.astype(int), max(last - 1, 0))
        high, part = np.minimum(low + 1, last), np.minimum(times - low, 1)
        q = rotations.matrix_to_quaternion(self.rotations)
        turned = rotations.between(q[low], q[high], np.broadcast_to(part[:, None], (len(times), len(self.skeleton))))
        line = lambda x: x[low] + part.reshape(-1, *[1] * (x.ndim - 1)) * (x[high] - x[low])  # noqa: E731
        shifts = None if self.shifts is None else line(self.shifts)
        return Motion(self.skeleton, np.asarray(rotations.quaternion_to_matrix(turned)), line(self.root), rate, shifts)

    def mirrored(self, axis: int = 0) -> "Motion":
        """Return the motion seen in a mirror: `axis` (0: x) is negated, and the sides of the body change places.

        The skeleton stays the same, so that each side should be the other's mirror image.
        """
        sign = np.ones(3)
        sign[axis] = -1
        swap = list(self.skeleton.symmetry)
        turned = self.rotations[:, swap] * sign[:, None] * sign[None, :]
        shifts = None if self.shifts is None else self.shifts[:, swap] * sign
        start = self.skeleton.offsets[0]
        return replace(self, rotations=turned, root=(self.root + start) * sign - start, shifts=shifts)


def at_rest(skeleton: Skeleton) -> Motion:
    """Return one frame without rotations, the root at its offset."""
    return Motion(skeleton, np.broadcast_to(np.eye(3), (1, len(skeleton), 3, 3)).copy(), np.zeros((1, 3)), 1.0)


def in_parents(world: np.ndarray, parents: Sequence[int]) -> np.ndarray:
    """Return the rotations [t j 3 3] of joints in their parents' frames, of those in the world."""
    own = world.copy()
    for joint, parent in enumerate(parents):
        if parent >= 0:
            own[:, joint] = world[:, parent].swapaxes(1, 2) @ world[:, joint]
    return own


def unit(x: np.ndarray) -> np.ndarray:
    """Return vectors [... 3] of length 1; 0 stays 0."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def foot_contacts(places: np.ndarray, rate: float, feet: Sequence[int], speed: float, height: float) -> np.ndarray:
    """Return whether each foot stands on the ground, bool[t f]: it is low and slow.

    places: f64[t j 3], y upwards; feet: numbers of joints
    speed:  in units in a second, below which a foot stands
    height: above the foot's lowest place, below which it stands
    """
    some = places[:, list(feet)]  # [t f 3]
    steps = np.gradient(some, axis=0) if len(some) > 1 else np.zeros_like(some)
    moved = np.linalg.norm(steps, axis=-1) * rate
    low = some[..., 1] - some[..., 1].min(0) < height
    return low & (moved < speed)
