"""python -m jaxgen list: the presets with their measured results."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from jaxgen import zoo
from jaxgen.evaluation.measured import MEASURED


def show_presets(names: Sequence[str]):
    """Print the presets, their sizes and what is known of them."""
    table = Table(box=None)
    for column in ("preset", "image", "parameters", "data", "steps", "measured"):
        table.add_column(column, no_wrap=True)
    for name in names:
        preset = zoo.load(name)
        r = preset.run
        image = "x".join(map(str, r.model.image))
        table.add_row(
            name, image, f"{preset.parameters:,}", r.data.source, f"{r.steps:,}", MEASURED.get(name, "not yet measured")
        )
    console = Console(soft_wrap=True)
    # Lines that are longer than a terminal is wide are wrapped by it, and whole in a pipe: no cell is cut.
    console.width = max(console.width, console.measure(table, options=console.options.update(width=1000)).maximum)
    console.print(table)


def list_():
    """Show the presets of the zoo with their measured results."""
    show_presets(tuple(zoo.ZOO))
