"""The Fréchet distance at 2,048 dimensions: python -m tests.benchmarks.frechet [--write] [--rounds N]

Ours, by singular values, and the usual formulation, by SciPy's root of the product of the covariances; in turns, on the
covariances of 10,000 made features of falling spread.
"""

import time
from collections.abc import Callable
from statistics import median

import numpy as np
from scipy.linalg import sqrtm

from jaxgen.evaluation.results import Result
from jaxgen.metrics.frechet import frechet_distance
from tests.benchmarks import report

D, SAMPLES = 2048, 10_000

Gaussian = tuple[np.ndarray, np.ndarray]


def gaussian(seed: int) -> Gaussian:
    """Return the mean f64[D] and the covariance f64[D D] of made features."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(D, D)) * np.exp(-np.arange(D) / 400)[:, None] / 32
    x = random.normal(0.02 * seed, 1.0, (SAMPLES, D)) @ mixing
    return x.mean(0), np.cov(x.T)


def by_root(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """Return the distance as it is usually computed."""
    return float(np.square(mean1 - mean2).sum() + np.trace(cov1 + cov2 - 2 * np.real(sqrtm(cov1 @ cov2))))


def measure(rounds: int) -> list[Result]:
    """Return the times of each formulation, and the relative difference of their values."""
    sides: dict[str, Callable[..., float]] = {"singular values (ours)": frechet_distance, "scipy.linalg.sqrtm": by_root}
    gaussians = (*gaussian(1), *gaussian(2))
    times: dict[str, list[float]] = {name: [] for name in sides}
    values = {}
    for _ in range(rounds):
        for name, side in sides.items():
            start = time.perf_counter()
            values[name] = side(*gaussians)
            times[name].append(time.perf_counter() - start)
    ours, theirs = values.values()
    seconds = {name: median(some) for name, some in times.items()}
    usual = seconds["scipy.linalg.sqrtm"]
    rows = []
    for name, s in seconds.items():
        difference = abs(ours / theirs - 1) if name == next(iter(sides)) else None
        values = {"seconds": s, "time_ratio": s / usual, "relative_difference": difference}
        rows += report.row({"formulation": name}, values, model=name)
    return rows


if __name__ == "__main__":
    wanted = report.arguments(__doc__, rounds=3)
    report.publish("frechet", measure(wanted.rounds), wanted.write)
