"""The uses of a run that can be exported as ONNX models, each as a function of named arrays and keys."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.capabilities import Classifier, Codec, Denoiser, Transform
from jaxgen.core.errors import InputError
from jaxgen.core.spec import INTEGER, ArraySpec, Example, label_spec
from jaxgen.core.task import Task
from jaxgen.core.types import Context, Params
from jaxgen.interop.noise_inputs import Function

SUBJECTS = {"": "generate", "degraded": "restore", "source": "translate"}


@dataclass(frozen=True)
class Use:
    """One use of a run.

    apply:  (nets, inputs, keys Key[b]) -> outputs, by name
    nets:   the parameters and the context of a capability
    inputs: their specs, by name
    side:   height and width of its images where they are open and can't be left so
    levels: the noise levels among which one is drawn for a comparison
    """

    apply: Callable[..., Mapping[str, Any]]
    nets: Any
    inputs: Example
    side: tuple[int, int] = (64, 64)
    levels: tuple[float, ...] = ()

    @property
    def function(self) -> Function:
        """(inputs, keys) -> outputs, with these nets."""
        return partial(self.apply, self.nets)

    @property
    def multiple(self) -> int:
        """The number that divides open sizes."""
        return math.lcm(*(spec.multiple for spec in self.inputs.values()))

    @property
    def open(self) -> bool:
        """Whether the height and width of its inputs may be any."""
        return any(isinstance(size, str) for spec in self.inputs.values() for size in spec.shape[:-1])


def uses_of(task: Task, nets: tuple[Params, Context], scale: float | None = None) -> dict[str, Callable[[], Use]]:
    """Return the uses of a task's nets that can be exported, by name, the main one first."""
    found: dict[str, Callable[[], Use]] = {}
    image = task.example.get("image")
    side = image.fixed if image is not None and len(image.fixed) == 2 else (64, 64)
    if transform := task.find(Transform):
        found[SUBJECTS.get(transform.subject, "transform")] = lambda: _of_transform(transform, nets, scale, side)
    if classifier := task.find(Classifier):
        found["classify"] = lambda: Use(
            lambda nets, inputs, keys: {"logits": classifier.classify(*nets, inputs)["logits"]},
            nets,
            {name: spec for name, spec in task.example.items() if spec.kind == "image"},
        )
    if denoiser := task.find(Denoiser):
        found["denoise"] = lambda: _of_denoiser(denoiser, nets)
    if codec := task.find(Codec):
        found["encode"] = lambda: Use(
            lambda nets, inputs, keys: {"latents": codec.encode(*nets, inputs)}, nets, dict(task.example)
        )
        if codec.decode is not None:
            found["decode"] = lambda: _of_decoder(task, codec, nets)
    return found


def _of_transform(transform: Transform, nets: tuple, scale: float | None, side: tuple[int, int]) -> Use:
    allowed = transform.scales
    if scale is not None and allowed and scale not in allowed:
        raise InputError(f"--scale must be {' or '.join(f'{s:g}' for s in allowed)} for this model, not {scale:g}.")
    own = scale or (allowed or (2,))[0]
    choices = [n for n, spec in transform.inputs.items() if spec.optional and spec.count > 1]
    inputs = {name: replace(transform.inputs[name], optional=False) for name in (*transform.required, *choices)}
    names = tuple(transform.outputs)

    def apply(nets: Any, inputs: Mapping[str, Any], keys: Any) -> dict[str, Any]:
        made = transform.apply(*nets, inputs, keys, own)
        return {name: made[name] for name in names}

    return Use(apply, nets, inputs, side)


def _of_denoiser(d: Denoiser, nets: tuple) -> Use:
    """Return predict_x0, for samplers of one's own."""
    labels = {
        name: label_spec(value + 1) if isinstance(value, int) else ArraySpec("tokens", (len(value),), INTEGER)
        for name, value in d.null.items()
    }
    inputs = {"x": ArraySpec("image", d.shape), "tau": ArraySpec("label", ()), **labels}

    def apply(nets: Any, inputs: Mapping[str, Any], keys: Any) -> dict[str, Any]:
        conditioning = {name: inputs[name] for name in labels}
        return {"x0": d.predict_x0(*nets, inputs["x"], inputs["tau"], conditioning)}

    return Use(apply, nets, inputs, levels=tuple(float(tau) for tau in np.asarray(d.taus)[:-1]))


def _of_decoder(task: Task, codec: Codec, nets: tuple) -> Use:
    """Return the decoder, for latents of the shape that the encoder makes."""
    one = {name: jax.ShapeDtypeStruct((1, *spec.shape), spec.dtype) for name, spec in task.example.items()}  # pyright: ignore
    latents = jax.eval_shape(partial(codec.encode, *nets), one)
    kind = ArraySpec(
        "tokens" if jnp.issubdtype(latents.dtype, jnp.integer) else "pose", latents.shape[1:], latents.dtype
    )
    conditions = {name: task.example[name] for name in codec.conditions}

    def apply(nets: Any, inputs: Mapping[str, Any], keys: Any) -> dict[str, Any]:
        assert codec.decode is not None
        given = {name: inputs[name] for name in conditions}
        return {"image": codec.decode(*nets, inputs["latents"], given)}

    return Use(apply, nets, {"latents": kind, **conditions})
