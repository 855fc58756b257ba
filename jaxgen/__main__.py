"""python -m jaxgen list | generate | prepare: what can be done outside a training script."""

import sys
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro

from jaxgen import command, zoo
from jaxgen.errors import InputError, at_least


def list_():
    """Show the presets of the zoo with their measured results."""
    command.show_presets(tuple(zoo.ZOO))


def generate(
    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")],
    count: int = 64,
    seed: int = 0,
    batch: int = 64,
    out: Path = Path("grid.png"),
):
    """Draw samples from a run's newest checkpoint, with the averaged weights.

    Sample i is the same whatever the count, the batch and the number of devices.

    Args:
        run: the folder of the run
        count: how many samples
        seed: which samples
        batch: how many are drawn at a time
        out: a .png for a grid; a .npz for the samples as arrays ("image", u8[n h w c]) with the grid beside it
    """
    from jaxgen import checkpoint, data, evaluate, loop, runs, shard, sinks
    from jaxgen.config import Mesh

    at_least(1, count=count, batch=batch)
    at_least(0, seed=seed)
    if out.suffix not in (".png", ".npz"):
        raise InputError(f"--out must end in .png or .npz, not {out.name!r}.")
    if not out.absolute().parent.is_dir():
        raise InputError(f"There is no folder {out.absolute().parent} to write {out.name} into.")
    config = runs.load(run)
    step, damaged = checkpoint.newest_whole(run / "checkpoints")
    for bad, fault in damaged.items():
        print(f"The checkpoint of step {bad} is passed over: {fault}.", file=sys.stderr)
    if step is None:
        raise InputError(f"{run} has no whole checkpoint yet.")
    mesh = shard.make_mesh(Mesh())
    task = loop.build(config, mesh)
    sample = evaluate.sampler(task, mesh, batch)
    state, _ = checkpoint.restore(
        run / "checkpoints", step, shard.abstract_state(task, mesh, evaluate.spec_of(task, config.batch))
    )
    frozen = {net: jax.device_put(load(), shard.replicated(mesh)) for net, load in task.frozen.items()}
    needed = {}
    if task.given:
        needed = evaluate.given(task, config, data.open_source(config.data, evaluate.image_of(task)), count)
    images = sample(state, frozen, seed, count, needed)
    if out.suffix == ".npz":
        np.savez(out, image=sinks.to_u8(images), step=step, seed=seed)
    sinks.save_png(out.with_suffix(".png"), sinks.grid(images))
    print(f"{count} samples of step {step}: {out}")


def prepare(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")],
    dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None,
):
    """Download a TFDS image set and write it so that training needs no TensorFlow (the extra jaxgen[prepare] has it).

    Args:
        name: the TFDS name, such as mnist
        dir: where to; unset: TFDS's own folder
    """
    from jaxgen.data import prepare

    prepare(name, None if dir is None else str(dir))


if __name__ == "__main__":
    commands = {"list": list_, "generate": generate, "prepare": prepare}
    command.run(lambda: tyro.extras.subcommand_cli_from_dict(commands, prog="python -m jaxgen"))
