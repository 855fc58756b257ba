"""Every notebook runs from top to bottom, defines no model of its own, and is stored with its results."""

import base64
import io
import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from tests.helpers.notebooks import NOTEBOOKS, Kernel, read, reduced
from tests.helpers.running import ROOT

SMALL = {"STEPS": 20, "IMAGES": 64, "STYLE_STEPS": 2, "SIDE": 48}
# The steps of one line of losses, in the notebooks without a cell of parameters.
FEWER = (
    (r"(state\.step\), )\d+\)", r"\g<1>2)"),
    (r"length=20\)", "length=2)"),
    (r"range\(100\)(?s:(.*?)) % 10 == 9", r"range(20)\1 % 2 == 1"),
)
LARGEST = 300_000  # bytes of a notebook
KINDS = {"image/png", "image/jpeg"}
OF_A_MACHINE = re.compile(r"/(?:home|root|tmp|work|usr|mnt)/|\b20\d\d-\d\d-\d\d\b|Warning")


@pytest.fixture(scope="module")
def kernel(environment, tmp_path_factory):
    """A kernel for all of them, with the quick flags of the tests: few steps are run, compiling takes the time."""
    own = {**environment, "XLA_FLAGS": os.environ["XLA_FLAGS"]}
    del own["PYTHONWARNINGS"]  # the start of the kernel warns
    with Kernel(tmp_path_factory.mktemp("kernel"), own) as kernel:
        yield kernel


def check(outputs):
    """Assert that outputs show images and ten finite losses."""
    images = [data[kind] for output in outputs for data in [output.get("data", {})] for kind in KINDS & set(data)]
    assert images, "a notebook shows an image"
    for image in images:
        assert np.ptp(np.asarray(Image.open(io.BytesIO(base64.b64decode(image))).convert("L"))) > 0
    text = "".join(o.get("text", "") for o in outputs)
    losses = [json.loads(line[line.index("{") :].replace("'", '"')) for line in text.splitlines() if "/loss" in line]
    assert len(losses) == 10 and np.isfinite([x for line in losses for x in line.values()]).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of the Jupyter client
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_runs(path, kernel):
    notebook = reduced(read(path), SMALL)
    for cell in notebook.cells:
        for pattern, text in FEWER:
            cell.source = re.sub(pattern, text, cell.source)
    check(kernel.run(notebook, timeout=600))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_its_outputs_are_stored(path):
    assert path.stat().st_size < LARGEST
    notebook = read(path)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    check(outputs)
    assert not [output for output in outputs if output.get("name") == "stderr"], "a notebook warns"
    words = "".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs)
    assert not OF_A_MACHINE.search(words)
    for cell in notebook.cells:
        assert not cell.get("execution_count") and "execution" not in cell.metadata


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_defines_no_model(path):
    for cell in read(path).cells:
        assert "nn.Module" not in cell.source


def test_its_familys_page_names_it_and_it_installs_the_package():
    for path in NOTEBOOKS:
        page = ROOT / "jaxgen" / "models" / path.stem / "README.md"
        assert f"(../../../notebooks/{path.name})" in page.read_text()
    first = [next(cell.source for cell in read(path).cells if cell.cell_type == "code") for path in NOTEBOOKS]
    assert len(set(first)) == 1 and "%pip install" in first[0]


def test_a_clone_beside_a_notebook_is_installed(tmp_path, monkeypatch):
    """The first cell takes a folder named jaxgen for the clone that it is, and not for the package."""
    source = next(cell.source for cell in read(NOTEBOOKS[0]).cells if cell.cell_type == "code")
    source = source.replace("%pip install --quiet {clones[0].resolve()}", "install(clones[0].resolve())")
    (tmp_path / "jaxgen" / "jaxgen" / "core").mkdir(parents=True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    done = []
    exec(source, {"install": done.append})
    assert done == [tmp_path / "jaxgen"]
    monkeypatch.chdir(tmp_path / "jaxgen" / "jaxgen" / "core")
    with pytest.raises(AssertionError, match="no clone of jaxgen beside this notebook"):
        exec(source, {})
