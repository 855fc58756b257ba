"""Specs of examples: named arrays of known kinds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import jax
import numpy as np

from jaxgen.core.errors import InputError

Kind = Literal["image", "video", "audio", "tokens", "pose", "label", "camera"]
KINDS: tuple[str, ...] = get_args(Kind)
AXES = {"image": "h w c", "video": "t h w c", "audio": "t c", "tokens": "n", "pose": "t j d", "camera": "r c"}
FLOAT, INTEGER = np.dtype(np.float32), np.dtype(np.int32)


@dataclass(frozen=True)
class ArraySpec:
    """The kind, shape and dtype of one array of an example, without the batch axis.

    kind:     image [h w c] and video [t h w c] in [-1, 1], audio [t c] in [-1, 1], tokens i32[n], pose [t j d],
              label i32[], camera [r c]
    shape:    numbers, or names of axes of any size, such as ("h", "w", 3)
    multiple: the sizes of named axes but the last must be divisible by it
    allowed:  the sizes that a named axis may have, where they are few: {"c": (1, 3)}
    count:    labels and tokens are below it; 0: any
    names:    of the labels, where they have some; of a pose's joints; of the tokens of a text, the run's vocabulary
    rate:     frames or samples in a second
    parents:  of a pose, the number of each joint's parent, by which it is drawn; -1: the root, at 0
    offsets:  of a pose that is rotations [t j 6] (jaxgen/data/motion_clips), the bones of its skeleton, in metres
    optional: whether a transform works without it
    """

    kind: Kind
    shape: tuple[int | str, ...]
    dtype: np.dtype = FLOAT
    multiple: int = 1
    allowed: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    count: int = 0
    names: tuple[str, ...] = ()
    rate: float = 0.0
    parents: tuple[int, ...] = ()
    offsets: tuple[tuple[float, ...], ...] = ()
    optional: bool = False

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"An array's kind is one of {', '.join(KINDS)}, not {self.kind!r}.")
        object.__setattr__(self, "shape", tuple(self.shape))

    def sizes(self, axis: int) -> tuple[int, ...]:
        """Return the sizes that an axis may have; () stands for any."""
        size = self.shape[axis]
        return tuple(self.allowed.get(size, ())) if isinstance(size, str) else (size,)

    @property
    def fixed(self) -> tuple[int, ...]:
        """The sizes of all axes but the last, as height and width of an image; () where they may be any."""
        sizes = self.shape[:-1]
        return () if any(isinstance(size, str) for size in sizes) else tuple(int(size) for size in sizes)


Example = Mapping[str, ArraySpec]


def image_spec(shape: tuple[int | str, ...], **more: Any) -> ArraySpec:
    """Return the spec of images of a shape (height, width, channels)."""
    return ArraySpec("image", shape, **more)


def any_image_spec(channels: tuple[int, ...], **more: Any) -> ArraySpec:
    """Return the spec of images of any height and width, that have one of these numbers of channels."""
    return ArraySpec("image", ("h", "w", "c"), allowed={"c": channels}, **more)


def label_spec(count: int = 0, names: tuple[str, ...] = (), **more: Any) -> ArraySpec:
    """Return the spec of a class: a number below `count`."""
    return ArraySpec("label", (), INTEGER, count=count or len(names), names=names, **more)


def kind_of(shape: Sequence[Any]) -> Kind:
    """Return the kind of pixels of a shape: an image (height, width, channels), or a video (frames, height, ...)."""
    return "image" if len(shape) == 3 else "video"


def labelled(shape: tuple[int, ...], classes: int) -> dict[str, ArraySpec]:
    """Return an example of an image or a video, called "image" or "video", and of a label where there are classes."""
    kind = kind_of(shape)
    return {kind: ArraySpec(kind, shape), **({"label": label_spec(classes)} if classes else {})}


def scaled(sizes: Sequence[Any], scale: float) -> tuple[Any, ...]:
    """Return height and width enlarged and rounded. Symbolic sizes (jax.export) can be enlarged by whole scales."""
    return tuple(size * int(scale) if scale == int(scale) else round(size * scale) for size in sizes)


def batch_of(example: Example, batch: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes and dtypes of a batch of examples."""
    return {name: jax.ShapeDtypeStruct((batch, *x.shape), x.dtype) for name, x in example.items()}  # pyright: ignore


def spec_of(task: Any, batch: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes and dtypes of a batch of a task's examples."""
    return batch_of(task.example, batch)


def image_of(task: Any) -> tuple[int, int, int]:
    """Return the height, width and channels of a task's images. Raises InputError where its examples have none."""
    if "image" not in task.example:
        kinds = ", ".join(f"{name} ({spec.kind})" for name, spec in task.example.items())
        raise InputError(f"This works on images, and the model's examples are {kinds}.")
    return task.example["image"].shape
