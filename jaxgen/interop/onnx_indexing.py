"""Rules of onnx_graph for parts of arrays: slices, padding, reversal, gathers, sorting."""

from typing import Any

import numpy as np

from jaxgen.interop.onnx_graph import Graph, Unsupported, Value, rule, static, transposed

END = np.iinfo(np.int64).max


def _numbers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@rule("slice")
def _slice(g: Graph, eqn: Any, x: Value) -> str:
    p, shape = eqn.params, eqn.invars[0].aval.shape
    strides = p["strides"] or (1,) * len(shape)
    parts = zip(p["start_indices"], p["limit_indices"], strides, shape, strict=True)
    cut = [axis for axis, (start, stop, step, size) in enumerate(parts) if start != 0 or stop != size or step != 1]
    if not cut:
        return g.op("Identity", x)
    starts, stops = (g.shape(tuple(p[name][axis] for axis in cut)) for name in ("start_indices", "limit_indices"))
    return g.op("Slice", x, starts, stops, _numbers(*cut), _numbers(*(strides[axis] for axis in cut)))


@rule("rev")
def _reverse(g: Graph, eqn: Any, x: Value) -> str:
    axes = eqn.params["dimensions"]
    many = len(axes)
    return g.op("Slice", x, _numbers(*[-1] * many), _numbers(*[-END] * many), _numbers(*axes), _numbers(*[-1] * many))


@rule("pad")
def _pad(g: Graph, eqn: Any, x: Value, value: Value) -> str | Value:
    """Insert the value between elements, before and after them; negative padding crops."""
    at, config = x, eqn.params["padding_config"]
    for axis, (_, _, between) in enumerate(config):
        if between:  # [.. n ..] -> [.. n 1 ..] -> [.. n 1+between ..] -> [.. n * (1+between) ..] without the last ones
            shape = at.shape
            rows = g.reshaped(at, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
            pads = [0] * (2 * len(rows.shape))
            pads[len(rows.shape) + axis + 1] = between
            wide = g.op("Pad", rows, _numbers(*pads), value)
            long = (*shape[:axis], shape[axis] * (1 + between), *shape[axis + 1 :])
            flat = g.reshaped(Value(wide, (*shape[: axis + 1], 1 + between, *shape[axis + 1 :])), long)
            cut = g.op("Slice", flat, _numbers(0), _numbers(-between), _numbers(axis))
            at = Value(cut, (*shape[:axis], long[axis] - between, *shape[axis + 1 :]))
    ends = [pair for lo, hi, _ in config for pair in (lo, hi)]
    if not static(tuple(ends)):
        raise Unsupported("The model pads by a number that depends on the size.")
    low, high = ([pair[i] for pair in config] for i in (0, 1))
    made: Any = at
    if min(ends) < 0:
        starts = _numbers(*(max(-n, 0) for n in low))
        stops = _numbers(*(n if n < 0 else END for n in high))
        made = g.op("Slice", made, starts, stops, _numbers(*range(len(config))))
    if max(ends) > 0:
        made = g.op("Pad", made, _numbers(*(max(n, 0) for n in [*low, *high])), value)
    return made


@rule("dynamic_slice")
def _dynamic_slice(g: Graph, eqn: Any, x: Value, *starts: Value) -> str:
    shape, sizes = eqn.invars[0].aval.shape, eqn.params["slice_sizes"]
    cut = [axis for axis, (size, n) in enumerate(zip(shape, sizes, strict=True)) if size != n]
    if not cut:
        return g.op("Identity", x)
    first = [_start(g, starts[axis], shape[axis], sizes[axis]) for axis in cut]
    begin = g.op("Concat", *first, axis=0)
    return g.op("Slice", x, begin, g.op("Add", begin, g.shape(tuple(sizes[i] for i in cut))), _numbers(*cut))


def _start(g: Graph, start: Value, size: Any, length: Any) -> str:
    """Return the first index of a dynamic slice, i64[1], moved into the array as XLA does."""
    at = g.op("Reshape", g.cast(start, np.int64), _numbers(1))
    return g.op("Min", g.op("Max", at, _numbers(0)), g.size(size - length))


@rule("dynamic_update_slice")
def _dynamic_update_slice(g: Graph, eqn: Any, x: Value, new: Value, *starts: Value) -> str:
    shape, sizes = eqn.invars[0].aval.shape, eqn.invars[1].aval.shape
    cut = [axis for axis, (size, n) in enumerate(zip(shape, sizes, strict=True)) if size != n]
    if not cut:
        return g.op("Identity", new)
    if len(cut) > 1:
        raise Unsupported("The model replaces a part of an array in several axes.")
    axis = cut[0]
    start = _start(g, starts[axis], shape[axis], sizes[axis])
    before = g.op("Slice", x, _numbers(0), start, _numbers(axis))
    after = g.op("Slice", x, g.op("Add", start, g.size(sizes[axis])), _numbers(END), _numbers(axis))
    return g.op("Concat", before, new, after, axis=axis)


@rule("gather")
def _gather(g: Graph, eqn: Any, x: Value, indices: Value) -> Value:
    """Single elements, such as x[i], x[i, j] or jnp.take, also one for each row; or one part of an array."""
    p, shape = eqn.params, eqn.invars[0].aval.shape
    numbers, sizes = p["dimension_numbers"], p["slice_sizes"]
    if len(indices.shape) == 1:
        return _part(g, eqn, x, indices)
    axes, rows = numbers.start_index_map, numbers.operand_batching_dims
    n = len(rows)
    rest = [axis for axis in range(len(shape)) if axis not in axes and axis not in rows]
    if any(sizes[axis] != 1 for axis in axes) or any(sizes[axis] != shape[axis] for axis in rest):
        raise Unsupported("The model takes parts of arrays by indices.")
    many = len(indices.shape) - 1  # axes of the result that are those of the indices
    rows_first = list(numbers.start_indices_batching_dims)
    rows_first += [i for i in range(many) if i not in rows_first]
    indices = transposed(g, indices, (*rows_first, many))
    if "CLIP" in str(p["mode"]):
        dtype = eqn.invars[1].aval.dtype
        last = g.cast(g.shape(tuple(shape[axis] - 1 for axis in axes)), dtype)
        indices = Value(g.op("Min", g.op("Max", indices, np.asarray(0, dtype)), last), indices.shape)
    if len(axes) == 1 and not n:
        axis = axes[0]
        made = g.op("Gather", x, g.cast(g.reshaped(indices, indices.shape[:-1]), np.int64), axis=axis)
        before = axis
    else:
        made = g.op("GatherND", transposed(g, x, (*rows, *axes, *rest)), g.cast(indices, np.int64), batch_dims=n)
        before = 0
    # ONNX has the axes of the indices in one place, JAX has them wherever no axis of the array lies.
    out, offsets = eqn.outvars[0].aval.shape, numbers.offset_dims
    kept = [axis for axis in range(len(shape)) if axis not in (*numbers.collapsed_slice_dims, *rows)]
    of_rest = [offsets[kept.index(axis)] for axis in rest]
    places = [i for i in range(len(out)) if i not in offsets]
    order = of_rest[:before] + [places[i] for i in rows_first] + of_rest[before:]
    perm = sorted(range(len(order)), key=order.__getitem__)
    made = transposed(g, Value(made, tuple(out[i] for i in order)), perm)
    return g.reshaped(made, out)  # index axes that JAX keeps have size 1


def _part(g: Graph, eqn: Any, x: Value, indices: Value) -> Value:
    """Return a part of an array that begins at indices i32[k], one for each of k axes, as x[..., 1:]."""
    shape, sizes = eqn.invars[0].aval.shape, eqn.params["slice_sizes"]
    axes = [i for i in eqn.params["dimension_numbers"].start_index_map if sizes[i] != shape[i]]
    starts = []
    for axis in axes:
        place = eqn.params["dimension_numbers"].start_index_map.index(axis)
        one = Value(g.op("Slice", indices, _numbers(place), _numbers(place + 1)), (1,))
        starts.append(_start(g, one, shape[axis], sizes[axis]))
    at = x.at
    if axes:
        begin = g.op("Concat", *starts, axis=0)
        at = g.op("Slice", x, begin, g.op("Add", begin, g.shape(tuple(sizes[i] for i in axes))), _numbers(*axes))
    return g.reshaped(Value(at, tuple(sizes)), eqn.outvars[0].aval.shape)


@rule("sort")
def _sort(g: Graph, eqn: Any, *values: Value) -> list[str]:
    p, shape = eqn.params, eqn.invars[0].aval.shape
    if p["num_keys"] != 1:
        raise Unsupported("The model sorts by several keys.")
    axis = p["dimension"]
    key, order = g.ops("TopK", values[0], g.size(shape[axis]), outputs=2, axis=axis, largest=0, sorted=1)
    return [key, *(g.op("GatherElements", value, order, axis=axis) for value in values[1:])]


@rule("top_k")
def _top_k(g: Graph, eqn: Any, x: Value) -> list[str]:
    values, order = g.ops("TopK", x, _numbers(eqn.params["k"]), outputs=2, axis=-1, largest=1, sorted=1)
    return [values, g.cast(order, np.int32)]
