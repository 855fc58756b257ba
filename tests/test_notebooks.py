"""Every notebook runs from top to bottom, defines no model of its own, and is stored without outputs."""

import json
from pathlib import Path

import nbformat
import numpy as np
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of the Jupyter client
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_runs(path, environment, monkeypatch):
    from nbclient import NotebookClient

    for name, value in environment.items():
        if name != "XLA_FLAGS":  # compile with the quick flags of the tests
            monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTHONWARNINGS")  # the start of the kernel warns
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(path.parent)}}).execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    images = [o for o in outputs if "image/png" in o.get("data", {})]
    assert images, "a notebook shows an image"
    text = "".join(o.get("text", "") for o in outputs)
    losses = [json.loads(line[line.index("{") :].replace("'", '"')) for line in text.splitlines() if "/loss" in line]
    assert len(losses) == 10 and np.isfinite([x for line in losses for x in line.values()]).all()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_is_clean(path):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        assert not cell.get("outputs") and not cell.get("execution_count")
        assert "nn.Module" not in cell.source
