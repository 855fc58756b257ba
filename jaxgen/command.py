"""What every training script does with its command line, and how any command ends."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial

from rich.console import Console
from rich.table import Table

from jaxgen import zoo
from jaxgen.cache import use_compilation_cache
from jaxgen.errors import Incomplete, InputError
from jaxgen.measured import MEASURED


def run(work: Callable[[], object]):
    """Do a command's work. Leaves with 2 after a user's mistake, 1 where a part of it failed, 128 + a signal."""
    from jaxgen.loop import Interrupted, NonFinite

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
    from jaxgen import shard

    print(last_words, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    if status == 2:
        shard.part()
    os._exit(status)


def train(family: str, argv: Sequence[str] | None = None):
    """Run `python -m train.<family>` with the arguments argv."""

    def work():
        from jaxgen.config import parse

        command = parse(family, sys.argv[1:] if argv is None else argv)
        if command.list:
            show_presets(zoo.family(family))
        elif command.dry_run:
            from jaxgen.dryrun import dry_run

            dry_run(command.run)
        else:
            from jaxgen.loop import fit

            fit(command.run)

    run(work)


def show_presets(names: Sequence[str]):
    """Print the presets, their sizes and what is known of them."""
    table = Table(box=None)
    for column in ("preset", "image", "parameters", "data", "steps", "measured"):
        table.add_column(column, no_wrap=True)
    for name in names:
        preset = zoo.load(name)
        r = preset.run
        image = "x".join(map(str, r.model.image))
        table.add_row(
            name, image, f"{preset.parameters:,}", r.data.source, f"{r.steps:,}", MEASURED.get(name, "not yet measured")
        )
    console = Console(soft_wrap=True)
    # Lines that are longer than a terminal is wide are wrapped by it, and whole in a pipe: no cell is cut.
    console.width = max(console.width, console.measure(table, options=console.options.update(width=1000)).maximum)
    console.print(table)
