"""The tables of published results in the documentation: python -m tests.benchmarks.render [--check]

Writes every table between its markers, `<!-- name -->` and `<!-- /name -->`, in all pages named README.md.
The numbers are from jaxgen/evaluation/results.jsonl, columns and captions from tests/benchmarks/tables.py. With --check
nothing is written, and the exit status is 1 where a page differs from what would be written.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from jaxgen import zoo
from jaxgen.core.errors import InputError, choose
from jaxgen.evaluation import results
from jaxgen.evaluation.results import Result
from tests.benchmarks import api
from tests.benchmarks.tables import TABLES, Table

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "jaxgen/**/README.md", "notebooks/README.md", "tests/benchmarks/README.md")
MARKED = re.compile(r"<!-- ([\w-]+) -->\n.*?<!-- /\1 -->", re.DOTALL)
OPENED = re.compile(r"<!-- ([\w-]+) -->")
PLACE = re.compile(r"\{(?P<metric>[\w-]+)?(?:@(?P<case>[^}.:]+))?(?:\.(?P<field>\w+))?(?::(?P<form>[^}]*))?\}")
FAMILIES = {f"presets-{family}": family for family in dict.fromkeys(path.split(".")[2] for path in zoo.ZOO.values())}

Row = Sequence[Result]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a page is stale")
    check = parser.parse_args(arguments).check
    stale = render(write=not check)
    for path in stale:
        told = "is stale: python -m tests.benchmarks.render writes it" if check else "is written"
        print(f"{path.relative_to(ROOT)} {told}.")
    return int(check and bool(stale))


def render(write: bool = True, root: Path | None = None, found: Sequence[Result] | None = None) -> list[Path]:
    """Return the pages whose tables differ from the results; write them where asked to."""
    found = results.read() if found is None else found
    stale = []
    for path in sorted(path for pattern in PAGES for path in (root or ROOT).glob(pattern)):
        text = path.read_text(encoding="utf-8")
        new = page(text, found, path.name)
        if new != text:
            stale.append(path)
            if write:
                path.write_text(new, encoding="utf-8")
    return stale


def page(text: str, found: Sequence[Result], name: str = "The page") -> str:
    """Return a page with its tables rendered anew. Raises InputError for a marker of no table, or without its end."""
    closed = {match[1] for match in MARKED.finditer(text)}
    for marker in OPENED.findall(text):
        choose(marker, (*TABLES, *FAMILIES, "api"), "table")
        if marker not in closed:
            raise InputError(f"{name} has <!-- {marker} --> without <!-- /{marker} --> after it.")
    return MARKED.sub(lambda match: section(match[1], found), text)


def section(name: str, found: Sequence[Result]) -> str:
    """Return the rendered table between its markers."""
    if name == "api":
        text = api.text(ROOT / "jaxgen")
    else:
        text = presets(FAMILIES[name], found) if name in FAMILIES else shown(name, found)
    return f"<!-- {name} -->\n{text}\n<!-- /{name} -->"


def presets(family: str, found: Sequence[Result]) -> str:
    """Return the presets of a family with their uses, papers, sizes and results."""
    lines = ["| preset | for | paper | parameters | measured |", "| --- | --- | --- | --- | --- |"]
    for name in zoo.family(family):
        measured = results.summary(found, name) or "not yet measured"
        lines.append(
            f"| `{name}` | {zoo.use_of(name)} | {zoo.paper(name)} | {zoo.load(name).parameters:,} | {measured} |"
        )
    return "\n".join(lines)


def shown(name: str, found: Iterable[Result]) -> str:
    """Return a table with its caption as Markdown."""
    table, rows = TABLES[name], rows_of(name, found)
    if not rows:
        raise InputError(f"No result is of the table {name}.")
    lines = [{title: dict(row[0].row or {}).get(title, "") for title in table.labels} for row in rows]
    for line, row in zip(lines, rows, strict=True):
        line |= {title: cell(template, row) for title, template in table.columns.items()}
    titles = [title for title in lines[0] if any(line[title] for line in lines)]
    cells = [titles, ["---"] * len(titles), *([line[title] for title in titles] for line in lines)]
    text = "\n".join(f"| {' | '.join(line)} |" for line in cells)
    # Folded: a reader sees the numbers first.
    return f"{text}\n\n<details><summary>How it was measured</summary>\n\n{caption(table, rows)}\n\n</details>"


def rows_of(name: str, found: Iterable[Result]) -> list[Row]:
    """Return the newest results of each row of a table."""
    rows: dict[tuple[tuple[str, str], ...], list[Result]] = {}
    for result in results.newest(found):
        if result.table == name:
            rows.setdefault(tuple((result.row or {}).items()), []).append(result)
    return list(rows.values())


def cell(template: str, row: Row) -> str:
    """Return the first of a cell's templates whose numbers are all there; empty where none is."""
    known = {(result.metric, result.case): result for result in row}
    for part in template.split("|"):
        try:
            return PLACE.sub(lambda match: _filled(match, known, row), part)
        except LookupError:
            continue
    return ""


def _filled(match: re.Match[str], known: dict[tuple[str, str | None], Result], row: Row) -> str:
    form = match["form"] or ""
    if match["metric"]:
        result = known[match["metric"], match["case"]]
        value = getattr(result, match["field"] or "value")
    else:
        result = None
        value = next((v for r in row if (v := getattr(r, match["field"], None)) is not None), None)
    if value is None:
        raise LookupError(match[0])
    form, _, spread = form.partition("±")
    text = format(value, form)
    if spread and result and result.interval is not None:
        text += f" ± {format(result.interval, spread)}"
    return text


# ---- below a table


def caption(table: Table, rows: Sequence[Row]) -> str:
    """Return the protocol, the changed settings, the remarks, and when and where the numbers were measured."""
    measured = [[r for r in row if not r.source] for row in rows]
    settings = _by(measured, lambda r: r.settings)
    changed = "; ".join(f"{', '.join(names)}: {text}" for text, names in settings.items())
    told = " ".join(table.caption.replace("{settings}", f"{changed}." if changed else "").split())
    every = _by(measured, lambda r: "all")["all"]
    for about in (lambda r: r.remark, place):
        for text, names in _by(measured, about).items():
            told += f" {text}." if names == every else f" {', '.join(names)}: {text}."
    return told


def _by(rows: Sequence[Row], about) -> dict[str, list[str]]:
    """Return what is said of results, and the names of the rows that it is said of."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        for result in row:
            if text := about(result):
                name = next(iter((result.row or {"": result.model}).values()))
                found.setdefault(text, {})[f"`{name.strip('`')}`" if "`" not in name[1:-1] else name] = None
    return {text: list(names) for text, names in found.items()}


def place(result: Result) -> str:
    """Return when and on what a result was measured; empty where that is not known."""
    versions = ", ".join(f"{name} {version}" for name, version in (result.versions or {}).items())
    date = (result.date or "").replace("/", " to ")
    there = ", ".join(part for part in (date, result.hardware) if part)
    return "; ".join(part for part in (there, versions) if part)


if __name__ == "__main__":
    sys.exit(main())
