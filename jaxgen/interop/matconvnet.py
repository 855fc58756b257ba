"""MatConvNet's simple nets, as DnCNN, FFDNet and others publish them: a cell array of layers without names."""

import re
from collections.abc import Mapping

import numpy as np

from jaxgen.interop.pickles import Unreadable, shown

PART = re.compile(r"(?:(.*)\.)?layers\.(\d+)\.(?:weights\.(\d)|(filters|biases))")
OLD = {"filters": 0, "biases": 1}  # of its first versions
EPSILON = 1e-5  # of PyTorch's batch norm


def as_torch(arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Return a simple net's weights as those of an nn.Sequential called `model`; other arrays as they are.

    net.layers.N.weights.{0, 1} are filters [h w in out] and biases, of a batch norm scales, biases and moments [c 2],
    which are means and deviations. Layers without weights count, as in PyTorch. Other numbers, such as strides, are
    left out. Raises Unreadable where weights are of another shape.
    """
    parts = {(m[1] or "net", int(m[2]), OLD[m[4]] if m[4] else int(m[3])): x
             for name, x in arrays.items() if (m := PART.fullmatch(name)) and x.size}  # fmt: skip
    made: dict[str, np.ndarray] = {}
    for (net, layer, place), x in parts.items():
        name = f"{net}.model.{layer}"
        if place == 0:
            filters = x.reshape(*x.shape, *(1,) * (4 - x.ndim))  # MATLAB drops last axes of length 1
            made[f"{name}.weight"] = x.ravel() if (net, layer, 2) in parts else filters.transpose(3, 2, 0, 1)
        elif place == 1:
            made[f"{name}.bias"] = x.ravel()
        elif place == 2 and x.ndim == 2 and x.shape[1] == 2:
            made[f"{name}.running_mean"], made[f"{name}.running_var"] = x[:, 0], x[:, 1] ** 2 - EPSILON
        else:
            raise Unreadable(f"has layers whose weights are of another kind: {shown(net)}.layers.{layer}")
    return made or arrays
