"""AAE, WAE-MMD and VAE-GAN, autoencoders with latents matched to a prior: their losses against plain formulas."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits

from jaxgen.commands.directions import directions
from jaxgen.commands.interpolate import interpolate
from jaxgen.commands.parse import parse
from jaxgen.commands.reconstruct import reconstruct
from jaxgen.commands.traverse import traverse
from jaxgen.core import rng
from jaxgen.core.capabilities import Density
from jaxgen.core.config import validate
from jaxgen.core.errors import InputError
from jaxgen.core.step import init_state, make_step
from jaxgen.core.types import Context, averaged
from jaxgen.losses.elbo import active_units
from jaxgen.losses.mmd import SCALES, inverse_multiquadratics, mmd
from jaxgen.models.vae._nets import NetConfig
from jaxgen.models.vae.aae import AAE, COMPONENTS, RADIUS, SIGMA, ring
from jaxgen.models.vae.autoencoder import Autoencoder
from jaxgen.models.vae.vae_gan import VAEGAN, Terms, stop_gradient_unless
from jaxgen.models.vae.wae import WAE
from jaxgen.training import loop
from tests.helpers.capabilities import decode, encode

CONTEXT = Context({}, {}, {}, jnp.int32(0))
IMAGE, LATENT = (8, 8, 1), 4
SMALL = AAE(IMAGE, LATENT, NetConfig(width=16), hidden=16)
PLANE = AAE(IMAGE, 2, NetConfig(width=16), prior="mixture", hidden=16)
WASSERSTEIN = WAE(IMAGE, LATENT, NetConfig(width=16), weight=7.0)
SIMILAR = VAEGAN(IMAGE, LATENT, 4, gamma=0.3, margin=100.0)


def random_images(count: int = 6) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (count, *IMAGE)), jnp.float32)


def started(model):
    """Return parameters with biases that are not 0."""
    params, _ = model.task(1).init(jax.random.key(0), {})
    leaves, tree = jax.tree.flatten(params)
    draw = np.random.default_rng(1)
    return jax.tree.unflatten(tree, [x + jnp.float32(0.1 * draw.normal(size=x.shape)) for x in leaves])


def context(model) -> Context:
    return CONTEXT.replace(extra=model.task(1).init(jax.random.key(0), {})[1])


def compare(model, phase: str, formula):
    """Assert that a phase's loss and its learner's gradient equal those of formula(params, x, key)."""
    task, params, x, key, known = model.task(1), started(model), random_images(), jax.random.key(3), context(model)
    found = next(p for p in task.phases if p.name == phase)
    nets = task.learners[found.learner].nets
    own = {net: params[net] for net in nets}
    ours = lambda own: found.loss({**params, **own}, known, {"image": x}, key)[0]  # noqa: E731
    true = lambda own: formula({**params, **own}, x, key)  # noqa: E731
    ours, true = jax.jit(lambda own: (jax.value_and_grad(ours)(own), jax.value_and_grad(true)(own)))(own)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5 * float(jnp.abs(b).max())), ours, true
    )


# ---- maximum mean discrepancy


def double_loop(x: np.ndarray, y: np.ndarray) -> float:
    """Return the unbiased MMD^2 in float64, pair by pair."""
    k = lambda a, b: sum((c := 2 * len(a) * s) / (c + ((a - b) ** 2).sum()) for s in SCALES)  # noqa: E731
    within = lambda z: np.mean([k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j])  # noqa: E731
    return float(within(x) + within(y) - 2 * np.mean([k(a, b) for a in x for b in y]))


@pytest.mark.parametrize("n, m, d", [(2, 2, 1), (7, 5, 3)])
def test_mmd_and_its_gradient_equal_a_double_loop(n, m, d):
    draw = np.random.default_rng(n)
    x, y, v = draw.normal(size=(n, d)), 2 * draw.normal(size=(m, d)) + 1, draw.normal(size=(n, d))
    slope = (double_loop(x + 1e-5 * v, y) - double_loop(x - 1e-5 * v, y)) / 2e-5
    both = jax.jit(jax.value_and_grad(mmd))
    with jax.enable_x64(True):
        value, gradient = both(x, y)
        assert float(value) == pytest.approx(double_loop(x, y), rel=1e-10)
        assert (np.asarray(gradient) * v).sum() == pytest.approx(slope, rel=1e-5)
    for mean in (0, 1e4):
        far_x, far_y = (x + mean).astype(np.float32), (y + mean).astype(np.float32)
        value, gradient = both(far_x, far_y)
        expected = double_loop(far_x.astype(np.float64), far_y.astype(np.float64))
        assert float(value) == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert (np.asarray(gradient) * v).sum() == pytest.approx(slope, rel=1e-2 if mean else 1e-3, abs=1e-5)


@pytest.mark.parametrize("shift, scale, low", [(0.0, 1.0, None), (1.0, 1.0, 0.05), (0.0, 2.0, 0.05)])
def test_the_mean_mmd_is_zero_for_equal_distributions(shift, scale, low):
    x, y = jax.random.normal(jax.random.key(0), (2, 2000, 10, 4))
    found = np.asarray(jax.jit(jax.vmap(mmd))(shift + scale * x, y))
    if low is None:
        assert abs(found.mean()) < 4 * found.std() / len(found) ** 0.5
        assert found.min() < -0.05  # as it must be, to be unbiased
    else:
        assert found.mean() - 4 * found.std() / len(found) ** 0.5 > low


def test_the_unbiased_mmd_of_one_example_raises():
    with pytest.raises(InputError, match="at least 2 examples in a batch"):
        jax.eval_shape(
            lambda: WASSERSTEIN.loss(started(WASSERSTEIN), CONTEXT, {"image": random_images(1)}, jax.random.key(0))
        )
    assert inverse_multiquadratics(jnp.zeros((1, 3)), jnp.zeros((1, 3))).item() == len(SCALES)


# ---- the phases against their formulas


def dense(p, x):
    return x @ p["kernel"] + p["bias"][None]


def perceptron(p, x, last: str, act=jax.nn.relu):
    for name in sorted(n for n in p if n.startswith("hidden")):
        x = act(dense(p[name], x))
    return dense(p[last], x)


def latents_of(params, x):
    return perceptron(params["encoder"], x.reshape(len(x), -1), "code")


def error_of(params, x):
    return ((perceptron(params["decoder"], latents_of(params, x), "out") - x.reshape(len(x), -1)) ** 2).sum(1).mean()


def logits_of(params, z):
    return jax.nn.sigmoid(perceptron(params["discriminator"], z, "out", lambda x: jnp.maximum(x, 0.2 * x))[:, 0])


@pytest.mark.parametrize("model", [SMALL, PLANE], ids=["normal", "mixture"])
def test_the_phases_of_an_aae(model):
    def discriminator(params, x, key):
        z = model.draw(jax.random.split(key, len(x)), None)
        return -(jnp.log(logits_of(params, z)) + jnp.log(1 - logits_of(params, latents_of(params, x)))).mean()

    compare(model, "autoencoder", lambda params, x, key: error_of(params, x))
    compare(model, "discriminator", discriminator)
    compare(model, "generator", lambda params, x, key: -jnp.log(logits_of(params, latents_of(params, x))).mean())


def test_the_loss_of_a_wae():
    def formula(params, x, key):
        z = jax.vmap(lambda k: jax.random.normal(k, (LATENT,)))(jax.random.split(key, len(x)))
        code, n = latents_of(params, x), len(x)
        c = 2 * LATENT * jnp.array(SCALES)[None, None]
        k = lambda a, b: (c / (c + ((a[:, None] - b[None]) ** 2).sum(-1)[..., None])).sum(-1)  # noqa: E731
        pairs = 1 - jnp.eye(n)
        within = ((k(code, code) + k(z, z)) * pairs).sum() / (n * (n - 1))
        return error_of(params, x) + 7 * (within - 2 * k(code, z).mean())

    compare(WASSERSTEIN, "autoencoder", formula)


def convolved(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
    )


def leaky(x):
    return jnp.where(x > 0, x, 0.2 * x)


@pytest.mark.parametrize("reconstructions", [False, True], ids=["samples", "both"])
@pytest.mark.parametrize("phase", ["encoder", "decoder", "discriminator"])
def test_the_phases_of_a_vae_gan(phase, reconstructions):
    """x -> z -> x~ and z_p -> x_p as a plain formula: with 8x8 images each net has one convolution."""

    def formula(params, x, key):
        draw = lambda name: jax.vmap(lambda k: jax.random.normal(k, (LATENT,)))(  # noqa: E731
            jax.random.split(rng.fold(key, name), len(x))
        )
        encoder, decoder, discriminator = (params[net] for net in ("encoder", "decoder", "discriminator"))
        see = lambda x, net: convolved(x, net["net"]["Conv_0"]["kernel"])  # noqa: E731  the first has no batch norm
        h = leaky(see(x, encoder)).reshape(len(x), -1)
        mean, log_var = (h @ encoder[name]["kernel"] + encoder[name]["bias"][None] for name in ("mean", "log_var"))
        sigma = jnp.exp(log_var / 2)
        z = jnp.concatenate([mean + sigma * draw("posterior"), draw("prior")])
        y = (z @ decoder["Dense_0"]["kernel"]).reshape(2 * len(x), 4, 4, -1)
        norm = decoder["BatchNorm_0"]  # over reconstructions and samples together
        mid, spread = (of(y, (0, 1, 2), keepdims=True) for of in (jnp.mean, jnp.var))
        scale, bias = (norm[name][None, None, None] for name in ("scale", "bias"))
        y = (y - mid) / jnp.sqrt(spread + 1e-5) * scale + bias
        kernel, small = decoder["ConvTranspose_0"]["kernel"], jnp.maximum(y, 0)
        _, transposed = jax.vjp(lambda x: convolved(x, kernel.swapaxes(2, 3)), jnp.zeros((2 * len(x), 8, 8, 1)))
        y = jnp.concatenate([x, jnp.tanh(transposed(small)[0])])  # [3b 8 8 1]
        d_l = leaky(see(y, discriminator)).reshape(3, len(x), -1)
        p = jax.nn.sigmoid(d_l @ discriminator["out"]["kernel"])[..., 0]  # [3 b]
        prior = (sigma**2 + mean**2 - 1 - 2 * jnp.log(sigma)).sum(1) / 2
        llike = ((d_l[0] - d_l[1]) ** 2).sum(1) / 2
        gan = -jnp.log(p[0]) - reconstructions * jnp.log(1 - p[1]) - jnp.log(1 - p[2])
        return {"encoder": prior + llike, "decoder": 0.3 * llike - gan, "discriminator": gan}[phase].mean()

    compare(replace(SIMILAR, judge_reconstructions=reconstructions), phase, formula)


@pytest.mark.parametrize("model", [SMALL, SIMILAR], ids=["aae", "vae-gan"])
def test_the_phases_use_the_same_z(model):
    assert {p.stream for p in model.task(1).phases if p.name != "autoencoder"} == {"z"}


@pytest.mark.parametrize(
    "real, made, decoder, discriminator",
    [(0.7, 0.7, True, True), (0.2, 0.7, True, False), (0.7, 1.1, False, True), (0.2, 1.1, True, True)],
)
def test_the_decoder_or_the_discriminator_skips_its_update(real, made, decoder, discriminator):
    """The authors' rule: the discriminator skips below 0.68 - 0.35, the decoder above 0.68 + 0.35, never both."""
    logit = lambda cost: jnp.full(4, jnp.log(jnp.expm1(cost)))  # noqa: E731  softplus(logit) = cost
    nothing = jnp.zeros(4)
    terms = Terms(nothing[:, None], nothing, nothing, -logit(real), logit(made - 0.1), logit(made + 0.1))
    assert tuple(map(bool, VAEGAN(judge_reconstructions=True).updates_due(terms))) == (decoder, discriminator)
    # With the terms of samples only, the logits of reconstructions make no difference.
    alone = terms._replace(reconstructed=logit(50.0), sampled=logit(made))
    assert tuple(map(bool, VAEGAN().updates_due(alone))) == (decoder, discriminator)
    slope = jax.grad(lambda x: stop_gradient_unless(x**2, jnp.bool_(decoder)).sum())(jnp.ones(3))
    np.testing.assert_array_equal(slope, 2.0 * decoder)


# ---- the priors


def test_the_mixture_has_ten_gaussians_on_a_ring():
    z = np.asarray(ring(jax.random.split(jax.random.key(0), 20_000)))
    angle = 2 * np.pi * np.arange(COMPONENTS) / COMPONENTS
    centres = RADIUS * np.stack([np.cos(angle), np.sin(angle)], 1)
    nearest = ((z[:, None] - centres) ** 2).sum(-1).argmin(1)
    assert stats.chisquare(np.bincount(nearest, minlength=COMPONENTS)).pvalue > 1e-3
    offset = (
        z - centres[nearest]
    ) / SIGMA  # neighbours are 5 sigma apart: 1 % of the samples are nearer to another mean
    assert abs(offset.mean()) < 0.02 and offset.std() == pytest.approx(1, abs=0.03)
    narrow = np.asarray(ring(jax.random.split(jax.random.key(0), 50), jnp.zeros(50)))
    np.testing.assert_allclose(np.hypot(*narrow.T), RADIUS, rtol=1e-5)


def digits() -> np.ndarray:
    found: Any = load_digits()
    return (found.images[:1024] / 8 - 1).astype(np.float32)[..., None]  # [n 8 8 1]


def trained(model, steps: int) -> tuple[np.ndarray, float]:
    """Return the latents of the digits after training for some steps, and the last squared error."""
    images, task = jnp.asarray(digits()), model.task(steps)
    state = init_state(task, jax.random.key(0), {"image": images[:64]})
    step = make_step(task)

    def play(state, i):
        return step(state, {"image": images[jax.random.permutation(jax.random.key(i), 1024)[:64]]}, {})

    state, metrics = jax.jit(lambda state: jax.lax.scan(play, state, jnp.arange(steps)))(state)
    latents = encode(task)(*averaged(state, {}), {"image": images})
    return np.asarray(latents), float(metrics["autoencoder/squared_error"][-1])


@pytest.fixture(scope="module")
def plain():
    return trained(Autoencoder((8, 8, 1), 2, NetConfig(width=64)), 1000)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        AAE((8, 8, 1), 2, NetConfig(width=64), hidden=64, game_rate=5e-4),
        AAE((8, 8, 1), 2, NetConfig(width=64), hidden=64, game_rate=5e-4, prior="mixture"),
        WAE((8, 8, 1), 2, NetConfig(width=64)),
    ],
    ids=["aae", "aae-mixture", "wae-mmd"],
)
def test_training_matches_the_latents_to_the_prior(model, plain):
    draw = model.draw if isinstance(model, AAE) else None
    keys = jax.random.split(jax.random.key(9), 1024)
    z = np.asarray(draw(keys, None) if draw else jax.vmap(lambda k: jax.random.normal(k, (2,)))(keys))
    latents, error = trained(model, 1000)
    far, near = (float(jax.jit(mmd)(c, z)) for c in (plain[0], latents))
    print(far, near, error, plain[1])
    assert near < 0.1 * far
    assert error < 1.5 * plain[1], "images are still reconstructed"


def test_active_units_are_those_with_a_large_variance_of_the_mean():
    code = jnp.asarray(np.random.default_rng(0).normal(size=(500, 4)) * [1, 0.11, 0.09, 0], jnp.float32)
    assert float(active_units(code)) == 2


# ---- errors, and the use of a trained model


@pytest.mark.parametrize(
    "model, words",
    [
        (AAE(latent=0), "model.latent must be at least 1"),
        (AAE(hidden=0), "model.hidden must be at least 1"),
        (AAE(prior="mixture"), "give --model.latent 2, not 8"),
        (WAE(weight=-1.0), "model.weight must be at least 0"),
        (WAE(latent=0), "model.latent must be at least 1"),
        (VAEGAN(gamma=-1.0), "model.gamma must be at least 0"),
        (VAEGAN(margin=-1.0), "model.margin must be at least 0"),
        (VAEGAN(latent=0), "model.latent must be at least 1"),
        (VAEGAN(image=(30, 30, 1)), "multiples of"),
        (VAEGAN(width=0), "model.width must be at least 1"),
    ],
)
def test_wrong_settings_raise(model, words):
    with pytest.raises(InputError, match=words):
        model.task(1)


def test_labels_and_likelihoods_raise():
    for model in (SMALL, WASSERSTEIN, SIMILAR):
        task = model.task(1)
        assert task.find(Density) is None and decode(task)
        with pytest.raises(InputError, match="takes no labels"):
            decode(task)(started(model), context(model), jnp.zeros((1, LATENT)), {"label": jnp.zeros(1, jnp.int32)})


@pytest.mark.slow
def test_a_trained_model_can_be_interpolated(tmp_path):
    run = tmp_path / "run"
    settings = ["--preset", "aae", "--tiny", "--mesh.data", "1", "--model.latent", "2", "--model.prior", "mixture"]
    loop.fit(parse("vae", [*settings, "--out", str(run)]).run)
    interpolate(run, tmp_path / "i.gif", points=2, frames=2, rows=1, columns=1)
    traverse(run, tmp_path / "t.png", latents=2)
    directions(run, tmp_path / "d.png", count=2)
    reconstruct(run, tmp_path / "r.png", count=4)
    assert all((tmp_path / name).exists() for name in ("i.gif", "t.png", "d.png", "r.png"))


def test_a_batch_without_pairs_for_the_mmd_raises_early():
    run = parse("vae", ["--preset", "wae-mmd", "--tiny", "--batch", "4", "--compute.accumulate", "4"]).run
    with pytest.raises(InputError, match="at least 2, not 1"):
        validate(run)
    with pytest.raises(InputError, match="at least 2 examples in a batch"):
        mmd(jnp.zeros((1, 2)), jnp.zeros((1, 2)))
