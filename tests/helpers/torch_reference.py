"""torchvision, and what imports it, beside a PyTorch that its compiled operators don't load into."""

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
            except OSError:  # built for a device that this torch has not: torchvision only wants the names
                pass
    library = torch.library.Library("torchvision", "DEF")
    for name in OPERATORS + BACKWARD:
        library.define(f"{name}() -> ()")
    LIBRARIES.append(library)
