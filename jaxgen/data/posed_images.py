"""Images with their cameras: a folder or .tar with transforms.json, as NeRF's and Instant-NGP's data sets have it."""

import json
import math
import sys
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from jaxgen.core.errors import InputError, choose
from jaxgen.core.memory import check_size
from jaxgen.data import image_files
from jaxgen.data.image_decoding import decode
from jaxgen.data.transforms import pixels_of, reduce_channels

HELD_OUT = 8  # without lists of their own, every eighth image is of the split "test"
SUFFIXES = ("", ".png", ".jpg", ".jpeg")  # of a path that is given without one
LENS = ("k1", "k2", "p1", "p2")


class PosedImages:
    """Images u8[h w c], and their cameras f32[5 4] as rendering/posed_rays.py describes them.

    The frames are those of transforms_SPLIT.json, or of transforms.json. Images that are missing are left out, and
    their number is printed. Transparent images are laid over white. All have the same size.

    image: the model's height and width, by which a central crop changes the cameras
    """

    classes = ()

    def __init__(self, path: Path, split: str, image: tuple[int, ...] | None, crop: str):
        self.files = _Files(path)
        where, frames = _frames(self.files, split)
        self.names, cameras, self.stamps = [], [], {}
        size, missing = None, 0
        for number, frame in enumerate(frames):
            what = f"{where}, frame {number + 1}"
            name = self.files.find(_text(frame, what))
            if name is None:
                missing += 1
                continue
            found = self.files.size(name)
            if size not in (None, found):
                raise InputError(f"{self.files.path}: {name} is {found[0]}x{found[1]}, others are {size[0]}x{size[1]}.")
            size = found
            cameras.append(_camera(frame, size, image if crop == "center" else None, what))
            self.names.append(name)
            self.stamps[name] = self.files.bytes(name)
        if not self.names:
            raise InputError(f"None of the {len(frames)} images that {where} names is there.")
        if missing:
            left = f"missing; {len(self.names)} are read."
            print(f"{missing} of the {len(frames)} images that {where} names are {left}", file=sys.stderr)
        self.cameras = np.stack(cameras)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict:
        name = self.names[index]
        try:
            pixels = pixels_of(decode(self.files.read(name)))
        except Exception as error:  # Pillow raises many kinds
            raise InputError(f"{self.files.path}: {name} can't be read: {image_files.reason(error)}.") from error
        clear = pixels.shape[2] in (2, 4)
        return {"image": reduce_channels(pixels, 3) if clear else pixels, "camera": self.cameras[index]}


class _Files:
    """The files of a folder or of a .tar, by their paths relative to the place of the lists of frames."""

    def __init__(self, path: Path):
        self.path, self.packed, self.root = path, None, path
        if path.is_file():
            try:
                with tarfile.open(path) as tar:
                    members = [each for each in tar.getmembers() if each.isfile()]
                    check_size(sum(each.size for each in members), path.stat().st_size, str(path))
                    found = {str(PurePosixPath(each.name)): each for each in members}
                    packed = {name: tar.extractfile(each).read() for name, each in found.items()}  # pyright: ignore
            except (tarfile.TarError, OSError, EOFError) as error:
                raise InputError(f"{path} is neither a folder nor a .tar that can be read.") from error
            lists = sorted((name.count("/"), name) for name in packed if _is_list(PurePosixPath(name).name))
            root = lists[0][1].rpartition("/")[0] if lists else ""
            cut = len(root) + bool(root)
            self.packed = {name[cut:]: data for name, data in packed.items() if name.startswith(root)}

    @property
    def lists(self) -> list[str]:
        names = [each.name for each in self.root.iterdir()] if self.packed is None else self.packed
        return sorted(name for name in names if _is_list(name))

    def find(self, name: str) -> str | None:
        """Return the name of a file that is there, with its suffix, or None."""
        plain = str(PurePosixPath(name.replace("\\", "/")))
        for suffix in SUFFIXES:
            path = plain + suffix
            if (path in self.packed) if self.packed is not None else (self.root / path).is_file():
                return path
        return None

    def read(self, name: str) -> bytes:
        return self.packed[name] if self.packed is not None else image_files.read(self.root / name)

    def bytes(self, name: str) -> int:
        return len(self.packed[name]) if self.packed is not None else (self.root / name).stat().st_size

    def size(self, name: str) -> tuple[int, int]:
        """Return an image's width and height."""
        try:
            with image_files.opened(self.packed[name] if self.packed is not None else self.root / name) as image:
                turned = image.getexif().get(image_files.ORIENTATION, 1) in (5, 6, 7, 8)
                width, height = image.size
                return (height, width) if turned else (width, height)
        except Exception as error:
            raise InputError(f"{self.path}: {name} can't be read: {image_files.reason(error)}.") from error


def _is_list(name: str) -> bool:
    return name.startswith("transforms") and name.endswith(".json")


def _frames(files: _Files, split: str) -> tuple[str, list[dict]]:
    """Return the name of a split's list, and its frames, each with what the list says of all of them."""
    lists = files.lists
    own = f"transforms_{split}.json"
    whole = "transforms.json"
    if own not in lists and whole not in lists:
        known = [name[len("transforms_") : -len(".json")] for name in lists if name.startswith("transforms_")]
        if not known:
            raise InputError(f"{files.path} has no transforms.json or transforms_train.json.")
        choose(split, known, f"split of {files.path}")
    name = own if own in lists else whole
    try:
        values = json.loads(files.read(name))
    except (ValueError, RecursionError, OSError) as error:
        raise InputError(f"{files.path}: {name} is no JSON: {str(error).partition(chr(10))[0]}.") from error
    frames = values.get("frames") if isinstance(values, dict) else None
    if not isinstance(frames, list) or not frames or not all(isinstance(each, dict) for each in frames):
        raise InputError(f"{files.path}: {name} has no frames.")
    if name == whole and split != "all":
        choose(split, ("train", "test", "all"), f"split of {files.path}")
        frames = [each for number, each in enumerate(frames) if (number % HELD_OUT == 0) == (split == "test")]
    rest = {key: value for key, value in values.items() if key != "frames"}
    return f"{files.path}/{name}", [{**rest, **each} for each in frames]


def _text(frame: dict, what: str) -> str:
    if not isinstance(name := frame.get("file_path"), str) or not name:
        raise InputError(f"{what} has no file_path.")
    return name


def _number(frame: dict, name: str, default: float | None, what: str) -> float:
    value = frame.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:  # never for NaN
        raise InputError(f"{what}: {name} must be a finite number, not {json.dumps(value)[:40]}.")
    return float(value)


def _camera(frame: dict, size: tuple[int, int], fitted: tuple[int, ...] | None, what: str) -> np.ndarray:
    """Return a camera f32[5 4]. size: the image's width and height; fitted: those to whose ratio it is cropped."""
    width, height = (_number(frame, name, side, what) for name, side in zip("wh", size, strict=True))
    if min(width, height) < 1 or abs(width / height * size[1] / size[0] - 1) > 0.01:
        raise InputError(f"{what} is of {width:g}x{height:g}, and its image of {size[0]}x{size[1]}.")
    if "fl_x" in frame:
        across = _number(frame, "fl_x", None, what)
    else:
        angle = _number(frame, "camera_angle_x", None, what)
        if not 0 < angle < math.pi:
            raise InputError(f"{what}: camera_angle_x must be between 0 and pi, not {angle:g}.")
        across = width / 2 / math.tan(angle / 2)
    down = _number(frame, "fl_y", across, what)
    if min(across, down) <= 0:
        raise InputError(f"{what}: focal lengths must be above 0, not {across:g} and {down:g}.")
    centre = _number(frame, "cx", width / 2, what), _number(frame, "cy", height / 2, what)
    lens = [_number(frame, name, 0, what) for name in LENS]
    pose = _pose(frame.get("transform_matrix"), what)
    # The part of the image that a central crop leaves, as `transforms.resize` takes it.
    seen = np.array([width, height])
    if fitted:
        seen = np.array(fitted[1::-1]) * min(height / fitted[0], width / fitted[1])
    start = (np.array([width, height]) - seen) / 2
    row = [across / seen[0], down / seen[1], *((np.array(centre) - start) / seen)]
    return np.concatenate([pose[:3], [row], [lens]]).astype(np.float32)


def _pose(value: Any, what: str) -> np.ndarray:
    try:
        pose = np.asarray(value, np.float64)
    except (ValueError, TypeError, OverflowError):
        pose = np.zeros(0)
    if pose.shape not in ((3, 4), (4, 4)) or not np.isfinite(pose).all():
        raise InputError(f"{what}: transform_matrix must be 4 x 4 finite numbers.")
    turn = pose[:3, :3]
    scale = abs(np.linalg.det(turn)) ** (1 / 3)
    if scale < 1e-6 or np.abs(turn.T @ turn / scale**2 - np.eye(3)).max() > 0.02:
        raise InputError(f"{what}: transform_matrix must be a rotation and a place; it is singular, or it shears.")
    return np.concatenate([turn / scale, pose[:3, 3:]], 1)
