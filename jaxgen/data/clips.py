"""The clip of a model: how many frames of which size, and how they are divided among its arrays."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxgen.core.errors import InputError
from jaxgen.core.spec import Example


class ClipShape(NamedTuple):
    """The frames of each array of kind video, in order: {"past": 10, "future": 10}; the height, width and channels."""

    parts: Mapping[str, int]
    height: int
    width: int
    channels: int

    @property
    def frames(self) -> int:
        return sum(self.parts.values())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.parts)

    def cut(self, frames: Any) -> dict[str, Any]:
        """Return the consecutive parts of a clip, an array or a list of frames, by their names."""
        found, start = {}, 0
        for name, count in self.parts.items():
            found[name] = frames[start : start + count]
            start += count
        return found


def clip_shape(example: Example, default: tuple[int, int, int, int]) -> ClipShape:
    """Return the clip of a model's specs; "video" of shape `default` [t h w c] where they have no video.

    Raises InputError for sizes that are unknown or differ.
    """
    shapes: Any = {name: spec.shape for name, spec in example.items() if spec.kind == "video"} or {"video": default}
    first: Any = next(iter(shapes.values()))
    for name, shape in shapes.items():
        if any(isinstance(size, str) for size in shape):
            raise InputError(f"The model takes {name!r} of any size {shape}: training on clips needs numbers.")
        if shape[1:] != first[1:]:
            raise InputError(f"The model's videos must have frames of one size, not {first[1:]} and {shape[1:]}.")
    return ClipShape({name: shape[0] for name, shape in shapes.items()}, *first[1:])
