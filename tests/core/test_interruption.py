"""Ctrl-C while a command starts."""

import subprocess
import sys

from tests.helpers.running import ROOT


def test_ctrl_c_during_the_start_is_one_word():
    """And nothing else changes: an error of the program has its traceback."""
    start = "from jaxgen.core.interruption import stop_in_words as f; f(); "
    for raised, status, words in (("KeyboardInterrupt", 130, "Stopped.\n"), ("ValueError", 1, "Traceback")):
        command = [sys.executable, "-c", f"{start}raise {raised}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == status and done.stderr.startswith(words)
