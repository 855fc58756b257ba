"""MIG against scikit-learn's mutual information, and known values."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import mutual_info_score

from jaxgen.core.errors import InputError
from jaxgen.metrics.disentanglement import bin_indices, mutual_information, mutual_information_gap


def test_mutual_information_equals_scikit_learn():
    draw = np.random.default_rng(0)
    a = draw.integers(0, 7, 2000)
    b = (a + draw.integers(0, 3, 2000)) % 5
    assert mutual_information(a, b) == pytest.approx(mutual_info_score(a, b), rel=1e-9)
    assert mutual_information(a, a) == pytest.approx(stats.entropy(np.bincount(a)), rel=1e-9)
    x = draw.normal(size=500)
    counts, _ = np.histogram(x, 20)
    np.testing.assert_array_equal(np.bincount(bin_indices(x, 20), minlength=20), counts)
    assert len(set(bin_indices(np.ones(9), 20))) == 1


def test_known_gaps():
    draw = np.random.default_rng(1)
    factors = np.stack([draw.uniform(size=20_000), draw.uniform(size=20_000), draw.integers(0, 4, 20_000)], 1)
    spare = draw.normal(size=(20_000, 2))
    one_each = np.concatenate([factors[:, ::-1] * [3, -1, 2], spare], 1)
    assert mutual_information_gap(one_each, factors)["mig"] > 0.97
    twice = np.concatenate([factors, factors], 1)
    assert mutual_information_gap(twice, factors)["mig"] == pytest.approx(0, abs=1e-9)
    assert mutual_information_gap(spare, factors)["mig"] < 0.02
    turned = factors @ np.linalg.qr(draw.normal(size=(3, 3)))[0]
    assert mutual_information_gap(turned, factors)["mig"] < 0.5


@pytest.mark.parametrize(
    "codes, factors, words",
    [
        (np.zeros((5, 1)), np.eye(5), "there is only one"),
        (np.eye(5), np.ones((5, 1)), "factors that vary"),
        (np.eye(5), np.zeros((4, 1)), "takes latents"),
    ],
)
def test_invalid_inputs_are_refused(codes, factors, words):
    with pytest.raises(InputError, match=words):
        mutual_information_gap(codes, factors)
