"""jaxgen: a model zoo of image generators in JAX.

>>> import jaxgen
>>> model = jaxgen.load("runs/dcgan")            # or a name of jaxgen.weights(), or a file of weights
>>> model.can
('sample', 'interpolate')
>>> images = model.sample(16, seed=0)            # f32[16 h w c] in [-1, 1]

`models()` returns the presets, `weights()` the names of trained weights; `load` opens a model and `save` writes its
weights. They are in jaxgen/inference/api.py, and JAX is imported when they are first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"
_FORWARDED = ("load", "models", "save", "weights")


def __getattr__(name: str) -> Any:
    if name == "models":
        return importlib.import_module("jaxgen.models")
    if name in _FORWARDED:
        return getattr(importlib.import_module("jaxgen.inference.api"), name)
    raise AttributeError(f"module 'jaxgen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_FORWARDED})
