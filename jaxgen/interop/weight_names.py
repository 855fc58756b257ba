"""Names and layouts of a model's arrays in other frameworks: one mapping, used in both directions.

The names are those of the published PyTorch weights. Our modules are named after theirs (`layer1_0` is `layer1.0`), so
that most models need no rule; the others have one in their module, WEIGHT_NAMES.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxgen import zoo
from jaxgen.core.errors import InputError

PyTree = Any
Path = tuple[str, ...]


class Layout(NamedTuple):
    """The layout of an array in the other framework: `out` converts ours to theirs, `back` theirs to ours."""

    out: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray]


def axes(*order: int) -> Layout:
    """Return the layout whose axis i is our axis order[i]."""
    return Layout(lambda x: x.transpose(order), lambda x: x.transpose(np.argsort(order)))


SAME = Layout(lambda x: x, lambda x: x)
LAYOUTS = {2: axes(1, 0), 4: axes(3, 2, 0, 1)}  # [in out] -> [out in], [h w in out] -> [out in h w]
TRANSPOSED = axes(2, 3, 0, 1)  # a transposed convolution's [h w in out] -> [in out h w]
LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}

SURPLUS = ("num_batches_tracked", "resample_filter", "relative_position_index", "attn_mask")
SURPLUS += tuple(f"{sign}_mean.{leaf}" for sign in ("sub", "add") for leaf in ("weight", "bias"))

Rule = Callable[[Any, str, Path, tuple[int, ...]], tuple[str, Layout]]  # (model, net, path, shape) -> name, layout


def plain(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout]:
    """`layer1_0/conv1/kernel` is `layer1.0.conv1.weight`."""
    del model, net
    *modules, leaf = path
    dotted = [re.sub(r"_(\d+)(?=_|$)", r".\1", module) for module in modules]
    return ".".join([*dotted, LEAVES.get(leaf, leaf)]), LAYOUTS.get(len(shape), SAME)


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


def table(rule: Rule, model: Any, net: str, variables: PyTree) -> list[tuple[Path, tuple[int, ...], str, Layout]]:
    """Return for each array of a net's variables, {"params": ..., ...}: path, our shape, their name, their layout."""
    rows = []
    for path, x in sorted(_leaves(variables)):
        shape = tuple(x.shape)
        rows.append((path, shape, *rule(model, net, path[1:], shape)))
    return rows


def to_theirs(rule: Rule, model: Any, net: str, variables: PyTree) -> dict[str, np.ndarray]:
    """Return a net's variables under their names and in their layout, as they are written to files."""
    found = dict(_leaves(variables))
    return {
        name: np.asarray(layout.out(np.asarray(found[path])), order="C")
        for path, _, name, layout in table(rule, model, net, variables)
    }


def problems(rule: Rule, model: Any, net: str, like: PyTree, tensors: Mapping[str, np.ndarray]) -> list[str]:
    """Return why tensors are not a net's weights: names that are missing, surplus, or of another shape; [] if they are.

    Counters of batches and fixed filters are no surplus.
    """
    missing, misshaped, used = [], [], set()
    for _, shape, name, layout in table(rule, model, net, like):
        if name not in tensors:
            missing.append(name)
            continue
        used.add(name)
        expected = layout.out(np.broadcast_to(np.float32(0), shape)).shape
        if tensors[name].shape != expected:
            misshaped.append(f"{name} is {list(tensors[name].shape)}, not {list(expected)}")
    surplus = [name for name in tensors if name not in used and not name.endswith(SURPLUS)]
    found = (("missing", missing), ("surplus", surplus), ("of another shape", misshaped))
    return [f"{what}: {_some(names)}" for what, names in found if names]


def to_ours(rule: Rule, model: Any, net: str, like: PyTree, tensors: Mapping[str, np.ndarray]) -> PyTree:
    """Return `tensors`, by their names, as variables of the structure and shapes of `like`.

    Raises InputError that lists the `problems`, if there are any.
    """
    if wrong := problems(rule, model, net, like, tensors):
        raise InputError(f"These weights are not the {net}'s: {'; '.join(wrong)}.")
    ours: dict = {}
    for path, _, name, layout in table(rule, model, net, like):
        *parents, leaf = path
        place = ours
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = np.asarray(layout.back(tensors[name]), np.float32, order="C")
    return ours


def _some(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _leaves(tree: PyTree, path: Path = ()) -> Iterable[tuple[Path, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value
