"""Checks of the distribution of draws, within 5 standard errors."""

from typing import Any

import numpy as np


def is_normal(x: np.ndarray, deviation: float):
    """Check mean, deviation, skewness and kurtosis, each within 5 standard errors of those of N(0, deviation^2)."""
    z, n = x.ravel() / deviation, x.size
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - mean) < 5 * np.sqrt(variance / n), power


def is_uniform(x: np.ndarray):
    """Check mean, mean square and share of each tenth within 5 standard errors of those of U(0, 1)."""
    n = x.size
    assert x.min() >= 0 and x.max() <= 1
    assert abs(x.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / n) and abs((x**2).mean() - 1 / 3) < 5 * np.sqrt(4 / 45 / n)
    shares = np.histogram(x, 10, (0, 1))[0] / n
    assert np.abs(shares - 0.1).max() < 5 * np.sqrt(0.09 / n)


def is_share(found: Any, share: float):
    assert abs(np.mean(found) - share) < 5 * np.sqrt(max(share * (1 - share), 1e-9) / np.size(found))
