"""python -m jaxgen export: weights or compiled programs for other frameworks."""

from pathlib import Path
from typing import Literal

from jaxgen.commands.shared import Folder
from jaxgen.core.errors import InputError, choose


def export(
    run: Folder,
    to: Literal["safetensors", "torch", "stablehlo", "onnx"],
    net: str | None = None,
    program: str | None = None,
    size: tuple[int, int] | None = None,
    scale: float | None = None,
    weights: Literal["average", "last"] = "average",
    out: Path | None = None,
    overwrite: bool = False,
):
    """Write a run's weights under their usual PyTorch names, or what it does as a StableHLO program or an ONNX model.

    A StableHLO program runs without jaxgen. `jax.export.deserialize(bytes).call(0, jnp.arange(4))` returns the samples
    of `generate` of a seed and any indices; a conditional model takes labels after them. For a classifier,
    `.call(images)` returns the logits. Beside it lies its signature, a .json with an example.

    An ONNX model runs in ONNX Runtime, without jaxgen and JAX, on batches of any size. It takes images in [-1, 1],
    [b, h, w, c]. Height and width are open too, where the model allows it. Random numbers are inputs: the latent
    vectors of a GAN, the first noise of a diffusion sampler and the noise of each of its steps. The command prints what
    they are, and the file's metadata says it. Every model is run once in ONNX Runtime and compared with JAX; it is not
    written where they differ. Needs `pip install jaxgen[onnx]`.

    Args:
        run: the run's folder
        to: the format: safetensors, torch (a file for torch.load), stablehlo, or onnx
        net: the net to export; unset: all nets, one file each
        program: onnx: generate, restore, translate, denoise (the denoiser alone, for your own sampler), encode, decode
            or classify; unset: the main one of the model
        size: onnx: a fixed height and width of the images; unset: any, or those of the training if any is not possible
        scale: onnx: how far a super-resolution model enlarges, where it can enlarge by several factors
        weights: the moving average of the weights if there is one (average), or the latest weights (last)
        out: the output file; unset: RUN/export/<net>.safetensors, <net>.pth, generate.stablehlo, or
            <program>.onnx
        overwrite: replace existing files
    """
    from jaxgen.core.config import Mesh
    from jaxgen.interop import convert, onnx_programs, programs
    from jaxgen.interop.write import check_new
    from jaxgen.media import output_files
    from jaxgen.runs.load import open_run

    output_files.check_place(out or run / "export" / to)
    if to != "onnx" and (program or size or scale):
        raise InputError("--program, --size and --scale are for --to onnx.")
    if to == "onnx":
        if net:
            raise InputError("--to onnx writes a whole program, with all of its nets: name one with --program.")
        onnx_programs.check_installed()
    # A model's batches are of any size, and those of several devices are not.
    _, _, task, state, frozen, _ = opened = open_run(run, Mesh(data=1) if to == "onnx" else None)
    if to == "stablehlo":
        if net:
            raise InputError("--to stablehlo writes the whole program: leave out --net.")
        programs.export_program(task, state, frozen, weights == "average", out, run / "export", overwrite)
        return
    if to == "onnx":
        onnx_programs.export_run(opened, weights == "average", program, out, run / "export", size, scale, overwrite)
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
