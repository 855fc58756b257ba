"""Errors of poses: beside SciPy's Procrustes analysis, and by differences written out."""

import numpy as np
from scipy.spatial import procrustes
from scipy.spatial.transform import Rotation

from jaxgen.core.spec import ArraySpec
from jaxgen.metrics.pairs import pair_metric
from jaxgen.metrics.poses import acceleration_error, aligned, aligned_distance, joint_distance

rng = np.random.default_rng(0)
TRUE, MADE = rng.normal(size=(2, 3, 5, 9, 3)).astype(np.float32)


def test_alignment_agrees_with_scipy_and_undoes_a_similarity():
    best = np.asarray(aligned(TRUE, MADE))
    for true, made, moved in zip(TRUE.reshape(-1, 9, 3), MADE.reshape(-1, 9, 3), best.reshape(-1, 9, 3), strict=True):
        _, _, disparity = procrustes(true.astype(np.float64), made.astype(np.float64))
        own = np.square(moved - true).sum() / np.square(true - true.mean(0)).sum()
        # SciPy allows reflections: without them the distance can only be larger.
        assert own >= disparity - 1e-5
        u, _, v = np.linalg.svd((true - true.mean(0)).T @ (made - made.mean(0)))
        if np.linalg.det(u @ v) > 0:
            np.testing.assert_allclose(own, disparity, atol=1e-5)
    turn = Rotation.from_rotvec([0.3, -2, 1]).as_matrix()
    moved = 1.7 * TRUE @ turn.T + np.asarray([3, -2, 1], np.float32)
    np.testing.assert_allclose(aligned_distance(TRUE, moved.astype(np.float32)), 0, atol=1e-5)
    mirrored = TRUE * np.asarray([-1, 1, 1], np.float32)
    assert aligned_distance(TRUE, mirrored).min() > 0.1, "a mirror image is another pose"


def test_accelerations_and_distances():
    by_hand = [
        np.mean([np.linalg.norm(np.diff(t - m, 2, axis=0)[:, j], axis=-1).mean() for j in range(9)])
        for t, m in zip(TRUE, MADE, strict=True)
    ]
    np.testing.assert_allclose(acceleration_error(TRUE, MADE), by_hand, rtol=1e-5)
    steady = TRUE + np.arange(5, dtype=np.float32)[:, None, None]  # another speed, the same accelerations
    np.testing.assert_allclose(acceleration_error(TRUE, steady), 0, atol=1e-5)
    assert not acceleration_error(TRUE[:, :2], MADE[:, :2]).any()
    spec = ArraySpec("pose", (5, 9, 3))
    for name, measure in (("mpjpe", joint_distance), ("pa_mpjpe", aligned_distance)):
        metric = pair_metric(name, spec)
        found = metric.result(metric.update(metric.empty(), TRUE, MADE, np.asarray([True, True, False])))[name]
        np.testing.assert_allclose(found, np.mean(measure(TRUE, MADE)[:2]), rtol=1e-5)
