"""Rules of onnx_graph for loops and branches: scan, cond and while are ONNX's Scan, If and Loop."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxgen.interop.onnx_graph import Graph, Unsupported, Value, constant, rule


def _typed(body: Graph, avals: Sequence[Any]) -> tuple[list[tuple[str, Any]], list[Value]]:
    """Return the inputs of a body, and their values."""
    named = [(body.name("input"), aval) for aval in avals]
    return named, [Value(at, aval.shape) for at, aval in named]


@rule("scan")
def _scan(g: Graph, eqn: Any, *values: Value) -> list[str]:
    p = eqn.params
    first, carried, body = p["num_consts"], p["num_carry"], p["jaxpr"]
    given, last = list(values[first:]), first + carried
    avals = body.in_avals[first:]
    rows = list(values[last:])
    own = Graph(g)
    inputs, inside = _typed(own, avals)
    if not rows:  # ONNX scans over something
        rows = [constant(np.zeros(p["length"], np.float32))]
        given += rows
        inputs.append((own.name("input"), jax.ShapeDtypeStruct((), np.float32)))
    made = own.inline(body, [*values[:first], *inside])
    graph = own.body("step", inputs, list(zip(made, body.out_avals, strict=True)))
    back = [1] if p["reverse"] else []  # forwards by default
    return g.ops(
        "Scan",
        *given,
        outputs=len(made),
        body=graph,
        num_scan_inputs=len(rows),
        scan_input_directions=back * len(rows) or None,
        scan_output_directions=back * (len(made) - carried) or None,
    )


@rule("cond")
def _cond(g: Graph, eqn: Any, index: Value, *values: Value) -> list[str]:
    def branch(number: int) -> Any:
        own, program = Graph(g), eqn.params["branches"][number]
        made = own.inline(program, values)
        return own.body("branch", [], list(zip(made, program.out_avals, strict=True)))

    if len(eqn.params["branches"]) != 2:
        raise Unsupported("The model chooses one of more than two branches, which has no counterpart in ONNX here.")
    return g.ops("If", g.cast(index, bool), outputs=len(eqn.outvars), then_branch=branch(1), else_branch=branch(0))


@rule("while")
def _while(g: Graph, eqn: Any, *values: Value) -> list[str]:
    p = eqn.params
    test, body = p["cond_jaxpr"], p["body_jaxpr"]
    split = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
    of_test, of_body, start = values[: split[0]], values[split[0] : split[1]], values[split[1] :]
    own = Graph(g)
    flag = jax.ShapeDtypeStruct((), bool)
    inputs, inside = _typed(own, body.out_avals)
    made = own.inline(body, [*of_body, *inside])
    (again,) = own.inline(test, [*of_test, *made])
    ends = [(own.name("number"), jax.ShapeDtypeStruct((), np.int64)), (own.name("again"), flag)]
    graph = own.body("step", ends + inputs, [(again, flag), *zip(made, body.out_avals, strict=True)])
    (first,) = g.inline(test, [*of_test, *start])
    return g.ops("Loop", None, first, *start, outputs=len(made), body=graph)
