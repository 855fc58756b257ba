"""A trained model that another one learns from, or stands on: its hyper-parameters, its averaged nets, frozen."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.core.errors import InputError
from jaxgen.core.types import Context, PyTree


def teacher_of(folder: str, kind: type, like: Any) -> Any:
    """Return the hyper-parameters of a run. Raises InputError where it is of another kind, or paints other images."""
    from jaxgen.runs.config_io import load_config

    found = load_config(Path(folder)).model
    if not matches(found, kind, like, ("image", "classes", "autoencoder")):
        image = "x".join(map(str, like.image))
        coder = f" and the codes of {like.autoencoder}" if like.autoencoder else ""
        way = f"; write --model.classes {found.classes}" if matches(found, kind, like, ("image", "autoencoder")) else ""
        raise InputError(
            f"model.teacher must be the run of an {kind.__name__} with {image} images and {like.classes} classes"
            f"{coder}: {folder} is of {describe(found)}{way}."
        )
    return found


def matches(found: Any, kind: type, like: Any, names: tuple[str, ...]) -> bool:
    """Return whether a model is of a kind, and has the same under these names as another."""
    return isinstance(found, kind) and all(getattr(found, name) == getattr(like, name) for name in names)


def describe(model: Any) -> str:
    """Return what a model is, in a few words."""
    known = [("x".join(map(str, model.image)), "images")] if hasattr(model, "image") else []
    known += [(str(model.classes), "classes")] if hasattr(model, "classes") else []
    text = " and ".join(map(" ".join, known))
    coder = getattr(model, "autoencoder", "")
    return f"{type(model).__name__} with {text}" + (f", and the codes of {coder}" if coder else "")


def denoiser_loader(folder: str) -> Any:
    """Return what loads a run's averaged denoiser."""
    return lambda: load(folder)["params"]["denoiser"]


def load(folder: str) -> PyTree:
    """Return a run's averaged nets on the host, {"params": {net: ...}, "extra": {net: ...}}."""
    from jaxgen.core.types import averaged
    from jaxgen.runs.load import open_run

    opened = open_run(Path(folder))
    params, context = averaged(opened.state, opened.frozen)
    return jax.device_get({"params": params, "extra": context.extra})


def context_of(nets: PyTree) -> Context:
    """Return what a run's functions read beside the parameters."""
    return Context(nets["extra"], {}, {}, jnp.zeros((), jnp.int32))
