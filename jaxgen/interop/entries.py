"""The part of a weight file that holds a net's weights.

Training code wraps weights in many ways: {"state_dict": ..., "optimizer": ...}, {"params": ..., "params_ema": ...},
{"generator": ..., "discriminator": ...}, `module.` of DataParallel, `model.` of Lightning. All of these are prefixes of
names, in every format. The net decides which prefix is right: the one after which all of its tensors are found.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.core.printable import printable
from jaxgen.interop.layers import SAME, Path, PyTree, leaves, traced
from jaxgen.interop.weight_names import Row, Rule, table

Tensors = Mapping[str, np.ndarray]
DEPTH = 8  # parts of a prefix
ORDER = {"mean": 1, "var": 2, "bias": 3}  # of a layer's arrays in ncnn's graphs; its weights come first
WRAPPERS = {"state_dict", "model_state_dict", "model", "params", "net", "network", "weights", "module"}
AVERAGE = re.compile(r"(^|_)(ema|avg|averaged?|average|swa|shadow)\d*(_|$)", re.IGNORECASE)
OPTIMIZER = re.compile(r"opt|mu$|nu$|exp_avg|momentum|trace$", re.IGNORECASE)  # its moments look like weights
SURPLUS = ("num_batches_tracked", "n_averaged", "resample_filter", "relative_position_index", "attn_mask")
SURPLUS += tuple(
    f"{sign}_mean.{part}{leaf}" for sign in ("sub", "add") for part in ("", "shifter.") for leaf in ("weight", "bias")
)
SURPLUS += "spynet.mean", "spynet.std"  # constants of the inputs
SURPLUS += "eval_conv.weight", "eval_conv.bias", ".data"  # sums of the kernels beside them; constants of ncnn's graphs


class Entry(NamedTuple):
    """A place in a file with a net's weights, and what is wrong with them.

    prefix: of the names, such as "state_dict_ema."; "" for the whole file
    missing, misshaped: names that are not there, and sentences on other shapes
    surplus: names that the net doesn't have. Counters of batches and fixed filters are no surplus
    others: prefixes of other weights that fit as well
    by_order: whether the names of the file say nothing, and the tensors were matched by the order of the layers
    """

    prefix: str
    rows: list[Row]
    missing: list[str]
    misshaped: list[str]
    surplus: list[str]
    others: list[str]
    by_order: bool = False

    @property
    def hits(self) -> int:
        """The number of tensors that have the right name and shape."""
        return len(self.rows) - len(self.missing) - len(self.misshaped)

    @property
    def complete(self) -> bool:
        """Whether all tensors of the net are there."""
        return self.hits == len(self.rows)

    @property
    def used(self) -> set[str]:
        """The names of the net's tensors in the file."""
        return {self.prefix + row.name for row in self.rows}

    def problems(self, most: int = 3) -> list[str]:
        """Return why these are not the net's weights; [] if they are."""
        found = (("missing", self.missing), ("surplus", self.surplus), ("of another shape", self.misshaped))
        return [f"{what}: {some(names, most)}" for what, names in found if names]

    def weights(self, tensors: Tensors) -> PyTree:
        """Return the net's variables, in our names and layouts. Raises InputError for NaN and infinity."""
        ours: dict = {}
        for path, _, name, layout in self.rows:
            *parents, leaf = path
            place = ours
            for parent in parents:
                place = place.setdefault(parent, {})
            with np.errstate(over="ignore"):
                place[leaf] = np.asarray(layout.back(tensors[self.prefix + name]), np.float32, order="C")
            if not np.isfinite(place[leaf]).all():
                raise InputError(f"{printable(name)} has values that are not finite numbers of 32 bits.")
        return ours

    def choice(self, net: str) -> str:
        """Return a sentence on what was chosen of a file that holds more than a net's weights, otherwise ""."""
        if self.by_order:
            return f"The file does not name the layers of the {net}: they were matched by their order and shapes."
        if not self.prefix and not self.others:
            return ""
        average = ", the average" if averages(self.prefix) else ""
        text = f"The weights of the {net} are {shown(self.prefix)} of the file{average}."
        if self.others:
            others = " and ".join(map(shown, self.others))
            text += f" It also holds {others}: `import --take {self.others[0].removesuffix('.') or '.'}` takes that."
        return text


def entry(rule: Rule, model: Any, net: str, like: PyTree, tensors: Tensors, take: str = "") -> Entry:
    """Return the part of a file that holds a net's weights, or the part that comes nearest.

    Averages are preferred to other weights. The names and layouts are those of the rule or, as in Flax's files, ours.
    take: the prefix to take, without the dot at its end; "." for none
    Raises InputError where the file has no such prefix, or where several parts are equally good.
    """
    found, (absent, strange) = _entry_of(rule, model, net, like, tensors, take), _constants(model, tensors)
    return found._replace(missing=found.missing + absent, surplus=found.surplus + strange)


def _entry_of(rule: Rule, model: Any, net: str, like: PyTree, tensors: Tensors, take: str) -> Entry:
    theirs = table(rule, model, net, like, getattr(tensors, "old", False))
    flax = [Row(path, tuple(x.shape), ".".join(path), SAME) for path, x in sorted(leaves(like))]
    own = [row._replace(name=".".join(row.path[1:])) for row in flax] if set(like) == {"params"} else flax
    places = [(rows, prefix) for rows in (theirs, own) for prefix in _prefixes(rows, tensors) if _within(prefix, take)]
    if take and not places:
        known = sorted({name.split(".")[0] for name in tensors if "." in name})
        raise InputError(f"The file has no weights of the {net} as {take!r}: its parts are {some(known, 8) or 'none'}.")
    found = [_entry(rows, prefix, tensors) for rows, prefix in places] or [_entry(theirs, "", tensors)]
    whole = sorted((e for e in found if e.complete), key=lambda e: _rank(e.prefix, net))
    if not whole and getattr(tensors, "graph", False):
        matched = in_order(theirs, traced(model).order.get(net, []), tensors)
        whole = [_entry(matched, "", tensors)._replace(by_order=True)] if matched else []
    if not whole:
        return max(found, key=lambda e: (e.hits, -len(e.prefix)))
    best = whole[0]
    others = [e.prefix for e in whole[1:] if not _alike(best, e, tensors)]
    equal = [prefix for prefix in others if _rank(prefix, net)[:-1] == _rank(best.prefix, net)[:-1]]
    if equal:
        names = ", ".join(map(shown, (best.prefix, *equal)))
        raise InputError(
            f"The file holds weights of the {net} more than once, as {names}: name one by `import --take`."
        )
    elsewhere = tuple(e.prefix for e in whole if len(e.prefix) > len(best.prefix))
    surplus = [name for name in best.surplus if not (best.prefix + name).startswith(elsewhere)]
    return best._replace(others=others, surplus=surplus)


def in_order(rows: list[Row], modules: list[Path], tensors: Tensors) -> list[Row]:
    """Return the rows with the names of a graph's tensors; the n-th layer of the net is the n-th of the graph.

    modules: those of the net in the order in which they run. [] unless all tensors then have the right shapes.
    """
    place = {path: i for i, path in enumerate(modules)}
    if not all(row.path[1:-1] in place for row in rows):
        return []
    ran = sorted(rows, key=lambda row: (place[row.path[1:-1]], ORDER.get(row.path[-1], 0)))
    names = [name for name in tensors if not name.endswith(SURPLUS)]
    last = lambda name: name.rpartition(".")[2]  # noqa: E731
    fits = lambda row, name: row.theirs == tensors[name].shape and last(row.name) == last(name)  # noqa: E731
    if len(ran) != len(names) or not all(map(fits, ran, names)):
        return []
    found = {row.path: row._replace(name=name) for row, name in zip(ran, names, strict=True)}
    return [found[row.path] for row in rows]


def problems(rule: Rule, model: Any, net: str, like: PyTree, tensors: Tensors) -> list[str]:
    """Return why tensors aren't a net's weights: names that are missing or surplus, other shapes; [] if they are."""
    return entry(rule, model, net, like, tensors).problems()


def to_ours(rule: Rule, model: Any, net: str, like: PyTree, tensors: Tensors) -> PyTree:
    """Return `tensors`, by their names, as variables of the structure and shapes of `like`.

    Raises InputError that lists the `problems`, if there are any.
    """
    found = entry(rule, model, net, like, tensors)
    if wrong := found.problems():
        raise InputError(f"These weights are not the {net}'s: {'; '.join(wrong)}.")
    return found.weights(tensors)


def some(names: list[str], most: int = 3) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(printable, names[:most])) + more


def shown(prefix: str) -> str:
    """Return a prefix as messages show it."""
    return printable(prefix.removesuffix(".")) or "the top level"


def averages(prefix: str) -> bool:
    """Return whether a prefix is that of averages of weights."""
    return any(map(AVERAGE.search, prefix.split(".")))


def _prefixes(rows: list[Row], tensors: Tensors) -> list[str]:
    """Return the prefixes after which the file has names of the rows, each once."""
    wanted, found = {row.name for row in rows}, Counter[str]()
    for name in tensors:
        start = 0
        for _ in range(DEPTH):
            if name[start:] in wanted:
                found[name[:start]] += 1
            start = name.find(".", start) + 1
            if not start:
                break
    return [prefix for prefix, _ in found.most_common(64)]


def _within(prefix: str, take: str) -> bool:
    return not take or (not prefix if take == "." else prefix.startswith(f"{take}."))


def _entry(rows: list[Row], prefix: str, tensors: Tensors) -> Entry:
    pairs = [(row, tensors.get(prefix + row.name)) for row in rows]
    missing = [row.name for row, x in pairs if x is None]
    misshaped = [
        f"{row.name} is {'complex, ' if x.dtype.kind == 'c' else ''}{list(x.shape)}, not {list(row.theirs)}"
        for row, x in pairs
        if x is not None and (x.shape != row.theirs or x.dtype.kind == "c")
    ]
    used = {prefix + row.name for row in rows}
    inside = (name for name in tensors if name.startswith(prefix) and name not in used)
    surplus = [name.removeprefix(prefix) for name in inside if not name.endswith(SURPLUS)]
    return Entry(prefix, rows, missing, misshaped, surplus, [])


def _constants(model: Any, tensors: Tensors) -> tuple[list[str], list[str]]:
    """Return which of a model's constants a graph lacks, and which it has besides: one that differs is both.

    Nets that differ in nothing but the mean of their inputs have the same weights' names and shapes.
    """
    if not getattr(tensors, "graph", False):
        return [], []
    ours = [np.asarray(x, np.float32) for x in getattr(model, "constants", ())]
    theirs = {name: np.ravel(x) for name, x in tensors.items() if name.endswith(".data")}
    same = lambda a, b: a.shape == b.shape and np.allclose(a, b, atol=1e-3)  # noqa: E731
    written = lambda x: " ".join(f"{value:.4g}" for value in x[:4])  # noqa: E731
    absent = [f"the constants {written(x)}" for x in ours if not any(same(x, y) for y in theirs.values())]
    strange = [f"{name} ({written(y)})" for name, y in theirs.items() if not any(same(x, y) for x in ours)]
    return absent, strange


def _rank(prefix: str, net: str) -> tuple:
    """Return a key that is lower the likelier a prefix is that of the weights to take."""
    parts = prefix.split(".")[:-1]
    moments = any(map(OPTIMIZER.match, parts))
    return moments, not averages(prefix), net not in parts, not set(parts) <= WRAPPERS, len(parts)


def _alike(one: Entry, other: Entry, tensors: Tensors) -> bool:
    """Return whether two parts of a file hold the same values."""
    pairs = zip(one.rows, other.rows, strict=True)
    return all(np.array_equal(tensors[one.prefix + a.name], tensors[other.prefix + b.name]) for a, b in pairs)
