"""Programs whose random draws are inputs: for runtimes that know no keys of JAX.

A program is traced to its equations. Each of them that draws noise from a key becomes an input of the program, whatever
model it belongs to; what computes keys is then left over and removed. A draw in a scan, as in a sampler's loop, becomes
one input with a row for each iteration.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jax.interpreters import partial_eval

from jaxgen.core.errors import InputError
from jaxgen.core.types import Key

# The functions of jax.random that draw, and what their numbers are. Others are made of these.
DRAWS = {
    "_normal": "N(0, 1)",
    "_uniform": "uniform from {} to {}",
    "_randint": "whole numbers from {} to {} (excluded)",
    "_truncated_normal": "N(0, 1) from {} to {}",
    "_shuffle": "a random order of the values",
}
INLINE = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat", "remat2")
NO_INPUT = "This model draws random numbers {}, which can't become inputs of the program."

Function = Callable[[Mapping[str, Any], Key], Mapping[str, Any]]  # (inputs, keys Key[b]) -> outputs


class Draw(NamedTuple):
    """One input of noise."""

    shape: tuple[Any, ...]
    dtype: Any
    numbers: str  # what they are, such as "N(0, 1)"
    number: int = 0  # its place among all draws
    axis: int = 0  # that of the batch


class Program(NamedTuple):
    """(*inputs, *noise) -> outputs, without keys."""

    jaxpr: ClosedJaxpr
    inputs: tuple[str, ...]  # those that the outputs depend on
    outputs: tuple[str, ...]
    draws: tuple[Draw, ...]


@dataclass
class Tape:
    """The noise of a program in the order in which it is drawn: given, or drawn from keys and recorded."""

    given: list[Any] | None = None
    recorded: list[Any] = field(default_factory=list)

    def take(self, count: int) -> list[Any] | None:
        """Return the next `count` values, None where they are drawn."""
        if self.given is None:
            return None
        some, self.given = self.given[:count], self.given[count:]
        return some


def with_noise(function: Function, inputs: Mapping[str, Any], keys: Any) -> Program:
    """Return a program whose noise is given, traced for inputs and keys of these shapes.

    Raises InputError where it draws in a branch, in a loop of unknown length, or by a function that is not in DRAWS.
    """
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(inputs, keys)
    draws = tuple(draw._replace(number=i) for i, draw in enumerate(_draws(traced.jaxpr)))
    names = tuple(sorted(inputs))

    def given(values: Sequence[Array], keys: Key, noise: list[Array]):
        return _evaluate(traced.jaxpr, traced.consts, [*values, keys], Tape(noise))

    noise = [jax.ShapeDtypeStruct(draw.shape, draw.dtype) for draw in draws]
    whole = jax.make_jaxpr(given)([inputs[name] for name in names], keys, noise)
    jaxpr, used = partial_eval.dce_jaxpr(whole.jaxpr, [True] * len(whole.jaxpr.outvars))
    of_inputs, of_keys, of_noise = used[: len(names)], used[len(names)], used[len(names) + 1 :]
    if of_keys:
        raise InputError(NO_INPUT.format("by another function than " + ", ".join(name[1:] for name in DRAWS)))
    consts = dict(zip(whole.jaxpr.constvars, whole.consts, strict=True))
    return Program(
        ClosedJaxpr(jaxpr, [consts[var] for var in jaxpr.constvars]),
        tuple(name for name, needed in zip(names, of_inputs, strict=True) if needed),
        tuple(sorted(shapes)),
        tuple(draw for draw, needed in zip(draws, of_noise, strict=True) if needed),
    )


def noise_of(function: Function) -> Callable[[Mapping[str, Any], Key], list[Array]]:
    """Return the function (inputs, keys) -> the noise that it draws, in the order of all draws of `with_noise`."""

    def recorded(inputs: Mapping[str, Any], keys: Key) -> list[Array]:
        traced, tape = jax.make_jaxpr(function)(inputs, keys), Tape()
        _evaluate(traced.jaxpr, traced.consts, [*(inputs[name] for name in sorted(inputs)), keys], tape)
        return tape.recorded

    return recorded


def inner(eqn: Any) -> ClosedJaxpr | None:
    """Return the program that an equation calls once, such as that of a jit; None for other equations."""
    if eqn.primitive.name not in INLINE:
        return None
    found = eqn.params.get("jaxpr") or eqn.params["call_jaxpr"]
    return found if isinstance(found, ClosedJaxpr) else ClosedJaxpr(found, ())


def _is_draw(eqn: Any) -> bool:
    keys = [var for var in eqn.invars if jnp.issubdtype(var.aval.dtype, jax.dtypes.prng_key)]
    return eqn.params.get("name") in DRAWS and bool(keys)


def _draws(jaxpr: Jaxpr) -> Iterator[Draw]:
    """Yield the draws of a program in the order of its equations."""
    for eqn in jaxpr.eqns:
        if _is_draw(eqn):
            out: Any = eqn.outvars[0]
            limits = sorted(float(var.val) for var in eqn.invars[1:] if isinstance(var, Literal))
            numbers = DRAWS[eqn.params["name"]]
            yield Draw(
                out.aval.shape, out.aval.dtype, numbers.format(*(f"{x:g}" for x in limits)) if limits else numbers
            )
        elif called := inner(eqn):
            yield from _draws(called.jaxpr)
        elif eqn.primitive.name == "scan":
            length = eqn.params["length"]
            for draw in _draws(eqn.params["jaxpr"].jaxpr):
                yield draw._replace(shape=(length, *draw.shape), axis=draw.axis + 1)
        elif eqn.primitive.name in ("cond", "while"):
            bodies = eqn.params.get("branches") or (eqn.params["cond_jaxpr"], eqn.params["body_jaxpr"])
            if any(next(_draws(body.jaxpr), None) for body in bodies):
                raise InputError(NO_INPUT.format(f"in a {eqn.primitive.name}"))


def _evaluate(jaxpr: Jaxpr, consts: Sequence[Any], values: Sequence[Any], tape: Tape) -> list[Any]:
    """Evaluate a program, its draws taken from the tape or recorded there."""
    known: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *values], strict=True))
    for eqn in jaxpr.eqns:
        own = [var.val if isinstance(var, Literal) else known[var] for var in eqn.invars]
        if _is_draw(eqn):
            given = tape.take(1)
            out = given or _bind(eqn, own)
            tape.recorded += out
        elif called := inner(eqn):
            out = _evaluate(called.jaxpr, called.consts, own, tape)
        elif eqn.primitive.name == "scan" and (count := len(list(_draws(eqn.params["jaxpr"].jaxpr)))):
            out = _scan(eqn.params, own, tape, count)
        else:
            out = _bind(eqn, own)
        known.update(zip(eqn.outvars, out, strict=True))
    return [var.val if isinstance(var, Literal) else known[var] for var in jaxpr.outvars]


def _bind(eqn: Any, values: list[Any]) -> list[Any]:
    out = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
    return list(out) if eqn.primitive.multiple_results else [out]


def _scan(params: Mapping[str, Any], values: list[Any], tape: Tape, count: int) -> list[Any]:
    """Evaluate a scan that draws: its noise is scanned over as well."""
    consts, carried, body = params["num_consts"], params["num_carry"], params["jaxpr"]
    first, carry, rows = values[:consts], values[consts : consts + carried], values[consts + carried :]

    def step(carry: list[Any], row: tuple[list[Any], list[Any] | None]):
        own = Tape(row[1])
        out = _evaluate(body.jaxpr, body.consts, [*first, *carry, *row[0]], own)
        return out[:carried], (out[carried:], own.recorded)

    given = tape.take(count)
    carry, (made, noise) = jax.lax.scan(step, carry, (rows, given), params["length"], params["reverse"])
    tape.recorded += noise
    return [*carry, *made]
