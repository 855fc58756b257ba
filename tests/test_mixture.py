"""The mixture of eight Gaussians: what is drawn, when a mode is covered, and which game covers all of them."""

import subprocess
import sys

import numpy as np
import pytest

from tests.benchmarks.mixture import MODES, SAMPLES, STD, coverage, points
from tests.commands import ROOT


def test_the_mixture_covers_its_own_modes():
    x = points(np.random.default_rng(0), SAMPLES).reshape(-1, 2)
    modes, near = coverage(x)
    assert modes == MODES
    assert near == pytest.approx(1 - np.exp(-(5**2) / 2), abs=1e-3)  # Rayleigh, at 5 standard deviations


def test_a_mode_with_too_few_samples_or_too_far_is_not_covered():
    x = np.zeros((1000, 2))
    x[:500] = [0, 1 + 4.9 * STD]  # a mode's centre is at (0, 1), the next at (1, 1) / sqrt(2)
    x[500:509] = [np.sqrt(0.5), np.sqrt(0.5)]
    x[600:700] = [1 + 5.1 * STD, 0]
    assert coverage(x) == (1, pytest.approx(0.509))
    x[509] = x[508]
    assert coverage(x) == (2, pytest.approx(0.51))


QUICK = """
from dataclasses import replace
from jaxgen.models.gan.unrolled import AUTHORS, Unrolled
from tests.benchmarks.mixture import train
model = Unrolled(latent=64, game=replace(AUTHORS, learning_rate=5e-4))
for k, steps in ((0, 2000), (5, 4000)):
    found = list(train(k, steps, 1000, batch=128, model=model))
    print(k, max(c.modes for c in found), found[-1].modes, found[-1].near)
"""


def test_modes_are_lost_without_unrolling_and_found_with_it(environment):
    """Metz et al. 2017, section 3.1, in a sixth of the steps: a smaller batch, and a faster discriminator.

    In a process of its own: the tests' are without LLVM's optimisations.
    """
    done = subprocess.run([sys.executable, "-c", QUICK], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    plain, unrolled = (line.split() for line in done.stdout.splitlines())
    assert plain[0] == "0" and int(plain[1]) <= 4, "the generator hops from mode to mode"
    assert unrolled[0] == "5" and int(unrolled[2]) == MODES and float(unrolled[3]) > 0.4
