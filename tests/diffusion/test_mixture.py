"""The mixture of eight Gaussians: its samples and its mode coverage. (The benchmark trains GANs on it.)"""

import numpy as np
import pytest

from tests.benchmarks.mixture import MODES, SAMPLES, STD, coverage, points


def test_the_mixture_covers_its_own_modes():
    x = points(np.random.default_rng(0), SAMPLES).reshape(-1, 2)
    modes, near = coverage(x)
    assert modes == MODES
    assert near == pytest.approx(1 - np.exp(-(5**2) / 2), abs=1e-3)  # Rayleigh, at 5 standard deviations


def test_a_mode_with_few_or_distant_samples_is_not_covered():
    x = np.zeros((1000, 2))
    x[:500] = [0, 1 + 4.9 * STD]  # a mode's centre is at (0, 1), the next at (1, 1) / sqrt(2)
    x[500:509] = [np.sqrt(0.5), np.sqrt(0.5)]
    x[600:700] = [1 + 5.1 * STD, 0]
    assert coverage(x) == (1, pytest.approx(0.509))
    x[509] = x[508]
    assert coverage(x) == (2, pytest.approx(0.51))
