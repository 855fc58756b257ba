"""python -m jaxgen COMMAND: all that is done outside of training."""

import sys

import tyro

from jaxgen.commands.arithmetic import arithmetic
from jaxgen.commands.compose import compose
from jaxgen.commands.directions import directions
from jaxgen.commands.edit import edit
from jaxgen.commands.evaluate import evaluate_
from jaxgen.commands.export import export
from jaxgen.commands.extend import extend
from jaxgen.commands.generate import generate
from jaxgen.commands.import_ import Import, import_
from jaxgen.commands.inpaint import inpaint
from jaxgen.commands.interpolate import interpolate
from jaxgen.commands.list_ import list_
from jaxgen.commands.map import map_
from jaxgen.commands.mix import mix
from jaxgen.commands.parse import renamed
from jaxgen.commands.prepare import prepare
from jaxgen.commands.project import project
from jaxgen.commands.reconstruct import reconstruct
from jaxgen.commands.restore import restore
from jaxgen.commands.runner import run
from jaxgen.commands.score import score
from jaxgen.commands.stylize import stylize
from jaxgen.commands.translate import translate
from jaxgen.commands.traverse import traverse
from jaxgen.commands.upscale import upscale
from jaxgen.core.errors import choose


def main():
    if sys.argv[1:2] == ["import"]:
        return import_(sys.argv[2:])  # the rest of its settings depend on the model
    commands = {
        "list": list_,
        "generate": generate,
        "interpolate": interpolate,
        "mix": mix,
        "project": project,
        "directions": directions,
        "traverse": traverse,
        "reconstruct": reconstruct,
        "map": map_,
        "arithmetic": arithmetic,
        "score": score,
        "inpaint": inpaint,
        "upscale": upscale,
        "edit": edit,
        "restore": restore,
        "compose": compose,
        "extend": extend,
        "translate": translate,
        "stylize": stylize,
        "evaluate": evaluate_,
        "import": Import,
        "export": export,
        "prepare": prepare,
    }
    if sys.argv[1:] and not sys.argv[1].startswith("-"):
        choose(sys.argv[1], commands, "command")
    return tyro.extras.subcommand_cli_from_dict(commands, prog="python -m jaxgen", args=renamed(sys.argv[1:]))


if __name__ == "__main__":
    run(main)
