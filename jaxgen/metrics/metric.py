"""The type of a metric: an empty state, a pure update, a merge, and a result on the host in float64."""

from collections.abc import Callable
from typing import Any, NamedTuple

State = Any  # a pytree of arrays


class Metric(NamedTuple):
    """A metric over many examples, accumulated batch by batch.

    empty:  (...) -> state, before the first example
    update: (state, arrays [b ...], valid bool[b]) -> state; pure, to be jitted. Rows with valid = False are ignored,
            whatever they hold: a partial last batch is padded, and a shard may hold fewer examples.
    merge:  (state, state) -> state of the union of two sets of examples, from shards or processes
    result: (state, ...) -> {name: value}, on the host in float64. A metric of one set takes one state; a metric that
            compares two sets takes the state of the real set and the state of the generated set.
    """

    empty: Callable[..., State]
    update: Callable[..., State]
    merge: Callable[[State, State], State]
    result: Callable[..., dict[str, float]]
