"""Ctrl-C in words: "Stopping ..." at once, and no traceback where Python still imports, which takes seconds."""

import os
import signal
import sys
import threading
import time

SOON = 0.2  # seconds in which most work ends, so that nothing needs to be said


def stop_in_words():
    """Let Ctrl-C end this process with the word and the status that a running command ends with.

    Where it can't end at once, a line says that it was heard. A Ctrl-C that Python drops is repeated.
    """
    other, ignored = sys.excepthook, sys.unraisablehook

    def hook(kind, error, trace):
        if not issubclass(kind, KeyboardInterrupt):
            return other(kind, error, trace)
        print("Stopped.", file=sys.stderr, flush=True)
        os._exit(130)

    def once_more(unraisable):
        # It came while the garbage was collected, where JAX has a callback and Python drops all exceptions.
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            return ignored(unraisable)
        threading.Timer(SOON / 4, os.kill, (os.getpid(), signal.SIGINT)).start()

    sys.excepthook, sys.unraisablehook = hook, once_more
    answer_at_once()


def answer_at_once():
    """Print a line soon after the first Ctrl-C, also while a compilation keeps Python's signal handlers waiting.

    Python's handlers run between two of the main thread's instructions. The byte is written when the signal comes.
    """
    heard, said = os.pipe()
    os.set_blocking(said, False)
    try:
        signal.set_wakeup_fd(said, warn_on_full_buffer=False)
    except ValueError:  # not in the main thread
        os.close(heard)
        return os.close(said)

    def listen():
        while number := os.read(heard, 1):
            if number[0] == signal.SIGINT:
                time.sleep(SOON)
                return print("Stopping ...", file=sys.stderr, flush=True)

    threading.Thread(target=listen, daemon=True).start()
