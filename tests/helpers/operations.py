"""The arithmetic of a program, counted in its jaxpr; nothing is computed."""

import math
from typing import Any


def flops(jaxpr: Any) -> float:
    """Return the floating-point operations of a program's matrix products and convolutions.

    A convolution is counted as it is defined, not by the formulation that a CPU computes it by; a transposed one by
    the pixels that are scattered, without the zeros between them. The body of a scan counts as often as it runs.
    """
    total = 0.0
    for eqn in jaxpr.eqns:
        name, shapes = eqn.primitive.name, [v.aval.shape for v in (*eqn.invars, *eqn.outvars)]
        if name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            total += 2 * math.prod(shapes[-1]) * math.prod(shapes[0][i] for i in contracted)
        elif name in ("conv", "conv_input_grad", "conv_kernel_grad"):
            y, k = {"conv": (2, 1), "conv_input_grad": (0, 1), "conv_kernel_grad": (1, 2)}[name]
            total += 2 * math.prod(shapes[y]) * math.prod(shapes[k][:3])
        inner = [getattr(p, "jaxpr", p) for p in eqn.params.values() if hasattr(getattr(p, "jaxpr", p), "eqns")]
        total += eqn.params.get("length", 1) * sum(map(flops, inner))
    return total
