"""Forward kinematics: the places of a skeleton's joints from their rotations."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.nn.rotations import product

Array = Any  # of NumPy or of JAX


def forward(rotations: Array, root: Array, offsets: Array, parents: Sequence[int]) -> tuple[Array, Array]:
    """Return the places [... j 3] of joints and their rotations [... j 3 3] in the world.

    rotations: [... j 3 3] of each joint in its parent's frame; root [... 3] the place of the joints without a parent,
               to which their offset is added
    offsets:   [... j 3] or [j 3] of each joint from its parent, in the parent's frame
    parents:   of each joint, all before their children; -1: none
    NumPy arrays keep their precision. Joints of the same depth are computed together.
    """
    xp: Any = np if isinstance(rotations, np.ndarray) else jnp
    depths: list[int] = []
    for parent in parents:
        depths.append(depths[parent] + 1 if parent >= 0 else 0)
    order = sorted(range(len(depths)), key=lambda i: depths[i])
    row = {joint: i for i, joint in enumerate(order)}
    offsets = xp.broadcast_to(offsets, (*rotations.shape[:-3], len(depths), 3))
    places, turns = [], []
    for depth in range(max(depths) + 1):
        some = np.asarray([joint for joint in order if depths[joint] == depth])
        own, offset = rotations[..., some, :, :], offsets[..., some, :]
        if depth == 0:
            places.append(root[..., None, :] + offset)
            turns.append(own)
            continue
        start = row[min((joint for joint in order if depths[joint] == depth - 1), key=row.__getitem__)]
        above = np.asarray([row[parents[joint]] - start for joint in some])
        turn = turns[-1][..., above, :, :]
        places.append(places[-1][..., above, :] + (turn * offset[..., None, :]).sum(-1))
        turns.append(product(turn, own))
        if xp is jnp:  # else XLA computes the chain of each joint anew for all below it, and compiles for long
            places[-1], turns[-1] = jax.lax.optimization_barrier((places[-1], turns[-1]))
    back = np.asarray([row[joint] for joint in range(len(depths))])
    return xp.concatenate(places, -2)[..., back, :], xp.concatenate(turns, -3)[..., back, :, :]
