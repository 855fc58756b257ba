"""What every training script does with its command line, and how any command ends."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
from rich.console import Console
from rich.table import Table

from jaxgen import zoo
from jaxgen.errors import InputError


def run(work: Callable[[], object]):
    """Do a command's work and leave: 0, 2 after a mistake of the user's, 1 where the numbers broke down, 128 + signal."""
    from jaxgen.loop import Interrupted, NonFinite

    use_cache()
    # A failed write is told by us in one sentence; Orbax's log adds a page for it.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    sys.unraisablehook = partial(_without_orphans, sys.unraisablehook)
    try:
        work()
    except InputError as error:
        leave(2, error)
    except NonFinite as error:
        leave(1, error)
    except Interrupted as error:
        leave(128 + error.signum, error)
    except KeyboardInterrupt:
        leave(130, "Stopped.")


def _without_orphans(hook, unraisable):
    # Its other writes report to an event loop that is gone by then: a traceback for each.
    if str(unraisable.exc_value) != "Event loop is closed":
        hook(unraisable)


def leave(status: int, last_words: object):
    """End the process with one sentence on stderr, without waiting for threads that still compile or read."""
    print(last_words, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def cache_folder() -> Path:
    """Return the user's cache folder of this package: $JAXGEN_CACHE, or jaxgen in $XDG_CACHE_HOME or ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("JAXGEN_CACHE") or f"{home}/jaxgen").expanduser()


def use_cache():
    """Keep what is compiled in the user's cache folder, for the next start."""
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


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
    table = Table("preset", "image", "parameters", "data", "steps", "measured", box=None)
    for name in names:
        preset = zoo.load(name)
        r = preset.run
        image = "x".join(map(str, r.model.image))
        table.add_row(name, image, f"{preset.parameters:,}", r.data.source, f"{r.steps:,}", preset.measured)
    Console(soft_wrap=True).print(table)
