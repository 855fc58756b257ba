"""The notebooks, and a kernel that runs several of them: its start and the import of JAX take long."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from tests.helpers.running import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


class Kernel:
    """A Jupyter kernel in a folder; `with Kernel(...) as kernel` ends it."""

    def __init__(self, folder: Path, environment: Mapping[str, str]):
        from jupyter_client.manager import KernelManager
        from nbclient import NotebookClient

        self.manager = KernelManager()
        self.manager.start_kernel(cwd=str(folder), env=dict(environment))
        # One client for all: a second one would have the same identity, and get no answers.
        self.client = NotebookClient(nbformat.v4.new_notebook(), km=self.manager)

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *error):
        if self.client.kc is not None:
            self.client.kc.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def run(self, notebook: Any, timeout: int) -> list[Any]:
        """Run a notebook in place, without the names of those before it, and return its outputs. Raises its error."""
        self.client.nb, self.client.timeout = notebook, timeout
        notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
        self.client.execute()
        del notebook.cells[0]
        return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def read(path: Path) -> Any:
    """Return a notebook."""
    return nbformat.read(path, as_version=4)


def reduced(notebook: Any, values: Mapping[str, int]) -> Any:
    """Return a notebook with other values in the cell that is tagged `parameters`: `STEPS = 3000` is a line of it.

    A notebook without such a cell stays as it is. Raises KeyError where `values` lacks one of the names.
    """
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", ()):
            names = [line.partition(" = ")[0] for line in cell.source.splitlines()]
            cell.source = "\n".join(f"{name} = {values[name]}" for name in names)
    return notebook
