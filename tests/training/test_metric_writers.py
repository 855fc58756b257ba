"""The output of a run without a terminal."""

import io
import time

from rich.console import Console

from jaxgen.core import progress
from jaxgen.training.metric_writers import MetricWriters


def test_a_log_without_a_terminal_has_a_line_every_while(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "PERIOD", 0.05)
    out = io.StringIO()
    writer = MetricWriters(tmp_path, 10, 30, Console(file=out, soft_wrap=True))
    time.sleep(0.15)
    writer.advance(11)
    time.sleep(0.15)
    monkeypatch.setattr(writer, "spoke", time.monotonic() + 60)
    time.sleep(0.1)
    writer.close()
    said = out.getvalue().splitlines()
    assert set(said) == {"step 10/30  compiling", "step 11/30"} and len(said) <= 6
