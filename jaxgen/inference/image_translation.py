"""Translation of images of any size by a trained net."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgen.core.class_names import class_number
from jaxgen.core.errors import InputError
from jaxgen.data.derived_sources import luma
from jaxgen.media.photo import Photo

if TYPE_CHECKING:
    from jaxgen.core.capabilities import Transform
    from jaxgen.core.spec import ArraySpec
    from jaxgen.core.task import Task


@dataclass
class Translator:
    """Translates images into domain number `to`. seed: of the answers of a stochastic model."""

    transform: "Transform"
    nets: tuple[Any, Any]
    to: int
    seed: int = 0

    def __post_init__(self):
        import jax

        self.translate = jax.jit(self.transform.apply)
        self.programs: dict[tuple[int, ...], Any] = {}  # by the shape of the image

    def prepared(self, photo: Photo, name: str, side: int | None = None) -> np.ndarray:
        """Return an image as the model takes it, f32[h w c], with a shorter side of `side` pixels if that is given.

        name: of the image in errors. Raises InputError for one that is too small.
        """
        x, (channels,) = photo.pixels, self.transform.source.sizes(-1)
        if photo.alpha is not None:
            share = photo.alpha.astype(np.float32) / np.iinfo(photo.alpha.dtype).max
            x = x * share + (1 - share)  # white is 1
        if channels == 1 and x.shape[2] == 3:
            x = luma(x[None])[0][..., None]
        elif channels != x.shape[2]:
            x = np.repeat(x[..., :1], channels, 2)
        x = shrunk(x, side) if side else x
        height, width = x.shape[:2]
        if min(height, width) < (least := self.transform.source.multiple):
            raise InputError(
                f"{name} is {height}x{width}: this model has stride-2 stages and needs at least {least}x{least}. Write "
                f"--side {least}."
            )
        return x

    def translated(self, x: np.ndarray, number: int = 0, check: Callable[[float], Any] | None = None) -> np.ndarray:
        """Return the answer `number` f32[h w c] to a prepared image. `check` is called with the bytes that it takes.

        Meanwhile mirrored pixels pad the sides to multiples that the net takes.
        """
        import jax
        import jax.numpy as jnp

        from jaxgen.core import rng

        height, width, _ = x.shape
        grain = self.transform.source.multiple
        grown = np.pad(x, ((0, -height % grain), (0, -width % grain), (0, 0)), "symmetric")
        keys = rng.sample_keys(jax.random.key(self.seed), jnp.arange(number, number + 1))
        inputs = {"source": grown[None].astype(np.float32), "to": jnp.full(1, self.to, jnp.int32)}
        if grown.shape not in self.programs:
            self.programs[grown.shape] = self.translate.lower(*self.nets, inputs, keys).compile()
        program = self.programs[grown.shape]
        if check is not None and (plan := program.memory_analysis()) is not None:
            check(plan.temp_size_in_bytes + plan.output_size_in_bytes)
        return np.asarray(program(*self.nets, inputs, keys)["image"], np.float32)[0, :height, :width]


def shrunk(x: np.ndarray, side: int) -> np.ndarray:
    """Return an image f32[h w c] resized to a shorter side of `side` pixels, with antialiasing."""
    import jax.numpy as jnp

    from jaxgen.nn.resample import resize_image

    height, width = x.shape[:2]
    scale = side / min(height, width)
    size = max(round(height * scale), side), max(round(width * scale), side)
    return np.asarray(resize_image(jnp.asarray(x), size))


def translation_of(task: "Task", preset: str, name: str) -> "Transform":
    """Return a task's Transform that translates images. Raises InputError where it has none."""
    from jaxgen.core.capabilities import Transform

    transform = task.find(Transform)
    if transform is None or "to" not in transform.inputs:
        raise InputError(f"{name} is of {preset}, which is no translation model: see train.translation.")
    if transform.conditions:
        raise InputError(f"{preset} also needs {', '.join(transform.conditions)}, which this command can't give it.")
    return transform


def number_of(domains: "ArraySpec", to: str | None) -> int:
    """Return the number of a domain, by default that of "image". Raises InputError for an unknown domain."""
    names, count = domains.names, domains.count
    if to is None and "image" not in names:
        known = " or ".join(names or map(str, range(count)))
        raise InputError(f"This model translates into {count} domains: write --to {known}.")
    return class_number("image" if to is None else to, names, "--to", count, "domain")
