"""Triangle meshes: the built-in ones, .obj files, and the checks of what a scene needs."""

from pathlib import Path

import numpy as np

from jaxgen.core.errors import InputError

RECTANGLE = (  # from -1 to 1 in x and y; its front is towards +z
    np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], float),
    np.array([[0, 1, 2], [0, 2, 3]]),
)
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
_SIDES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
BOX = _CORNERS, np.array([each for a, b, c, d in _SIDES for each in ((a, b, c), (a, c, d))])  # fronts outside


def zero_area(triangles: np.ndarray) -> np.ndarray:
    """Return the numbers of triangles [t 3 3] without area: corners in a line, or equal, as 32-bit floats see them."""
    edges = np.diff(triangles.astype(np.float32).astype(np.float64), axis=1)  # [t 2 3]
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=-1)
    return np.flatnonzero(area <= 1e-7 * np.square(edges).sum((1, 2)))


def open_edges(triangles: np.ndarray) -> int:
    """Return the number of directed edges that no other triangle has in the opposite direction; 0: it is closed."""
    _, ids = np.unique(triangles.reshape(-1, 3).astype(np.float32), axis=0, return_inverse=True)
    faces = ids.reshape(-1, 3)
    sides = np.concatenate([faces[:, [i, (i + 1) % 3]] for i in range(3)])
    edges, counts = np.unique(sides, axis=0, return_counts=True)
    found = {(int(a), int(b)): int(n) for (a, b), n in zip(edges, counts, strict=True)}
    return sum(n for (a, b), n in found.items() if found.get((b, a)) != n)


def read_obj(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the vertices f[v 3] and triangles i[t 3] of a Wavefront .obj file; polygons are cut into fans."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from error
    vertices, faces = [], []
    for number, line in enumerate(lines, 1):
        words = line.split()
        try:
            if words[:1] == ["v"]:
                x, y, z = map(float, words[1:4])
                vertices.append((x, y, z))
            elif words[:1] == ["f"]:
                corners = [int(word.partition("/")[0]) for word in words[1:]]
                corners = [each - 1 if each > 0 else len(vertices) + each for each in corners]
                if len(corners) < 3 or not all(0 <= each < len(vertices) for each in corners):
                    raise ValueError
                faces += [(corners[0], *corners[i : i + 2]) for i in range(1, len(corners) - 1)]
        except ValueError:
            raise InputError(f"{path}, line {number} is no vertex or face of a mesh: {line[:60]!r}.") from None
    if not faces or not np.isfinite(vertices).all():
        raise InputError(f"{path} has no faces, or coordinates that are not finite.")
    return np.array(vertices, float), np.array(faces)
