"""What every training script does with its command line."""

import sys
from collections.abc import Sequence

from jaxgen import zoo
from jaxgen.commands.list_ import show_presets
from jaxgen.commands.runner import run


def train(family: str, argv: Sequence[str] | None = None):
    """Run `python -m train.<family>` with the arguments argv."""

    def work():
        from jaxgen.commands.parse import parse

        command = parse(family, sys.argv[1:] if argv is None else argv)
        if command.list:
            show_presets(zoo.family(family))
        elif command.dry_run:
            from jaxgen.training.dry_run import dry_run

            dry_run(command.run)
        else:
            from jaxgen.training.loop import fit

            fit(command.run)

    run(work)
