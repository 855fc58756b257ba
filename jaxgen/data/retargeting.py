"""Retargeting: a motion of one skeleton onto another, by rule.

Thighs, shins and arms point where those of the source point; the torso, the head and the feet turn as theirs do. The
way is scaled by the length of the legs. Then the legs are bent so that a foot that stands on the ground stands still.
"""

from dataclasses import replace

import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.data.body_parts import Body, body_of, pairs
from jaxgen.data.leg_kinematics import below, keep_contacts
from jaxgen.data.skeleton import Motion, Skeleton, at_rest, in_parents, unit
from jaxgen.nn.rotations import shortest_turn

UPRIGHT = -0.7  # the cosine between the spine and the legs, below which a pose is that of a body that stands


def retargeted(motion: Motion, target: Skeleton, own: Motion | None = None, contacts: bool = True) -> Motion:
    """Return a motion on another skeleton.

    own:      a motion of the target, which shows how its body stands where its pose without rotations does not
    contacts: whether legs are bent so that feet stand where those of the source do
    Raises InputError for a skeleton without arms and legs.
    """
    source = motion.skeleton
    known, body, theirs = pairs(target, source), body_of(target), body_of(source)
    turns0, places0, up0 = standing(own or at_rest(target), body, "The character")
    turns1, places1, up1 = standing(motion, theirs, "The take")
    whole = _frame(places1, theirs) @ _frame(places0, body).T  # from the target's pose to the source's
    world = shortest_turn(up1, up0)  # from the source's vertical to the target's
    places, turned = motion.in_world()
    places, turned = places @ world.T, world @ turned
    fix = _corrections(target, body, theirs, whole, places0, places1)
    frames = len(motion)
    made = np.empty((frames, len(target), 3, 3))
    for joint, parent in enumerate(target.parents):
        if joint in known:
            there = known[joint]
            made[:, joint] = turned[:, there] @ (turns1[there].T @ fix[joint] @ turns0[joint])
        elif parent < 0 or not _follows(target, joint, known):
            made[:, joint] = turns0[joint]  # above the pelvis
        else:
            made[:, joint] = made[:, parent] @ (turns0[parent].T @ turns0[joint])
    scale = leg_length(target, body) / leg_length(source, theirs)
    pelvis = scale * places[:, theirs.pelvis]
    result = placed(target, made, pelvis, body, motion.rate)
    if contacts:
        result = keep_contacts(result, body, places * scale, theirs, up0, leg_length(target, body))
    return result


def placed(skeleton: Skeleton, world: np.ndarray, pelvis: np.ndarray, body: Body, rate: float) -> Motion:
    """Return the motion of rotations in the world f64[t j 3 3] whose pelvis is at a place f64[t 3]."""
    still = Motion(skeleton, in_parents(world, skeleton.parents), np.zeros_like(pelvis), rate)
    return replace(still, root=pelvis - still.places()[:, body.pelvis])


def standing(motion: Motion, body: Body, what: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rotations in the world f64[j 3 3], places f64[j 3] and the vertical f64[3] of a body that stands.

    It is the pose without rotations where that one stands: in some files all of its bones point one way. Then it is the
    straightest frame of the motion. Raises InputError where the body stands in none.
    """
    ankles = [leg[2] for leg in body.legs.values()]

    def bent(places: np.ndarray) -> np.ndarray:
        legs = unit(places[:, ankles].mean(1) - places[:, body.pelvis])
        return (legs * unit(places[:, body.chest] - places[:, body.pelvis])).sum(-1)

    rest, turns = at_rest(motion.skeleton).in_world()
    at, places = 0, rest
    if bent(rest)[0] > UPRIGHT:
        places, turns = motion.in_world()
        found = bent(places)
        at = int(found.argmin())
        if found[at] > UPRIGHT:
            raise InputError(f"{what} stands upright in no frame: its pose at rest is not known.")
    up = places[at, body.chest] - places[at, ankles].mean(0)
    axis = np.eye(3)[np.abs(up).argmax()]
    return turns[at], places[at], axis * np.sign(up @ axis)


def leg_length(skeleton: Skeleton, body: Body) -> float:
    """Return the mean length of thigh and shin."""
    rest = at_rest(skeleton).places()[0]
    legs = [rest[list(leg)] for leg in body.legs.values()]
    length = float(np.mean([np.linalg.norm(np.diff(leg, axis=0), axis=-1).sum() for leg in legs]))
    if not length > 0:
        raise InputError("The legs of the skeleton have no length.")
    return length


def _corrections(
    target: Skeleton, body: Body, theirs: Body, whole: np.ndarray, places0: np.ndarray, places1: np.ndarray
) -> dict[int, np.ndarray]:
    """Return for each joint the rotation from the target's standing pose to the source's, f64[3 3].

    Of limbs it takes one bone to the other on the shortest way; hands follow the lower arms. Feet are flat in both.
    """
    fix = dict.fromkeys(range(len(target)), whole)
    for limbs, others, follows in ((body.arms, theirs.arms, True), (body.legs, theirs.legs, False)):
        for side, limb in limbs.items():
            other = others[side]
            for i in (0, 1):
                ours = whole @ (places0[limb[i + 1]] - places0[limb[i]])
                bone = places1[other[i + 1]] - places1[other[i]]
                fix[limb[i]] = shortest_turn(unit(ours), unit(bone)) @ whole
            if follows:
                fix |= {joint: fix[limb[1]] for joint in range(len(target)) if joint in below(target.parents, limb[2])}
    return fix


def _frame(places: np.ndarray, body: Body) -> np.ndarray:
    """Return the rotation f64[3 3] whose columns point to the left, up and forward of a body at places f64[j 3]."""
    up = unit(places[body.chest] - places[body.pelvis])
    left = places[body.legs["left"][0]] - places[body.legs["right"][0]]
    left = left + places[body.arms["left"][0]] - places[body.arms["right"][0]]
    left = unit(left - (left @ up) * up)
    return np.stack([left, up, np.cross(left, up)], 1)


def _follows(skeleton: Skeleton, joint: int, known: dict[int, int]) -> bool:
    at = skeleton.parents[joint]
    while at >= 0 and at not in known:
        at = skeleton.parents[at]
    return at >= 0
