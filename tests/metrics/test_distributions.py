"""Metrics on features and likelihoods: closed forms, small cases by hand, batches, shards, errors."""

import math
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.config import Mesh
from jaxgen.core.errors import InputError
from jaxgen.metrics import accumulate, inception_score, kid, likelihood, neighbours, sliced_wasserstein
from jaxgen.metrics.accumulate import MOMENTS, ROWS
from jaxgen.metrics.frechet import FRECHET, FRECHET_VIDEO, frechet_distance, video_features
from jaxgen.metrics.inception_score import INCEPTION_SCORE
from jaxgen.metrics.kid import KID
from jaxgen.metrics.neighbours import DENSITY_COVERAGE, PRECISION_RECALL
from jaxgen.runs import sharding

LINES = sliced_wasserstein.sliced_wasserstein(jax.random.key(0), 16)


def drawn(seed: int, n: int, d: int = 4, loc: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(loc, scale, (n, d)).astype(np.float32)


def rows(x: Any, capacity: int | None = None) -> accumulate.Rows:
    x = np.asarray(x, np.float32)
    x = x[:, None] if x.ndim == 1 else x
    return ROWS.update(ROWS.empty(capacity or len(x), x.shape[1]), x, np.ones(len(x), bool))


def moments(x: np.ndarray) -> accumulate.Moments:
    return jax.jit(MOMENTS.update)(MOMENTS.empty(x.shape[1]), x, np.ones(len(x), bool))


# --- accumulators ---


@pytest.mark.parametrize("mean", [0, 5000, 1e4])
def test_variances_of_numbers_far_from_0(mean):
    """Batches of 64 whose last is half empty; E[x^2] - E[x]^2 of f32 is off by up to 8 at 1e4."""
    x = drawn(0, 1000, loc=mean, scale=0.1)
    total = accumulate.variances(jnp.zeros((1, 4)), jnp.zeros(1, bool))
    add = jax.jit(lambda total, x, valid: accumulate.merge_variances(total, accumulate.variances(x, valid)))
    for i in range(0, 1024, 64):
        part, valid = np.full((64, 4), np.nan, np.float32), np.arange(i, i + 64) < 1000
        part[valid] = x[i : i + 64]
        total = add(total, part, valid)
    assert float(total["count"]) == 1000
    np.testing.assert_allclose(total["mean"], np.float64(x).mean(0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(total["scatter"] / 1000, np.float64(x).var(0), rtol=3e-3)


@pytest.mark.parametrize("kind", ["moments", "rows"])
def test_batches_masks_merges_and_shards_equal_one_batch(kind):
    """A padded last batch, an empty shard, a merge of two shards, and a batch sharded over eight devices."""
    x, (empty, update, merge) = drawn(0, 29, loc=1000.0), {"moments": MOMENTS, "rows": ROWS}[kind]
    new = (lambda: empty(4)) if kind == "moments" else (lambda: empty(32, 4))
    padded = np.concatenate([x, np.full((3, 4), np.nan, np.float32)])  # 32 rows
    valid = np.arange(32) < 29
    jitted = jax.jit(update)
    all_at_once = jitted(new(), padded, valid)
    batches = [(padded[i : i + 8], valid[i : i + 8]) for i in range(0, 32, 8)]
    put = sharding.put_batch(sharding.make_mesh(Mesh()))
    on_mesh = put({"x": padded, "valid": valid})
    halves = [reduce(lambda s, b: jitted(s, *b), some, new()) for some in (batches[:1], batches[1:])]
    ways = {
        "batches": reduce(lambda state, batch: jitted(state, *batch), batches, new()),
        "merged": jax.jit(merge)(*halves),
        "beside nothing": merge(merge(new(), all_at_once), new()),
        "sharded": jitted(new(), on_mesh["x"], on_mesh["valid"]),
        "scanned": jax.lax.scan(
            lambda state, batch: (update(state, *batch), None), new(), (padded.reshape(4, 8, 4), valid.reshape(4, 8))
        )[0],
    }
    for name, state in {"at once": all_at_once, **ways}.items():
        assert {str(a.dtype) for a in jax.tree.leaves(state)} <= {"float32", "int32"}, name
        if kind == "rows":
            np.testing.assert_array_equal(accumulate.rows_of(state, "x"), x, err_msg=name)
            continue
        count, mean, covariance = accumulate.summary(state, "x")
        assert count == 29
        np.testing.assert_allclose(mean, x.astype(np.float64).mean(0), rtol=1e-13, err_msg=name)
        np.testing.assert_allclose(covariance, np.cov(x.astype(np.float64).T), atol=1e-12, err_msg=name)


def test_moments_keep_12_digits():
    x = drawn(1, 4096, 8, scale=10.0) + np.float32(20000)
    step = jax.jit(MOMENTS.update)
    state = reduce(lambda s, part: step(s, part, np.ones(64, bool)), np.split(x, 64), MOMENTS.empty(8))
    _, mean, covariance = accumulate.summary(state, "x")
    assert not jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(0), rtol=1e-13)
    np.testing.assert_allclose(covariance, np.cov(x.astype(np.float64).T), rtol=1e-10, atol=1e-10)


# --- Fréchet distance ---


def test_frechet_distance_of_known_gaussians():
    # For diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2.
    zeros, a, b = np.zeros(3), np.diag([1.0, 4.0, 9.0]), np.diag([4.0, 0.0, 25.0])
    assert frechet_distance(zeros, a, np.array([0.0, 3.0, 4.0]), b) == pytest.approx(25 + 1 + 4 + 4, rel=1e-14)
    # In two dimensions tr (S1 S2)^(1/2) = (tr S1 S2 + 2 det^(1/2) S1 S2)^(1/2), for any S1 and S2.
    a, b = np.array([[2.0, 0.9], [0.9, 1.0]]), np.array([[1.0, -0.8], [-0.8, 3.0]])
    cross = math.sqrt(np.trace(a @ b) + 2 * math.sqrt(np.linalg.det(a @ b)))
    expected = np.trace(a) + np.trace(b) - 2 * cross
    assert frechet_distance(np.zeros(2), a, np.zeros(2), b) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("condition", [1e8, 1e16])
def test_frechet_distance_of_covariances_of_high_condition(condition):
    """Covariances that commute have the distance sum (sqrt(a) - sqrt(b))^2 of their eigenvalues."""
    rng = np.random.default_rng(0)
    turn, a = np.linalg.qr(rng.normal(size=(64, 64)))[0], np.logspace(0, -np.log10(condition), 64)
    b = rng.permutation(a)
    one, other = ((turn * v) @ turn.T for v in (a, b))
    zeros = np.zeros(64)
    expected = np.square(np.sqrt(a) - np.sqrt(b)).sum()
    assert frechet_distance(zeros, one, zeros, other) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(zeros, one, zeros, one) < 1e-12


def test_frechet_distance_of_covariances_of_low_rank():
    """For X and Y with fewer rows than columns the cross term is the sum of the singular values of X Y^T / (n - 1)."""
    x, y = (drawn(i, 20, 64).astype(np.float64) for i in (2, 3))
    x, y = x - x.mean(0, keepdims=True), y - y.mean(0, keepdims=True)
    cross = np.linalg.svd(x @ y.T / 19, compute_uv=False).sum()
    expected = (np.square(x).sum() + np.square(y).sum()) / 19 - 2 * cross
    found = frechet_distance(np.zeros(64), x.T @ x / 19, np.zeros(64), y.T @ y / 19)
    assert found == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(np.zeros(64), x.T @ x / 19, np.zeros(64), x.T @ x / 19) < 1e-9
    assert frechet_distance(np.zeros(2), np.zeros((2, 2)), np.ones(2), np.eye(2)) == pytest.approx(4)


def test_fid_of_samples_with_exact_moments():
    x = drawn(4, 400, 3).astype(np.float64)
    x = np.linalg.qr(x - x.mean(0, keepdims=True))[0] * math.sqrt(399)  # mean 0, covariance I
    x = x.astype(np.float32)
    y = x * np.float32(3) + np.array([[1, 2, 2]], np.float32)
    assert FRECHET.result(moments(x), moments(y))["fid"] == pytest.approx(9 + 3 * 4, rel=1e-5)
    assert FRECHET.result(moments(x), moments(x))["fid"] < 1e-12
    assert FRECHET_VIDEO.result(moments(x), moments(y)).keys() == {"fvd"}


def test_video_features_are_means_over_time_and_place():
    video = jnp.arange(2 * 3 * 4 * 4 * 1.0).reshape(2, 3, 4, 4, 1)
    net = lambda v: jnp.concatenate([v, 2 * v], -1)  # noqa: E731
    features = video_features(net)(video)
    np.testing.assert_allclose(features[:, 0], video.mean((1, 2, 3, 4)))
    np.testing.assert_allclose(features[:, 1], 2 * features[:, 0])
    np.testing.assert_array_equal(video_features(lambda v: v[:, 0, 0, 0])(video), video[:, 0, 0, 0])
    with pytest.raises(InputError, match="must keep the batch"):
        video_features(lambda v: v.reshape(-1, 2))(video)


# --- KID ---


def test_kid_by_hand():
    """k(x, y) = (x y + 1)^3: the means within {0, 1} are 1 and 1; across, the values are 1, 1, 1, 8."""
    assert kid.polynomial_mmd(np.array([[0.0], [1.0]]), np.array([[0.0], [1.0]])) == 1 + 1 - 2 * 11 / 4


def test_kid_in_blocks_equals_kid_in_one_block(monkeypatch):
    x, y = drawn(5, 50).astype(np.float64), drawn(6, 50, loc=1).astype(np.float64)
    whole = kid.polynomial_mmd(x, y)
    monkeypatch.setattr(kid, "BLOCK", 20)
    assert kid.polynomial_mmd(x, y) == pytest.approx(whole, rel=1e-12)


def test_kid_is_unbiased():
    same = [KID.result(rows(drawn(i, 40)), rows(drawn(i + 100, 40)), 1, 40)["kid"] for i in range(60)]
    assert abs(np.mean(same)) < 3 * np.std(same) / math.sqrt(60)
    assert min(same) < 0
    other = KID.result(rows(drawn(0, 60)), rows(drawn(1, 50, loc=1)), subsets=10, size=40)
    assert other["kid"] > 5 * other["kid_std"] > 0


# --- neighbours ---


def test_neighbours_by_hand():
    """On a line, k = 1: the real radii are 1, 1, 2 and 4; 2 and 11 lie on a surface; all generated radii are 9."""
    real, generated = rows([0, 1, 3, 7]), rows([2, 11, 20])
    assert PRECISION_RECALL.result(real, generated, k=1) == {"precision": 2 / 3, "recall": 1.0}
    assert DENSITY_COVERAGE.result(real, generated, k=1) == {"density": 1 / 3, "coverage": 1 / 4}


def test_neighbours_of_equal_and_of_far_sets():
    """The closed ball of a row contains its k nearest; an open ball contains itself and k - 1 others on average."""
    x = rows(drawn(7, 200, 16, loc=100.0))
    far = rows(drawn(8, 200, 16, loc=-100.0))
    assert PRECISION_RECALL.result(x, x) == {"precision": 1.0, "recall": 1.0}
    assert DENSITY_COVERAGE.result(x, x) == {"density": 1.0, "coverage": 1.0}
    assert PRECISION_RECALL.result(x, far) == {"precision": 0.0, "recall": 0.0}
    assert DENSITY_COVERAGE.result(x, far) == {"density": 0.0, "coverage": 0.0}


@pytest.mark.parametrize("strip, pairs", [(2**23, 2**22), (1000, 50)])
def test_ties_do_not_depend_on_blocks(strip, pairs, monkeypatch):
    """On a lattice far from the origin nearly all comparisons are ties."""
    monkeypatch.setattr(neighbours, "STRIP", strip)
    monkeypatch.setattr(neighbours, "PAIRS", pairs)
    random = np.random.default_rng(9)
    x, y = (random.integers(0, high, (n, 3)) for high, n in ((4, 130), (5, 90)))

    def between(a, b):
        return np.square(a[:, None] - b[None]).sum(-1)

    def radius(a, k):
        return np.sort(between(a, a), 1)[:, k][None, :]

    real, generated = rows(x + 5000), rows(y + 5000)
    assert PRECISION_RECALL.result(real, generated, k=3) == {
        "precision": (between(y, x) <= radius(x, 3)).any(1).mean(),
        "recall": (between(x, y) <= radius(y, 3)).any(1).mean(),
    }
    held = between(y, x) < radius(x, 5)
    assert DENSITY_COVERAGE.result(real, generated, k=5) == {
        "density": held.sum(1).mean() / 5,
        "coverage": held.any(0).mean(),
    }


# --- inception score ---


def test_inception_score_of_certain_and_of_uncertain_classifiers():
    sure = rows(1e4 * np.eye(5)[np.arange(40) % 5])  # each p is 0 or 1, with equally frequent classes
    assert INCEPTION_SCORE.result(sure, splits=1)["inception_score"] == pytest.approx(5, rel=1e-12)
    assert INCEPTION_SCORE.result(rows(np.full((40, 5), 3.0))) == {"inception_score": 1.0, "inception_score_std": 0.0}
    # Half of the rows (p, 1 - p), half (1 - p, p): log 2 minus the entropy of p, in nats.
    p = 0.9
    logits = np.log([[p, 1 - p], [1 - p, p]])[np.arange(40) % 2]
    expected = 2 * math.exp(p * math.log(p) + (1 - p) * math.log(1 - p))
    assert inception_score.score(logits) == pytest.approx(expected, rel=1e-12)


# --- sliced Wasserstein ---


@pytest.mark.parametrize("order", [1, 2])
def test_sliced_wasserstein_of_sets_of_unequal_size_on_a_line(order):
    key = jax.random.key(0)
    distance = lambda x, y: sliced_wasserstein.distance(np.c_[x], np.c_[y], key, 4, order)  # noqa: E731
    assert distance([0.0, 1.0], [1.0, 1.0, 0.0, 0.0]) == 0
    assert distance([0.0, 1.0, 2.0], [3.0, 0.0]) == pytest.approx(5 / 6 if order == 1 else math.sqrt(7 / 6), rel=1e-14)
    assert distance([1.0, 2.0], [4.0, 5.0]) == pytest.approx(3, rel=1e-14)


def test_sliced_wasserstein_of_translations_and_of_gaussians():
    """The projection of a translation t on u is u.t: E (u.t)^2 = |t|^2 / d, and in the plane E |u.t| = 2 |t| / pi."""
    x, shift, key = drawn(10, 50, 2), np.array([[3.0, 4.0]]), jax.random.key(1)
    by_order = [sliced_wasserstein.distance(x, x + shift, key, 4000, order) for order in (1, 2)]
    assert by_order == pytest.approx([10 / math.pi, 5 / math.sqrt(2)], rel=0.02)
    x, y = drawn(11, 4000, 8), drawn(12, 3000, 8, scale=3.0)  # W_2 of N(0, 1) and N(0, 9) is 2
    metric = sliced_wasserstein.sliced_wasserstein(key, 100)
    found = metric.result(rows(x), rows(y))
    assert found == {"sliced_wasserstein_2": pytest.approx(2, rel=0.05)}
    assert metric.result(rows(x), rows(y)) == found  # the result depends on the key
    assert sliced_wasserstein.sliced_wasserstein(jax.random.key(2), 100).result(rows(x), rows(y)) != found


def test_sliced_wasserstein_takes_pixels():
    images = drawn(13, 6, 12).reshape(6, 2, 2, 3)
    state = LINES.update(LINES.empty(6, 12), images, np.ones(6, bool))
    assert LINES.result(state, state) == {"sliced_wasserstein_2": 0.0}


# --- likelihood ---


def test_a_uniform_model_has_8_bits():
    """All 256 levels equally likely: as probabilities, and as a density on [-1, 1 + 2 / 255)."""
    d = 12
    discrete, density = jnp.full(3, -d * math.log(256)), jnp.full(3, -d * math.log(512 / 255))
    for log_prob, width in ((discrete, likelihood.DISCRETE), (density, likelihood.EIGHT_BIT)):
        np.testing.assert_allclose(likelihood.bits_per_dimension(log_prob, d, width), 8.0, rtol=1e-6)


def normal_log_prob(x, mean, variance):
    return -0.5 * ((x - mean) ** 2 / variance + math.log(2 * math.pi * variance))


def test_importance_weighted_bound_converges_to_the_marginal():
    """z ~ N(0, 1), x | z ~ N(2 z, 1): x ~ N(0, 5), and z | x ~ N(2 x / 5, 1 / 5)."""
    random = np.random.default_rng(0)
    x = math.sqrt(5) * random.normal(size=(1, 200))
    marginal = normal_log_prob(x[0], 0, 5)

    def bound(k, mean, variance):
        z = mean * x + math.sqrt(variance) * random.normal(size=(k, 200))
        joint = normal_log_prob(z, 0, 1) + normal_log_prob(x, 2 * z, 1)
        proposal = normal_log_prob(z, mean * x, variance)
        return likelihood.importance_weighted_bound(jnp.asarray(joint), jnp.asarray(proposal))

    np.testing.assert_allclose(bound(1, 0.4, 0.2), marginal, atol=1e-5)  # the posterior itself: no gap
    means = [float(np.mean(bound(k, 0.3, 1.0) - marginal)) for k in (1, 4, 16, 4000)]
    assert means == sorted(means)
    assert means[0] < -0.5
    assert abs(means[-1]) < 5e-3


def test_means_have_a_standard_error():
    metric = likelihood.mean_of("nats")
    x = drawn(14, 10, 1)[:, 0]
    state = metric.update(metric.empty(), np.append(x, np.nan), np.arange(11) < 10)
    error = np.std(x.astype(np.float64), ddof=1) / math.sqrt(10)
    expected = {"nats": pytest.approx(x.mean(), rel=1e-6), "nats_stderr": pytest.approx(error, rel=1e-12)}
    assert metric.result(state) == expected
    assert likelihood.BITS_PER_DIMENSION.result(state).keys() == {"bits_per_dimension", "bits_per_dimension_stderr"}
    assert "importance_weighted_bound" in likelihood.IMPORTANCE_WEIGHTED_BOUND.result(state)


# --- errors ---

FEW, MANY, WIDE = drawn(15, 3), drawn(16, 50), drawn(17, 50, 5)
NAN, INFINITE = (np.where(np.arange(50)[:, None] == 7, bad, MANY).astype(np.float32) for bad in (np.nan, np.inf))
PAIRED = [(FRECHET, moments), (KID, rows), (PRECISION_RECALL, rows), (DENSITY_COVERAGE, rows), (LINES, rows)]
NAMES = ["fid", "kid", "precision and recall", "density and coverage", "sliced_wasserstein_2"]


@pytest.mark.parametrize("pair, name", list(zip(PAIRED, NAMES, strict=True)), ids=NAMES)
def test_features_that_cannot_be_compared_are_refused(pair, name):
    metric, state = pair
    with pytest.raises(InputError, match=f"^{name} .* features of one dimension, but got 4 .real. and 5 .generated."):
        metric.result(state(MANY), state(WIDE))
    for bad in (NAN, INFINITE):
        with pytest.raises(InputError, match=f"^{name} needs finite numbers, but .*generated .* NaN or infinity"):
            metric.result(state(MANY), state(bad))
        with pytest.raises(InputError, match=f"^{name} needs finite numbers, but .*real .* NaN or infinity"):
            metric.result(state(bad), state(MANY))


@pytest.mark.parametrize(
    "call, words",
    [
        (
            lambda: FRECHET.result(moments(MANY), moments(FEW)),
            "fid needs more than 4 samples for 4 features, got 50",
        ),
        (lambda: FRECHET.result(moments(MANY[:4]), moments(MANY)), "got 4 real and 50 generated"),
        (lambda: KID.result(rows(MANY), rows(MANY)), "1000 samples, got only 50 real and only 50 generated"),
        (
            lambda: KID.result(rows(MANY), rows(FEW), size=4),
            "at least 4 samples, got only 3 generated ones",
        ),
        (lambda: KID.result(rows(MANY), rows(MANY), size=1), "size must be at least 2"),
        (lambda: KID.result(rows(MANY), rows(MANY), subsets=0), "subsets must be at least 1"),
        (lambda: PRECISION_RECALL.result(rows(FEW), rows(MANY)), "at least 4 samples, got only 3 real ones"),
        (lambda: DENSITY_COVERAGE.result(rows(MANY), rows(FEW)), "at least 6 samples, got only 3 generated"),
        (lambda: PRECISION_RECALL.result(rows(MANY), rows(MANY), k=0), "k must be at least 1"),
        (lambda: INCEPTION_SCORE.result(rows(FEW)), "at least 10 samples for 10 splits, got 3"),
        (lambda: INCEPTION_SCORE.result(rows(NAN)), "1 of 50 generated rows hold NaN"),
        (lambda: INCEPTION_SCORE.result(rows(MANY), splits=0), "splits must be at least 1"),
        (lambda: KID.result(rows(MANY, 45), rows(MANY)), "kid has a capacity of 45 real rows, but got 50"),
        (lambda: LINES.result(rows(MANY), ROWS.empty(5, 4)), "at least 1 samples, got only 0 generated ones"),
        (lambda: sliced_wasserstein.sliced_wasserstein(jax.random.key(0), order=3), "must be 1 or 2, not 3"),
        (lambda: sliced_wasserstein.sliced_wasserstein(jax.random.key(0), 0), "lines must be at least 1"),
        (lambda: likelihood.mean_of("nats").result(moments(FEW[:1, :1])), "nats needs at least 2 samples"),
        (lambda: likelihood.mean_of("nats").result(moments(NAN[:, :1])), "nats needs finite numbers"),
    ],
)
def test_too_few_and_too_many_samples_are_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_lost_rows_are_counted_after_a_merge():
    full, other = rows(MANY, 45), rows(FEW, 10)
    assert int(full.count) == 45
    for merged in (ROWS.merge(full, other), ROWS.merge(other, full)):
        assert (int(merged.count), int(merged.lost), len(merged.rows)) == (48, 5, 55)
        with pytest.raises(InputError, match="raise the capacity"):
            accumulate.rows_of(merged, "kid")
