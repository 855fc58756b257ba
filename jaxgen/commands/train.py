"""python -m jaxgen train FAMILY, and the scripts python -m train.FAMILY: train a model, or resume a run."""

import sys
from collections.abc import Sequence


def train(argv: Sequence[str]):
    """Train a model or resume a run, such as `python -m jaxgen train gan --preset dcgan`."""
    from jaxgen import zoo
    from jaxgen.core.errors import InputError, choose

    if family := family_of_resumed(argv):
        argv = [family, *argv]
    families = ", ".join(zoo.families())
    if not argv or argv[0].startswith("-"):
        usage = f"python -m jaxgen train FAMILY --help shows a family's settings. Families: {families}."
        if set(argv) & {"-h", "--help"}:
            return print(usage)
        raise InputError(f"Name the family of the model. {usage}")
    family = choose(argv[0], zoo.families(), "family")
    train_family(family, argv[1:], f"python -m jaxgen train {family}{{preset}}")


def family_of_resumed(argv: Sequence[str]) -> str:
    """Return the family of the run that `--resume RUN` names; "" where it is not resumed by its folder alone."""
    from jaxgen import zoo
    from jaxgen.commands.parse import value_of
    from jaxgen.core import paths
    from jaxgen.runs.config_io import load_config

    folder = value_of(argv, "--resume")
    if folder is None or not argv[0].startswith("-") or set(argv) & {"-h", "--help"}:
        return ""
    return zoo.family_of(load_config(paths.path(folder)).preset)


def script(family: str):
    """Run `python -m train.<family>` with the arguments of the command line."""
    from jaxgen.training.huge_pages import use_huge_pages

    use_huge_pages()  # before JAX is imported: it restarts Python
    from jaxgen.commands.runner import run

    run(lambda: train_family(family, sys.argv[1:], f"python -m train.{family}{{preset}}"))


def train_family(family: str, argv: Sequence[str], prog: str):
    """Train a model of a family, or with --list or --dry-run list the presets or describe the run."""
    from jaxgen.commands.parse import parse
    from jaxgen.commands.shared import general_options

    command = parse(family, general_options(argv), prog)
    if command.list:
        from jaxgen.commands.list_ import show_family

        show_family(family)
    elif command.dry_run:
        from jaxgen.training.dry_run import dry_run

        dry_run(command.run, command.verbose)
    else:
        from jaxgen.training.loop import fit

        fit(command.run)
