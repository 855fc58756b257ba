"""The function that runs any command, and its exit status."""

import errno
import logging
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

from jaxgen.core import paths
from jaxgen.core.cache import use_compilation_cache
from jaxgen.core.errors import Incomplete, InputError
from jaxgen.core.printable import Printable, printable
from jaxgen.core.progress import lines, report


def run(work: Callable[[], object]):
    """Run a command. Exits with 2 after a user's mistake, 1 after a partial failure, 128 + n after signal n.

    After any other exception it exits with 70, for a fault of this program.
    """
    from jaxgen.data.image_files import show_warning
    from jaxgen.runs import sharding
    from jaxgen.training.stopping import Interrupted
    from jaxgen.training.window import NonFinite

    sys.stdout, sys.stderr = Printable(sys.stdout), Printable(sys.stderr)
    use_compilation_cache()
    # Our one sentence about a failed write replaces Orbax's page of log.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    warnings.showwarning = partial(show_warning, warnings.showwarning)
    sys.unraisablehook = partial(_without_orphans, sys.unraisablehook)
    # On a terminal one sees that it works, and its work has bars.
    name, began = sys.argv[1] if sys.argv[1:] and not sys.argv[1].startswith("-") else "working", time.monotonic()
    silent = sys.stderr.isatty()
    try:
        with nullcontext() if silent else lines(lambda: report(name, 0, None, time.monotonic() - began)):
            work()
    except InputError as error:
        leave(2, error)
    except (NonFinite, Incomplete) as error:
        leave(1, error)
    except Interrupted as error:
        leave(128 + error.signum, error)
    except BrokenPipeError:  # the reader of our output, such as `head`, has closed it
        os._exit(0)
    except KeyboardInterrupt:
        leave(130, "Stopped.")
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            leave(2, f"{error.filename} can't be opened: {error.strerror}.")
        if sharding.lost(error):
            why = str(error).partition("\n")[0]
            leave(1, f"Another process of this run has ended ({why}). Start all of them again: the run resumes.")
        if said := paths.fault(error):
            leave(2, said)
        leave(70, unforeseen(error))


def unforeseen(error: Exception) -> str:
    """Write the details of an exception that no part of the program expects to a file, and return one sentence."""
    details = f"{sys.argv}\nPython {sys.version}\n\n{''.join(traceback.format_exception(error))}"
    words = printable(" ".join(str(error).split())[:200])
    what = f"This is a fault of the program: {type(error).__name__}" + f", {words}" * bool(words)
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="jaxgen-", suffix=".txt", errors="backslashreplace", delete=False
        ) as file:
            file.write(details)
    except OSError:
        return f"{what}. There is no place for its details:\n{details}"
    return f"{what}. The details are in {file.name}: please report them."


def _without_orphans(hook, unraisable):
    # Orbax's other writes report to an event loop that is closed by then. Each would print a traceback.
    if str(unraisable.exc_value) != "Event loop is closed":
        hook(unraisable)


def leave(status: int, last_words: object):
    """End the process with one sentence on stderr, without waiting for threads that still compile or read.

    After a user's mistake it waits for the other processes of the run, which find the same mistake a moment later:
    processes that remain when the first one exits are aborted.
    """
    from jaxgen.runs import sharding

    print(last_words, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    if status == 2:
        sharding.part()
    os._exit(status)
