"""The presets that come nearest to a file of weights."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from jaxgen import zoo
from jaxgen.core.errors import InputError
from jaxgen.core.types import variables
from jaxgen.interop.entries import Entry, entry, some
from jaxgen.interop.layers import traced
from jaxgen.interop.weight_names import rule_of

TRIED, SHOWN = 5, 3  # presets: tracing one takes up to a second


def nearest(tensors: Mapping[str, np.ndarray], names: Iterable[str] = ()) -> str:
    """Return a sentence on the presets whose nets are most like a file's tensors, and what differs.

    names: the presets to look at; (): all. Those with the nearest numbers of parameters are compared.
    """
    found: list[tuple[float, str, str, Entry]] = []
    for preset in list(by_size(tensors, names or zoo.ZOO))[:TRIED]:
        model = zoo.load(preset).run.model
        shapes = traced(model)
        for net in shapes.params:
            like = variables(net, shapes.params, shapes.extra)
            try:
                one = entry(rule_of(preset), model, net, like, tensors)
            except InputError:  # PyTorch has no such net, or the file has the weights twice
                continue
            found.append((one.hits / (len(one.rows) + len(one.surplus)), preset, net, one))
    found = sorted((row for row in found if row[0]), key=lambda row: -row[0])[:SHOWN]
    if not found:
        return f"No preset of about its size has tensors of these names and shapes ({some(list(tensors))})."
    return "Nearest are: " + "; ".join(_described(preset, net, one) for _, preset, net, one in found) + "."


def _described(preset: str, net: str, one: Entry) -> str:
    wrong = ", ".join(one.problems(1))
    return f"{preset}, its {net} ({one.hits} of {len(one.rows)} tensors{f'; {wrong}' if wrong else ''})"


def by_size(tensors: Mapping[str, np.ndarray], names: Iterable[str]) -> dict[str, float]:
    """Return by which factor presets are larger or smaller than a file, or than the part of it that is nearest in size.

    The nearest preset comes first.
    """
    parts = Counter[str]()
    for name, x in tensors.items():
        parts[name.partition(".")[0]] += x.size
    sizes = [size for size in {sum(parts.values()), *parts.values()} if size]
    presets = {name: zoo.load(name) for name in names}
    known = {name: {one.parameters, one.merged or one.parameters} for name, one in presets.items()}
    off = lambda counts: min((abs(math.log(n / size)) for n in counts for size in sizes), default=0)  # noqa: E731
    factors = {name: math.exp(off(counts)) for name, counts in known.items()}
    return dict(sorted(factors.items(), key=lambda item: item[1]))
