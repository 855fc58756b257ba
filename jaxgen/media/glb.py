"""GLB files of motions: a skeleton with an animation, that 3-D programs open.

glTF 2.0 (Khronos Group 2021) in its binary form. Each joint is a node with its rotation over time, the root has a place
as well. A box along each bone, that moves with its joint, makes the figure visible without a skin.
"""

import json
import struct
from typing import Any

import numpy as np

from jaxgen.data.skeleton import Motion
from jaxgen.nn import rotations

FLOAT, SHORT = 5126, 5123  # component types
ARRAY, ELEMENTS = 34962, 34963  # targets of buffer views
WIDE = 0.06  # of a bone's box, as a part of its length
CORNERS = np.asarray([(x, y, z) for x in (-1, 1) for y in (0, 1) for z in (-1, 1)], np.float32)
FACES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
TRIANGLES = np.asarray([t for a, b, c, d in FACES for t in ((a, b, c), (a, c, d))], np.uint16)


def glb_of(motion: Motion, unit: float = 1.0, by: str = "jaxgen") -> bytes:
    """Return the bytes of a .glb of a motion.

    unit: metres of one of the motion's lengths; glTF's lengths are metres
    """
    skeleton, parts = motion.skeleton, _Parts()
    offsets = skeleton.offsets * unit
    nodes: list[dict[str, Any]] = [
        {"name": name, "translation": offset.tolist()} for name, offset in zip(skeleton.names, offsets, strict=True)
    ]
    children: dict[int, list[int]] = {}
    for joint, parent in enumerate(skeleton.parents):
        if parent >= 0:
            children.setdefault(parent, []).append(joint)
    box = parts.add(CORNERS, ARRAY, limits=True), parts.add(TRIANGLES.ravel(), ELEMENTS)
    for joint, parent in enumerate(skeleton.parents):
        length = float(np.linalg.norm(offsets[joint]))
        if parent >= 0 and length > 0:
            children[parent].append(len(nodes))
            nodes.append(
                {
                    "name": f"{skeleton.names[joint]} bone",
                    "mesh": 0,
                    "rotation": _up_to(offsets[joint] / length).tolist(),
                    "scale": [WIDE * length, length, WIDE * length],
                }
            )
    for parent, below in children.items():
        nodes[parent]["children"] = below
    times = parts.add(np.arange(len(motion), dtype=np.float32) / np.float32(motion.rate), limits=True)
    channels, samplers = [], []

    def animate(joint: int, path: str, values: np.ndarray):
        samplers.append({"input": times, "output": parts.add(values.astype(np.float32)), "interpolation": "LINEAR"})
        channels.append({"sampler": len(samplers) - 1, "target": {"node": joint, "path": path}})

    q = np.asarray(rotations.matrix_to_quaternion(motion.rotations))[..., [1, 2, 3, 0]]  # x y z w
    for joint in range(len(skeleton)):
        if skeleton.turns[joint] or joint == 0:
            animate(joint, "rotation", _steady(q[:, joint]))
    animate(0, "translation", (motion.root + skeleton.offsets[0]) * unit)
    if motion.shifts is not None:
        for joint in np.flatnonzero(motion.shifts.any((0, 2))):
            animate(int(joint), "translation", (motion.shifts[:, joint] + skeleton.offsets[joint]) * unit)
    primitive = {"attributes": {"POSITION": box[0]}, "indices": box[1], "material": 0}
    colour = {"baseColorFactor": [0.55, 0.6, 0.7, 1.0], "metallicFactor": 0.0}
    tree = {
        "asset": {"version": "2.0", "generator": by},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": nodes,
        "meshes": [{"primitives": [primitive]}],
        "materials": [{"pbrMetallicRoughness": colour, "doubleSided": True}],
        "animations": [{"channels": channels, "samplers": samplers}],
        "accessors": parts.accessors,
        "bufferViews": parts.views,
        "buffers": [{"byteLength": len(parts.data)}],
    }
    text = json.dumps(tree, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    whole = 12 + 8 + len(text) + 8 + len(parts.data)
    head = struct.pack("<4sII", b"glTF", 2, whole)
    return b"".join(
        [
            head,
            struct.pack("<I4s", len(text), b"JSON"),
            text,
            struct.pack("<I4s", len(parts.data), b"BIN\0"),
            parts.data,
        ]
    )


def metres(motion: Motion) -> float:
    """Return a guess of one of a motion's lengths in metres: the power of ten that makes the first pose man-sized."""
    places = motion.part(0, 1).places()[0]
    size = float(np.ptp(places, 0).max())
    return 10.0 ** round(np.log10(1.7 / size)) if size > 0 else 1.0


class _Parts:
    """The binary part: arrays one after the other, each at a multiple of 4 bytes."""

    def __init__(self):
        self.data, self.views, self.accessors = b"", [], []

    def add(self, values: np.ndarray, target: int = 0, limits: bool = False) -> int:
        """Return the number of the accessor of an array [n] or [n c]."""
        raw = np.ascontiguousarray(values).tobytes()
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(raw)}
        self.views.append({**view, "target": target} if target else view)
        self.data += raw + b"\0" * (-len(raw) % 4)
        kind = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}[values.shape[1] if values.ndim > 1 else 1]
        number = SHORT if values.dtype == np.uint16 else FLOAT
        accessor: dict[str, Any] = {"bufferView": len(self.views) - 1, "componentType": number, "count": len(values)}
        accessor["type"] = kind
        if limits:
            accessor |= {
                name: np.atleast_1d(pick(values, 0)).tolist() for name, pick in (("min", np.min), ("max", np.max))
            }
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def _steady(q: np.ndarray) -> np.ndarray:
    """Return quaternions f64[t 4] with signs that don't jump: their numbers are interpolated."""
    flips = np.cumprod(np.where((q[1:] * q[:-1]).sum(1) < 0, -1.0, 1.0))
    return q * np.concatenate([[1.0], flips])[:, None]


def _up_to(direction: np.ndarray) -> np.ndarray:
    """Return the quaternion x y z w that turns y to a direction."""
    if direction[1] < -1 + 1e-9:
        return np.asarray([1.0, 0, 0, 0])
    q = np.asarray([direction[2], 0.0, -direction[0], 1 + direction[1]])
    return q / np.linalg.norm(q)
