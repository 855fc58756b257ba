"""What mends pictures: a trained run, a file of weights whose net is found, or an interpolation."""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxgen.errors import InputError, choose

if TYPE_CHECKING:
    from jaxgen.core import Restorer

INTERPOLATIONS = ("bicubic", "lanczos3", "bilinear", "nearest")
FAMILIES = ("restoration", "super_resolution")


@dataclass(frozen=True)
class Model:
    """What mends: a restorer, its nets, and the factor by which it enlarges."""

    restorer: "Restorer"
    params: Any
    context: Any
    scale: float
    name: str

    def check(self, sigma: float | None, mask: Path | None):
        """Raise InputError where the model lacks what it must be told, or is told what it does not take."""
        for name, value in (("sigma", sigma), ("mask", mask)):
            if name in self.restorer.told and value is None:
                raise InputError(f"{self.name} must be told --{name}.")
            if name not in self.restorer.told and value is not None:
                raise InputError(f"{self.name} takes no --{name}: it finds out by itself.")


def open_model(name: str, preset: str, scale: float | None) -> Model:
    """Return the model of a run's folder, of a file of weights, or an interpolation. Raises InputError."""
    path = Path(name).expanduser()
    if name in INTERPOLATIONS:
        if preset:
            raise InputError("--preset is for a file of weights.")
        restorer, params, context = interpolation(name), {}, None
    elif path.is_dir():
        from jaxgen.config import Mesh
        from jaxgen.core import averaged
        from jaxgen.trained import open_run

        if preset:
            raise InputError("--preset is for a file of weights: a run's folder says itself what it is.")
        opened = open_run(path, Mesh(data=1))
        restorer = opened.task.restorer
        params, context = averaged(opened.state, opened.frozen)
    elif path.is_file():
        restorer, params, context, name = from_weights(path, preset)
    else:
        raise InputError(
            f"There is no run folder or file {path}: --with names one, or one of {', '.join(INTERPOLATIONS)}."
        )
    if restorer is None:
        raise InputError(f"{name} mends no pictures: it needs a run of train.restoration or train.super_resolution.")
    if scale is not None and restorer.scales and scale not in restorer.scales:
        known = " or ".join(map(str, restorer.scales))
        raise InputError(f"{name} enlarges by {known}, not by {scale:g}.")
    scale = float(scale or (restorer.scales[0] if restorer.scales else 2))
    if not 1 <= scale <= 16:
        raise InputError(f"--scale must be from 1 to 16, not {scale:g}.")
    return Model(restorer, params, context, scale, name)


def interpolation(method: str) -> "Restorer":
    """Return the restorer that enlarges by a method of nn/resample.py, pixels beyond the border mirrored."""
    from jaxgen.core import Restorer
    from jaxgen.data.degradations import Degradation
    from jaxgen.nn.resample import resize

    def enlarge(params, context, given, keys, scale):
        del params, context, keys
        x = given["degraded"]
        size = round(x.shape[1] * scale), round(x.shape[2] * scale)
        return resize(x, size, method, edges="reflect")

    return Restorer(Degradation(), enlarge, (), channels=(1, 3))


def from_weights(path: Path, preset: str) -> tuple[Any, Any, Any, str]:
    """Return restorer, params, context and name of a file of weights. Raises InputError where no preset's net fits."""
    import jax
    import jax.numpy as jnp

    from jaxgen import zoo
    from jaxgen.core import Context
    from jaxgen.interop.names import rule_of, to_ours
    from jaxgen.interop.read import read

    tensors = read(path)
    names = [name for family in FAMILIES for name in zoo.family(family)]
    names = [choose(preset, names, "preset")] if preset else names
    size = sum(x.size for x in tensors.values())
    # The likeliest first: nets are told apart by their arrays, and most have a size of their own.
    names.sort(key=lambda name: abs(zoo.load(name).parameters - size))
    reasons = []
    for name in names:
        for model in variants(zoo.load(name).run.model):
            task = model.task(1)
            params, extra = jax.eval_shape(lambda task=task: task.init(jax.random.key(0), {}))
            if task.restorer is None or "restorer" not in params:
                continue
            like = {"params": params["restorer"], **extra.get("restorer", {})}
            if preset == "" and sum(x.size for x in jax.tree.leaves(like)) > size:
                continue
            try:
                found = to_ours(rule_of(name), model, "restorer", like, tensors)
            except InputError as error:
                reasons.append(str(error))
                continue
            rest = {key: value for key, value in found.items() if key != "params"}
            context = Context({"restorer": rest}, {}, {}, jnp.zeros((), jnp.int32))
            return task.restorer, {"restorer": jax.tree.map(jnp.asarray, found["params"])}, context, name
    if preset:
        raise InputError(f"{path}: {reasons[0]}")
    raise InputError(f"{path} fits no preset of train.restoration and train.super_resolution: say which with --preset.")


def variants(model: Any) -> list[Any]:
    """Return a preset's model, and the same for other factors and with its batch norm folded into convolutions."""
    scales = (model.scale, *(s for s in (2, 3, 4, 8) if s != model.scale)) if hasattr(model, "scale") else (None,)
    norms = (True, False) if getattr(model, "norm", None) is True else (None,)
    changes = [
        {k: v for k, v in (("scale", scale), ("norm", norm)) if v is not None}
        for scale, norm in itertools.product(scales, norms)
    ]
    return [fitted(replace(model, **change)) for change in changes]


def fitted(model: Any) -> Any:
    """Return a model whose patches its factor divides: a net's arrays don't depend on them."""
    grain = 8 * getattr(model, "scale", 1)
    height, width, channels = model.image
    if height % grain == 0 and width % grain == 0:
        return model
    return replace(model, image=(-(-height // grain) * grain, -(-width // grain) * grain, channels))
