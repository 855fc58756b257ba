"""Eight Gaussians on a ring, by an unrolled GAN: python -m tests.benchmarks.mixture [--write] [--steps N] [--seeds N]

The toy of Metz et al. 2017 (section 3.1) with the nets, the rates, the batch and the minimax loss of the authors'
notebook, whose ring has radius 1 and whose modes have standard deviation 0.01 (the paper: 2 and 0.02, the same ring at
twice the size); the notebook's eight angles run from 0 to 2 pi inclusive, so that two of its modes are one: here they
are distinct. Without unrolling the generator hops from mode to mode; with enough of it all eight are covered.

A mode is covered when at least 1 % of the samples lie within 5 standard deviations of its centre; "near" is the share
of the samples that do so of any mode. Samples are of the last weights, not of their average.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from jaxgen.core import rng
from jaxgen.core.spec import spec_of
from jaxgen.core.step import init_state, make_step
from jaxgen.core.types import averaged
from jaxgen.evaluation.results import Result
from jaxgen.models.gan.unrolled import UnrolledGAN
from tests.benchmarks import report
from tests.helpers.capabilities import generate

MODES, RADIUS, STD = 8, 1.0, 0.01
NEAR, SHARE = 5 * STD, 0.01  # how far a sample of a mode may lie from its centre; samples that a mode needs
SAMPLES = 10_000
CHUNK = 500  # steps in one call


class Coverage(NamedTuple):
    """What 10,000 samples say: how many modes have their share of them, and the share of those near any."""

    step: int
    modes: int
    near: float


def centres() -> np.ndarray:
    """Return f64[8 2]."""
    angles = 2 * np.pi * np.arange(MODES) / MODES
    return RADIUS * np.stack([np.sin(angles), np.cos(angles)], 1)


def points(draw: np.random.Generator, *shape: int) -> np.ndarray:
    """Return points of the mixture as images of one pixel, f32[*shape 1 1 2]."""
    x = centres()[draw.integers(0, MODES, shape)] + STD * draw.standard_normal((*shape, 2))
    return x[..., None, None, :].astype(np.float32)


def coverage(x: np.ndarray) -> tuple[int, float]:
    """Return (modes that points f32[n 2] cover, share of the points near any mode)."""
    distances = np.linalg.norm(x[:, None] - centres(), axis=2)  # [n 8]
    shares = (distances < NEAR).mean(0)
    return int((shares >= SHARE).sum()), float(shares.sum())


def train(
    unroll: int, steps: int, every: int, seed: int = 0, batch: int = 512, model: UnrolledGAN | None = None
) -> Iterator[Coverage]:
    """Yield the coverage every so many steps, a multiple of CHUNK or less than it."""
    model = model or UnrolledGAN()
    task = replace(model, game=replace(model.game, unroll=unroll)).task(steps)
    state = init_state(task, jax.random.key(seed), spec_of(task, batch))
    one = make_step(task)

    @partial(jax.jit, donate_argnums=0)
    def play(state, batches):
        def body(state, x):
            state, metrics = one(state, {"image": x}, {})
            return state, metrics["generator/finite"]

        return jax.lax.scan(body, state, batches)

    @jax.jit
    def sample(state):
        keys = rng.sample_keys(jax.random.key(seed), jax.numpy.arange(SAMPLES))
        return generate(task)(*averaged(state.replace(ema={}), {}), keys, {})["image"].reshape(-1, 2)

    draw, chunk = np.random.default_rng(seed), min(CHUNK, every)
    for step in range(chunk, steps + 1, chunk):
        state, finite = play(state, points(draw, chunk, batch))
        assert np.asarray(finite).all(), f"The numbers broke down before step {step}."
        if step % every == 0:
            yield Coverage(step, *coverage(np.asarray(sample(state))))


def rows(steps: int, seeds: int) -> list[Result]:
    """Return the results of each number of unrolled updates: means over seeds at five moments."""
    found = []
    for unroll in (0, 1, 5, 10):
        runs = [list(train(unroll, steps, steps // 5, seed)) for seed in range(seeds)]
        for at in zip(*runs, strict=True):
            values = {"modes": np.mean([c.modes for c in at]), "near_mode": np.mean([c.near for c in at])}
            values = {f"{metric}@step {at[0].step:,}": float(value) for metric, value in values.items()}
            about = {"preset": "unrolled", "data": "eight Gaussians", "steps": at[0].step, "seeds": seeds}
            found += report.row({"unrolled updates": str(unroll)}, values, model=f"unrolled, {unroll} updates", **about)
            print(values, flush=True)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=25_000, help="of training (default %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="of training (default %(default)s)")
    parser.add_argument("--write", action="store_true", help=report.WRITE)
    wanted = parser.parse_args()
    report.publish("mixture", rows(wanted.steps, wanted.seeds), wanted.write)
