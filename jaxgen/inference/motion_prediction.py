"""The next frames of a motion, by a model that predicts poses, and the rotations that belong to them."""

from dataclasses import replace

import numpy as np

from jaxgen.data.skeleton import Motion


def continued_motion(motion: Motion, places: np.ndarray) -> Motion:
    """Return the motion of predicted places f32[t m 3] of the joints that move, in the frame of the root.

    motion: what was known; the predicted frames come after its last one, at which the root stays. Bones turn the
            shortest way from there, so that turns about a bone, which do not move joints, are kept. Lengths stay those
            of the skeleton.
    """
    skeleton, last = motion.skeleton, motion.part(len(motion) - 1, len(motion))
    before = last.places_of_body()[0]  # [j 3]
    own = last.rotations[0].copy()
    own[0] = np.eye(3)
    turned = own.copy()  # in the frame of the root
    for joint, parent in enumerate(skeleton.parents):
        if parent >= 0:
            turned[joint] = turned[parent] @ own[joint]
    lengths = np.abs(skeleton.offsets).max(1)
    now = np.broadcast_to(before, (len(places), *before.shape)).copy()
    now[:, list(skeleton.moving)] = places
    for joint, parent in enumerate(skeleton.parents):
        if parent >= 0 and not lengths[joint]:
            now[:, joint] = now[:, parent]
    made = np.empty((len(places), *own.shape))
    for joint, parent in enumerate(skeleton.parents):
        above = made[:, parent] if parent >= 0 else np.broadcast_to(np.eye(3), made[:, 0].shape)
        ends = [i for i, p in enumerate(skeleton.parents) if p == joint and lengths[i] and i in skeleton.moving]
        if parent < 0 or not ends or not skeleton.turns[joint]:
            made[:, joint] = above @ own[joint]
            continue
        old = before[ends] - before[joint]  # [k 3]
        new = now[:, ends] - now[:, [joint]]  # [t k 3]
        # What the parent does moves the bone first; the rest is the joint's own, the shortest way.
        carried = above @ own[joint] @ turned[joint].T
        made[:, joint] = _turn(old @ carried.swapaxes(1, 2), new) @ carried @ turned[joint]
    rotations = made.copy()
    for joint, parent in enumerate(skeleton.parents):
        if parent >= 0:
            rotations[:, joint] = made[:, parent].swapaxes(1, 2) @ made[:, joint]
    rotations[:, 0] = last.rotations[0, 0]
    root = np.broadcast_to(last.root[0], (len(places), 3)).copy()
    shifts = None if last.shifts is None else np.broadcast_to(last.shifts[0], (len(places), *before.shape)).copy()
    return replace(motion, rotations=rotations, root=root, shifts=shifts)


def _turn(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return rotations f64[t 3 3] that turn vectors f64[t k 3] to others: of one vector the shortest way."""
    unit = lambda x: x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)  # noqa: E731
    old, new = unit(old), unit(new)
    if old.shape[1] > 1:  # the best rotation in the sense of least squares: Kabsch 1976
        u, _, v = np.linalg.svd(new.swapaxes(1, 2) @ old)
        flip = np.ones((len(old), 3))
        flip[:, 2] = np.linalg.det(u @ v)
        return u * flip[:, None] @ v
    a, b = old[:, 0], new[:, 0]
    axis, cosine = np.cross(a, b), (a * b).sum(1)
    x, y, z, zero = *axis.T, np.zeros(len(a))
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)
    back = cosine < -1 + 1e-9  # the opposite way has no shortest turn: it stays
    rest = np.where(back, 0, 1 / np.where(back, 1, 1 + cosine))[:, None, None]
    return np.where(back[:, None, None], np.eye(3), np.eye(3) + cross + rest * (cross @ cross))
