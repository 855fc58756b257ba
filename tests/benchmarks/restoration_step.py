"""Training steps of restorers, and enlarging an image, beside PyTorch eager:
python -m tests.benchmarks.restoration_step [--write] [--rounds N]

EDSR-baseline x2 on 96x96 patches (48x48 made small), batch 16, and DnCNN on 40x40 patches, batch 32: the damage, the
loss, Adam and the moving average, one batch that stays in memory; and a 512x512 image enlarged by 4 by IMDN, whole.
f32. The nets of the other side are those of the comparisons
tests/models/super_resolution/test_super_resolution_parity.py and tests/models/restoration/test_denoisers_parity.py;
turns.py says how they take turns.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from tests.benchmarks import report, turns
from tests.helpers.capabilities import restore

BATCHES = {"EDSR-baseline step": 16, "DnCNN step": 32, "IMDN x4 of 512x512": 1}
PRESETS = dict(zip(BATCHES, ("edsr", "dncnn", "imdn"), strict=True))


def model_of(name: str) -> Any:
    from jaxgen import zoo

    model = zoo.load(PRESETS[name]).run.model
    return replace(model, scale=4) if name.startswith("IMDN") else model


def ours(name: str) -> Callable[[], Any]:
    """Return what does the work once as jaxgen does, and waits for it."""
    from jaxgen.core.config import Run

    model = model_of(name)
    if not name.startswith("IMDN"):
        return turns.step_of(Run(model=model, batch=BATCHES[name]))
    import jax

    from jaxgen.core.types import Context

    task = model.task(1)
    params, extra = task.init(jax.random.key(0), {})
    context, x = Context(extra, {}, {}, jax.numpy.zeros((), int)), picture(512, 3)
    mend = jax.jit(restore(task), static_argnums=4)
    keys = jax.random.split(jax.random.key(0), 1)
    return lambda: jax.block_until_ready(mend(params, context, {"degraded": x}, keys, 4))


def picture(side: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (1, side, side, channels)).astype(np.float32)


def theirs(name: str) -> Callable[[], Any]:
    """Return what does the same once in PyTorch."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch.nn.functional import interpolate, l1_loss, mse_loss  # pyright: ignore[reportMissingImports]

    from tests.benchmarks.torch_gans import prepare
    from tests.models.restoration.test_denoisers_parity import TorchDnCNN
    from tests.models.super_resolution.test_super_resolution_parity import TorchIMDN, edsr

    prepare()
    model, batch = model_of(name), BATCHES[name]
    if name.startswith("IMDN"):
        net, x = TorchIMDN(model).eval(), torch.rand(1, 3, 512, 512)

        def enlarge():
            with torch.inference_mode():
                net(x)

        return enlarge
    height, width, channels = model.image
    clean, shrink = torch.rand(batch, channels, height, width), name.startswith("EDSR")
    net = edsr(model) if shrink else TorchDnCNN(model)
    adam = torch.optim.Adam(net.parameters(), lr=model.recipe.learning_rate)
    average = [p.detach().clone() for p in net.parameters()]

    def step():
        adam.zero_grad()
        if shrink:
            small = interpolate(clean, scale_factor=0.5, mode="bicubic", antialias=True)
            l1_loss(net(small), clean).backward()
        else:
            mse_loss(net(clean + 25 / 255 * torch.randn_like(clean)), clean).backward()
        adam.step()
        with torch.no_grad():
            for a, p in zip(average, net.parameters(), strict=True):
                a.lerp_(p, 0.001)

    return step


def sides(name: str) -> dict[str, Callable[[], Callable[[], Any]]]:
    return {f"jaxgen, {name}": partial(ours, name), f"PyTorch, {name}": partial(theirs, name)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        turns.work({k: v for name in BATCHES for k, v in sides(name).items()}, sys.argv[2], repeats=3)
    else:
        wanted = report.arguments(__doc__, rounds=5)
        rows = []
        for name, batch in BATCHES.items():
            rows += turns.measure("tests.benchmarks.restoration_step", sides(name), wanted.rounds, batch, "work")
        report.publish("restoration-step", rows, wanted.write)
