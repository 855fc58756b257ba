"""Metrics on features against torch-fidelity, prdc and SciPy, on the same features in f64.

f64, because torch-fidelity takes means of f32 features in f32, which costs digits that are no part of the definition.
"""

import contextlib
import io
from typing import Any

import jax
import numpy as np
import pytest

from jaxgen.metrics import accumulate
from jaxgen.metrics.accumulate import MOMENTS, ROWS
from jaxgen.metrics.frechet import FRECHET, frechet_distance
from jaxgen.metrics.inception_score import INCEPTION_SCORE
from jaxgen.metrics.kid import KID
from jaxgen.metrics.neighbours import DENSITY_COVERAGE, PRECISION_RECALL
from tests.helpers import torch_reference

pytestmark = pytest.mark.parity
torch: Any = pytest.importorskip("torch")
torch_reference.prepare()
pytest.importorskip("torch_fidelity")
fid: Any = pytest.importorskip("torch_fidelity.metric_fid")
kid: Any = pytest.importorskip("torch_fidelity.metric_kid")
isc: Any = pytest.importorskip("torch_fidelity.metric_isc")
prc: Any = pytest.importorskip("torch_fidelity.metric_prc")

D = 192


def features(seed: int, n: int, shift: float) -> np.ndarray:
    """Return f32[n D] like features of a network: non-negative, correlated, with decreasing variance."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(D, D)) * np.exp(-np.arange(D) / 60)[:, None] / 8
    return np.maximum(random.normal(shift, 1.0, (n, D)) @ mixing + 0.3, 0).astype(np.float32)


REAL, GENERATED = features(1, 1500, 0.0), features(2, 1200, 0.1)


def doubled(x: np.ndarray) -> Any:
    return torch.tensor(x.astype(np.float64))


def rows(x: np.ndarray) -> accumulate.Rows:
    return ROWS.update(ROWS.empty(*x.shape), x, np.ones(len(x), bool))


def moments(x: np.ndarray) -> accumulate.Moments:
    update, state = jax.jit(MOMENTS.update), MOMENTS.empty(x.shape[1])
    for i in range(0, len(x), 100):
        state = update(state, x[i : i + 100], np.ones(100, bool))
    return state


def test_fid():
    theirs = [fid.fid_features_to_statistics(doubled(x)) for x in (GENERATED, REAL)]
    expected = fid.fid_statistics_to_metric(*theirs, verbose=False)[fid.KEY_METRIC_FID]
    found = FRECHET.result(moments(REAL), moments(GENERATED))["fid"]
    assert found == pytest.approx(expected, rel=1e-6)
    # And the definition, with the root of the product as SciPy takes it.
    sqrtm = pytest.importorskip("scipy.linalg").sqrtm
    a, b = REAL.astype(np.float64), GENERATED.astype(np.float64)
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    plain = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * np.real(sqrtm(cov_a @ cov_b)))
    assert found == pytest.approx(plain, rel=1e-6)


def test_fid_of_few_samples():
    """FRECHET refuses 100 rows of 192 features; the distance itself equals torch-fidelity's."""
    theirs = [fid.fid_features_to_statistics(doubled(x[:100])) for x in (REAL, GENERATED)]
    expected = fid.fid_statistics_to_metric(*theirs, verbose=False)[fid.KEY_METRIC_FID]
    ours = [x for s in theirs for x in (s["mu"], s["sigma"])]
    assert frechet_distance(*ours) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("subsets, size", [(4, 1000), (100, 200)])
def test_kid(subsets, size):
    theirs = kid.kid_features_to_metric(
        doubled(GENERATED), doubled(REAL), kid_subsets=subsets, kid_subset_size=size, verbose=False
    )
    expected = [theirs[kid.KEY_METRIC_KID_MEAN], theirs[kid.KEY_METRIC_KID_STD]]
    found = KID.result(rows(REAL), rows(GENERATED), subsets, size)
    np.testing.assert_allclose([found["kid"], found["kid_std"]], expected, rtol=1e-6)


@pytest.mark.parametrize("splits", [10, 7])
def test_inception_score(splits):
    logits = np.random.default_rng(3).normal(0, 4, (1003, 50)).astype(np.float32)
    theirs = isc.isc_features_to_metric(torch.tensor(logits), splits)
    found = INCEPTION_SCORE.result(rows(logits), splits)
    expected = [theirs[isc.KEY_METRIC_ISC_MEAN], theirs[isc.KEY_METRIC_ISC_STD]]
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-6)


@pytest.mark.parametrize("k", [3, 5])
def test_precision_and_recall(k):
    theirs = prc.prc_features_to_metric(
        doubled(GENERATED), doubled(REAL), prc_neighborhood=k, save_cpu_ram=False, verbose=False
    )
    found = PRECISION_RECALL.result(rows(REAL), rows(GENERATED), k)
    expected = {name: pytest.approx(theirs[name], rel=1e-6) for name in ("precision", "recall")}
    assert found == expected
    assert 0.05 < min(found.values()) < max(found.values()) < 0.99


@pytest.mark.parametrize("k", [3, 5])
def test_density_and_coverage(k):
    prdc: Any = pytest.importorskip("prdc")
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = prdc.compute_prdc(REAL.astype(np.float64), GENERATED.astype(np.float64), k)
    found = DENSITY_COVERAGE.result(rows(REAL), rows(GENERATED), k)
    assert found == {name: pytest.approx(theirs[name], rel=1e-12) for name in ("density", "coverage")}
    assert 0.05 < found["coverage"] < 0.99
