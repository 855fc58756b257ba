"""python -m jaxgen list: all presets with their measured results."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jaxgen import zoo
from jaxgen.evaluation import results


def show_presets(names: Sequence[str]):
    """Print a table of presets with their sizes and measured results."""
    table = Table(box=None)
    for column in ("preset", "image", "parameters", "data", "steps", "measured"):
        table.add_column(column, no_wrap=True)
    found = results.read()
    for name in names:
        preset = zoo.load(name)
        r = preset.run
        image = "x".join(map(str, getattr(r.model, "image", ())))
        measured = escape(results.summary(found, name) or "not yet measured")
        table.add_row(name, image, f"{preset.parameters:,}", r.data.source, f"{r.steps:,}", measured)
    console = Console(soft_wrap=True)
    # The terminal wraps long lines. In a pipe they are whole. No cell is cut.
    console.width = max(console.width, console.measure(table, options=console.options.update(width=1000)).maximum)
    console.print(table)


def list_():
    """Show all presets with their measured results."""
    show_presets(tuple(zoo.ZOO))
