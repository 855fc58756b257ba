"""python -m jaxgen list: presets by family, with their best results, and the weights that are ready to use."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jaxgen import zoo
from jaxgen.core.errors import choose
from jaxgen.evaluation import results
from jaxgen.pretrained import catalogue

WIDTH = 80  # characters of a line
WEIGHTS = "weights"
What = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FAMILY|weights")]


def list_(
    what: What = "",
    all: bool = False,
    json: bool = False,
):
    """List the presets by family: what each is for, its best result, and the weights that ship.

    Args:
        what: a family, such as gan; or weights, for the files that --with and jaxgen.load take by name; unset: all
            families
        all: one wide table with image sizes, parameters, data, steps and all that was measured
        json: print JSON, for programs
    """
    if what == WEIGHTS:
        return print_json(weights()) if json else show_weights()
    families = [choose(what, [*zoo.families(), WEIGHTS], "family")] if what else zoo.families()
    names = [name for family in families for name in zoo.family(family)]
    if json:
        print_json(rows(names))
    elif all:
        show_wide(names)
    else:
        for family in families:
            show_family(family)


def show_family(family: str):
    """Print a family's presets in lines of at most 80 characters."""
    found, ready = results.read(), by_preset()
    console = Console(width=WIDTH, highlight=False)
    console.print(f"[bold]{family}[/bold]: {escape(zoo.about(family))}")
    console.print(f"python -m train.{family} --preset PRESET\n", style="dim")
    table = Table(box=None, padding=(0, 1, 0, 0), expand=True)
    table.add_column("preset", no_wrap=True)
    table.add_column("for", ratio=3)
    table.add_column("best result", ratio=2)
    shipped = any(ready.get(name) for name in zoo.family(family))
    if shipped:
        table.add_column("weights", no_wrap=True)
    for name in zoo.family(family):
        cells = [name, zoo.use_of(name), results.brief(found, name) or "-"]
        table.add_row(*map(escape, cells), *([escape("\n".join(ready.get(name, ())))] if shipped else []))
    console.print(table)
    console.print()


def show_weights():
    """Print the weights that have names, those that ship first, in lines of at most 80 characters."""
    console, found = Console(width=WIDTH, highlight=False), weights()
    for shipped, title in ((True, "They ship with the package"), (False, "They are fetched when they are first used")):
        table = Table(box=None, padding=(0, 1, 0, 0), expand=True)
        for column, share in (("name", None), ("for", 1), ("licence", 1), ("MB", None)):
            table.add_column(column, no_wrap=share is None, ratio=share, justify="right" if column == "MB" else "left")
        for row in found:
            if row["shipped"] == shipped:
                size = f"{row['bytes'] / 1e6:.1f}"
                table.add_row(*(escape(row[key]) for key in ("name", "what", "licence")), size)
        console.print(f"[bold]{title}[/bold]\n")
        console.print(table)
        console.print()
    console.print("These names are for --with, generate NAME and jaxgen.load; --json shows their sources.")


def show_wide(names: Sequence[str]):
    """Print a table of presets with their sizes and measured results."""
    table = Table(box=None)
    for column in ("preset", "image", "parameters", "data", "steps", "measured"):
        table.add_column(column, no_wrap=True)
    found = results.read()
    for name in names:
        preset = zoo.load(name)
        r = preset.run
        measured = escape(results.summary(found, name) or "not yet measured")
        image = "x".join(map(str, getattr(r.model, "image", ())))
        table.add_row(name, image, f"{preset.parameters:,}", r.data.source, f"{r.steps:,}", measured)
    console = Console(soft_wrap=True)
    # The terminal wraps long lines. In a pipe they are whole. No cell is cut.
    console.width = max(console.width, console.measure(table, options=console.options.update(width=1000)).maximum)
    console.print(table)


def rows(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return all that is known of presets."""
    found, ready = results.read(), by_preset()
    return [
        {
            "preset": name,
            "family": zoo.family_of(name),
            "for": zoo.use_of(name),
            "script": f"python -m train.{zoo.family_of(name)} --preset {name}",
            "module": zoo.ZOO[name],
            "image": list(getattr(preset.run.model, "image", ())),
            "parameters": preset.parameters,
            "data": preset.run.data.source,
            "steps": preset.run.steps,
            "weights": ready.get(name, []),
            "results": {metric: known(r) for metric, r in results.best(found, name).items()},
        }
        for name in names
        for preset in (zoo.load(name),)
    ]


def known(result: results.Result) -> dict[str, Any]:
    """Return what is known of a result."""
    return {key: value for key, value in dataclasses.asdict(result).items() if value is not None}


def weights() -> list[dict[str, Any]]:
    """Return what is known of the weights of the catalogue."""
    found = (catalogue.entry_of(name) for name in catalogue.names())
    return [
        {
            "name": entry.name,
            "what": entry.what,
            "preset": entry.preset,
            "family": entry.family,
            "licence": entry.licence,
            "source": entry.source,
            "shipped": bool(entry.shipped),
            "bytes": entry.size,
        }
        for entry in found
    ]


def by_preset() -> dict[str, list[str]]:
    """Return the names of the weights of each preset that ship with the package."""
    found: dict[str, list[str]] = {}
    for row in weights():
        if row["shipped"]:
            found.setdefault(row["preset"], []).append(row["name"])
    return found


def print_json(value: Any):
    print(json.dumps(value, indent=2, ensure_ascii=False))
