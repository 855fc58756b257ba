"""Scenes from JSON files. The family's page (jaxgen/models/rendering/README.md) documents the format."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxgen.core.errors import InputError, choose
from jaxgen.rendering import meshes
from jaxgen.rendering.scene import DIELECTRIC, KINDS, Scene, camera, light_tables

BUILT_IN = {"cornell": Path(__file__).with_name("cornell.json")}
MOST_TRIANGLES = 20_000  # every ray is tried with every triangle
MOST_PIXELS = 2**26
AIR = 1.0  # indices of refraction are those to air
GOLD = [0.143, 0.375, 1.442], [3.983, 2.386, 1.603]  # eta and k for red, green and blue


@dataclass(frozen=True)
class SceneFile:
    """A scene, and how its file wants it rendered: segments of a path, samples of a pixel."""

    scene: Scene
    depth: int
    samples: int


class Reader:
    """A checked reader of one JSON object: each mistake is one sentence that names the place."""

    def __init__(self, values: Any, where: str, names: str):
        if not isinstance(values, dict):
            raise InputError(f"{where} must be an object {{...}}, not {json.dumps(values)[:60]}.")
        self.values, self.where = values, where
        for name in values:
            choose(name, names.split(), f"entry of {where}")

    def number(self, name: str, default: float | None = None, low: float = -1e9, high: float = 1e9) -> float:
        return float(self.numbers(name, (), default, low, high))

    def count(self, name: str, default: int, high: int) -> int:
        value = self.number(name, default, 1, high)
        if value != int(value):
            raise InputError(f"{self.where}: {name} must be a whole number, not {value:g}.")
        return int(value)

    def numbers(self, name: str, shape: tuple[int, ...], default: Any = None, low=-1e9, high=1e9) -> np.ndarray:
        """Return an array of a shape (-1: any size). One number stands for a colour of three equal ones."""
        value = self.values.get(name, default)
        if value is None:
            raise InputError(f"{self.where} lacks {name}.")
        try:
            found = np.asarray(value, np.float64)
        except (ValueError, TypeError, OverflowError):
            found = np.full(1, np.nan)
        if found.ndim == 0 and shape == (3,):
            found = np.full(3, found)
        fits = found.ndim == len(shape) and all(b in (-1, a) for a, b in zip(found.shape, shape, strict=True))
        if not fits or not np.isfinite(found).all():
            size = " x ".join("n" if each < 0 else str(each) for each in shape) or "one"
            raise InputError(f"{self.where}: {name} must be {size} finite numbers, not {json.dumps(value)[:60]}.")
        if found.size and (found.min() < low or found.max() > high):
            wrong = found.min() if found.min() < low else found.max()
            raise InputError(f"{self.where}: {name} must be from {low:g} to {high:g}, not {wrong:g}.")
        return found

    def text(self, name: str, names: Any, default: str = "") -> str:
        value = self.values.get(name, default)
        if not value:
            raise InputError(f"{self.where} lacks {name}: {', '.join(names)}.")
        return choose(str(value), names, f"{name} of {self.where}")


def open_scene(name: str | Path, size: tuple[int, int] | None = None) -> SceneFile:
    """Return the scene of a JSON file, or a built-in one by its name. size: another (width, height)."""
    path = BUILT_IN.get(str(name), Path(name))
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(BUILT_IN)
        raise InputError(f"{name} can't be read: {error.strerror}. Name a scene file, or one of: {known}.") from error
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{name} is no JSON: {str(error).partition(chr(10))[0]}.") from error
    return read_scene(values, str(name), path.parent, size)


def read_scene(values: Any, name: str, folder: Path, size: tuple[int, int] | None = None) -> SceneFile:
    """Return the scene of a JSON object. Raises InputError, one sentence for each kind of mistake.

    folder: where the files that it names lie
    """
    top = Reader(values, name, "camera render materials shapes environment")
    how = Reader(values.get("render", {}), f"{name}, render", "depth samples")
    materials = top.values.get("materials", {})
    if not isinstance(materials, dict):
        raise InputError(f"{name}: materials must be an object of materials by name.")
    rows = [_material(each, f"{name}, material {key!r}") for key, each in materials.items()]
    shapes = top.values.get("shapes", [])
    if not isinstance(shapes, list):
        raise InputError(f"{name}: shapes must be a list.")
    triangles, spheres, owners, emission = [np.zeros((0, 3, 3))], [np.zeros((0, 4))], ([], []), []
    for number, shape in enumerate(shapes):
        own, is_sphere, material, light = _shape(shape, f"{name}, shape {number + 1}", list(materials), folder)
        if rows[material]["kind"] == DIELECTRIC and not is_sphere and (edges := meshes.open_edges(own)):
            what = f"{name}, shape {number + 1}: a dielectric needs a closed surface, and this mesh is open"
            raise InputError(f"{what} ({edges} edges do not join two triangles of the same orientation).")
        (spheres if is_sphere else triangles).append(own)
        owners[is_sphere].append((len(own), material, number))
        emission.append(light)
    flat, balls = np.concatenate(triangles), np.concatenate(spheres)
    if not len(flat) + len(balls):
        raise InputError(f"{name} has no shapes.")
    if len(flat) > MOST_TRIANGLES:
        raise InputError(f"{name} has {len(flat):,} triangles: at most {MOST_TRIANGLES:,} can be rendered.")
    every = [*owners[False], *owners[True]]
    material, shape = (np.concatenate([np.full(n, row[i]) for n, *row in every]) for i in range(2))
    radiances, sky = np.array(emission), _environment(top, folder)
    if not radiances.any() and not sky.any():
        raise InputError(f"{name} has no light: give a shape an emission, or the scene an environment.")
    tables = light_tables(flat, balls, shape, radiances, sky)
    arrays = {"triangles": flat, "spheres": balls, "material": material, "shape": shape, "emission": radiances}
    arrays |= {key: np.stack([row[key] for row in rows]) for key in rows[0]} | {"environment": sky} | tables
    kinds = {"f": jnp.float32, "i": jnp.int32, "b": jnp.bool_}
    found = {key: jnp.asarray(each, kinds[each.dtype.kind]) for key, each in arrays.items()}
    view = _camera(top, name, size)
    return SceneFile(Scene(camera=view, **found), how.count("depth", 8, 1000), how.count("samples", 64, 2**20))


def _material(values: Any, where: str) -> dict[str, np.ndarray]:
    read = Reader(values, where, "kind albedo one_sided ior eta k")
    kind = KINDS.index(read.text("kind", KINDS))
    metal, glass = kind == KINDS.index("conductor"), kind == DIELECTRIC
    eta = np.full(3, read.number("ior", 1.5, 1, 10)) if glass else read.numbers("eta", (3,), GOLD[0], 1e-3, 100)
    return {
        "kind": np.asarray(kind),
        "albedo": read.numbers("albedo", (3,), 1 if metal or glass else None, 0, 1),
        "one_sided": np.asarray(bool(read.values.get("one_sided", False))),
        "eta": eta,
        "k": read.numbers("k", (3,), GOLD[1], 0, 100),
    }


def _shape(values: Any, where: str, materials: list[str], folder: Path) -> tuple[np.ndarray, bool, int, np.ndarray]:
    """Return the triangles [t 3 3] or spheres [1 4] of a shape, whether it is a sphere, its material and emission."""
    read = Reader(values, where, "name kind material emission matrix center radius vertices faces file")
    kind = read.text("kind", ("sphere", "rectangle", "box", "mesh"))
    material = materials.index(read.text("material", materials))
    emission = read.numbers("emission", (3,), 0, 0)
    if kind == "sphere":
        radius = read.number("radius", 1, 1e-6)
        return np.append(read.numbers("center", (3,)), radius)[None], True, material, emission
    if kind == "mesh" and "file" in read.values:
        vertices, faces = meshes.read_obj(folder / str(read.values["file"]))
    elif kind == "mesh":
        vertices = read.numbers("vertices", (-1, 3))
        faces = read.numbers("faces", (-1, 3), None, 0, len(vertices) - 1).astype(int)
    else:
        vertices, faces = meshes.RECTANGLE if kind == "rectangle" else meshes.BOX
    matrix = read.numbers("matrix", (4, 4), np.eye(4).tolist())
    if abs(np.linalg.det(matrix[:3, :3])) < 1e-12 or not np.array_equal(matrix[3], [0, 0, 0, 1]):
        raise InputError(f"{where}: its matrix must be invertible, with 0 0 0 1 as the last row.")
    triangles = (vertices @ matrix[:3, :3].T + matrix[:3, 3])[faces]  # [t 3 3]
    if not len(triangles):
        raise InputError(f"{where} has no triangles.")
    if len(flat := meshes.zero_area(triangles)):
        raise InputError(f"{where}: triangle {flat[0] + 1} has no area.")
    return triangles, False, material, emission


def _environment(top: Reader, folder: Path) -> np.ndarray:
    """Return the environment f[h w 3]: of a colour, or of a .npy file."""
    value = top.values.get("environment", 0)
    if not isinstance(value, dict):
        return top.numbers("environment", (3,), 0, 0)[None, None]
    read = Reader(value, f"{top.where}, environment", "file scale")
    path = folder / str(read.values.get("file", ""))
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{read.where}: {path} can't be read as a .npy of radiance [h w 3].") from error
    if found.ndim != 3 or found.shape[2] != 3 or found.dtype.kind != "f" or not np.isfinite(found).all():
        raise InputError(f"{read.where}: {path} must hold finite floats [h w 3], not {found.dtype} {found.shape}.")
    if found.min() < 0:
        raise InputError(f"{read.where}: {path} has negative radiance.")
    return found.astype(np.float64) * read.number("scale", 1, 0)


def _camera(top: Reader, name: str, size: tuple[int, int] | None):
    read = Reader(top.values.get("camera"), f"{name}, camera", "origin target up fov width height")
    origin, target = read.numbers("origin", (3,)), read.numbers("target", (3,))
    up = read.numbers("up", (3,), [0, 1, 0])
    if np.linalg.norm(np.cross(target - origin, up)) < 1e-9:
        raise InputError(f"{read.where}: target must differ from origin, and not in the direction of up.")
    width, height = size or (read.count("width", 256, 2**16), read.count("height", 256, 2**16))
    if width * height > MOST_PIXELS:
        raise InputError(f"{read.where}: {width} x {height} are more than {MOST_PIXELS:,} pixels.")
    return camera(origin, target, up, read.number("fov", 40, 1, 170), height, width)
