"""The last line of defence: an exception that no part of the program expects."""

import sys
import warnings

import pytest

from jaxgen.commands import runner


@pytest.fixture
def left(monkeypatch, tmp_path):
    """Return a function that runs some work as a command, and returns its exit status and its last words."""
    monkeypatch.setattr(runner.tempfile, "tempdir", str(tmp_path))
    for owner, name in ((sys, "unraisablehook"), (sys, "stdout"), (sys, "stderr"), (warnings, "showwarning")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    said = []
    monkeypatch.setattr(runner, "leave", lambda *last: said.append(last))

    def run(work):
        runner.run(work)
        return said[-1]

    return run


def test_an_unforeseen_exception_is_one_sentence_and_a_file(left, tmp_path):
    status, words = left(lambda: {}["a\x1b[2J\nb"])
    (file,) = tmp_path.iterdir()
    assert status == 70 and "\n" not in words and "\x1b" not in words
    assert "KeyError" in words and f"The details are in {file}" in words
    assert "Traceback" in file.read_text() and "test_runner.py" in file.read_text()


def test_without_a_place_for_the_details_they_are_printed(left, monkeypatch):
    def full(*args, **rest):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runner.tempfile, "NamedTemporaryFile", full)
    status, words = left(lambda: 1 / 0)
    assert status == 70 and "ZeroDivisionError" in words and "Traceback" in words
