"""Ctrl-C while Python still imports: one word in place of a traceback. Importing JAX takes seconds."""

import os
import sys


def stop_in_words():
    """Let Ctrl-C end this process with the word and the status that a running command ends with."""
    other = sys.excepthook

    def hook(kind, error, trace):
        if not issubclass(kind, KeyboardInterrupt):
            return other(kind, error, trace)
        print("Stopped.", file=sys.stderr, flush=True)
        os._exit(130)

    sys.excepthook = hook
