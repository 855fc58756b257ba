"""Ctrl-C while a command starts, while it can't answer, and where Python drops it."""

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


def interrupted(work: str) -> tuple[int, str]:
    """The status and words of a process that gets Ctrl-C during some work."""
    start = "import signal, sys, time; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    start += "from jaxgen.core.interruption import stop_in_words; stop_in_words()\n"
    done = subprocess.run([sys.executable, "-c", start + work], cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


def test_ctrl_c_is_answered_while_the_main_thread_computes():
    # One long instruction, as a compilation is for Python; hashing releases the lock for other threads.
    work = """
import hashlib, os, threading
threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
hashlib.pbkdf2_hmac("sha512", b"a", b"b", 1_500_000)
"""
    assert interrupted(work) == (130, "Stopping ...\nStopped.\n")


def test_ctrl_c_that_python_drops_comes_again():
    work = """
class Dropping:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
        time.sleep(0)
Dropping()
time.sleep(30)
"""
    assert interrupted(work) in ((130, "Stopped.\n"), (130, "Stopping ...\nStopped.\n"))
