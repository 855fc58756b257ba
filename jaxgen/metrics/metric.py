"""What a metric is: an empty state, a pure update, a merge, and a result on the host in float64."""

from collections.abc import Callable
from typing import Any, NamedTuple

State = Any  # a pytree of arrays


class Metric(NamedTuple):
    """A measure of many examples, a batch at a time.

    empty:  (...) -> state, before the first example
    update: (state, arrays [b ...], valid bool[b]) -> state; pure, to be jitted. A row whose `valid` is False counts for
            nothing, whatever it holds: so a ragged last batch is padded, and a shard may hold fewer examples.
    merge:  (state, state) -> state of both sets of examples, as of shards or of processes
    result: (state, ...) -> {name: value}, on the host in float64. A metric of one set takes its state; one that
            compares two sets takes the state of the real and the state of the generated one.
    """

    empty: Callable[..., State]
    update: Callable[..., State]
    merge: Callable[[State, State], State]
    result: Callable[..., dict[str, float]]
