"""The parts of `Model` that its methods share: nets, compiled functions, and batches of what a caller gives."""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.class_names import class_numbers
from jaxgen.core.errors import InputError
from jaxgen.core.spec import AXES, image_of
from jaxgen.core.task import Task
from jaxgen.core.types import averaged
from jaxgen.data.transforms import to_float, to_size
from jaxgen.inference import sampling
from jaxgen.inference.user_images import is_pillow, taken
from jaxgen.media.photo import quantised

Labels = str | int | Sequence[int] | Sequence[str] | np.ndarray | None


def in_words(method: Callable) -> Callable:
    """Return a method whose errors name arguments as Python has them, not as a command has its options."""

    @functools.wraps(method)
    def call(*args, **rest):
        try:
            return method(*args, **rest)
        except InputError as error:
            text = re.sub(r"--([a-z][a-z-]*)", lambda match: match[1].replace("-", "_"), str(error))
            raise InputError(text) from None

    return call


class Opened:
    """A trained model that has been opened.

    name:   what `load` was called with
    opened: its settings, task and state (runs/load.py); None: an interpolation or the deep image prior
    """

    def __init__(self, name: str, opened: Any):
        self.name, self.opened = name, opened
        self._made: dict[Any, Any] = {}  # compiled functions and the like

    @property
    def preset(self) -> str:
        """The preset that it is of; "" for an interpolation."""
        return self.opened.run.preset if self.opened else ""

    @property
    def task(self) -> Task:
        """Its task: `model.task.get(Transform)` is a pure function. Raises InputError where it has none."""
        if self.opened is None:
            raise InputError(f"{self.name} is no trained model.")
        return self.opened.task

    @property
    def nets(self) -> tuple[Any, Any]:
        """The first two arguments of every function of the task: params and context, of the averaged weights."""
        self._load_frozen()
        return averaged(self.opened.state, self.opened.frozen)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of its classes, or their numbers; () for an unconditional model."""
        task = self.task
        names = task.example["label"].names if "label" in task.example else ()
        return names or tuple(map(str, range(task.classes)))

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _load_frozen(self) -> bool:
        """Load the nets that are never trained; return whether there are any that were not loaded yet."""
        if self.opened is None or not (missing := self.task.frozen.keys() - self.opened.frozen.keys()):
            return False
        loaded = {net: jax.device_put(self.task.frozen[net]()) for net in missing}
        self.opened = self.opened._replace(frozen={**self.opened.frozen, **loaded})
        self._made.clear()
        return True

    def _with_frozen(self, work: Callable[[Any], Any]) -> Any:
        """Return work(opened); nets that are never trained are loaded when they are missed: few uses need them.

        Raises InputError where a net is missed that the file of weights does not have.
        """
        try:
            return work(self.opened)
        except KeyError as error:
            net = error.args[0] if error.args else None
            if self.opened is None or net not in {*self.task.frozen, *nets_of(self.task)}:
                raise
            if net in self.task.frozen and self._load_frozen():
                return work(self.opened)
            raise InputError(f"{self.name} has no weights of the {net}, and this needs them.") from error

    def _run(self, key: Any, f: Callable, *args: Any) -> Any:
        jitted = self._once(key, lambda: jax.jit(f))
        return self._with_frozen(lambda opened: jitted(*averaged(opened.state, opened.frozen), *args))

    def _batch(self, images: Any, labels: Labels, labelled: bool = True) -> dict[str, Any]:
        """Return images and labels as a batch of examples."""
        name, spec = next(iter(self.task.example.items()))
        if spec.kind == "image":
            x = self._images(images, image_of(self.task))
        else:
            x = np.asarray(images, spec.dtype)
            if x.shape[1:] != spec.shape:
                axes = f"[b {AXES[spec.kind]}] of {['b', *spec.shape]}"
                raise InputError(f"{self.name} takes {spec.kind} {axes}, not {list(x.shape)}.")
        return {name: jnp.asarray(x), **(self._labels(labels, len(x)) if labelled else {})}

    def _images(self, images: Any, shape: tuple[int, int, int]) -> np.ndarray:
        found = []
        resized = is_pillow(images)
        for photo in taken(images).photos:
            x = photo.pixels
            if resized and x.shape != shape:
                u8 = quantised(x, 8)
                alpha = () if photo.alpha is None else (photo.alpha.astype(np.uint8),)
                crop = "none" if self.opened.run.data.crop in ("none", "jitter") else "center"
                x = to_float(to_size(np.concatenate([u8, *alpha], 2), shape, crop))
            if x.shape != shape:
                size, wanted = ("x".join(map(str, some)) for some in (x.shape, shape))
                raise InputError(f"{self.name} takes images of {wanted}, not of {size}; Pillow images are resized.")
            found.append(x)
        return np.stack(found)

    def _labels(self, labels: Labels, count: int) -> dict[str, Any]:
        if not self.task.classes:
            sampling.classes_of(self.task, text_of(labels))  # says that it takes none
            return {}
        if labels is None:
            raise InputError(f"{self.name} is conditional: give labels, of {', '.join(self.classes[:12])}.")
        numbers = class_numbers(text_of(labels) or "", self.task.example["label"].names, "labels", self.task.classes)
        if len(numbers) not in (1, count):
            raise InputError(f"There are {len(numbers)} labels for {count} examples: give one for each, or one.")
        return {"label": jnp.asarray(np.resize(np.asarray(numbers, np.int32), count))}


def text_of(labels: Labels) -> str | None:
    """Return labels as the commands write them: "cat,dog" or "0,1"."""
    if labels is None or isinstance(labels, str):
        return labels
    return ",".join(map(str, np.ravel(np.asarray(labels)).tolist()))


def nets_of(task: Task) -> set[str]:
    """Return the names of the nets of a task that are trained."""
    return {net for learner in task.learners.values() for net in learner.nets}
