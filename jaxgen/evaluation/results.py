"""The published results: one line of JSON in results.jsonl for each measured number, with its protocol and conditions.

The benchmarks of tests/benchmarks append to the file; `python -m jaxgen list` and the tables of the documentation are
rendered from it. A number that is measured again is appended, and the later line counts.
"""

import datetime
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from jaxgen.core.errors import InputError

FILE = Path(__file__).with_name("results.jsonl")
DATE = re.compile(r"\d{4}-\d\d-\d\d(/\d{4}-\d\d-\d\d)?")


@dataclass(frozen=True)
class Result:
    """One measured number, and everything that is known of how it was measured; None and empty: unknown or none."""

    model: str  # a preset, or the name of a variant, of other software or of a floor
    metric: str  # its name carries its protocol: psnr_y_border2, fid_lenet
    value: float
    interval: float | None = None  # half the width of the 95 % interval
    case: str | None = None  # of several values of a metric: after how many steps, drawn how, of the inputs
    preset: str | None = None  # the preset of the zoo that was trained or timed
    weights: str | None = None  # published weights that were used; nothing was trained here then
    data: str | None = None  # the data set that it was measured on
    protocol: str | None = None  # what the metric's name does not say
    steps: int | None = None  # of training
    seeds: int | None = None
    settings: str | None = None  # what was changed of the preset
    table: str | None = None  # the table that shows it
    row: dict[str, str] | None = None  # the labels of its row there
    source: str | None = None  # of a figure that we did not measure: the publication
    remark: str | None = None
    date: str | None = None  # year-month-day, or two with a slash between: first and last
    hardware: str | None = None
    versions: dict[str, str] | None = None  # of Python and the libraries
    command: str | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """The key of a measurement: a later result with the same key replaces this one."""
        if self.table:
            return (self.table, *(self.row or {}).items(), self.metric, self.case)
        return (None, self.model, self.weights, self.data, self.metric, self.case, self.steps, self.settings)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


FORMS: dict[str, tuple[str, Callable[[Any], bool]]] = {  # of the values of a field
    "str": ("a text that is not empty", lambda x: isinstance(x, str) and bool(x)),
    "float": ("a finite number", _number),
    "int": ("a whole number that is not negative", lambda x: _number(x) and isinstance(x, int) and x >= 0),
    "dict": ("an object of texts", lambda x: isinstance(x, dict) and all(isinstance(y, str) for y in x.values())),
}
KINDS = {
    field.name: re.sub(r"<class '|'>|\[.*", "", str(field.type).removesuffix(" | None")) for field in fields(Result)
}


def parse(line: dict[str, Any], where: str = "A result") -> Result:
    """Return a result of the object of one line. Raises InputError, which says where and what is wrong."""
    for name in line.keys() - KINDS.keys():
        raise InputError(f"{where}: {name!r} is not a field of a result; the fields are {', '.join(KINDS)}.")
    for name in ("model", "metric", "value"):
        if name not in line:
            raise InputError(f"{where}: {name!r} is missing.")
    for name, value in line.items():
        wanted, fits = FORMS[KINDS[name]]
        if not fits(value):
            raise InputError(f"{where}: {name!r} must be {wanted}, not {value!r}.")
    if line.get("interval", 0) < 0:
        raise InputError(f"{where}: 'interval' must not be negative, as {line['interval']} is.")
    if "date" in line:
        _check_date(line["date"], where)
    if "row" in line and "table" not in line:
        raise InputError(f"{where}: 'row' needs 'table', the table that the row is in.")
    return Result(**line)


def _check_date(text: str, where: str):
    try:
        if not DATE.fullmatch(text):
            raise ValueError
        for day in text.split("/"):
            datetime.date.fromisoformat(day)
    except ValueError:
        raise InputError(f"{where}: 'date' must be a day such as 2026-11-30, not {text!r}.") from None


def read(path: Path | None = None) -> list[Result]:
    """Return the results of a file (FILE), in its order. Raises InputError, which names the line that is damaged."""
    path = path or FILE
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path.name}, line {number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{where} is not JSON: {error}.") from None
        if not isinstance(value, dict):
            raise InputError(f"{where} must be an object in braces, not {line!r}.")
        found.append(parse(value, where))
    return found


def dump(result: Result) -> str:
    """Return the line of a result, without what is unknown; checked as `read` checks it."""
    line = {name: value for name, value in asdict(result).items() if value is not None}
    parse(line)
    return json.dumps(line, ensure_ascii=False, allow_nan=False)


def append(results: Iterable[Result], path: Path | None = None):
    """Add results at the end of a file (FILE). Raises InputError before anything is written where one is not valid."""
    lines = [f"{dump(result)}\n" for result in results]
    with (path or FILE).open("a", encoding="utf-8") as file:
        file.writelines(lines)


def newest(results: Iterable[Result]) -> list[Result]:
    """Return the results without those that a later one replaces, each at the place of its first measurement."""
    return list({result.key: result for result in results}.values())


# ---- what is said of a preset in one line


class Metric(NamedTuple):
    """The format of a metric in a summary."""

    name: str
    form: str
    unit: str = ""
    lower: bool = False  # whether lower is better


PSNR = Metric("PSNR", ".2f", " dB")
LEADING = {  # the metrics of a summary, the most important first
    "accuracy_top1": Metric("accuracy", ".2%"),
    "bpd_16": Metric("bits/dim", ".3f", lower=True),
    "nll_5000_dynamic": Metric("NLL", ".1f", " nats", lower=True),
    "nll_1_fixed": Metric("NLL", ".1f", " nats", lower=True),
    "fid_lenet": Metric("fid_lenet", ".4g", lower=True),
    "mig": Metric("MIG", ".2g"),
    "lpips_st_alex": Metric("LPIPS", ".3f", lower=True),
    "psnr_y_border2": PSNR,
    "psnr_y_border3": PSNR,
    "psnr_y_border4": PSNR,
    "psnr_y": PSNR,
    "psnr_rgb": PSNR,
    "reconstruction_psnr": Metric("reconstruction PSNR", ".1f", " dB"),
    "hidden_patch_psnr": Metric("PSNR of hidden patches", ".1f", " dB"),
    "target_class_accuracy": Metric("target class reached", ".1%"),
    "style_loss_ratio": Metric("style loss ratio", ".3f", lower=True),
}
INPUT = "input"  # the case of a metric of what a net gets, beside that of what it makes
MOMENTS = ("2,000 updates", "equal time", "final")  # cases that the steps say as well
SHORT = 30  # characters of settings that a summary shows


def best(results: Sequence[Result], preset: str) -> dict[str, Result]:
    """Return the best result of each metric of LEADING for a preset, the most important metric first.

    Results of published weights and of publications do not count. Where the preset itself was measured, variants of it
    do not count either.
    """
    ours = [r for r in newest(results) if r.preset == preset and not r.weights and not r.source and r.case != INPUT]
    ours = [r for r in ours if r.model == preset] or ours
    found = {}
    for name, metric in LEADING.items():
        if some := [r for r in ours if r.metric == name]:
            found[name] = (min if metric.lower else max)(some, key=lambda r: r.value)
    return found


def summary(results: Sequence[Result], preset: str) -> str | None:
    """Return what was measured of a preset, in one line: at most two metrics. None where nothing was."""
    inputs = {r.key: r.value for r in newest(results) if r.case == INPUT}
    text, known = "", None
    for name, r in list(best(results, preset).items())[:2]:
        metric = LEADING[name]
        value = f"{r.value:{metric.form}}" + (f" ± {r.interval:.2g}" if r.interval else "") + metric.unit
        if (before := inputs.get((*r.key[:-1], INPUT))) is not None:
            value += f" (inputs: {before:{metric.form}})"
        about = [] if r.case in MOMENTS else [r.case]
        about += [f"{r.steps:,} steps" if r.steps else None]
        if r.settings:
            about.append(r.settings if len(r.settings) <= SHORT else "settings changed")
        notes = "; ".join(x for x in about if x)
        where = (f" on {r.data}" if r.data else "") + (f" ({notes})" if notes else "")
        text += f"{'; ' if text else ''}{metric.name} {value}{'' if where == known else where}"
        known = where
    return text or None


def brief(results: Sequence[Result], preset: str) -> str:
    """Return the best result of a preset's first metric in a few words, "" where nothing was measured."""
    for name, r in best(results, preset).items():
        metric = LEADING[name]
        return f"{metric.name} {r.value:{metric.form}}{metric.unit}" + (f", {r.data}" if r.data else "")
    return ""
