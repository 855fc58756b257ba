"""Frozen models of other runs: teachers, guides, autoencoders. Their hyper-parameters and EMA parameters."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.core import paths
from jaxgen.core.errors import InputError
from jaxgen.core.types import Context, PyTree


def teacher_of(folder: str, kind: type, like: Any) -> Any:
    """Return the hyper-parameters of a teacher's run. Raises InputError where its kind, images or classes differ."""
    from jaxgen.runs.config_io import load_config

    found = load_config(paths.path(folder)).model
    if not matches(found, kind, like, ("image", "classes", "autoencoder")):
        image = "x".join(map(str, like.image))
        latents = f" and the latents of {like.autoencoder}" if like.autoencoder else ""
        way = f"; write --model.classes {found.classes}" if matches(found, kind, like, ("image", "autoencoder")) else ""
        raise InputError(
            f"model.teacher must be the run of an {kind.__name__} with {image} images and {like.classes} classes"
            f"{latents}: {folder} is a run of {describe(found)}{way}."
        )
    check_scale(folder, found, like)
    return found


def check_scale(folder: str, found: Any, like: Any):
    """Raise InputError where a run's model and another one scale the latents of their autoencoder differently."""
    theirs, own = target_deviation(found), target_deviation(like)
    if like.autoencoder and theirs != own:
        raise InputError(
            f"{folder} models latents of standard deviation {theirs:g}, this model latents of {own:g}: both must have "
            "the same model.sigma_data."
        )


def target_deviation(model: Any) -> float:
    """Return the standard deviation of the data that a model expects."""
    return getattr(model, "sigma_data", 1.0)


def matches(found: Any, kind: type, like: Any, names: tuple[str, ...]) -> bool:
    """Return whether a model is of a kind, and equals another one in the fields `names`."""
    return isinstance(found, kind) and all(getattr(found, name) == getattr(like, name) for name in names)


def describe(model: Any) -> str:
    """Return a short description of a model."""
    known = [("x".join(map(str, model.image)), "images")] if hasattr(model, "image") else []
    known += [(str(model.classes), "classes")] if hasattr(model, "classes") else []
    text = " and ".join(map(" ".join, known))
    autoencoder = getattr(model, "autoencoder", "")
    return f"{type(model).__name__} with {text}" + (f", and the latents of {autoencoder}" if autoencoder else "")


def denoiser_loader(folder: str) -> Any:
    """Return a function that loads the EMA parameters of a run's denoiser."""
    return lambda: load(folder)["params"]["denoiser"]


def load(folder: str) -> PyTree:
    """Return a run's EMA nets on the host, {"params": {net: ...}, "extra": {net: ...}}."""
    from jaxgen.core.types import averaged
    from jaxgen.runs.load import open_run

    opened = open_run(paths.path(folder))
    params, context = averaged(opened.state, opened.frozen)
    return jax.device_get({"params": params, "extra": context.extra})


def context_of(nets: PyTree) -> Context:
    """Return the context of a loaded run's functions."""
    return Context(nets["extra"], {}, {}, jnp.zeros((), jnp.int32))
