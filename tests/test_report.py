"""What the benchmarks' tables say of a run: how long it was trained."""

import time

import pytest
from tensorboardX import SummaryWriter

from tests.benchmarks.report import places, trained


def test_the_time_of_a_run_is_that_of_its_starts_together(tmp_path):
    """Two starts of two minutes each, the second from an earlier step; a kill cut each one's last record off."""
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


def test_where_rows_were_measured_is_told_once_and_of_which_models_where_it_differs():
    rows = [{"model": "edm", "place": "A core."}, {"model": "edm", "place": "A core."}]
    assert places(rows) == "A core."
    assert places([*rows, {"model": "sit", "place": "A GPU."}]) == "`edm`: A core. `sit`: A GPU."
