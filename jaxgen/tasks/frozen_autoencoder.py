"""The frozen autoencoder of a latent diffusion model: a run of train.vae with EMA parameters."""

from functools import lru_cache
from typing import Any, NamedTuple

import jax

from jaxgen.core import paths
from jaxgen.core.capabilities import Codec
from jaxgen.core.errors import InputError
from jaxgen.core.spec import spec_of
from jaxgen.core.task import Task
from jaxgen.core.types import Array, PyTree
from jaxgen.runs.config_io import load_config
from jaxgen.tasks.teacher import context_of


class Autoencoder(NamedTuple):
    """An autoencoder's hyper-parameters and task, and the shape of the latents of an image or a video.

    A latent vector counts as a 1x1 map; the latents of a video have frames too. `nets` are those that teacher.load
    returns.
    """

    model: Any
    task: Task
    shape: tuple[int, ...]

    def encode(self, nets: PyTree, x: Array) -> Array:
        """Return the latents f32[b h w d] of images f32[b H W c], those f32[b t h w d] of videos f32[b T H W c]."""
        latents = self.task.get(Codec).encode(nets["params"], context_of(nets), {next(iter(self.task.example)): x})
        return jax.lax.stop_gradient(latents.reshape(x.shape[0], *self.shape))

    def decode(self, nets: PyTree, latents: Array) -> Array:
        """Return the images or videos in [-1, 1] of latents."""
        decode = self.task.get(Codec).decode
        assert decode is not None
        flat = latents if self.spatial else latents.reshape(latents.shape[0], -1)
        return decode(nets["params"], context_of(nets), flat, {})

    @property
    def spatial(self) -> bool:
        """Whether the latents are a map, with positions in the image."""
        return len(_latents(self.task).shape) > 2


def pixels_of(model: Any) -> tuple[int, ...]:
    """Return the shape of a model's images (height, width, channels) or videos (frames, height, width, channels)."""
    return getattr(model, "video", model.image)


def autoencoder_of(folder: str, image: tuple[int, ...]) -> Autoencoder:
    """Return the autoencoder of a run's folder. Raises InputError where there is none, or where its images differ.

    image: the shape of an image (height, width, channels) or a video (frames, height, width, channels)
    """
    load_config(paths.path(folder))  # raises InputError for a folder without a run
    found = _opened((paths.path(folder) / "config.json").read_text(), folder)
    first = next(iter(found.task.example.values()))
    if first.shape != image:
        *frames, height, width, channels = first.shape
        also = f"model.frames must be {frames[0]}, and " if frames else ""
        theirs = "x".join(map(str, first.shape))
        raise InputError(
            f"The autoencoder {folder} takes {theirs} {first.kind}s: {also}model.image must be {height} {width} "
            f"{channels}, not {' '.join(map(str, image))}."
        )
    return found


@lru_cache(maxsize=8)
def _opened(text: str, folder: str) -> Autoencoder:
    from jaxgen.runs.config_io import from_json

    run = from_json(text)
    task = run.model.task(run.steps)
    codec = task.find(Codec)
    if codec is None or codec.decode is None or codec.conditions:
        raise InputError(f"model.autoencoder must be a run of train.vae without labels: {folder} is not.")
    shape = _latents(task).shape[1:]
    if len(shape) not in (1, 3, 4):
        raise InputError(f"The latents of {folder} must be a map or vectors, not of shape {shape}.")
    return Autoencoder(run.model, task, shape if len(shape) > 1 else (1, 1, *shape))


def _latents(task: Task) -> jax.ShapeDtypeStruct:
    """Return the shape of the latents of two examples."""
    params, extra = jax.eval_shape(task.init, jax.random.key(0), spec_of(task, 2))
    context = jax.eval_shape(context_of, {"extra": extra})
    return jax.eval_shape(task.get(Codec).encode, params, context, spec_of(task, 2))
