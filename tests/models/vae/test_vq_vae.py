"""Quantisers and the VQ-VAE against brute force, k-means and finite differences; codebook collapse and its remedy."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from jaxgen.core import rng
from jaxgen.core.capabilities import Transform
from jaxgen.core.errors import InputError
from jaxgen.core.step import init_state, make_step
from jaxgen.core.types import Context, TrainState, averaged
from jaxgen.models.vae._quantisers import Quantiser, nearest_code, usage
from jaxgen.models.vae._token_prior import TokenPrior, negative_log_likelihood, sample_tokens
from jaxgen.models.vae.vq_vae import VQVAE

KEY = jax.random.key(0)
KINDS: Any = ["average", "gradient"]


def vectors(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def clusters() -> tuple[np.ndarray, np.ndarray]:
    """Return 400 points around 5 distant centres, and the centres."""
    draw = np.random.default_rng(2)
    centres = np.asarray([[0, 0], [5, 0], [0, 5], [-5, -1], [2, -6]], np.float32)
    return np.asarray(np.repeat(centres, 80, 0) + 0.3 * draw.normal(size=(400, 2)), np.float32), centres


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [1, 3])
def test_each_residual_gets_its_nearest_code(kind, depth):
    quantiser = Quantiser(kind, codes=7, size=3, depth=depth)
    params, state = jax.jit(quantiser.init)(KEY)
    z = vectors(2, 4, 5, 3)

    @jax.jit
    def look(z):
        found = quantiser(params, state, z)
        return found, quantiser.codebooks(params, state), quantiser.values(params, state, found.tokens)

    found, codes, values = look(z)
    codes = np.asarray(codes)
    left, errors = np.asarray(z), []
    for i in range(depth):
        token = ((left[..., None, :] - codes[i]) ** 2).sum(-1).argmin(-1)
        np.testing.assert_array_equal(found.tokens[..., i], token)
        errors.append(((left - codes[i][token]) ** 2).mean((1, 2, 3)))
        left = left - codes[i][token]
    np.testing.assert_allclose(found.values, z - left, atol=1e-5)
    np.testing.assert_allclose(values, z - left, atol=1e-5)
    weight = 0.25 if kind == "average" else 1.25
    np.testing.assert_allclose(found.cost, weight * np.sum(errors, 0), rtol=1e-4)
    same = jax.tree.map(np.array_equal, found.state, state)
    assert jax.tree.all(same), "the codebooks are not updated without a key"


def test_the_nearest_code_far_from_0():
    rng = np.random.default_rng(0)
    flat, codes = ((1e4 + rng.normal(size=(n, 3))).astype(np.float32) for n in (40, 7))
    expected = np.square(flat.astype(np.float64)[:, None] - codes).sum(-1).argmin(1)
    np.testing.assert_array_equal(nearest_code(jnp.asarray(flat), jnp.asarray(codes)), expected)


@pytest.mark.parametrize("kind", [*KINDS, "finite"])
def test_the_gradient_is_the_straight_through_estimate(kind):
    """The gradient of a smooth f(values) is passed to the vectors unchanged; compare with finite differences of f."""
    quantiser = Quantiser(kind, codes=7, size=3, levels=(5, 4, 2), commitment=0.0)
    params, state = quantiser.init(KEY)
    z = vectors(1, 2, 2, 3)
    f = jax.jit(lambda values: jnp.sin(values * jnp.broadcast_to(jnp.asarray([1.0, 2, 3]), values.shape)).sum())
    slope = jax.jit(jax.grad(lambda z: f(quantiser(params, state, z).values)))(z)
    values = np.float64(jax.jit(lambda z: quantiser(params, state, z).values)(z))
    away = np.zeros(values.shape)
    want = np.zeros(values.shape)
    for place in np.ndindex(*values.shape):
        away[place] = 1e-2
        up, down = (float(f(np.float32(values + s * away))) for s in (1, -1))
        want[place], away[place] = (up - down) / 2e-2, 0
    if kind == "finite":  # only the rounding is skipped: the tanh before it and the scale after it have derivatives
        levels = np.asarray([5, 4, 2], np.float32)
        half, shift = (levels - 1) * 1.001 / 2, np.asarray([0, np.arctanh(0.5 / 1.5015), 0], np.float32)
        want = want * half * (1 - np.tanh(np.asarray(z) + shift) ** 2) / (levels // 2)
    np.testing.assert_allclose(slope, want, atol=5e-3)


def test_the_gradients_of_the_cost_are_those_of_the_two_distances():
    quantiser = Quantiser("gradient", codes=5, size=3, commitment=0.4)
    params, state = quantiser.init(KEY)
    z = vectors(1, 4, 4, 3)
    cost = lambda params, z: quantiser(params, state, z).cost.sum()  # noqa: E731
    of_params, of_z = jax.jit(jax.grad(cost, (0, 1)))(params, z)
    tokens = jax.jit(lambda z: quantiser(params, state, z).tokens)(z)
    codes, token = np.asarray(params["codes"])[0], np.asarray(tokens)[..., 0]
    gap = (np.asarray(z) - codes[token]) / z.size
    np.testing.assert_allclose(of_z, 0.4 * 2 * gap, atol=1e-6)
    want = np.zeros_like(codes)
    np.add.at(want, token.reshape(-1), -2 * gap.reshape(-1, 3))
    np.testing.assert_allclose(np.asarray(of_params["codes"])[0], want, atol=1e-6)


def test_the_moving_averages_are_the_papers():
    quantiser = Quantiser(codes=4, size=2, decay=0.9, revive=0.0)
    params, state = quantiser.init(KEY)
    share, total = (np.asarray(state[name], np.float64)[0] for name in ("share", "sum"))
    move, codebooks = jax.jit(quantiser), jax.jit(quantiser.codebooks)
    for seed in range(5):
        z = vectors(2, 3, 3, 2, seed=seed)
        found = move(params, state, z, jax.random.key(seed))
        flat, token = np.float64(z).reshape(-1, 2), np.asarray(found.tokens).reshape(-1)
        chosen = np.eye(4)[token]
        share = 0.9 * share + 0.1 * chosen.sum(0) / len(flat)
        total = 0.9 * total + 0.1 * chosen.T @ flat / len(flat)
        state = found.state
        # Laplace smoothing: N_i = (n_i + eps) / (n + K eps) n, with eps 1e-5 of the mean n.
        smoothed = (share + 1e-5 / 4) / (1 + 1e-5)
        np.testing.assert_allclose(np.asarray(codebooks(params, state))[0], total / smoothed[:, None], rtol=1e-5)


def test_a_code_that_is_never_used_stays_finite():
    """Its share is 0.99^n / K, which is 0 in float32 after some 10,000 steps. The used codes keep their values."""
    quantiser = Quantiser(codes=512, size=2, revive=0.0)
    state = {
        "share": np.eye(1, 512, dtype=np.float32),
        "sum": 3 * np.eye(1, 512, dtype=np.float32)[..., None].repeat(2, 2),
    }
    found = jax.jit(quantiser)({}, state, jnp.full((1, 4, 2), 3.0), KEY)
    codes = np.asarray(jax.jit(quantiser.codebooks)({}, found.state))
    np.testing.assert_allclose(codes[0, 0], 3, rtol=1e-4)
    np.testing.assert_array_equal(codes[0, 1:], 0)


def test_the_averages_find_the_means_of_k_means():
    points, centres = clusters()
    found: Any = KMeans(5, random_state=0).fit(points)
    want = np.sort(found.cluster_centers_, 0)
    quantiser = Quantiser(codes=5, size=2, decay=0.9)
    params = {}
    state = {"share": jnp.full((1, 5), 0.2), "sum": jnp.asarray(centres + 1)[None] / 5}
    move = lambda state, key: (quantiser(params, state, jnp.asarray(points)[None], key).state, None)  # noqa: E731
    state = jax.jit(lambda state: jax.lax.scan(move, state, jax.random.split(KEY, 300))[0])(state)
    np.testing.assert_allclose(np.sort(np.asarray(quantiser.codebooks(params, state))[0], 0), want, atol=1e-3)


@pytest.mark.parametrize("revive, least, most", [(0.0, 0, 0.26), (0.1, 0.9, 1)])
def test_dead_codes_are_replaced_by_vectors(revive, least, most):
    """Codes that start far from the data are never used; the few others get all vectors, which is codebook collapse."""
    quantiser = Quantiser(codes=16, size=2, decay=0.9, revive=revive)
    points = vectors(1, 256, 2)
    far = jnp.full((1, 16, 2), 100.0) + vectors(1, 16, 2, seed=1)
    share = jnp.full((1, 16), 1 / 16)
    state = {"share": share, "sum": far / 16}
    move = jax.jit(lambda state, key: quantiser({}, state, points, key))
    found = move(state, KEY)
    for i in range(100):
        found = move(found.state, jax.random.key(i))
    seen = usage(found.tokens, 16)
    assert least <= float(seen["codes_used"]) <= most
    assert (float(seen["perplexity"]) > 8) == bool(revive)
    assert np.isfinite(found.state["sum"]).all()


def test_finite_levels_are_evenly_spaced_and_every_token_occurs():
    quantiser = Quantiser("finite", levels=(2, 5, 8))
    draw = np.random.default_rng(0)
    z = jnp.asarray(draw.uniform(-4, 4, (1, 20_000, 3)), jnp.float32)
    quantise = jax.jit(partial(quantiser, {}, {}))
    found = quantise(z)
    want = [np.arange(-1, 1), np.arange(-2, 3) / 2, np.arange(-4, 4) / 4]
    for i, levels in enumerate(want):
        np.testing.assert_allclose(np.unique(np.asarray(found.values)[..., i]), levels, atol=1e-6)
    assert len(np.unique(found.tokens)) == 80 == quantiser.vocabulary and found.tokens.max() == 79
    np.testing.assert_allclose(quantiser.values({}, {}, found.tokens), found.values, atol=1e-6)
    np.testing.assert_allclose(np.asarray(quantise(jnp.zeros((1, 20_000, 3))).values)[0, 0, 1:], 0, atol=1e-6)
    assert not np.asarray(found.cost).any()


def test_a_standard_normal_vector_uses_all_tokens_of_two_levels():
    quantiser = Quantiser("finite", levels=(2,) * 5)
    z = vectors(1, 2000, 5)
    found = jax.jit(partial(quantiser, {}, {}))(z)
    np.testing.assert_array_equal(found.values, np.where(np.asarray(z) < 0, -1, 0))
    assert len(np.unique(found.tokens)) == 32


def test_usage_equals_scipys_entropy():
    tokens = np.random.default_rng(0).integers(0, 6, (3, 5, 5, 2)) ** 2 % 7
    seen = jax.jit(usage, static_argnums=1)(tokens, 10)
    counts = [np.bincount(tokens[..., i].reshape(-1), minlength=10) for i in range(2)]
    assert float(seen["perplexity"]) == pytest.approx(np.mean([np.exp(stats.entropy(c)) for c in counts]), rel=1e-5)
    assert float(seen["codes_used"]) == pytest.approx(np.mean([(c > 0).mean() for c in counts]))


# ---- the model


@cache
def train(quantiser: Quantiser) -> tuple[VQVAE, TrainState, dict[str, np.ndarray]]:
    found: Any = load_digits()
    model = VQVAE((8, 8, 1), 8, 0, quantiser, 0, stages=1, learning_rate=3e-3)
    batch = {"image": jnp.asarray(found.images[:128] / 8 - 1, jnp.float32)[..., None]}
    task = model.task(1)
    state = init_state(task, KEY, batch)
    step = make_step(task)
    state, metrics = jax.jit(lambda s: jax.lax.scan(lambda s, _: step(s, batch, {}), s, length=200))(state)
    return model, state, {name.partition("/")[2]: np.asarray(x) for name, x in metrics.items()}


ONE, THREE = (Quantiser(codes=16, size=8, depth=depth, decay=0.9) for depth in (1, 3))


@pytest.mark.slow
@pytest.mark.parametrize(
    "quantiser",
    [ONE, Quantiser("gradient", codes=16, size=8), THREE, Quantiser("finite", levels=(5, 5, 5))],
    ids=["average", "gradient", "residual", "finite"],
)
def test_it_learns_digits_and_the_codebook_does_not_collapse(quantiser):
    model, state, metrics = train(quantiser)
    error = metrics["squared_error"]
    assert error[-1] < 0.4 * error[0] and np.isfinite(error).all()
    assert metrics["codes_used"][-1] > (0.3 if quantiser.kind == "gradient" else 0.5)
    params, context = averaged(state, {})
    batch = {"image": vectors(3, 8, 8, 1)}
    latents = model.encode(params, context, batch)
    assert latents.shape == (3, 4, 4, quantiser.vector_size)
    tokens = model.tokens(params, context, batch)
    np.testing.assert_allclose(model.values(params, context, tokens), latents, atol=1e-5)
    assert tokens.shape[-1] == quantiser.depth and model.decode(params, context, latents, {}).shape == (3, 8, 8, 1)


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_a_new_net_uses_many_finite_levels(seed):
    model = VQVAE((8, 8, 1), stages=1, prior=0, quantiser=Quantiser("finite"))
    found: Any = load_digits()
    batch = {"image": jnp.asarray(found.images[:128] / 8 - 1, jnp.float32)[..., None]}

    @jax.jit
    def tokens(key):
        params, extra = model.init(key)
        return model.tokens(params, Context(extra, {}, {}, jnp.zeros((), jnp.int32)), batch)

    assert len(np.unique(tokens(jax.random.key(seed)))) > 200


@pytest.mark.slow
def test_more_codebooks_leave_a_smaller_residual():
    one, three = (train(quantiser)[2]["squared_error"][-1] for quantiser in (ONE, THREE))
    assert three < 0.8 * one


@pytest.mark.parametrize(
    "model, words",
    [
        (VQVAE((30, 32, 1)), "multiples of 4, not 30x32"),
        (VQVAE(stages=0), "model.stages must be at least 1"),
        (VQVAE(prior=-1), "model.prior must be at least 0"),
        (VQVAE(prior_width=100), "not a multiple of its 3 heads"),
        (VQVAE(quantiser=Quantiser(codes=1)), "model.quantiser.codes must be at least 2"),
        (VQVAE(quantiser=Quantiser(decay=1.0)), "model.quantiser.decay must be at least 0 and below 1"),
        (VQVAE(quantiser=Quantiser(revive=1.0)), "model.quantiser.revive must be at least 0 and below 1"),
        (VQVAE(quantiser=Quantiser("finite", levels=())), "model.quantiser.levels must be at least 2"),
        (VQVAE(quantiser=Quantiser("finite", levels=(5, 1))), "model.quantiser.levels must be at least 2"),
        (VQVAE(quantiser=Quantiser("finite", levels=(1000,) * 4)), "make 1000000000000 different tokens"),
        (VQVAE(quantiser=Quantiser("finite", depth=2)), "model.quantiser.depth must be 1"),
        (VQVAE((4, 4, 1), quantiser=Quantiser("finite")), "needs more than one latent vector"),
    ],
)
def test_wrong_settings_raise(model, words):
    with pytest.raises(InputError, match=words):
        model.task(1)


def test_any_size_that_the_stages_allow():
    model = VQVAE((256, 192, 3), 4, 1, Quantiser(codes=4, size=2), stages=4)
    params, extra = jax.eval_shape(partial(model.init, KEY))
    shape = jax.eval_shape(lambda p, e: model.encode(p, Context(e, {}, {}, jnp.int32(0)), {"image": jnp.zeros((1, 256, 192, 3))}), params, extra)  # noqa: E501  # fmt: skip
    assert shape.shape == (1, 16, 12, 2)


# ---- the prior


def started(prior: TokenPrior, length: int, gain: float) -> Any:
    """Return the initial variables times a gain, for sequences of a length."""
    return jax.jit(lambda: jax.tree.map(lambda x: x * gain, prior.init(KEY, jnp.zeros((1, length), jnp.int32))))()


def test_a_tokens_logits_depend_only_on_the_tokens_before_it():
    prior = TokenPrior(6, 8, 2)
    tokens = np.random.default_rng(0).integers(0, 6, (1, 7), np.int32)
    params = started(prior, 7, 2)
    logits: Any = jax.jit(prior.apply)
    base = np.asarray(logits(params, tokens))
    for i in range(7):
        changed = np.asarray(logits(params, (tokens + np.eye(1, 7, i, dtype=np.int32)) % 6))
        np.testing.assert_array_equal((changed != base).any((0, 2)), np.arange(7) > i)


def test_sampling_with_a_cache_gives_the_same_tokens():
    prior, keys = TokenPrior(6, 64, 2), jax.random.split(KEY, 20)
    params = started(prior, 9, 2)["params"]
    tokens = jax.jit(lambda: sample_tokens(prior, params, keys, 9))()

    @jax.jit
    def again():
        logits: Any = prior.apply({"params": params}, tokens)
        draw = lambda key, i, row: jax.random.categorical(jax.random.fold_in(key, i), row)  # noqa: E731
        own = jax.vmap(lambda key: rng.fold(key, "tokens"))(keys)
        return jax.vmap(jax.vmap(draw, (None, 0, 0)), (0, None, 0))(own, jnp.arange(9), logits)

    np.testing.assert_array_equal(tokens, again())


def test_samples_have_the_priors_probabilities():
    """Compare the frequencies of all 27 sequences of three tokens out of three with exp(-nats)."""
    prior = TokenPrior(3, 8, 1)
    every = jnp.asarray(list(np.ndindex(3, 3, 3)), jnp.int32)
    params = started(prior, 3, 6)["params"]
    logits: Any = jax.jit(prior.apply)({"params": params}, every)
    p = np.exp(-np.float64(jax.jit(negative_log_likelihood)(logits, every)))
    assert p.sum() == pytest.approx(1, abs=1e-5) and p.max() > 3 * p.min()
    drawn = np.asarray(jax.jit(lambda keys: sample_tokens(prior, params, keys, 3))(jax.random.split(KEY, 20_000)))
    counts = np.bincount(drawn @ [9, 3, 1], minlength=27)
    assert stats.chisquare(counts, p / p.sum() * 20_000).pvalue > 1e-3  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.slow
def test_the_prior_does_not_influence_the_autoencoder():
    batch = {"image": vectors(8, 8, 8, 1)}
    after = []
    for layers in (0, 1):
        model = VQVAE((8, 8, 1), 8, 0, Quantiser(codes=8, size=4), layers, 8, stages=1)
        task = model.task(1)
        assert (task.find(Transform) is None) == (layers == 0)
        state, _ = make_step(task)(init_state(task, KEY, batch), batch, {})
        after.append(state.params)
    for net in after[0]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after[0][net], after[1][net])
