"""Measures of generated motions, by hand."""

import numpy as np

from jaxgen.metrics.motion import diversity, foot_sliding, multimodality


def test_feet_that_slide_and_feet_that_stand():
    feet = np.zeros((3, 20, 2, 3))
    feet[1, :, 0, 0] = np.arange(20) * 0.02  # 2 cm a frame: one of two feet
    feet[2, :, 0, 0], feet[2, :, 0, 1] = np.arange(20) * 0.02, 0.025  # half way up: 2 - sqrt(2) of it
    np.testing.assert_allclose(foot_sliding(feet, 25.0), [0, 25, 25 * (2 - 2**0.5)], atol=1e-9)
    feet[2, :, 0, 1] = 0.2  # too high: only the other one counts
    np.testing.assert_allclose(foot_sliding(feet, 25.0)[2], 0, atol=1e-9)


def test_distances_of_pairs():
    draw = np.random.default_rng(0).normal(size=(4000, 3))
    np.testing.assert_allclose(diversity(draw, 4000), 4 / np.pi**0.5, rtol=0.03)  # of two normal points in 3 dimensions
    labels = np.repeat([0, 1], 2000)
    apart = draw + 100 * labels[:, None]
    np.testing.assert_allclose(multimodality(apart, labels, 4000), 4 / np.pi**0.5, rtol=0.03)
    assert diversity(apart, 4000) > 40
