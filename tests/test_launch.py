"""The launch files that people copy: their form, and the training that each of them starts."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from jaxgen.commands.parse import parse
from jaxgen.core.config import validate

FOLDER = Path(__file__).parents[1] / "train" / "launch"
FILES = sorted(FOLDER.iterdir())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_launch_file_starts_a_training_of_valid_settings(file):
    found = re.findall(r"python -m train\.(\w+) ([^\n\"]+)", file.read_text())
    assert found
    for family, words in found:
        run = parse(family, words.split()).run
        validate(run)
        assert run.model.task(run.steps).example and run.mesh.data * run.mesh.fsdp == 16
    if file.suffix == ".yaml":
        [job] = yaml.safe_load(file.read_text())["spec"]["replicatedJobs"]
        pod = job["template"]["spec"]["template"]["spec"]
        chips = pod["containers"][0]["resources"]["limits"]["google.com/tpu"] * job["template"]["spec"]["completions"]
        assert chips == 16 and pod["terminationGracePeriodSeconds"] >= 60
    else:
        subprocess.run(["bash", "-n", file], check=True)
        assert file.stat().st_mode & 0o100


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_training_of_a_launch_file_can_be_described(file, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [(family, words)] = re.findall(r"python -m train\.(\w+) ([^\n\"]+)", file.read_text())
    kept = words.replace("--mesh.data 8 --mesh.fsdp 2", "--mesh.data 4 --mesh.fsdp 2").replace(
        "--mesh.data 4 --mesh.fsdp 4", "--mesh.data 4 --mesh.fsdp 2"
    )
    kept = re.sub(r"--data\.source \S+|--out \S+", "", kept)
    out = cli(0, f"train.{family}", *kept.split(), "--tiny", "--data.source", "digits", "--dry-run")
    assert "fsdp" in out
