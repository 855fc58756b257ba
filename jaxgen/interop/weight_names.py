"""Names and layouts of a model's arrays in other frameworks: one mapping, used in both directions.

The names are those of the published PyTorch weights. Our modules are named after theirs (`layer1_0` is `layer1.0`), so
that most models need no rule; the others have one in their module, WEIGHT_NAMES. The layout follows from the layer
(layers.py), unless a rule gives another.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxgen import zoo
from jaxgen.interop.layers import LAYOUTS, SAME, TRANSPOSED, Layout, Path, PyTree, axes, leaves, traced

__all__ = ["LAYOUTS", "SAME", "TRANSPOSED", "Layout", "Path", "axes"]  # what the rules of models use as well

LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var", "embedding": "weight"}

# (model, net, path, shape) -> name, layout; None stands for the layout of the layer
Rule = Callable[[Any, str, Path, tuple[int, ...]], tuple[str, Layout | None]]


class Row(NamedTuple):
    """One array: its path and shape in our variables, its name and layout in a file."""

    path: Path
    shape: tuple[int, ...]
    name: str
    layout: Layout

    @property
    def theirs(self) -> tuple[int, ...]:
        """The shape in a file."""
        return self.layout.out(np.broadcast_to(np.float32(0), self.shape)).shape


def plain(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout | None]:
    """`layer1_0/conv1/kernel` is `layer1.0.conv1.weight`. A net's own arrays keep their names."""
    del model, net, shape
    *modules, leaf = path
    dotted = [re.sub(r"_(\d+)(?=_|$)", r".\1", module) for module in modules]
    return ".".join([*dotted, LEAVES.get(leaf, leaf) if modules else leaf]), None


def renamed(*pairs: tuple[str, str]) -> Rule:
    """Return the plain rule with regular expressions replaced in the name afterwards."""

    def rule(model, net, path, shape):
        name, layout = plain(model, net, path, shape)
        for pattern, replacement in pairs:
            name = re.sub(pattern, replacement, name)
        return name, layout

    return rule


def rule_of(preset: str) -> Rule:
    """Return the rule for a preset's names: its module's WEIGHT_NAMES, or the plain rule."""
    return getattr(zoo.module(preset), "WEIGHT_NAMES", plain)


def table(rule: Rule, model: Any, net: str, variables: PyTree, old: bool = False) -> list[Row]:
    """Return a row for each array of a net's variables, {"params": ..., ...}.

    old: as jaxgen exported them before layouts followed from layers. Then an array's number of axes chose its layout,
    which was wrong for transposed convolutions, stacked layers and embeddings.
    """
    rows = []
    for path, x in sorted(leaves(variables)):
        shape = tuple(x.shape)
        name, layout = rule(model, net, path[1:], shape)
        if old and path[-1] == "embedding":
            name = re.sub("weight$", "embedding", name)
        if layout is None:
            layout = LAYOUTS.get(len(shape), SAME) if old else traced(model).layout(net, path[1:], shape)
        rows.append(Row(path, shape, name, layout))
    return rows


def to_theirs(rule: Rule, model: Any, net: str, variables: PyTree) -> dict[str, np.ndarray]:
    """Return a net's variables under their names and in their layout, as they are written to files."""
    found = dict(leaves(variables))
    return {
        row.name: np.asarray(row.layout.out(np.asarray(found[row.path])), order="C")
        for row in table(rule, model, net, variables)
    }
