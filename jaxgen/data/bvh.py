"""BVH files: a skeleton and its motion as text. Each joint has channels of its own, in an order of its own."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.data.skeleton import Motion, Skeleton
from jaxgen.nn import rotations

CHANNELS = tuple(f"{axis}{kind}" for kind in ("position", "rotation") for axis in "XYZ")
END = "_end"  # the name of an end site is that of its parent with this
LARGEST = 2**31  # bytes of a file


@dataclass(frozen=True)
class Bvh:
    """A BVH file, each of its values as it was written.

    skeleton:   end sites are joints that do not turn, named after their parents: "head_end"
    channels:   of each joint, such as ("Zrotation", "Xrotation", "Yrotation"); (): none, as of end sites
    ends:       which joints are end sites
    values:     f64[t c], of all channels in order; angles in degrees
    frame_time: seconds
    """

    skeleton: Skeleton
    channels: tuple[tuple[str, ...], ...]
    ends: tuple[bool, ...]
    values: np.ndarray
    frame_time: float

    @property
    def motion(self) -> Motion:
        """The motion: rotations by the order of each joint's channels.

        A position of the root is its place, and its offset is not added; that of another joint replaces its offset.
        This is how other programs write and read it.
        """
        frames, joints = len(self.values), len(self.skeleton)
        turned = np.broadcast_to(np.eye(3), (frames, joints, 3, 3)).copy()
        shifts = np.zeros((frames, joints, 3))
        column = 0
        for joint, names in enumerate(self.channels):
            values = self.values[:, column : column + len(names)]
            column += len(names)
            for i, name in enumerate(names):
                if name.endswith("position"):
                    axis = "XYZ".index(name[0])
                    shifts[:, joint, axis] = values[:, i] - self.skeleton.offsets[joint, axis]
            turns = [i for i, name in enumerate(names) if name.endswith("rotation")]
            for i in reversed(turns):  # each axis once, in any number and order
                turned[:, joint] = rotations.about(np.radians(values[:, i]), names[i][0]) @ turned[:, joint]
        moved = shifts[:, 1:].any()
        root = shifts[:, 0].copy()
        shifts[:, 0] = 0
        return Motion(self.skeleton, turned, root, 1 / self.frame_time, shifts if moved else None)

    def with_motion(self, motion: Motion) -> "Bvh":
        """Return the file with another motion of its skeleton: the channels stay, in the order that each joint has."""
        columns = []
        offsets = self.skeleton.offsets
        for joint, names in enumerate(self.channels):
            order = "".join(name[0] for name in names if name.endswith("rotation"))
            if len(order) not in (0, 3):
                raise InputError(f"Joint {self.skeleton.names[joint]!r} has {len(order)} rotations: it needs 3.")
            angles = np.degrees(rotations.matrix_to_euler(motion.rotations[:, joint], order)) if order else None
            shift = (
                motion.root
                if joint == 0
                else (motion.shifts[:, joint] if motion.shifts is not None else 0 * motion.root)
            )
            for name in names:
                axis = "XYZ".index(name[0])
                if name.endswith("position"):
                    columns.append(shift[:, axis] + offsets[joint, axis])
                elif angles is not None:
                    columns.append(angles[:, order.index(name[0])])
        values = np.stack(columns, 1) if columns else np.zeros((len(motion), 0))
        return Bvh(self.skeleton, self.channels, self.ends, values, 1 / motion.rate)


def bvh_of(motion: Motion, order: str = "ZXY") -> Bvh:
    """Return a BVH file of a motion: all joints with children turn by `order`, the root has a place as well."""
    skeleton = motion.skeleton
    inner = [i in skeleton.parents for i in range(len(skeleton))]
    turns = tuple(f"{axis}rotation" for axis in order)
    places = CHANNELS[:3]
    moved = motion.shifts is not None
    channels = tuple(
        (*places, *turns) if i == 0 or (moved and inside) else turns if inside else () for i, inside in enumerate(inner)
    )
    # A BVH file lists the children of a joint right behind it.
    rows = _depth_first(skeleton.parents)
    number = {joint: i for i, joint in enumerate(rows)}
    parents = tuple(number[skeleton.parents[joint]] if skeleton.parents[joint] >= 0 else -1 for joint in rows)
    names = tuple(skeleton.names[joint] for joint in rows)
    ordered = Skeleton(names, parents, skeleton.offsets[rows])
    shifts = None if motion.shifts is None else motion.shifts[:, rows]
    same = Motion(ordered, motion.rotations[:, rows], motion.root, motion.rate, shifts)
    blank = Bvh(ordered, tuple(channels[j] for j in rows), tuple(not inner[j] for j in rows), np.zeros((1, 0)), 1.0)
    return blank.with_motion(same)


def _depth_first(parents: tuple[int, ...]) -> list[int]:
    rows, left = [], [parents.index(-1)]
    while left:
        joint = left.pop()
        rows.append(joint)
        left += [child for child in reversed(range(len(parents))) if parents[child] == joint]
    return rows


def read(path: Path) -> Bvh:
    """Return a BVH file. Raises InputError, which names what is wrong and where."""
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path} has {path.stat().st_size:,} bytes: a .bvh file of that size is not read.")
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from error
    try:
        return parse(text)
    except InputError as error:
        raise InputError(f"{path} can't be used: {_begin(str(error))}") from error


def _begin(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:] if sentence[1:2].islower() else sentence


def parse(text: str) -> Bvh:
    """Return the BVH file of a text. Raises InputError."""
    head, found, tail = (
        re.split(r"(^\s*MOTION\b)", text, maxsplit=1, flags=re.M) if "MOTION" in text else (text, "", "")
    )
    if not head.lstrip().startswith("HIERARCHY") or not found:
        raise InputError("It is no BVH file: it needs the parts HIERARCHY and MOTION.")
    skeleton, channels, ends = _hierarchy(head)
    values, frame_time = _frames(tail, channels, skeleton)
    return Bvh(skeleton, channels, ends, values, frame_time)


def _hierarchy(text: str) -> tuple[Skeleton, tuple[tuple[str, ...], ...], tuple[bool, ...]]:
    words = re.findall(r"\{|\}|[^\s{}]+", text)[1:]
    names: list[str] = []
    parents: list[int] = []
    offsets: dict[int, list[float]] = {}
    channels: dict[int, tuple[str, ...]] = {}
    ends: list[bool] = []
    open_joints: list[int] = []
    at = 0

    def take(count: int, what: str) -> list[str]:
        nonlocal at
        if at + count > len(words):
            raise InputError(f"The HIERARCHY ends within {what}.")
        at += count
        return words[at - count : at]

    while at < len(words):
        word = take(1, "a joint")[0]
        if word in ("ROOT", "JOINT", "End"):
            if (word == "ROOT") == bool(open_joints):
                raise InputError(f"A {word} stands {'inside a joint' if open_joints else 'outside the root'}.")
            if word == "ROOT" and names:
                raise InputError("It has two ROOTs: save each figure as a file of its own.")
            name = []
            while at < len(words) and words[at] not in "{}":  # a name may have spaces
                name += take(1, "a name")
            take(1, f"joint {' '.join(name)!r}")
            parent = open_joints[-1] if open_joints else -1
            full = f"{names[parent]}{END}" if word == "End" else " ".join(name)
            if word == "End" and full in names:
                full += str(sum(other.startswith(full) for other in names) + 1)
            open_joints.append(len(names))
            names.append(full)
            parents.append(parent)
            ends.append(word == "End")
        elif word == "}":
            if not open_joints:
                raise InputError("A '}' closes no joint.")
            open_joints.pop()
        elif word == "OFFSET" and open_joints:
            offsets[open_joints[-1]] = [_number(x, "an OFFSET") for x in take(3, "an OFFSET")]
        elif word == "CHANNELS" and open_joints:
            count = int(_number(take(1, "CHANNELS")[0], "the number of CHANNELS"))
            channels[open_joints[-1]] = tuple(_channel(x) for x in take(count, "CHANNELS"))
            if len(set(channels[open_joints[-1]])) < count:
                raise InputError(f"Joint {names[open_joints[-1]]!r} has a channel twice.")
        else:
            raise InputError(f"The HIERARCHY has an unexpected {word!r}.")
    if open_joints:
        raise InputError(f"Joint {names[open_joints[-1]]!r} is not closed by a '}}'.")
    if not names:
        raise InputError("The HIERARCHY has no ROOT.")
    for joint, name in enumerate(names):
        if joint not in offsets:
            raise InputError(f"Joint {name!r} has no OFFSET.")
        if joint not in channels and not ends[joint]:
            raise InputError(f"Joint {name!r} has no CHANNELS.")
    listed = tuple(channels.get(joint, ()) for joint in range(len(names)))
    turns = tuple(any(c.endswith("rotation") for c in some) for some in listed)
    array = np.asarray([offsets[joint] for joint in range(len(names))], np.float64)
    return Skeleton(tuple(names), tuple(parents), array, turns), listed, tuple(ends)


def _channel(word: str) -> str:
    found = next((name for name in CHANNELS if name.lower() == word.lower()), None)
    if found is None:
        raise InputError(f"The channel {word!r} is unknown: channels are {', '.join(CHANNELS)}.")
    return found


def _number(word: str, what: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise InputError(f"{word!r} in {what} is no number.") from None


def _frames(text: str, channels: tuple[tuple[str, ...], ...], skeleton: Skeleton) -> tuple[np.ndarray, float]:
    match = re.match(r"\s*Frames:\s*(\S+)\s+Frame\s+Time:\s*(\S+)", text, re.I)
    if not match:
        raise InputError("The MOTION needs 'Frames: N' and 'Frame Time: SECONDS'.")
    count, frame_time = _number(match[1], "Frames"), _number(match[2], "Frame Time")
    if count < 1 or count != int(count):
        raise InputError(f"It has {match[1]} frames: at least one is needed.")
    if not 0 < frame_time < np.inf:
        raise InputError(f"Its Frame Time is {match[2]}: it must be a positive number of seconds.")
    width = sum(map(len, channels))
    lines = [line.split() for line in text[match.end() :].splitlines() if line.strip()]
    if width == 0:
        return np.zeros((int(count), 0)), frame_time
    if len(lines) != count:
        raise InputError(f"It declares {int(count)} frames and has {len(lines)}.")
    for i, line in enumerate(lines):
        if len(line) != width:
            raise InputError(f"Frame {i} has {len(line)} values, and its joints have {width} channels.")
    try:
        values = np.asarray(lines, np.float64)
    except ValueError as error:
        raise InputError(f"A frame has a value that is no number ({error}).") from None
    if not np.isfinite(values).all():
        i, j = (int(x[0]) for x in np.nonzero(~np.isfinite(values)))
        owner = np.repeat(np.arange(len(channels)), [len(c) for c in channels])[j]
        raise InputError(f"Frame {i} has a value of joint {skeleton.names[owner]!r} that is not finite.")
    return values, frame_time


def text_of(bvh: Bvh) -> str:
    """Return the text of a BVH file. Each number is the shortest that is read again as the same one."""
    skeleton, lines = bvh.skeleton, ["HIERARCHY"]
    show = lambda values: " ".join(np.format_float_positional(x, trim="-") for x in values)  # noqa: E731

    def write(joint: int, depth: int):
        tab = "  " * depth
        word = "ROOT" if depth == 0 else "JOINT"
        lines.append(f"{tab}End Site" if bvh.ends[joint] else f"{tab}{word} {skeleton.names[joint]}")
        lines.append(f"{tab}{{")
        lines.append(f"{tab}  OFFSET {show(skeleton.offsets[joint])}")
        if not bvh.ends[joint]:
            lines.append(" ".join([f"{tab}  CHANNELS {len(bvh.channels[joint])}", *bvh.channels[joint]]))
        for child, parent in enumerate(skeleton.parents):
            if parent == joint:
                write(child, depth + 1)
        lines.append(f"{tab}}}")

    write(0, 0)
    lines += ["MOTION", f"Frames: {len(bvh.values)}", f"Frame Time: {show([bvh.frame_time])}"]
    return "\n".join([*lines, *(show(row) for row in bvh.values)]) + "\n"
