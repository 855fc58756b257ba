"""python -m jaxgen COMMAND: training, sampling, evaluation and all other commands."""

import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

import jaxgen

LIMIT = "images of more pixels are refused before they are decoded"
MARK = (
    "write no note in the XMP (DigitalSourceType) of files that a net drew or changed; it has the software, preset, "
    "weights and seed, and `inspect` reads it"
)
COMMANDS = {  # command -> module:function of jaxgen/commands, imported when it is called
    "list": "list_:list_",
    "demo": "demo:demo",
    "train": "train:train",
    "generate": "generate:generate",
    "interpolate": "interpolate:interpolate",
    "mix": "mix:mix",
    "project": "project:project",
    "directions": "directions:directions",
    "traverse": "traverse:traverse",
    "reconstruct": "reconstruct:reconstruct",
    "map": "map:map_",
    "arithmetic": "arithmetic:arithmetic",
    "score": "score:score",
    "inpaint": "inpaint:inpaint",
    "upscale": "upscale:upscale",
    "edit": "edit:edit",
    "restore": "restore:restore",
    "compose": "compose:compose",
    "extend": "extend:extend",
    "translate": "translate:translate",
    "predict": "predict:predict",
    "capture": "capture:capture",
    "retarget": "retarget:retarget",
    "edit-video": "edit_video:edit_video",
    "render": "render:render",
    "stylize": "stylize:stylize",
    "evaluate": "evaluate:evaluate_",
    "report": "report:report",
    "import": "import_:import_",
    "export": "export:export",
    "prepare": "prepare:prepare",
    "inspect": "inspect_:inspect_",
}


def command(name: str) -> Callable:
    """Return the function of a command. tyro parses its arguments, unless its only parameter is `argv`."""
    module, _, function = COMMANDS[name].partition(":")
    found = run_first(getattr(importlib.import_module(f"jaxgen.commands.{module}"), function))
    # One line per paragraph and per argument: the help wraps them itself.
    found.__doc__ = re.sub(r"\n {12}(?=\S)|(?<=[^\n])\n {4}(?=\S)", " ", found.__doc__ or "")
    return with_general(found) if "image" in found.__doc__ else found


def with_general(function: Callable) -> Callable:
    """Return a command whose help shows the options that `general_options` takes off beforehand, too."""
    from tyro import conf

    @functools.wraps(function)
    def command(*args, max_pixels=0, no_mark=False, **given):
        del max_pixels, no_mark
        return function(*args, **given)

    more: dict[str, tuple[Any, Any]] = {
        "max_pixels": (Annotated[int, conf.arg(help=LIMIT)], 89_478_485),
        "no_mark": (Annotated[conf.FlagCreatePairsOff[bool], conf.arg(help=MARK)], False),
    }
    signature, keyword = inspect.signature(function), inspect.Parameter.KEYWORD_ONLY
    options = [inspect.Parameter(name, keyword, default=d, annotation=kind) for name, (kind, d) in more.items()]
    setattr(command, "__signature__", signature.replace(parameters=[*signature.parameters.values(), *options]))  # noqa: B010
    del command.__wrapped__  # tyro would read the types of what is wrapped
    command.__annotations__ = function.__annotations__ | {name: kind for name, (kind, _) in more.items()}
    return command


def run_first(function: Callable) -> Callable:
    """Return a command that looks for the run it is given, if any, before its other arguments and output files."""
    from jaxgen.commands.shared import Folder, Named

    signature = inspect.signature(function)
    runs = [name for name, parameter in signature.parameters.items() if parameter.annotation == Folder]
    named = [name for name, parameter in signature.parameters.items() if parameter.annotation == Named]
    if not runs and not named:
        return function

    @functools.wraps(function)
    def command(*args, **rest):
        from jaxgen.runs.config_io import load_config

        given = signature.bind(*args, **rest).arguments
        for name in runs:
            load_config(given[name])
        for name in named:
            from jaxgen.inference.opening import configured

            configured(given[name])
        return function(*args, **rest)

    return command


def brief(function: Callable) -> Callable:
    """Return a copy of a command whose docstring is its first paragraph, for the list of commands."""
    copy = functools.wraps(function)(lambda *args, **rest: function(*args, **rest))
    copy.__doc__ = (function.__doc__ or "").partition("\n\n")[0]
    return copy


def checked(function: Callable) -> Callable:
    """Return a command that first checks its arguments' ranges."""
    from jaxgen.core.ranges import check_arguments

    @functools.wraps(function)
    def call(*args, **rest):
        check_arguments(function, inspect.signature(function).bind(*args, **rest).arguments)
        return function(*args, **rest)

    return call


def main():
    """Run the command in `sys.argv`."""
    import tyro

    from jaxgen.commands.shared import ANY_PATH, general_options
    from jaxgen.core.errors import choose

    prog, argv = "python -m jaxgen", general_options(sys.argv[1:])
    if argv == ["--version"]:
        return print(f"jaxgen {jaxgen.__version__}")
    if not argv or argv[0].startswith("-"):
        return tyro.extras.subcommand_cli_from_dict({name: brief(command(name)) for name in COMMANDS}, prog=prog)
    function = command(choose(argv[0], COMMANDS, "command"))
    if list(inspect.signature(function).parameters) == ["argv"]:
        return function(argv[1:])
    return tyro.cli(checked(function), args=argv[1:], prog=f"{prog} {argv[0]}", registry=ANY_PATH)


if __name__ == "__main__":
    from jaxgen.core.interruption import stop_in_words

    stop_in_words()
    if sys.argv[1:2] == ["train"]:
        from jaxgen.training.huge_pages import use_huge_pages

        use_huge_pages()  # before JAX is imported: it restarts Python
    from jaxgen.commands.runner import run

    run(main)
