"""Eight Gaussians on a ring in few steps: python -m tests.benchmarks.few_steps [--write] [--steps N]

Models of one and few steps (shortcut, MeanFlow, consistency) and the flow beside them, by Euler's method, with the same
small net, on points of the plane as images of one pixel. The distance is the Wasserstein-2 distance between 2,000
samples and as many points of the mixture, by an optimal assignment; "floor" is that of two draws of the mixture.
"near" is the share of the samples within 5 standard deviations of a mode's centre.
"""

import argparse
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from jaxgen.core import rng
from jaxgen.core.spec import spec_of
from jaxgen.core.step import init_state, make_step
from jaxgen.core.types import TrainState, averaged
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.models.diffusion.consistency import Consistency
from jaxgen.models.diffusion.flow import EVEN, Flow
from jaxgen.models.diffusion.meanflow import MeanFlow
from jaxgen.models.diffusion.shortcut import Shortcut
from tests.benchmarks import report
from tests.benchmarks.mixture import MODES

RADIUS, STD = 0.75, 0.02  # inside the square that images lie in
SAMPLES, BATCH, CHUNK = 2000, 512, 500
FEW = (1, 2, 4, 8, 32, 128)
COMMON: dict[str, Any] = {
    "image": (1, 1, 2),
    "net": BackboneConfig("dit", 64, 3, 2, patch=1),
    "learning_rate": 1e-3,
    "ema": 0.999,
}
MODELS: dict[str, Any] = {
    "flow": Flow(**COMMON, sampling=replace(EVEN, sampler="ddim")),
    "flow-ot": Flow(**COMMON, sampling=replace(EVEN, sampler="ddim"), coupling="ot"),
    "shortcut": Shortcut(**COMMON),
    "meanflow": MeanFlow(**COMMON),
    "consistency": Consistency(**COMMON),
}


def points(draw: np.random.Generator, *shape: int) -> np.ndarray:
    """Return points of the mixture as images of one pixel, f32[*shape 1 1 2]."""
    angle = 2 * np.pi * draw.integers(0, MODES, shape) / MODES
    x = RADIUS * np.stack([np.sin(angle), np.cos(angle)], -1) + STD * draw.standard_normal((*shape, 2))
    return x[..., None, None, :].astype(np.float32)


def train(model: Any, steps: int, seed: int) -> TrainState:
    """Return the state after so many steps, a multiple of CHUNK."""
    task = model.task(steps)
    state = init_state(task, jax.random.key(seed), spec_of(task, BATCH))
    one = make_step(task)

    @partial(jax.jit, donate_argnums=0)
    def play(state, batches):
        return jax.lax.scan(lambda state, x: one(state, {"image": x}, {}), state, batches)

    draw = np.random.default_rng(seed)
    for _ in range(steps // CHUNK):
        state, metrics = play(state, points(draw, CHUNK, BATCH))
        assert np.asarray(metrics["denoiser/finite"]).all(), "The numbers broke down."
    return state


def sample(model: Any, state: TrainState, steps: int) -> np.ndarray:
    """Return f32[n 2], drawn in so many steps by the averaged net."""
    task = replace(model, sampling=replace(model.sampling, steps=steps)).task(1)
    assert task.generate is not None
    keys = rng.sample_keys(jax.random.key(1), jnp.arange(SAMPLES))
    return np.asarray(jax.jit(task.generate)(*averaged(state, {}), keys, {})["image"]).reshape(-1, 2)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Wasserstein-2 distance of two clouds f[n 2]."""
    cost = ((a[:, None].astype(np.float64) - b) ** 2).sum(2)  # [n n]
    return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))


def near(x: np.ndarray) -> float:
    """Return the share of points f[n 2] near a mode."""
    angles = 2 * np.pi * np.arange(MODES) / MODES
    centres = RADIUS * np.stack([np.sin(angles), np.cos(angles)], 1)
    return float((np.linalg.norm(x[:, None] - centres, axis=2).min(1) < 5 * STD).mean())


def rows(steps: int, seeds: int) -> list[dict[str, Any]]:
    draw = np.random.default_rng(100)
    true, other = (points(draw, SAMPLES).reshape(-1, 2) for _ in range(2))
    floor = f"{distance(true, other):.3f} (100 %)"
    found = [{"model": "floor", **{f"{n} step{'s' * (n > 1)}": floor for n in FEW}}]
    for name, model in MODELS.items():
        states = [train(model, steps, seed) for seed in range(seeds)]
        row = {"model": f"`{name}`"}
        for n in FEW:
            drawn = [sample(model, state, n) for state in states]
            ways, shares = [distance(x, true) for x in drawn], np.mean([near(x) for x in drawn])
            row[f"{n} step{'s' * (n > 1)}"] = f"{np.mean(ways):.3f} ({100 * shares:.0f} %)"
        found.append(row)
        print(row, flush=True)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000, help="of training (default %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="of training (default %(default)s)")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    wanted = parser.parse_args()
    text = (
        f"Eight Gaussians on a ring of radius {RADIUS:g}, standard deviation {STD:g}; a DiT of 3 layers of 64, "
        f"{wanted.steps:,} steps of {BATCH}, Adam at 1e-3, moving averages of 0.999, "
        f"{f'means of {wanted.seeds} seeds' if wanted.seeds > 1 else 'one seed'}. "
        f"Wasserstein-2 distance of {SAMPLES:,} samples to as many points of the mixture, and the share of them within "
        "5 standard deviations of a mode; `flow` by Euler's method; the floor is that of two draws of the mixture."
    )
    report.publish("few-steps", rows(wanted.steps, wanted.seeds), text, wanted.write)
