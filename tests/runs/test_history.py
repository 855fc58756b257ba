"""The logged numbers of a run: jaxgen/runs/history.py. tests/commands/test_report.py damages its files."""

import time

import pytest
from tensorboardX import SummaryWriter

from jaxgen.runs.history import scalars, trained


def test_the_time_of_a_run_is_the_sum_over_its_starts(tmp_path):
    """Two starts of two minutes each, the second from an earlier step; a kill cut off the last record of each."""
    for start, steps in (("first", (10, 20)), ("second", (15, 25))):
        writer = SummaryWriter(str(tmp_path / "tensorboard"), filename_suffix=f".{start}")
        for minutes, step in enumerate(steps, 1):
            writer.add_scalar("loss", 0.5, step, walltime=time.time() + 60 * minutes)
        writer.close()
    files = sorted((tmp_path / "tensorboard").iterdir())
    assert len(files) == 2
    for file in files:
        with file.open("ab") as stream:
            stream.write((1 << 20).to_bytes(8, "little") + bytes(12))
    assert trained(tmp_path) == pytest.approx({10: 60, 20: 120, 15: 180, 25: 240}, abs=5)
    assert scalars(tmp_path, "loss").steps.tolist() == [10, 15, 20, 25]
    assert scalars(tmp_path, "loss").values.tolist() == [0.5] * 4
    assert not len(scalars(tmp_path, "none").steps) and not trained(tmp_path / "none")
