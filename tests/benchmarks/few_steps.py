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
from jaxgen.evaluation.results import Result
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.models.diffusion.consistency import Consistency
from jaxgen.models.diffusion.flow import EVEN, Flow
from jaxgen.models.diffusion.meanflow import MeanFlow
from jaxgen.models.diffusion.shortcut import Shortcut
from tests.benchmarks import report
from tests.benchmarks.mixture import MODES
from tests.benchmarks.tables import COUNTS, drawn
from tests.helpers.capabilities import generate

RADIUS, STD = 0.75, 0.02  # inside the square that images lie in
SAMPLES, BATCH, CHUNK = 2000, 512, 500
FEW = COUNTS
DATA = "eight Gaussians"
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
    keys = rng.sample_keys(jax.random.key(1), jnp.arange(SAMPLES))
    return np.asarray(jax.jit(generate(task))(*averaged(state, {}), keys, {})["image"]).reshape(-1, 2)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Wasserstein-2 distance of two clouds f[n 2]."""
    cost = ((a[:, None].astype(np.float64) - b) ** 2).sum(2)  # [n n]
    return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))


def near(x: np.ndarray) -> float:
    """Return the share of points f[n 2] near a mode."""
    angles = 2 * np.pi * np.arange(MODES) / MODES
    centres = RADIUS * np.stack([np.sin(angles), np.cos(angles)], 1)
    return float((np.linalg.norm(x[:, None] - centres, axis=2).min(1) < 5 * STD).mean())


def rows(steps: int, seeds: int) -> list[Result]:
    """Return the results of each model: means over seeds of training."""
    draw = np.random.default_rng(100)
    true, other = (points(draw, SAMPLES).reshape(-1, 2) for _ in range(2))
    least = {f"wasserstein2@{drawn(n)}": distance(true, other) for n in FEW}
    least |= {f"near_mode@{drawn(n)}": 1.0 for n in FEW}
    found = report.row({"model": "floor"}, least, model="floor", data=DATA)
    for name, model in MODELS.items():
        states = [train(model, steps, seed) for seed in range(seeds)]
        values = {}
        for n in FEW:
            samples = [sample(model, state, n) for state in states]
            values[f"wasserstein2@{drawn(n)}"] = float(np.mean([distance(x, true) for x in samples]))
            values[f"near_mode@{drawn(n)}"] = float(np.mean([near(x) for x in samples]))
        about = {"model": name, "preset": name, "data": DATA, "steps": steps, "seeds": seeds}
        found += report.row({"model": f"`{name}`"}, values, **about)
        print(name, values, flush=True)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000, help="of training (default %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="of training (default %(default)s)")
    parser.add_argument("--write", action="store_true", help=report.WRITE)
    wanted = parser.parse_args()
    report.publish("few-steps", rows(wanted.steps, wanted.seeds), wanted.write)
