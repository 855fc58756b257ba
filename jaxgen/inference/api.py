"""The library as objects: trained models are loaded and saved. `import jaxgen` forwards here."""

from pathlib import Path

from jaxgen.core import paths
from jaxgen.core.config import Mesh
from jaxgen.core.errors import InputError
from jaxgen.inference import restoration
from jaxgen.inference.model import Model
from jaxgen.inference.opened import in_words
from jaxgen.inference.opening import open_trained
from jaxgen.interop import convert
from jaxgen.pretrained import catalogue


@in_words
def load(name: str | Path, preset: str = "", *, sampling: str = "", average: float | None = None) -> Model:
    """Return a trained model.

    name:     of weights (`jaxgen.weights()`), a run's folder, a file of weights; or bicubic, lanczos3, bilinear,
              nearest or deep-image-prior, which need no training
    preset:   of a file of weights that does not state it; "": found by the weights
    sampling: settings that replace the model's, such as "steps=10,guidance=2"
    average:  width of the weights' average, of a run with --optim.ema-widths
    Raises InputError, a ValueError, for a name of nothing and for weights that fit no preset.
    """
    name = str(name)
    if name in restoration.KNOWN:
        return Model(name, None)
    return Model(name, open_trained(name, preset, sampling, average, Mesh(data=1), with_frozen=False))


def weights() -> list[str]:
    """Return the names of trained weights that `load` takes, the shipped ones first."""
    return catalogue.names()


@in_words
def save(model: Model, path: str | Path, overwrite: bool = False):
    """Write a model's weights under their usual PyTorch names, as `python -m jaxgen export` does.

    path: ends in .safetensors or .pth. Several nets go into one file, each under its own name.
    Raises InputError for another ending, and for a file that exists.
    """
    path, opened = paths.path(path), model.opened
    if opened is None:
        raise InputError(f"{model.name} has no weights.")
    kind = {".safetensors": "safetensors", ".pth": "torch"}.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path} must end in .safetensors or .pth.")
    convert.export_nets(opened.run, opened.state, tuple(opened.state.params), kind, path, True, overwrite)
