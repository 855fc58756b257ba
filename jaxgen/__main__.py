"""python -m jaxgen COMMAND: all that is done outside of training."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxgen import command, zoo
from jaxgen.codes import arithmetic, map_, score
from jaxgen.compose import compose
from jaxgen.editing import edit, inpaint, upscale
from jaxgen.errors import InputError, at_least, choose
from jaxgen.explore import (
    Folder,
    directions,
    generate,
    interpolate,
    mix,
    project,
    reconstruct,
    traverse,
)
from jaxgen.extend import extend
from jaxgen.restore import restore
from jaxgen.stylize import stylize
from jaxgen.translate import translate


def list_():
    """Show the presets of the zoo with their measured results."""
    command.show_presets(tuple(zoo.ZOO))


def evaluate_(
    run: Folder,
    metrics: str = "",
    count: int = 10_000,
    real: int | None = None,
    split: str | None = None,
    floor: str | None = None,
    seeds: int = 1,
    seed: int = 0,
    weights: Literal["average", "last"] = "average",
    resizer: Literal["clean", "legacy"] = "clean",
    inception: Path | None = None,
    cache: bool = True,
    sampler: Literal["prior", "mixture", "two-stage"] = "prior",
    sampling: str = "",
    average: float | None = None,
):
    """Measure a run's newest checkpoint, and write each number with its protocol to RUN/evaluations.jsonl.

    Args:
        run: the folder of the run
        metrics: names with commas between: accuracy and loss on held-out data; scores of samples: fid_, kid_, is_,
            pr_ (precision and recall), dc_ (density and coverage) or swd_ (sliced Wasserstein), followed by what gives
            the features: inception, lenet, efficientnet_lite0, random, pixels, or a classifier's run folder; of models
            with a likelihood nll_K in nats or bpd_K in bits per dimension, by K samples each; of autoencoders
            reconstruction_psnr, rfid_, active_units; of models that mend or translate psnr_y, psnr_rgb, ssim_y,
            ssim_rgb, with _border2 where 2 pixels are cut off.
            Unset: accuracy for a classifier, fid_lenet and kid_lenet for a generator, psnr_rgb for what mends or
            translates, reconstruction_psnr for a plain autoencoder, the loss for any other
        count: samples to be scored; what is measured of held-out pictures is of all of the split
        real: how many real pictures they are compared with; unset: all of the split
        split: of the run's data, or a part of it, such as test[:1000]; unset: the one held out for accuracy and loss,
            the one trained on for scores
        floor: also score the real pictures of this split, such as test, as if they were samples
        seeds: how many times other samples are scored; from two on a 95 % interval is given
        seed: the first of the seeds
        weights: the moving average where there is one, or the last
        resizer: to the extractor's size by antialiased bicubic (clean), or by TensorFlow 1's bilinear (legacy)
        inception: the file of FID's Inception weights; unset: JAXGEN_INCEPTION, the cache, or a download
        cache: keep the real pictures' statistics for the next time
        sampler: what the samples come from: the model's prior, or what `generate --sampler` fits on its codes
        sampling: how a diffusion model draws them, as for `generate`
        average: width sigma_rel of the weights' average, as for `generate`
    """
    from jaxgen.report import evaluate_run

    at_least(1, count=count, real=real, seeds=seeds)
    at_least(0, seed=seed)
    evaluate_run(
        run,
        [name for name in metrics.split(",") if name],
        count=count,
        real=real,
        split=split,
        floor=floor,
        seeds=range(seed, seed + seeds),
        average=weights == "average",
        width=average,
        resizer=resizer,
        inception=inception,
        cache=cache,
        sampler=sampler,
        sampling=sampling,
    )


@dataclass(frozen=True)
class Import:
    """Make a run of another framework's weights, to be sampled, evaluated or trained on.

    Reads safetensors, PyTorch files (new, old, whole modules; without PyTorch, and running nothing that is in them) and
    MATLAB v7.3. Any setting of the training script may follow, such as --model.classes 37 or --data.source tfds:mnist.
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """the weights"""
    model: str
    """which preset they are of; python -m jaxgen list shows them"""
    out: Path
    """the folder of the run that is made"""
    net: str | None = None
    """which of its nets; unset: the one that fits"""


def import_(argv: Sequence[str]):
    """Do `python -m jaxgen import *argv`."""
    prog = "python -m jaxgen import"
    given, settings = tyro.cli(Import, args=list(argv), prog=prog, return_unknown_args=True)
    from jaxgen import config
    from jaxgen.interop.convert import import_weights

    zoo.load(given.model)
    family = zoo.ZOO[given.model].split(".")[2]
    parsed = config.parse(family, ["--preset", given.model, "--out", str(given.out), *settings], prog)
    folder, net, count = import_weights(given.file, parsed.run, given.net)
    print(f"{folder} has the {net} of {given.file}: {count:,} numbers.")


def export(
    run: Folder,
    to: Literal["safetensors", "torch", "stablehlo"],
    net: str | None = None,
    weights: Literal["average", "last"] = "average",
    out: Path | None = None,
):
    """Write a run's weights under the names that PyTorch's users know, or its generator or classifier as StableHLO.

    A StableHLO program needs no jaxgen: `jax.export.deserialize(bytes).call(seed, indices)` gives the samples of
    `generate` for any number of indices, of a conditional model `.call(seed, indices, label)`; `.call(images)` gives a
    classifier's logits.

    Args:
        run: the folder of the run
        to: safetensors; torch (a file for torch.load); stablehlo
        net: which of its nets; unset: all of them, a file each
        weights: the moving average where there is one, or the last
        out: the file; unset: RUN/export/<net>.safetensors, <net>.pth, or generate.stablehlo
    """
    from jaxgen.interop import convert
    from jaxgen.trained import open_run

    _, _, task, state, frozen, _ = opened = open_run(run)
    if to == "stablehlo":
        if net:
            raise InputError("--net has no meaning with --to stablehlo: the whole program is written.")
        convert.export_program(task, state, frozen, weights == "average", out, run / "export")
        return
    nets = [choose(net, state.params, "net")] if net else list(state.params)
    if out is not None and len(nets) > 1:
        raise InputError(f"--out is one file, but the run has {len(nets)} nets: say which with --net.")
    for name in nets:
        path = out or run / "export" / (name + {"safetensors": ".safetensors", "torch": ".pth"}[to])
        count = convert.export_weights(opened.run, state, name, to, path, weights == "average")
        print(f"{count} tensors of the {name}: {path}")


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
    return tyro.extras.subcommand_cli_from_dict(commands, prog="python -m jaxgen")


if __name__ == "__main__":
    command.run(main)
