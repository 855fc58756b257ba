"""python -m jaxgen export: weights or compiled programs for other frameworks."""

from pathlib import Path
from typing import Literal

from jaxgen.commands.shared import Folder
from jaxgen.core.errors import InputError, choose


def export(
    run: Folder,
    to: Literal["safetensors", "torch", "stablehlo"],
    net: str | None = None,
    weights: Literal["average", "last"] = "average",
    out: Path | None = None,
    overwrite: bool = False,
):
    """Write a run's weights under their usual PyTorch names, or its generator or classifier as a StableHLO program.

    A StableHLO program runs without jaxgen. `jax.export.deserialize(bytes).call(0, jnp.arange(4))` returns the samples
    of `generate` of a seed and any indices; a conditional model takes labels after them. For a classifier,
    `.call(images)` returns the logits. Beside it lies its signature, a .json with an example.

    Args:
        run: the run's folder
        to: the format: safetensors, torch (a file for torch.load), or stablehlo
        net: the net to export; unset: all nets, one file each
        weights: the moving average of the weights if there is one (average), or the latest weights (last)
        out: the output file; unset: RUN/export/<net>.safetensors, <net>.pth, or generate.stablehlo
        overwrite: replace existing files
    """
    from jaxgen.interop import convert, programs
    from jaxgen.interop.write import check_new
    from jaxgen.media import output_files
    from jaxgen.runs.load import open_run

    output_files.check_place(out or run / "export" / to)
    _, _, task, state, frozen, _ = opened = open_run(run)
    if to == "stablehlo":
        if net:
            raise InputError("--to stablehlo writes the whole program: leave out --net.")
        programs.export_program(task, state, frozen, weights == "average", out, run / "export", overwrite)
        return
    nets = [choose(net, state.params, "net")] if net else list(state.params)
    if out is not None and len(nets) > 1:
        raise InputError(f"--out is one file, but the run has {len(nets)} nets: name one with --net.")
    ending = {"safetensors": ".safetensors", "torch": ".pth"}[to]
    paths = {name: out or run / "export" / (name + ending) for name in nets}
    for path in paths.values():
        check_new(path, overwrite)
    with output_files.together():
        counts = {
            name: convert.export_weights(opened.run, state, name, to, path, weights == "average", overwrite)
            for name, path in paths.items()
        }
    for name, count in counts.items():
        print(f"{count} tensors of the {name}: {paths[name]}")
