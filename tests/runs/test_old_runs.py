"""One small run of each family, saved by version 0.1 after 2 of its 4 steps: each opens, and resumes as it would have.

runs_of_version_0_1.tar.xz holds the runs. In each, expected.jsonl has the metrics of all four steps by that version.
"""

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.core.config import Mesh
from jaxgen.runs.config_io import load_config
from jaxgen.runs.load import open_run
from jaxgen.training.loop import fit

ARCHIVE = Path(__file__).with_name("runs_of_version_0_1.tar.xz")
RENAMED = {"generator/fooling": "generator/adversarial"}  # metrics that have another name since
PRESETS = ("dcgan", "vae", "flow", "dncnn", "espcn", "pix2pix", "lenet5")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """The folder of the unpacked runs, each named after its preset."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    for config in folder.glob("runs/*/config.json"):  # no samples: they are drawn by other tests
        config.write_text(config.read_text().replace('"samples": 4', '"samples": 0'))
    return folder / "runs"


NEWER = {
    "video",
    "autoregressive",
    "normalising_flow",
    "motion",
    "rendering",
    "audio",
    "text_to_image",
}  # families that version 0.1 did not have


def test_there_is_a_run_of_each_family(runs):
    assert {path.name for path in runs.iterdir()} == set(PRESETS)
    assert {zoo.ZOO[name].split(".")[2] for name in PRESETS} == set(zoo.families()) - NEWER


@pytest.mark.parametrize("name", PRESETS)
def test_a_run_of_version_0_1_opens_and_resumes(runs, name):
    folder, one = runs / name, Mesh(data=1)
    opened = open_run(folder, one)
    assert opened.run.preset == name and opened.step == 2
    fit(replace(load_config(folder), out=str(folder), mesh=one))
    found, expected = (
        [json.loads(line) for line in (folder / file).read_text().splitlines()]
        for file in ("metrics.jsonl", "expected.jsonl")
    )
    assert [line["step"] for line in found] == [1, 2, 3, 4]
    for ours, theirs in zip(found[2:], expected[2:], strict=True):
        theirs = {RENAMED.get(metric, metric): value for metric, value in theirs.items()}
        assert ours.keys() == theirs.keys()
        for metric, value in theirs.items():
            np.testing.assert_allclose(ours[metric], value, rtol=1e-4, atol=1e-5, err_msg=metric)
