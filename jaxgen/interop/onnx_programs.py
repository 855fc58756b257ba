"""Export of runs as ONNX models, which ONNX Runtime runs without JAX, each compared with JAX before it is kept.

The batch is open in every model, height and width where the program can be traced without knowing them. Random draws
are inputs (noise_inputs.py).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from jaxgen import __version__
from jaxgen.core.config import Compute
from jaxgen.core.errors import InputError, choose
from jaxgen.core.spec import ArraySpec
from jaxgen.core.types import averaged
from jaxgen.interop import noise_inputs
from jaxgen.interop.noise_inputs import Draw
from jaxgen.interop.onnx_uses import Use, uses_of
from jaxgen.interop.write import check_new
from jaxgen.media import output_files
from jaxgen.runs.load import Trained, build_task

TOLERANCE = 1e-4  # largest difference from JAX, of the largest number of the output
LARGEST = 2**31 - 2**20  # bytes of a model: protobuf can't write more than 2 GB
SMALLEST = 16  # pixels of an open height or width
CASES = ((3, 0), (1, 1))  # batch sizes and steps of size at which a model is compared


# ---------------------------------------------------------------- the model


@dataclass(frozen=True)
class Made:
    """An ONNX model of a use, and what is known of it."""

    proto: Any
    use: Use
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    draws: tuple[Draw, ...]
    size: tuple[int, int] | None  # fixed height and width; None: they are open, or the use has its own
    why: str = ""  # why height and width are not open

    @property
    def noise(self) -> tuple[str, ...]:
        return tuple("noise" if len(self.draws) == 1 else f"noise_{i}" for i in range(len(self.draws)))


def make(use: Use, name: str, size: tuple[int, int] | None = None) -> Made:
    """Return the ONNX model of a use, with open height and width where that can be traced and no size is given.

    Raises InputError for operations that ONNX does not have, and a size that the model can't take.
    """
    why = ""
    if use.open and size is None:
        try:
            return _made(use, name, None)
        except Exception as error:  # JAX refuses sizes that it does not know by errors of many types
            why = str(error).strip().partition("\n")[0]
            size = use.side
            size = (-(-size[0] // use.multiple) * use.multiple, -(-size[1] // use.multiple) * use.multiple)
    if size is not None and not use.open:
        raise InputError("--size is for models that take images of any size, and this one has its own: leave it out.")
    if size is not None and any(side < 1 or side % use.multiple for side in size):
        raise InputError(f"--size must be divisible by {use.multiple} for this model, not {size[0]} {size[1]}.")
    return replace(_made(use, name, size), why=why)


def _made(use: Use, name: str, size: tuple[int, int] | None) -> Made:
    from jaxgen.interop.onnx_rules import convert

    b, sides = _open_sizes(use)
    axes: dict[str, Any] = dict(zip(("h", "w"), size or sides, strict=True))
    keys = jax.ShapeDtypeStruct((b,), jax.eval_shape(jax.random.key, 0).dtype)
    inputs = {n: jax.ShapeDtypeStruct((b, *_shape(spec, axes)), spec.dtype) for n, spec in use.inputs.items()}
    program = noise_inputs.with_noise(use.function, inputs, keys)
    if not program.inputs and not program.draws:
        raise InputError("This model's output is one fixed image: it has no input.")
    made = Made(None, use, program.inputs, program.outputs, program.draws, size)
    outputs = [f"{n}_out" if n in program.inputs else n for n in program.outputs]
    proto = convert(program.jaxpr, [*program.inputs, *made.noise], outputs, name)
    return replace(made, proto=proto, outputs=tuple(outputs))


def _open_sizes(use: Use) -> tuple[Any, tuple[Any, Any]]:
    """Return the symbolic batch, height and width."""
    m = use.multiple
    height, width = (axis if m == 1 else f"{m}*{axis}" for axis in "hw")
    limits = [f"{side} >= {-(-SMALLEST // m) * m}" for side in (height, width)]
    b, h, w = export.symbolic_shape(f"b, {height}, {width}", constraints=limits)
    return b, (h, w)


def _shape(spec: ArraySpec, axes: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the shape of one example; an image in grey or in colour is one in colour."""
    known = {**axes, **{name: max(sizes) for name, sizes in spec.allowed.items()}}
    return tuple(known[size] if isinstance(size, str) else size for size in spec.shape)


# ---------------------------------------------------------------- the comparison


def compare(path: str | Path, made: Made) -> dict[str, float]:
    """Return {output: its largest difference from JAX, as a share of the largest number}, of two batch sizes.

    Where height and width are open, of two of them as well. Raises InputError where the model can't be run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common type
        raise InputError(f"ONNX Runtime can't read the model: {str(error).partition(chr(10))[0]}.") from error
    worst = dict.fromkeys(made.outputs, 0.0)
    whole: Any = None
    for batch, step in CASES:
        if whole is None or (made.use.open and made.size is None):
            whole = _reference(made, batch, step)
        feeds, expected = _rows(made, whole, batch)
        try:
            got = session.run(list(made.outputs), feeds)
        except Exception as error:
            raise InputError(f"ONNX Runtime can't run the model: {str(error).partition(chr(10))[0]}.") from error
        for name, ours, theirs in zip(made.outputs, expected, got, strict=True):
            if not np.isfinite(ours).all():
                raise InputError(f"The model's own {name} has numbers that are not finite: it can't be compared.")
            worst[name] = max(worst[name], difference(np.asarray(ours), np.asarray(theirs)))
    return worst


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the largest difference as a share of the largest number; infinite for other shapes and numbers."""
    if ours.shape != theirs.shape or not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return math.inf
    scale = float(np.abs(ours).max(initial=0)) or 1.0
    return float(np.abs(ours.astype(np.float64) - theirs).max(initial=0)) / scale


def _reference(made: Made, batch: int, step: int) -> tuple[dict[str, np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Return random inputs, the noise of some keys, and the outputs that JAX computes."""
    use, rng = made.use, np.random.default_rng(step)
    m = use.multiple
    side = [-(-max(SMALLEST, 24 + 8 * (step + i)) // m) * m for i in range(2)]
    axes: dict[str, Any] = dict(zip(("h", "w"), made.size or side, strict=True))
    inputs = {n: _random(rng, n, spec, (batch, *_shape(spec, axes)), use) for n, spec in use.inputs.items()}
    keys = jax.random.split(jax.random.key(step), batch)
    noise: list[np.ndarray] = []
    if made.draws:
        # The nets are arguments: as constants of a program, large ones take long to compile.
        drawn = jax.jit(lambda nets, *given: noise_inputs.noise_of(partial(use.apply, nets))(*given))
        noise = [np.asarray(x) for x in drawn(use.nets, inputs, keys)]
    outputs = jax.jit(use.apply)(use.nets, inputs, keys)
    return inputs, [noise[draw.number] for draw in made.draws], [np.asarray(outputs[n]) for n in sorted(outputs)]


def _rows(made: Made, whole: Any, batch: int) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Return the first examples of a reference: an example depends on its own inputs and key only."""
    inputs, noise, outputs = whole
    cut = [x.take(range(batch), draw.axis) for x, draw in zip(noise, made.draws, strict=True)]
    feeds = {name: inputs[name][:batch] for name in made.inputs} | dict(zip(made.noise, cut, strict=True))
    return feeds, [x[:batch] for x in outputs]


def _random(rng: np.random.Generator, name: str, spec: ArraySpec, shape: tuple[int, ...], use: Use) -> np.ndarray:
    """Return random examples: images in [-1, 1], masks of 0 and 1, whole numbers below their count."""
    if name == "tau":
        return rng.choice(use.levels, shape).astype(np.float32)
    if spec.kind in ("label", "tokens") and np.issubdtype(spec.dtype, np.integer):
        return rng.integers(0, max(spec.count, 2), shape).astype(spec.dtype)
    if spec.kind == "label":
        return rng.uniform(0, 50, shape).astype(spec.dtype)
    if len(spec.shape) == 3 and spec.shape[-1] == 1 and len(use.inputs) > 1:
        return rng.integers(0, 2, shape).astype(spec.dtype)
    return rng.uniform(-1, 1, shape).astype(spec.dtype)


# ---------------------------------------------------------------- the file


def export_run(
    opened: Trained,
    average: bool,
    program: str | None,
    out: Path | None,
    folder: Path,
    size: tuple[int, int] | None = None,
    scale: float | None = None,
    overwrite: bool = False,
):
    """Write one use of a run as an ONNX model in f32, compared with JAX, and print what it takes.

    average: whether its nets are the moving averages
    program: the name of the use; None: the main one
    Raises InputError where there is no such use, ONNX lacks an operation, or ONNX Runtime's numbers differ from JAX's.
    """
    check_installed()
    import onnx

    run = replace(opened.run, compute=Compute())
    state = opened.state if average else opened.state.replace(ema={})
    uses = uses_of(build_task(run, opened.mesh), averaged(state, opened.frozen), scale)
    if not uses:
        raise InputError("This model draws no samples and transforms no examples: there is nothing to export.")
    program = choose(program, uses, "program") if program else next(iter(uses))
    path = out or folder / f"{program}.onnx"
    check_new(path, overwrite)
    made = make(uses[program](), program, size)
    if made.proto.ByteSize() > LARGEST:
        raise InputError(f"The model takes {made.proto.ByteSize() / 2**30:.1f} GB, and an ONNX file holds 2 GB.")
    about = {"preset": run.preset, "step": str(opened.step), "weights": "average" if average else "last"}
    onnx.helper.set_model_props(made.proto, {**about, "program": program, **metadata(made)})
    with output_files.whole(path) as part:
        part.write_bytes(made.proto.SerializeToString())
        onnx.checker.check_model(str(part), full_check=True)
        worst = compare(part, made)
        instead = (
            " --program denoise exports the denoiser alone." if program == "generate" and "denoise" in uses else ""
        )
        for name, share in worst.items():
            if not share < TOLERANCE:
                raise InputError(
                    f"ONNX Runtime's {name} differs from JAX's by {share:.1e} of the largest number, more than "
                    f"{TOLERANCE:g}: nothing is written.{instead}"
                )
    print(f"{program}: {path} (opset {made.proto.opset_import[0].version})")
    print("\n".join(f"  {line}" for line in describe(made)))
    print(f"Its numbers differ from JAX's by at most {max(worst.values()):.0e} of the largest one, in ONNX Runtime.")
    if made.why:
        print(f"Height and width are fixed; --size gives others. They can't be left open: {made.why}")


def check_installed():
    """Raise InputError where the extra is missing."""
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError:
        raise InputError("--to onnx needs ONNX and ONNX Runtime: pip install jaxgen[onnx].") from None
    del onnx


def described(made: Made) -> dict[str, str]:
    """Return a line about each input and output."""
    lines = {name: _meaning(name, made.use.inputs[name], made.use) for name in made.inputs}
    lines |= {name: draw.numbers for name, draw in zip(made.noise, made.draws, strict=True)}
    return lines


def _meaning(name: str, spec: ArraySpec, use: Use) -> str:
    if name == "tau":
        return f"noise level, from {max(use.levels):g} to {min(use.levels):g} in the sampler"
    if spec.kind == "label":
        names = f": {', '.join(spec.names)}" if spec.names else ""
        return f"number from 0 to {spec.count - 1}{names}" if spec.count else "number"
    if spec.kind == "image":
        return "1 where it applies, 0 elsewhere" if len(use.inputs) > 1 and spec.shape[-1] == 1 else "image in [-1, 1]"
    return spec.kind


def describe(made: Made) -> Sequence[str]:
    """Return lines about the inputs and outputs: name, type, shape, meaning."""
    meaning = described(made)
    lines = []
    for kind, values in (("takes", made.proto.graph.input), ("gives", made.proto.graph.output)):
        for value in values:
            dims = ", ".join(d.dim_param or str(d.dim_value) for d in value.type.tensor_type.shape.dim)
            about = (
                meaning.get(value.name, "image in [-1, 1]" if value.name == "image" else "") if kind == "takes" else ""
            )
            lines.append(f"{kind} {value.name} [{dims}]{': ' + about if about else ''}")
    return lines


def metadata(made: Made) -> dict[str, str]:
    """Return what a model's file says about it."""
    return {
        "jaxgen": __version__,
        "inputs": json.dumps(described(made)),
        "outputs": json.dumps({name: "in [-1, 1]" if name == "image" else "numbers" for name in made.outputs}),
        "size": "x".join(map(str, made.size)) if made.size else "any" if made.use.open else "its own",
        "multiple": str(made.use.multiple),
        "license": "unknown",
    }
