"""The numbers of `evaluate` are printed before they are written, and a run that can't be written is no failure."""

import dataclasses
import json
import resource
from types import SimpleNamespace

import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.core.errors import InputError
from jaxgen.evaluation import report
from jaxgen.runs.config_io import to_json


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run's folder whose evaluation takes no time."""
    config = dataclasses.replace(zoo.load("lenet5").tiny, preset="lenet5")
    (tmp_path / "config.json").write_text(to_json(config))
    state = SimpleNamespace(ema={}, step=3)
    opened = SimpleNamespace(run=config, mesh=None, task=config.model.task(1), state=state, frozen={}, step=3)
    held_out = SimpleNamespace(confusion=np.eye(10, dtype=int), source=[0] * 7)
    held_out.source = type("Source", (list,), {"classes": [str(i) for i in range(10)]})([0] * 7)
    scores = type("HeldOut", (), {"__call__": lambda self, *args: {"accuracy": 0.875}, **vars(held_out)})
    monkeypatch.setattr(report, "open_run", lambda *args, **more: opened)
    monkeypatch.setattr(report.latent_samplers, "refit", lambda opened, *args, **more: vars(opened).values())
    monkeypatch.setattr(report, "HeldOut", lambda *args: scores())
    return tmp_path


def test_numbers_are_written_beside_the_run(run, cli):
    assert "0.875" in cli(0, "evaluate", run)
    (row,) = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    assert row["value"] == 0.875 and row["step"] == 3 and (run / "confusion.png").is_file()


@pytest.mark.parametrize("blocked", ["evaluations.jsonl", "confusion.png"])
def test_numbers_that_cannot_be_written_are_printed(blocked, run, cli):
    (run / blocked).mkdir()  # root writes into folders of others, but not into a file that is a folder
    printed = cli(0, "evaluate", run)
    assert "0.875" in printed
    assert f"{run / blocked} can't be written: Is a directory. The numbers above are not kept there." in printed


def test_lines_are_appended_whole_or_not_at_all(tmp_path):
    path = tmp_path / "lines.jsonl"
    report.append(path, [{"a": 1}, {"b": 2}])
    before = path.read_text()
    assert before == '{"a": 1}\n{"b": 2}\n'
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        with pytest.raises(InputError, match=r"lines\.jsonl can't be written: No space left"):
            report.append(path, [{"c": "long" * 10}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == before
