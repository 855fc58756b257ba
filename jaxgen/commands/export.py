"""python -m jaxgen export: weights and programs for other frameworks."""

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
    from jaxgen.runs.load import open_run

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
