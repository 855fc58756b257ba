"""The parts of a body in a skeleton: which joints are the legs, the arms, the spine, the neck and the head.

Ends of limbs are found by their names, which differ little between programs. The joints above them follow from the
tree, because "LeftShoulder" is the collar bone in one program and the upper arm in another.
"""

import re
from dataclasses import dataclass

import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.data.skeleton import Skeleton

WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
SIDES = {"l": "left", "left": "left", "r": "right", "right": "right"}
HAND, FOOT = ("wrist", "hand"), ("ankle", "foot")
LOWER_ARM, LOWER_LEG = ("elbow", "fore", "lowerarm", "radius"), ("knee", "shin", "calf", "lowerleg", "tibia")
LIMB = (*HAND, *FOOT, "femur", "tibia", "toes", "clavicle", "humerus", "radius", "hipjoint")  # lfoot: the left foot
TWIST = ("twist", "roll")  # joints that only divide the turn of a bone


@dataclass(frozen=True)
class Body:
    """The numbers of the joints of a body's parts.

    spine: from above the pelvis to the chest, from which the arms start
    neck:  from above the chest to below the head; head: None where the skeleton has none
    arms:  of "left" and "right", shoulder, elbow and wrist; collars: the joints between the chest and the shoulders
    legs:  of "left" and "right", hip, knee and ankle; toes: the joints below the ankles, if any
    """

    pelvis: int
    spine: tuple[int, ...]
    neck: tuple[int, ...]
    head: int | None
    collars: dict[str, tuple[int, ...]]
    arms: dict[str, tuple[int, int, int]]
    legs: dict[str, tuple[int, int, int]]
    toes: dict[str, int | None]

    @property
    def chest(self) -> int:
        return self.spine[-1]


def words_of(name: str) -> list[str]:
    """Return the lower-case words of a joint's name without its prefix: "mixamorig:LeftArm" is "left", "arm"."""
    found = [word.lower() for word in WORDS.findall(name.rpartition(":")[2])]
    first = found[0] if found else ""
    if first[1:] in LIMB and first[0] in SIDES:
        found = [first[0], first[1:], *found[1:]]
    return found


def side_of(name: str) -> str:
    """Return "left", "right", or "" by a joint's name."""
    return next((SIDES[word] for word in words_of(name) if word in SIDES), "")


def body_of(skeleton: Skeleton) -> Body:
    """Return the parts of a skeleton's body. Raises InputError, which names the part that is not found."""
    depth = [0] * len(skeleton)
    for joint, parent in enumerate(skeleton.parents):
        depth[joint] = depth[parent] + 1 if parent >= 0 else 0
    length = np.abs(skeleton.offsets).max(1)

    def find(side: str, words: tuple[str, ...]) -> int | None:
        some = [
            joint
            for joint, name in enumerate(skeleton.names)
            if side_of(name) == side and any(word in words_of(name) for word in words)
        ]
        return min(some, key=lambda joint: depth[joint], default=None)

    def above(joint: int, what: str) -> int:
        at = joint
        while at >= 0 and not length[at]:  # at the same place as its parent
            at = skeleton.parents[at]
        at = skeleton.parents[at] if at >= 0 else -1
        while at >= 0 and any(word in words_of(skeleton.names[at]) for word in TWIST):
            at = skeleton.parents[at]
        if at < 0:
            raise InputError(f"Joint {skeleton.names[joint]!r} has no joint above it that could be {what}.")
        return at

    def limb(side: str, words: tuple[str, ...], lower: tuple[str, ...], upper: tuple[str, str]) -> tuple[int, int, int]:
        end = find(side, words)
        if end is None and (bone := find(side, lower)) is not None:  # an end site has no name of its own
            end = next(
                (joint for joint, parent in enumerate(skeleton.parents) if parent == bone and length[joint]), None
            )
        if end is None:
            raise InputError(
                f"The skeleton has no {side} {words[1]}: none of its joints has a name such as {side.title()}"
                f"{words[1].title()}. Its joints are {', '.join(skeleton.names[:6])}, ..."
            )
        middle = above(end, f"the {side} {upper[1]}")
        return above(middle, f"the {side} {upper[0]}"), middle, end

    def path(top: int, joint: int) -> tuple[int, ...]:
        """Return the joints from below `top` to `joint`."""
        found = []
        while joint != top and joint >= 0:
            found.append(joint)
            joint = skeleton.parents[joint]
        return tuple(reversed(found))

    def meeting(a: int, b: int) -> int:
        above_a = {a, *path(-1, a)}
        while b not in above_a:
            b = skeleton.parents[b]
        return b

    sides = ("left", "right")
    legs = {side: limb(side, FOOT, LOWER_LEG, ("hip", "knee")) for side in sides}
    arms = {side: limb(side, HAND, LOWER_ARM, ("shoulder", "elbow")) for side in sides}
    pelvis = meeting(legs["left"][0], legs["right"][0])
    chest = meeting(arms["left"][0], arms["right"][0])
    spine = path(pelvis, chest)
    if not spine or skeleton.parents[spine[0]] != pelvis:
        raise InputError(f"The arms must start above {skeleton.names[pelvis]!r}, from which the legs start.")
    heads = [joint for joint in range(len(skeleton)) if words_of(skeleton.names[joint])[-1:] == ["head"]]
    head = next((joint for joint in heads if chest in path(-1, joint)), None)
    necks = [joint for joint in range(len(skeleton)) if words_of(skeleton.names[joint])[-1:] == ["neck"]]
    top = next((joint for joint in necks if chest in path(-1, joint)), None) if head is None else head
    neck = path(chest, top) if top is not None else ()
    toes: dict[str, int | None] = {}
    for side in sides:
        below = [
            joint
            for joint in range(len(skeleton))
            if length[joint] and legs[side][2] in path(-1, joint) and joint != legs[side][2]
        ]
        toes[side] = min(below, key=lambda joint: depth[joint], default=None)
    collars = {side: path(chest, arms[side][0])[:-1] for side in sides}
    return Body(pelvis, spine, neck[:-1] if head is not None else neck, head, collars, arms, legs, toes)


def pairs(target: Skeleton, source: Skeleton) -> dict[int, int]:
    """Return for joints of a target the joints of a source whose parts of the body they are.

    Spines and necks of other lengths are matched by their parts of the way. Other joints are matched by equal names.
    Raises InputError for a skeleton without arms and legs.
    """
    ours, theirs = body_of(target), body_of(source)
    found = {ours.pelvis: theirs.pelvis}
    found |= _along(ours.spine, theirs.spine) | _along(ours.neck, theirs.neck)
    if ours.head is not None and theirs.head is not None:
        found[ours.head] = theirs.head
    for side in ("left", "right"):
        found |= _along(ours.collars[side], theirs.collars[side])
        found |= dict(zip(ours.arms[side], theirs.arms[side], strict=True))
        found |= dict(zip(ours.legs[side], theirs.legs[side], strict=True))
        toe, other = ours.toes[side], theirs.toes[side]
        if toe is not None and other is not None:
            found[toe] = other
    number = {" ".join(words_of(name)): joint for joint, name in enumerate(source.names)}
    number |= {name: joint for joint, name in enumerate(source.names)}
    for joint, name in enumerate(target.names):
        same = number.get(name, number.get(" ".join(words_of(name))))
        if joint not in found and same is not None and same not in found.values():
            found[joint] = same
    return found


def _along(ours: tuple[int, ...], theirs: tuple[int, ...]) -> dict[int, int]:
    """Return a chain's joints with those of another one: the last with the last, the others by their part of it."""
    if not theirs:
        return {}
    return {joint: theirs[max(round((i + 1) / len(ours) * len(theirs)) - 1, 0)] for i, joint in enumerate(ours)}
