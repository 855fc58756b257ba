"""A JAX program as an ONNX graph: values, nodes, open sizes, and the walk over a program's equations.

The rules of the primitives are in onnx_rules.py, onnx_indexing.py and onnx_control.py. A value is a constant or the
name of a node's output. It may be smaller than the array that it stands for, with axes of size 1 that ONNX broadcasts:
a bias stays a vector.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal
from onnx import helper, numpy_helper

from jaxgen.core.errors import InputError
from jaxgen.interop.noise_inputs import inner

OPSET, IR_VERSION = 18, 8  # of ONNX 1.13 (December 2022): read by ONNX Runtime 1.14 and newer
NEVER_FOLDED = ("scan", "cond", "while", "dim_as_value")
FOLDED = 2**16  # constants of up to so many elements are computed at the export

Shape = tuple[Any, ...]
Rule = Callable[..., Any]  # (graph, equation, *values) -> its results
RULES: dict[str, Rule] = {}
BROADCASTING: set[str] = set()  # primitives whose rules take values with axes of size 1


class Unsupported(InputError):
    """An operation that has no rule."""


class Value(NamedTuple):
    """A constant or the name of a tensor, and its shape, whose axes of size 1 may stand for larger ones."""

    at: np.ndarray | str
    shape: Shape

    @property
    def known(self) -> bool:
        return isinstance(self.at, np.ndarray)


def constant(array: Any) -> Value:
    array = np.asarray(array)
    return Value(array, array.shape)


def rule(*names: str, broadcasting: bool = False) -> Callable[[Rule], Rule]:
    """Register a function as the rule of primitives."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        BROADCASTING.update(names if broadcasting else ())
        return function

    return register


def tensor_type(dtype: Any) -> int:
    """Return ONNX's number of a dtype. Raises Unsupported where it has none."""
    try:
        return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    except (KeyError, TypeError, ValueError) as error:
        raise Unsupported(f"ONNX has no arrays of {dtype}.") from error


def is_number(size: Any) -> bool:
    return isinstance(size, int | np.integer)


def aval(var: Any) -> Any:
    """Return the shape and dtype of a variable."""
    return var.aval


def static(shape: Shape) -> bool:
    return all(map(is_number, shape))


@dataclass
class Graph:
    """One graph; the body of a loop or a branch has the graph around it as `outer`, whose names it may use."""

    outer: "Graph | None" = None
    nodes: list[Any] = field(default_factory=list)
    sizes: dict[str, str] = field(default_factory=dict)  # a symbolic size as text -> i64[1]
    constants: dict[Any, tuple[str, Any]] = field(default_factory=dict)  # of the outermost graph
    numbers: Any = field(default_factory=count)

    def __post_init__(self):
        if self.outer is not None:
            self.numbers, self.constants = self.outer.numbers, self.outer.constants

    # --- nodes ---

    def name(self, kind: str) -> str:
        return f"{kind}_{next(self.numbers)}"

    def at(self, value: Any) -> str:
        """Return the name of a value: a constant becomes an initializer."""
        value = value.at if isinstance(value, Value) else value
        if isinstance(value, str):
            return value
        array = np.asarray(value)
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size <= 64 else id(array)
        if key not in self.constants:
            tensor_type(array.dtype)
            name = self.name("constant")
            # The array is kept: another one at its address would have its identity.
            self.constants[key] = (
                name,
                (numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name), array),
            )
        return self.constants[key][0]

    def ops(self, kind: str, *values: Any, outputs: int = 1, **attributes: Any) -> list[str]:
        """Add a node and return the names of its outputs. A value None is an input that is left out."""
        made = [self.name(kind) for _ in range(outputs)]
        given = ["" if value is None else self.at(value) for value in values]
        self.nodes.append(helper.make_node(kind, given, made, **attributes))
        return made

    def op(self, kind: str, *values: Any, **attributes: Any) -> str:
        return self.ops(kind, *values, **attributes)[0]

    # --- sizes ---

    def size(self, size: Any) -> np.ndarray | str:
        """Return a size as i64[1]. A symbolic one is a polynomial of the open sizes, as jax.export writes it."""
        if is_number(size):
            return np.array([size], np.int64)
        graph, text = self, str(size)
        while graph is not None:
            if text in graph.sizes:
                return graph.sizes[text]
            graph = graph.outer
        root = self
        while root.outer is not None:
            root = root.outer
        names: dict[str, Any] = {name: _Size(self, at) for name, at in root.sizes.items() if name.isidentifier()}
        functions = {"floordiv": _divided, "mod": _rest, "max": _larger, "min": _smaller}
        made = eval(text.replace("^", "**"), {"__builtins__": {}}, names | functions)
        self.sizes[text] = made.at
        return made.at

    def shape(self, shape: Shape) -> np.ndarray | str:
        """Return a shape as i64[n]."""
        if static(shape):
            return np.array(shape, np.int64)
        return self.op("Concat", *(self.size(size) for size in shape), axis=0)

    # --- values ---

    def reshaped(self, value: Value, shape: Shape) -> Value:
        """Return a value of as many elements in another shape."""
        if value.shape == shape:
            return value
        if isinstance(value.at, np.ndarray):
            return constant(value.at.reshape(shape))
        # One size that is not a number can be left to ONNX, if no other one is 0.
        open_sizes = [axis for axis, size in enumerate(shape) if not is_number(size)]
        target = tuple(-1 if axis in open_sizes else size for axis, size in enumerate(shape))
        to = self.shape(target) if len(open_sizes) <= 1 and 0 not in shape else self.shape(shape)
        return Value(self.op("Reshape", value, to, allowzero=1 if 0 in shape else None), shape)

    def full(self, value: Value, shape: Shape) -> Value:
        """Return a value with all of its axes at full size."""
        if value.shape == shape:
            return value
        if isinstance(value.at, np.ndarray) and static(shape) and math.prod(shape) <= FOLDED:
            return constant(np.broadcast_to(value.at, shape))
        return Value(self.op("Expand", value, self.shape(shape)), shape)

    def cast(self, value: Any, dtype: Any) -> str:
        return self.op("Cast", value, to=tensor_type(dtype))

    # --- programs ---

    def inline(self, program: ClosedJaxpr, values: Sequence[Value]) -> list[Value]:
        """Add a program's nodes and return its results. Raises Unsupported for an operation without a rule."""
        jaxpr = program.jaxpr
        known = dict(zip(jaxpr.invars, values, strict=True))
        known |= {var: constant(array) for var, array in zip(jaxpr.constvars, program.consts, strict=True)}

        def value(var: Any) -> Value:
            return constant(np.asarray(var.val, aval(var).dtype)) if isinstance(var, Literal) else known[var]

        for eqn in jaxpr.eqns:
            own = [value(var) for var in eqn.invars]
            known.update(zip(eqn.outvars, self.results(eqn, own), strict=True))
        return [value(var) for var in jaxpr.outvars]

    def results(self, eqn: Any, values: list[Value]) -> list[Value]:
        """Return the results of one equation."""
        name = eqn.primitive.name
        if called := inner(eqn):
            return self.inline(called, values)
        shapes = [var.aval.shape for var in eqn.outvars]
        if name in BROADCASTING:
            shapes = [_broadcast([value.shape for value in values])] * len(shapes)
        if any(size == 0 for shape in shapes for size in shape if is_number(size)):  # jnp.pad concatenates such arrays
            return [Value(np.zeros(0, np.float32), shape) for shape in shapes]
        small = all(static(shape) and math.prod(shape) <= FOLDED for shape in shapes)
        if small and all(value.known for value in values) and name not in NEVER_FOLDED:
            return self.folded(eqn, values, name in BROADCASTING)
        if name not in RULES:
            raise Unsupported(f"The model uses the operation {name}, which has no counterpart in ONNX here.")
        if name not in BROADCASTING:
            values = [self.full(value, var.aval.shape) for value, var in zip(values, eqn.invars, strict=True)]
        made = RULES[name](self, eqn, *values)
        made = made if isinstance(made, list) else [made]
        return [at if isinstance(at, Value) else Value(at, shape) for at, shape in zip(made, shapes, strict=True)]

    def folded(self, eqn: Any, values: list[Value], broadcasting: bool) -> list[Value]:
        """Return the results of an equation of constants, computed by JAX."""
        arrays: list[Any] = [value.at for value in values]
        if broadcasting:
            shape = np.broadcast_shapes(*(array.shape for array in arrays))
            arrays = [np.broadcast_to(array, shape) if array.ndim else array for array in arrays]
        else:
            arrays = [np.broadcast_to(array, var.aval.shape) for array, var in zip(arrays, eqn.invars, strict=True)]
        params = eqn.primitive.get_bind_params(eqn.params)
        if broadcasting and "shape" in params:
            params = {**params, "shape": np.shape(arrays[0])}
        made = eqn.primitive.bind(*map(jax.numpy.asarray, arrays), **params)
        return [constant(np.asarray(x)) for x in (made if eqn.primitive.multiple_results else [made])]

    def proto(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any], initializers: Sequence[Any] = ()) -> Any:
        return helper.make_graph(self.nodes, name, list(inputs), list(outputs), list(initializers))

    def body(self, name: str, inputs: Sequence[tuple[str, Any]], outputs: Sequence[tuple[Value, Any]]) -> Any:
        """Return this graph as a body: inputs and outputs with the arrays' types (avals)."""
        named = [self.op("Identity", self.full(value, aval.shape)) for value, aval in outputs]
        types = [info(at, aval.dtype, aval.shape) for at, (_, aval) in zip(named, outputs, strict=True)]
        return self.proto(name, [info(at, aval.dtype, aval.shape) for at, aval in inputs], types)


def transposed(g: Graph, x: Value, perm: Sequence[int]) -> Value:
    """Return a value with its axes in another order."""
    if tuple(perm) == tuple(range(len(perm))):
        return x
    if isinstance(x.at, np.ndarray):
        return constant(np.transpose(x.at, perm))
    return Value(g.op("Transpose", x, perm=perm), tuple(x.shape[i] for i in perm))


def info(name: str, dtype: Any, shape: Shape) -> Any:
    """Return the declaration of a tensor; open sizes have their names."""
    return helper.make_tensor_value_info(
        name, tensor_type(dtype), [int(size) if is_number(size) else str(size) for size in shape]
    )


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    rank = max(map(len, shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(next((size for size in sizes if size != 1), 1) for sizes in zip(*padded, strict=True))


@dataclass(frozen=True)
class _Size:
    """A size in a graph, i64[1], with the operations of which symbolic sizes are made."""

    graph: Graph
    at: Any

    def _with(self, kind: str, other: Any, swap: bool = False) -> "_Size":
        pair = (self.at, other.at if isinstance(other, _Size) else np.array([other], np.int64))
        return _Size(self.graph, self.graph.op(kind, *(pair[::-1] if swap else pair)))

    def __add__(self, other: Any) -> "_Size":
        return self._with("Add", other)

    def __sub__(self, other: Any) -> "_Size":
        return self._with("Sub", other)

    def __rsub__(self, other: Any) -> "_Size":
        return self._with("Sub", other, swap=True)

    def __mul__(self, other: Any) -> "_Size":
        return self._with("Mul", other)

    def __neg__(self) -> "_Size":
        return self._with("Mul", -1)

    def __pow__(self, power: int) -> "_Size":
        made = self
        for _ in range(power - 1):
            made = made * self
        return made

    __radd__, __rmul__ = __add__, __mul__


def _pair(a: Any, b: Any) -> tuple[_Size, _Size]:
    graph = a.graph if isinstance(a, _Size) else b.graph
    made = [x if isinstance(x, _Size) else _Size(graph, np.array([x], np.int64)) for x in (a, b)]
    return made[0], made[1]


def _rest(a: Any, b: Any) -> _Size:
    a, b = _pair(a, b)
    return a._with("Mod", b)  # of the divisor's sign, as in Python


def _divided(a: Any, b: Any) -> _Size:
    a, b = _pair(a, b)
    return (a - _rest(a, b))._with("Div", b)


def _larger(a: Any, b: Any) -> _Size:
    a, b = _pair(a, b)
    return a._with("Max", b)


def _smaller(a: Any, b: Any) -> _Size:
    a, b = _pair(a, b)
    return a._with("Min", b)


def convert(program: ClosedJaxpr, inputs: Sequence[str], outputs: Sequence[str], name: str) -> Any:
    """Return a program as an ONNX model, its inputs and outputs under these names; open sizes stay open.

    Raises Unsupported for an operation without a rule.
    """
    g = Graph()
    values = [Value(at, aval.shape) for at, aval in zip(inputs, program.in_avals, strict=True)]
    for value in values:
        for axis, size in enumerate(value.shape):
            _name_size(g, value, axis, size)
    made = g.inline(program, values)
    for at, value, aval in zip(outputs, made, program.out_avals, strict=True):
        g.nodes.append(helper.make_node("Identity", [g.at(g.full(value, aval.shape))], [at]))
    graph = g.proto(
        name,
        [info(at, aval.dtype, aval.shape) for at, aval in zip(inputs, program.in_avals, strict=True)],
        [info(at, aval.dtype, aval.shape) for at, aval in zip(outputs, program.out_avals, strict=True)],
        [tensor for _, (tensor, _) in g.constants.values()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opsets, producer_name="jaxgen")


def _name_size(g: Graph, value: Value, axis: int, size: Any):
    """Name the open size of an input's axis, b or such as 8*h."""
    if is_number(size):
        return
    factor, _, name = str(size).rpartition("*")
    if not name.isidentifier() or (factor and not factor.isdigit()) or name in g.sizes:
        return
    at = g.op("Shape", value, start=axis, end=axis + 1)
    g.sizes[name] = g.op("Div", at, np.array([int(factor)], np.int64)) if factor else at
