"""Rules of onnx_graph for arithmetic, reductions, products, convolutions and the shapes of arrays."""

from string import ascii_letters
from typing import Any

import jax
import numpy as np

from jaxgen.interop import onnx_control, onnx_indexing
from jaxgen.interop.onnx_graph import (
    RULES,
    Graph,
    Unsupported,
    Value,
    constant,
    convert,
    is_number,
    rule,
    static,
    transposed,
)
from jaxgen.nn import upfirdn
from jaxgen.nn.conv_forms import Geometry

# ---------------------------------------------------------------- one element of each array

SAME_AS_ONNX = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min", "neg": "Neg", "exp": "Exp",
    "log": "Log", "tanh": "Tanh", "sqrt": "Sqrt", "abs": "Abs", "sign": "Sign", "floor": "Floor", "ceil": "Ceil",
    "logistic": "Sigmoid", "erf": "Erf", "sin": "Sin", "cos": "Cos", "tan": "Tan", "sinh": "Sinh", "cosh": "Cosh",
    "asin": "Asin", "acos": "Acos", "atan": "Atan", "pow": "Pow", "eq": "Equal", "lt": "Less", "le": "LessOrEqual",
    "gt": "Greater", "ge": "GreaterOrEqual", "add_any": "Add",
}  # fmt: skip
BOOLEAN = {"and": "And", "or": "Or", "xor": "Xor", "not": "Not"}


def _register():
    def same(kind: str):
        return lambda g, eqn, *values: g.op(kind, *values)

    def logical(kind: str):
        return lambda g, eqn, *values: g.op(kind if _is_bool(eqn) else f"Bitwise{kind}", *values)

    for name, kind in SAME_AS_ONNX.items():
        rule(name, broadcasting=True)(same(kind))
    for name, kind in BOOLEAN.items():
        rule(name, broadcasting=True)(logical(kind))


def _is_bool(eqn: Any) -> bool:
    return eqn.invars[0].aval.dtype == bool


def _like(eqn: Any, number: float) -> np.ndarray:
    return np.asarray(number, eqn.invars[0].aval.dtype)


_register()


@rule(
    "name",
    "copy",
    "copy_p",
    "stop_gradient",
    "optimization_barrier",
    "reduce_precision",
    "sharding_constraint",
    broadcasting=True,
)
def _identity(g: Graph, eqn: Any, *values: Value) -> list[Value]:
    return list(values)


@rule("ne", broadcasting=True)
def _not_equal(g: Graph, eqn: Any, a: Value, b: Value) -> str:
    return g.op("Not", g.op("Equal", a, b))


@rule("square", broadcasting=True)
def _square(g: Graph, eqn: Any, x: Value) -> str:
    return g.op("Mul", x, x)


@rule("integer_pow", broadcasting=True)
def _integer_pow(g: Graph, eqn: Any, x: Value) -> str:
    power = abs(eqn.params["y"])
    made: Any = x if power else _like(eqn, 1)
    for _ in range(power - 1):
        made = g.op("Mul", made, x)
    return g.op("Reciprocal", made) if eqn.params["y"] < 0 else g.op("Identity", made)


@rule("rsqrt", broadcasting=True)
def _rsqrt(g: Graph, eqn: Any, x: Value) -> str:
    return g.op("Reciprocal", g.op("Sqrt", x))


@rule("exp2", broadcasting=True)
def _exp2(g: Graph, eqn: Any, x: Value) -> str:
    return g.op("Pow", _like(eqn, 2), x)


@rule("expm1", broadcasting=True)
def _expm1(g: Graph, eqn: Any, x: Value) -> str:
    return g.op("Sub", g.op("Exp", x), _like(eqn, 1))


@rule("log1p", broadcasting=True)
def _log1p(g: Graph, eqn: Any, x: Value) -> str:
    return g.op("Log", g.op("Add", x, _like(eqn, 1)))


@rule("erfc", broadcasting=True)
def _erfc(g: Graph, eqn: Any, x: Value) -> str:
    return g.op("Sub", _like(eqn, 1), g.op("Erf", x))


@rule("rem", broadcasting=True)
def _rem(g: Graph, eqn: Any, a: Value, b: Value) -> str:
    return g.op("Mod", a, b, fmod=1)  # of the dividend's sign


@rule("round", broadcasting=True)
def _round(g: Graph, eqn: Any, x: Value) -> str:
    if eqn.params["rounding_method"] != jax.lax.RoundingMethod.TO_NEAREST_EVEN:
        raise Unsupported("The model rounds halves away from 0, and ONNX rounds them to even numbers.")
    return g.op("Round", x)


@rule("clamp", broadcasting=True)
def _clamp(g: Graph, eqn: Any, low: Value, x: Value, high: Value) -> str:
    return g.op("Min", g.op("Max", x, low), high)


@rule("select_n", broadcasting=True)
def _select(g: Graph, eqn: Any, which: Value, *cases: Value) -> str:
    if len(cases) != 2:
        raise Unsupported("The model selects from more than two arrays, which has no counterpart in ONNX here.")
    return g.op("Where", which if _is_bool(eqn) else g.cast(which, bool), cases[1], cases[0])


@rule("lt_to", "le_to", broadcasting=True)
def _total_order(g: Graph, eqn: Any, a: Value, b: Value) -> str:
    return g.op("LessOrEqual" if eqn.primitive.name == "le_to" else "Less", a, b)


@rule("convert_element_type", broadcasting=True)
def _convert(g: Graph, eqn: Any, x: Value) -> str:
    return g.cast(x, eqn.params["new_dtype"])


# ---------------------------------------------------------------- over axes


@rule("reduce_sum", "reduce_max", "reduce_min", "reduce_prod")
def _reduce(g: Graph, eqn: Any, x: Value) -> str:
    kind = {
        "reduce_sum": "ReduceSum",
        "reduce_max": "ReduceMax",
        "reduce_min": "ReduceMin",
        "reduce_prod": "ReduceProd",
    }
    return g.op(kind[eqn.primitive.name], x, _axes(eqn), keepdims=0)


def _axes(eqn: Any) -> np.ndarray:
    return np.array(eqn.params["axes"], np.int64)


@rule("reduce_and", "reduce_or")
def _reduce_logical(g: Graph, eqn: Any, x: Value) -> str:
    kind = "ReduceMin" if eqn.primitive.name == "reduce_and" else "ReduceMax"
    return g.cast(g.op(kind, g.cast(x, np.int32), _axes(eqn), keepdims=0), bool)


@rule("argmax", "argmin")
def _arg(g: Graph, eqn: Any, x: Value) -> str:
    (axis,) = eqn.params["axes"]
    kind = "ArgMax" if eqn.primitive.name == "argmax" else "ArgMin"
    return g.cast(g.op(kind, x, axis=axis, keepdims=0), eqn.params["index_dtype"])


@rule("cumsum")
def _cumsum(g: Graph, eqn: Any, x: Value) -> str:
    return g.op("CumSum", x, np.array(eqn.params["axis"], np.int64), reverse=int(eqn.params["reverse"]))


@rule("reduce_window_sum")
def _window_sum(g: Graph, eqn: Any, x: Value) -> str:
    """A sum over windows of pixels, as a mean of all of them, padding included, times their number."""
    p, shape = eqn.params, eqn.invars[0].aval.shape
    if (
        len(shape) != 4
        or (p["window_dimensions"][0], p["window_dimensions"][3]) != (1, 1)
        or set(p["window_dilation"]) != {1}
    ):
        raise Unsupported("The model sums over windows of other axes than height and width.")
    (top, bottom), (left, right) = p["padding"][1:3]
    mean = g.op(
        "AveragePool",
        g.op("Transpose", x, perm=(0, 3, 1, 2)),
        kernel_shape=p["window_dimensions"][1:3],
        strides=p["window_strides"][1:3],
        pads=[top, left, bottom, right],
        count_include_pad=1,
    )
    total = g.op("Mul", mean, _like(eqn, p["window_dimensions"][1] * p["window_dimensions"][2]))
    return g.op("Transpose", total, perm=(0, 2, 3, 1))


# ---------------------------------------------------------------- shapes


@rule("broadcast_in_dim")
def _broadcast_in_dim(g: Graph, eqn: Any, x: Value, *_: Any) -> Value:
    """Give the array its axes of size 1; what uses it broadcasts."""
    shape, places = [1] * len(eqn.params["shape"]), eqn.params["broadcast_dimensions"]
    for place, size in zip(places, x.shape, strict=True):
        shape[place] = size
    return g.reshaped(x, tuple(shape))


@rule("reshape", "squeeze", "expand_dims")
def _reshape(g: Graph, eqn: Any, x: Value, *_: Any) -> Value:
    return g.reshaped(x, eqn.outvars[0].aval.shape)


@rule("transpose")
def _transpose(g: Graph, eqn: Any, x: Value) -> Value:
    return transposed(g, x, eqn.params["permutation"])


@rule("concatenate")
def _concatenate(g: Graph, eqn: Any, *values: Value) -> str:
    axis = eqn.params["dimension"]
    return g.op("Concat", *(x for x in values if not is_number(x.shape[axis]) or x.shape[axis]), axis=axis)


@rule("stack")
def _stack(g: Graph, eqn: Any, *values: Value) -> str:
    axis = eqn.params.get("axis", eqn.params.get("dimension", 0))
    rows = [g.reshaped(x, (*x.shape[:axis], 1, *x.shape[axis:])) for x in values]
    return g.op("Concat", *rows, axis=axis)


@rule("split")
def _split(g: Graph, eqn: Any, x: Value) -> list[str]:
    sizes = [g.size(size) for size in eqn.params["sizes"]]
    sizes = np.concatenate(sizes) if all(isinstance(s, np.ndarray) for s in sizes) else g.op("Concat", *sizes, axis=0)
    return g.ops("Split", x, sizes, outputs=len(eqn.outvars), axis=eqn.params["axis"])


@rule("iota")
def _iota(g: Graph, eqn: Any, *_: Any) -> Value:
    shape, axis = eqn.params["shape"], eqn.params["dimension"]
    line = tuple(size if i == axis else 1 for i, size in enumerate(shape))
    if static(line):
        return constant(np.arange(shape[axis], dtype=eqn.params["dtype"]).reshape(line))
    end = g.op("Squeeze", g.size(shape[axis]), np.array([0], np.int64))
    numbers = g.op("Range", np.array(0, np.int64), end, np.array(1, np.int64))
    return g.reshaped(Value(g.cast(numbers, eqn.params["dtype"]), (shape[axis],)), line)


@rule("dim_as_value")
def _size_as_number(g: Graph, eqn: Any) -> str:
    return g.cast(g.op("Squeeze", g.size(eqn.params["dim"]), np.array([0], np.int64)), eqn.outvars[0].aval.dtype)


# ---------------------------------------------------------------- products


@rule("dot_general")
def _dot(g: Graph, eqn: Any, a: Value, b: Value) -> str:
    """A matrix product of the last axes where the axes lie so, else a sum by the names of the axes."""
    (over_a, over_b), (batch_a, batch_b) = eqn.params["dimension_numbers"]
    n = len(batch_a)
    if eqn.params.get("preferred_element_type") not in (None, eqn.invars[0].aval.dtype):
        raise Unsupported("The model multiplies matrices of one type into another.")
    if not n and over_a == (len(a.shape) - 1,) and len(b.shape) == 2:
        if over_b == (1,):
            b = transposed(g, b, (1, 0))
        return g.op("MatMul", a, b)
    leading = batch_a == batch_b == tuple(range(n))
    if n and leading and len(a.shape) == len(b.shape) == n + 2 and len(over_a) == 1:
        swap = (*range(n), n + 1, n)
        a = a if over_a == (n + 1,) else transposed(g, a, swap)
        b = b if over_b == (n,) else transposed(g, b, swap)
        return g.op("MatMul", a, b)
    letters = iter(ascii_letters)
    of_a, of_b = ([""] * len(x.shape) for x in (a, b))
    for i, j in [*zip(batch_a, batch_b, strict=True), *zip(over_a, over_b, strict=True)]:
        of_a[i] = of_b[j] = next(letters)
    kept_a, kept_b = ([i for i, letter in enumerate(names) if not letter] for names in (of_a, of_b))
    for names, kept in ((of_a, kept_a), (of_b, kept_b)):
        for i in kept:
            names[i] = next(letters)
    out = [of_a[i] for i in batch_a] + [of_a[i] for i in kept_a] + [of_b[i] for i in kept_b]
    return g.op("Einsum", a, b, equation=f"{''.join(of_a)},{''.join(of_b)}->{''.join(out)}")


# ---------------------------------------------------------------- convolutions: ONNX has channels first


def _channels_last(g: Graph, y: str) -> str:
    return g.op("Transpose", y, perm=(0, 2, 3, 1))


def _pads(geometry: Geometry) -> list[int]:
    (top, bottom), (left, right) = geometry.pads
    return [top, left, bottom, right]


@rule("conv")
def _conv(g: Graph, eqn: Any, x: Value, kernel: Value) -> str:
    geometry: Geometry = eqn.params["geometry"]
    pads = _pads(geometry)
    at = g.op("Transpose", x, perm=(0, 3, 1, 2))
    if min(pads) < 0:
        ends = [min(pad, 0) if min(pad, 0) else np.iinfo(np.int64).max for pad in pads[2:]]
        starts = [-min(pad, 0) for pad in pads[:2]]
        at = g.op("Slice", at, np.array(starts, np.int64), np.array(ends, np.int64), np.array([2, 3], np.int64))
    kernel = transposed(g, kernel, (3, 2, 0, 1))  # [kh kw i o] -> [o i kh kw]
    made = g.op(
        "Conv",
        at,
        kernel,
        kernel_shape=geometry.window,
        strides=geometry.strides,
        pads=[max(pad, 0) for pad in pads],
        dilations=geometry.dilation,
        group=geometry.groups,
    )
    return _channels_last(g, made)


@rule("conv_input_grad")
def _conv_transpose(g: Graph, eqn: Any, y: Value, kernel: Value) -> str:
    geometry: Geometry = eqn.params["geometry"]
    size, pads = eqn.invars[0].aval.shape[1:3], _pads(geometry)
    # Rows and columns of the image that no window reaches.
    whole = [
        (n - 1) * s + span - sum(pad)
        for n, s, span, pad in zip(size, geometry.strides, geometry.spans, geometry.pads, strict=True)
    ]
    beyond = [n - reached for n, reached in zip(geometry.image, whole, strict=True)]
    if not all(isinstance(n, int) and n >= 0 for n in beyond) or min(pads) < 0:
        raise Unsupported("The model has a transposed convolution with padding that ONNX does not have.")
    made = g.op(
        "ConvTranspose",
        g.op("Transpose", y, perm=(0, 3, 1, 2)),
        transposed(g, kernel, (3, 2, 0, 1)),  # [kh kw c k] -> [k c kh kw]
        kernel_shape=geometry.window,
        strides=geometry.strides,
        pads=pads,
        output_padding=beyond,
        dilations=geometry.dilation,
        group=geometry.groups,
    )
    return _channels_last(g, made)


@rule("conv_general_dilated")
def _lax_conv(g: Graph, eqn: Any, x: Value, kernel: Value) -> str:
    p = eqn.params
    numbers = p["dimension_numbers"]
    if set(p["lhs_dilation"]) != {1} or p["batch_group_count"] != 1 or min(min(pair) for pair in p["padding"]) < 0:
        raise Unsupported("The model has a convolution of a kind that ONNX does not have.")
    out = numbers.out_spec
    made = g.op(
        "Conv",
        transposed(g, x, numbers.lhs_spec),
        transposed(g, kernel, numbers.rhs_spec),
        strides=p["window_strides"],
        pads=[pair[0] for pair in p["padding"]] + [pair[1] for pair in p["padding"]],
        dilations=p["rhs_dilation"],
        group=p["feature_group_count"],
    )
    return g.op("Transpose", made, perm=tuple(out.index(i) for i in range(len(out))))


@rule("upfirdn2d")
def _upfirdn(g: Graph, eqn: Any, x: Value) -> list[Value]:
    """The sums of shifted images of which the primitive is made."""
    program = jax.make_jaxpr(lambda x: upfirdn._sum(x, eqn.params["axes"]))(eqn.invars[0].aval)
    return g.inline(program, [x])


__all__ = ["RULES", "convert", "onnx_control", "onnx_indexing"]  # a program is converted with all rules registered
