"""How any command is run, and how it ends."""

import logging
import os
import sys
from collections.abc import Callable
from functools import partial

from jaxgen.core.cache import use_compilation_cache
from jaxgen.core.errors import Incomplete, InputError


def run(work: Callable[[], object]):
    """Do a command's work. Leaves with 2 after a user's mistake, 1 where a part of it failed, 128 + a signal."""
    from jaxgen.training.stopping import Interrupted
    from jaxgen.training.window import NonFinite

    use_compilation_cache()
    # A failed write is told by us in one sentence; Orbax's log adds a page for it.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    sys.unraisablehook = partial(_without_orphans, sys.unraisablehook)
    try:
        work()
    except InputError as error:
        leave(2, error)
    except (NonFinite, Incomplete) as error:
        leave(1, error)
    except Interrupted as error:
        leave(128 + error.signum, error)
    except BrokenPipeError:  # whoever read our output, such as `head`, has read enough
        os._exit(0)
    except KeyboardInterrupt:
        leave(130, "Stopped.")


def _without_orphans(hook, unraisable):
    # Its other writes report to an event loop that is gone by then: a traceback for each.
    if str(unraisable.exc_value) != "Event loop is closed":
        hook(unraisable)


def leave(status: int, last_words: object):
    """End the process with one sentence on stderr, without waiting for threads that still compile or read.

    After a mistake it waits for the other processes of the run, which find the same one a moment later: whoever is
    left when the first process goes is aborted.
    """
    from jaxgen.runs import sharding

    print(last_words, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    if status == 2:
        sharding.part()
    os._exit(status)
