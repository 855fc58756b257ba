"""The layers that own a model's arrays, and the layouts that PyTorch has for them."""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from jaxgen.core.spec import spec_of
from jaxgen.nn.conv import ConvTranspose
from jaxgen.nn.conv3d import ConvTranspose3D

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
# [in out] -> [out in], [h w in out] -> [out in h w], [t h w in out] -> [out in t h w]
ORDERS = {2: (1, 0), 4: (3, 2, 0, 1), 5: (4, 3, 0, 1, 2)}
LAYOUTS = {count: axes(*order) for count, order in ORDERS.items()}
TURNED = {4: (2, 3, 0, 1), 5: (3, 4, 0, 1, 2)}
TRANSPOSED = axes(*TURNED[4])  # a transposed convolution's [h w in out] -> [in out h w]


class Kernel(NamedTuple):
    """The kernel of a layer as the layer itself has it: `nn.scan` stacks the kernels of its steps into one array."""

    shape: tuple[int, ...]
    transposed: bool


class Traced(NamedTuple):
    """The shapes of a model's variables, {net: tree}, and the kernels of each net's layers, {net: {path: kernel}}.

    order: {net: the modules that have arrays, in the order in which they run}; [] for a net that is made in parts
    """

    params: dict[str, PyTree]
    extra: dict[str, PyTree]
    kernels: dict[str, dict[Path, Kernel]]
    order: dict[str, list[Path]]

    def layout(self, net: str, path: Path, shape: tuple[int, ...]) -> Layout:
        """Return the layout of an array in the PyTorch layer of the same kind.

        Kernels have an order of their own, after the axes along which layers are stacked. All other arrays are alike.
        """
        *module, leaf = path
        if leaf != "kernel":
            return SAME
        own, transposed = self.kernels.get(net, {}).get(tuple(module), Kernel(shape, False))
        stacked = len(shape) - len(own)
        order = TURNED[len(own)] if transposed else ORDERS.get(len(own), range(len(own)))
        return axes(*range(stacked), *(stacked + i for i in order))


@lru_cache(maxsize=32)
def traced(model: Any) -> Traced:
    """Return what a model's initialisation makes, in the abstract. model: a configuration; None has no layers."""
    if model is None:
        return Traced({}, {}, {}, {})
    task, made = model.task(1), {}  # what each initialisation made: its scope, kernels, and modules that have arrays

    def note(method, args, kwargs, context):
        answer, module, scope = method(*args, **kwargs), context.module, context.module.scope
        arrays: Any = module.variables.get("params", {}) if scope is not None else {}
        own = {name: x for name, x in arrays.items() if not isinstance(x, Mapping)}
        if scope is not None and own:  # a scope that is kept has an id that no other one gets
            _, kernels, order = made.setdefault(id(scope.root), (scope.root, {}, {}))
            order.setdefault(module.path)
            if "kernel" in own:
                kernels[module.path] = Kernel(
                    tuple(own["kernel"].shape), isinstance(module, (ConvTranspose, ConvTranspose3D))
                )
        return answer

    with nn.intercept_methods(note):
        params, extra = jax.eval_shape(lambda: task.init(jax.random.key(0), spec_of(task, 2)))
    found = [kernels for _, kernels, _ in made.values()]
    order = {net: _order(tree, [list(order) for *_, order in made.values()]) for net, tree in params.items()}
    return Traced(params, extra, {net: _kernels(tree, found) for net, tree in params.items()}, order)


def _kernels(params: PyTree, found: list[dict[Path, Kernel]]) -> dict[Path, Kernel]:
    """Return the kernels of a net: those of the initialisation that made them.

    The nets of a task may have layers of the same path and shape, and `nn.scan` has an initialisation of its own.
    """
    shapes = {path[:-1]: x.shape for path, x in leaves(params) if path[-1] == "kernel"}
    parts = [
        kernels
        for kernels in found
        if all(path in shapes and shapes[path][-len(one.shape) :] == one.shape for path, one in kernels.items())
    ]
    whole = [kernels for kernels in parts if kernels.keys() == shapes.keys()]
    return {path: one for kernels in whole or parts for path, one in kernels.items()}


def _order(params: PyTree, runs: list[list[Path]]) -> list[Path]:
    """Return the modules of a net as one initialisation ran them; [] if no one or several have all of them."""
    modules = {path[:-1] for path, _ in leaves(params)}
    whole = [run for run in runs if set(run) == modules]
    return whole[0] if len(whole) == 1 else []


def leaves(tree: PyTree, path: Path = ()) -> Iterable[tuple[Path, Any]]:
    """Return the paths and arrays of nested mappings."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value
