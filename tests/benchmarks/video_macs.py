"""Multiply-accumulates of the nets that predict frames: python -m tests.benchmarks.video_macs [--write]

Counted in the program of one prediction, 10 frames of 64x64 to 10, beside OpenSTL's table. Nothing is computed.
"""

import argparse
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen import zoo
from jaxgen.core.capabilities import Transform
from jaxgen.core.types import Context
from tests.benchmarks import report
from tests.helpers.operations import flops

PUBLISHED = {  # OpenSTL, docs/en/model_zoos/video_benchmarks.md, in billions
    "convlstm": 56.8, "predrnn": 116.0, "predrnn-plus": 171.7, "phydnet": 15.3,
    "simvp": 19.4, "simvp-gsta": 16.5, "simvp-convmixer": 5.5, "tau": 16.0,
}  # fmt: skip
SOURCE = "Tan et al. 2023, OpenSTL"
NORMS = {"GroupNorm": 5, "BatchNorm": 2}  # operations for each value, by fvcore's rule


def macs(preset: str) -> tuple[float, float]:
    """Return the multiply-accumulates of one prediction, and the operations of its norms as fvcore counts them.

    Norms within a loop over time are left out.
    """
    task, norms = zoo.load(preset).run.model.task(1), [0]
    transform = task.get(Transform)
    looped = not preset.startswith(("simvp", "tau"))

    def predict(params: Any, extra: Any, past: jax.Array, keys: jax.Array) -> Any:
        context = Context(extra=extra, ema={}, frozen={}, step=jnp.int32(0))
        return transform.apply(params, context, {"past": past}, keys)

    def seen(call, args, kwargs, context):
        each = NORMS.get(type(context.module).__name__, 0)
        if each and context.method_name == "__call__" and not looped:
            norms[0] += each * math.prod(args[0].shape)
        return call(*args, **kwargs)

    params, extra = jax.eval_shape(lambda: task.init(jax.random.key(0), {}))
    past = jax.ShapeDtypeStruct((1, *task.example["past"].shape), jnp.float32)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    with nn.intercept_methods(seen):
        program = jax.make_jaxpr(predict)(params, extra, past, keys)
    return flops(program.jaxpr) / 2, float(norms[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=report.WRITE)
    wanted = parser.parse_args()
    rows = []
    for preset, published in PUBLISHED.items():
        products, norms = macs(preset)
        values: dict[str, Any] = {"gmac": products / 1e9, "gmac@published": {"value": published, "source": SOURCE}}
        if norms:
            values["gmac_norms"] = (products + norms) / 1e9
        rows += report.row({"preset": f"`{preset}`"}, values, model=preset, preset=preset)
    report.publish("video-macs", rows, wanted.write)


if __name__ == "__main__":
    main()
