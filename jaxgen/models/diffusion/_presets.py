"""Presets of diffusion models, in full and tiny size."""

from dataclasses import replace
from typing import Any

from jaxgen.core.config import Data, Log, Optim, Preset, Run, Save
from jaxgen.models.diffusion._nets import BackboneConfig

SMALL = {
    "unet": BackboneConfig("unet", 8, 1, 2, (1,), ()),
    "dit": BackboneConfig("dit", 16, 2, 2, patch=2),
    "uvit": BackboneConfig("uvit", 16, 3, 2, patch=2),
    "edm2": BackboneConfig("edm2", 8, 1, 2, (1,), ()),
}


def row(model: Any, parameters: int, source: str = "digits", batch: int = 64, **small) -> Preset:
    """Return a preset. Its tiny run has 8x8 images, few sampling steps, and the fields `small` of the model changed."""
    few = replace(model.sampling, steps=min(model.sampling.steps, 4))
    reduced = replace(
        model,
        **{
            "image": (8, 8, model.image[2]),
            "net": SMALL[model.net.kind],
            "sampling": few,
            "learning_rate": 1e-3,
            **small,
        },
    )
    count = 100 if model.classes else 64
    data = Data(source)
    return Preset(
        Run(
            model,
            data=data,
            steps=50_000,
            batch=batch,
            optim=Optim(warmup=500),
            log=Log(every=100, samples=2500, count=count),
            save=Save(every=1000),
        ),
        tiny=Run(reduced, data=data, steps=20, batch=16, log=Log(every=5, samples=10, count=16), save=Save(every=10)),
        parameters=parameters,
    )
