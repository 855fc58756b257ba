"""Export of runs as StableHLO programs, which run without jaxgen."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jaxgen.core import rng
from jaxgen.core.capabilities import Classifier, Transform
from jaxgen.core.errors import InputError
from jaxgen.core.task import Task
from jaxgen.core.types import PyTree, TrainState, averaged
from jaxgen.interop.write import check_new
from jaxgen.media import output_files

PROGRAMS = ("generate", "classify")
PLATFORMS = ("cpu", "cuda", "tpu")


def export_program(
    task: Task,
    state: TrainState,
    frozen: PyTree,
    average: bool,
    out: Path | None,
    folder: Path,
    overwrite: bool = False,
):
    """Write `generate`, or else `classify`, as StableHLO, with its signature, and print how to call it.

    The signature is a .json beside it: names, dtypes and shapes of what it takes and returns, and an example that runs.
    Raises InputError.
    """
    program = next((kind for kind in PROGRAMS if exportable(task, kind)), "")
    if not program:
        raise InputError("This model draws no samples and is no classifier: there is no program to export.")
    path = out or folder / f"{program}.stablehlo"
    beside = path.with_name(path.name + ".json")
    for file in (path, beside):
        check_new(file, overwrite)
    made = exported(task, state if average else state.replace(ema={}), frozen, program)
    about = signature(task, made, program, path)
    with output_files.together():
        with output_files.whole(path) as part:
            part.write_bytes(made.serialize())
        with output_files.whole(beside) as part:
            part.write_text(json.dumps(about, indent=2) + "\n")
    print(f"{program}: {path}, its signature: {beside}\n" + "\n".join(about["example"]))


def exportable(task: Task, program: str) -> bool:
    """Return whether a task has what a program of this name needs."""
    transform = task.find(Transform)
    draws = transform is not None and set(transform.required) <= set(task.example)
    return draws if program == "generate" else task.find(Classifier) is not None


def inputs_of(task: Task, program: str) -> dict[str, tuple[Any, tuple]]:
    """Return {name: (dtype, shape of one example)} of what a program takes; a shape () of "seed" is that of all."""
    names = task.get(Transform).required if program == "generate" else (next(iter(task.example)),)
    examples: dict[str, Any] = {name: (task.example[name].dtype, task.example[name].shape) for name in names}
    # Signed, as Python's integers are to JAX.
    return {"seed": (np.int32, ()), "indices": (np.int32, ()), **examples} if program == "generate" else examples


def exported(task: Task, state: TrainState, frozen: PyTree, program: str) -> export.Exported:
    """Return `generate` or `classify` with its weights as a StableHLO program of any batch size.

    Its `call` takes a seed, indices i32[b] and what the samples are conditioned on, such as labels i32[b], and gives
    images f32[b h w c] in [-1, 1], the samples of `python -m jaxgen generate` with these numbers; or it takes images
    and gives logits f32[b k].
    """
    state, frozen = jax.device_get((dataclasses.replace(state, key=None, optimizer_state={}), frozen))
    (b,) = export.symbolic_shape("b")

    def generate(seed, indices, *inputs):
        keys = rng.sample_keys(rng.fold(jax.random.key(seed), "samples"), indices)
        transform = task.get(Transform)
        named = dict(zip(transform.required, inputs, strict=True))
        return transform.apply(*averaged(state, frozen), named, keys)[transform.main]

    def classify(example):
        return task.get(Classifier).classify(*averaged(state, frozen), {next(iter(task.example)): example})["logits"]

    takes = inputs_of(task, program)
    args = [
        jax.ShapeDtypeStruct(() if name == "seed" else (b, *shape), dtype) for name, (dtype, shape) in takes.items()
    ]
    function = generate if program == "generate" else classify
    return export.export(jax.jit(function), platforms=PLATFORMS)(*args)


def signature(task: Task, made: export.Exported, program: str, path: Path) -> dict[str, Any]:
    """Return names, dtypes and shapes of what a program takes and returns, "b" examples, and lines that call it.

    With the names of the classes 0, 1, ..., if the run has saved them.
    """
    takes = inputs_of(task, program)
    result = task.get(Transform).main if program == "generate" else "logits"
    classes = task.example["label"].names if "label" in task.example else ()

    def described(name: str, aval: Any) -> dict[str, Any]:
        shape = [size if isinstance(size, int) else str(size) for size in aval.shape]
        return {"name": name, "dtype": str(jnp.dtype(aval.dtype)), "shape": shape}

    given = [
        "0" if name == "seed" else f"jnp.arange({FEW})" if name == "indices" else zeros((FEW, *shape), dtype)
        for name, (dtype, shape) in takes.items()
    ]
    return {
        "program": program,
        "platforms": list(made.platforms),
        "inputs": [described(name, aval) for name, aval in zip(takes, made.in_avals, strict=True)],
        "outputs": [described(result, aval) for aval in made.out_avals],
        **({"classes": list(classes)} if classes else {}),
        "example": [
            "import jax.numpy as jnp",
            "from jax import export",
            "",
            f"with open({str(path)!r}, 'rb') as file:",
            "    program = export.deserialize(bytearray(file.read()))",
            f"{result} = program.call({', '.join(given)})  # {', '.join(takes)}",
            f"print({result}.shape, {result}.dtype)",
        ],
    }


FEW = 4  # examples of the call that is shown


def zeros(shape: tuple[int, ...], dtype: Any) -> str:
    """Return the expression of an array of zeros."""
    return f"jnp.zeros({shape}, {jnp.dtype(dtype).name!r})"
