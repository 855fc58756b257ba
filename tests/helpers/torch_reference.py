"""torchvision, and packages that import it, with a PyTorch that can't load its compiled operators."""

import functools
import importlib.util
from pathlib import Path
from typing import Any

import pytest

OPERATORS = ("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
BACKWARD = tuple(f"_{name}_backward" for name in OPERATORS)
LIBRARIES = []  # a library's definitions end with it


@functools.cache
def prepare():
    """Let torchvision be imported: its models and torch-fidelity work, its operators for detection do not.

    Skips where there is no torch. To be called before the first import of torchvision in the process.
    """
    torch: Any = pytest.importorskip("torch")
    spec = importlib.util.find_spec("torchvision")
    for folder in (spec and spec.submodule_search_locations) or ():
        for compiled in Path(folder).glob("_C*.so"):
            try:
                return torch.ops.load_library(compiled)
            except OSError:  # this torch lacks the device of the operators: torchvision needs only their names
                pass
    library = torch.library.Library("torchvision", "DEF")
    for name in OPERATORS + BACKWARD:
        library.define(f"{name}() -> ()")
    LIBRARIES.append(library)
