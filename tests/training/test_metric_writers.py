"""The output of a run without a terminal, and its metrics file where lines are damaged."""

import io
import time

from rich.console import Console

from jaxgen.core import progress
from jaxgen.media.plots import plot_losses
from jaxgen.training import metric_writers
from jaxgen.training.metric_writers import MetricWriters, open_jsonl

GOOD = '{"step": 1, "a/loss": 0.5}\n{"step": 2, "a/loss": 0.4}\n'
DAMAGED = b"\n\xff\x00garbage\n[1]\n5\n{}\n" + GOOD.encode() + b'{"step": "x"}\n{"step": 3, "a/loss": 0}\n{"step": 2,'


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


def test_damaged_lines_are_dropped_where_a_run_goes_on(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(DAMAGED)
    plot_losses(path, tmp_path / "losses.png")
    assert (tmp_path / "losses.png").stat().st_size > 1000
    with open_jsonl(path, 2) as file:
        file.write("more\n")
    assert path.read_text() == GOOD + "more\n"
    open_jsonl(tmp_path / "new.jsonl", 0).close()
    assert not (tmp_path / "new.jsonl").read_bytes()


def test_losses_are_drawn_once_in_a_while_and_at_the_end(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(metric_writers, "plot_losses", lambda source, target: drawn.append(target))
    writer = MetricWriters(tmp_path, 0, 30, Console(file=io.StringIO()))
    for last, count in ((False, 1), (False, 1), (True, 2), (False, 2)):
        writer.plot(last)
        assert len(drawn) == count
    monkeypatch.setattr(metric_writers, "PLOT_PERIOD", 0.0)
    writer.plot(last=False)
    writer.close()
    assert drawn == [tmp_path / "losses.png"] * 3
