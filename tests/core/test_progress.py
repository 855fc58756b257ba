"""Long work without a terminal says how far it is."""

import time

import pytest

from jaxgen.core import progress


def test_a_line_says_what_is_done_and_left():
    assert progress.report("restoring", 30, 120, 60) == "restoring: 25% after 60 s, about 3 min left"
    assert (
        progress.report("restoring", 0, 120, 45)
        == progress.report("restoring", 5, None, 45)
        == "restoring: 45 s so far"
    )


@pytest.mark.parametrize(
    "seconds, words",
    [(0.0123, "0.012 s"), (45, "45 s"), (720, "12 min"), (12_600, "3.5 h"), (172_800, "2 days"), (1e9, "11,574 days")],
)
def test_durations(seconds, words):
    assert progress.duration(seconds) == words


def test_lines_come_at_intervals_also_while_a_part_takes_longer(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PERIOD", 0.02)
    with progress.progress("counting", 4) as show:
        time.sleep(0.05)
        show(2)
        time.sleep(0.05)
    out, err = capsys.readouterr()
    said = err.splitlines()
    assert not out and said[0].startswith("counting: 0.0") and said[0].endswith(" s so far")
    assert said[-1].startswith("counting: 50% after 0.") and said[-1].endswith(" left")
    with progress.lines(lambda: "outer"), progress.lines(lambda: "inner"):
        time.sleep(0.05)
    assert set(capsys.readouterr().err.split()) == {"inner"}
    monkeypatch.setattr(progress, "PERIOD", 30.0)
    assert list(progress.tracked("abc", "spelling", 3)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")
