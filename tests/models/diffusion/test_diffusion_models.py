"""Losses, denoisers and likelihoods against closed forms. (VDM and samplers have their own files.)"""

import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import linear_sum_assignment

from jaxgen.core.config import Run
from jaxgen.core.errors import InputError
from jaxgen.diffusion import schedules
from jaxgen.diffusion.schedules import expand_like
from jaxgen.losses.elbo import discretised_normal_log_prob
from jaxgen.metrics.likelihood import EIGHT_BIT
from jaxgen.models.diffusion import _nets
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.models.diffusion.ddpm import DDPM
from jaxgen.models.diffusion.edm import EDM
from jaxgen.models.diffusion.edm2 import EDM2
from jaxgen.models.diffusion.flow import Flow, ot_pairing
from jaxgen.models.diffusion.masked import Masked, MaskedSampling
from jaxgen.models.diffusion.vdm import VDM
from jaxgen.runs.config_io import to_json
from jaxgen.tasks import denoising
from jaxgen.tasks.denoising import Sampling, check_guide, drop_labels
from jaxgen.tasks.teacher import teacher_of
from tests.helpers.capabilities import generate, log_prob
from tests.helpers.small_denoisers import CONTEXT, IMAGE, NET, keys, random_images, stub_net

# ---------------------------------------------------------------- DDPM

T = 30


def paper(t: int, nu: float):
    """Return the posterior mean's factor of x0 and the reverse step's variances at the paper's time t, from 1 on."""
    betas = schedules.betas("cosine", T)
    bar = np.append(1.0, schedules.alpha_bars(betas))
    beta = betas[t - 1]
    of_x0 = math.sqrt(bar[t - 1]) * beta / (1 - bar[t])
    small = (1 - bar[t - 1]) / (1 - bar[t]) * beta
    if t == 1:
        small = (1 - bar[1]) / (1 - bar[2]) * betas[1]
    return of_x0, small, beta**nu * small ** (1 - nu)


log_probs = jax.jit(discretised_normal_log_prob)


@jax.jit
def bound_terms(x0, x0_hat, nu):
    """Return the terms of the bound of one image at every time."""
    x0, x0_hat, nu = (jnp.broadcast_to(x, (T, *IMAGE)) for x in (x0[None], x0_hat[None], nu[None, None, None, None]))
    return DDPM(IMAGE, net=NET, timesteps=T, schedule="cosine").bound_term(x0, x0_hat, nu, jnp.arange(T))


@pytest.mark.parametrize("nu", [0.0, 0.4, 1.0])
def test_a_term_of_the_bound_is_the_kl_of_the_paper(nu):
    x0, x0_hat = random_images(1)[0], 0.8 * random_images(1, 1)[0]
    found = bound_terms(x0, x0_hat, jnp.float32(nu))
    for t in (2, 3, 11, T):
        of_x0, small, variance = paper(t, nu)
        gap = of_x0 * np.asarray(x0 - x0_hat, np.float64)  # both means have the same term of x_t
        kl = 0.5 * (small / variance - 1 + math.log(variance / small) + gap**2 / variance)
        assert float(found[t - 1]) == pytest.approx(kl.sum(), rel=2e-4), t
    *_, variance = paper(1, nu)
    x, mean, half, root = np.asarray(x0, np.float64), np.asarray(x0_hat, np.float64), 1 / 255, math.sqrt(variance)
    high = np.where(x > 1 - half, 1, stats.norm.cdf(x + half, mean, root))
    low = np.where(x < -1 + half, 0, stats.norm.cdf(x - half, mean, root))
    near = np.log(np.maximum(high - low, 1e-300))
    sure = near > -200
    x0, x0_hat = (jnp.asarray(np.where(sure, v, 0)[None], jnp.float32) for v in (x0, x0_hat))
    one = log_probs(x0, x0_hat, jnp.full((1, *IMAGE), math.log(root)))
    zero = math.log(stats.norm.cdf(half, 0, root) - stats.norm.cdf(-half, 0, root))
    assert float(one[0]) == pytest.approx(np.where(near > -200, near, zero).sum(), rel=1e-3)


@jax.jit
def log_probs_and_slope(levels, mean, log_root):
    total = lambda mean: discretised_normal_log_prob(levels, mean, log_root).sum()  # noqa: E731
    return discretised_normal_log_prob(levels, mean, log_root), jax.grad(total)(mean)


@pytest.mark.parametrize("mean, root", [(0.1, 0.3), (-0.99, 0.01), (0.4, 0.0008), (3.0, 0.5)])
def test_the_discretised_normal_sums_to_one_and_agrees_with_scipy(mean, root):
    levels = (np.arange(256, dtype=np.float32) / 127.5 - 1)[:, None, None, None]
    found, slope = map(
        np.asarray, log_probs_and_slope(levels, np.full_like(levels, mean), np.full_like(levels, math.log(root)))
    )
    assert float(np.exp(found).sum()) == pytest.approx(1, abs=2e-4)
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 127.5 - 1, [np.inf]])
    want = np.diff(stats.norm.cdf(edges, mean, root))
    np.testing.assert_allclose(np.exp(found), want, atol=2e-5 + 2e-3 * want.max())
    assert np.isfinite(slope).all() and np.isfinite(found).all()


@pytest.mark.parametrize("predict", ["eps", "x0", "v"])
def test_an_exact_net_gives_the_exact_x0(predict, monkeypatch):
    model = DDPM(IMAGE, net=NET, predict=predict)
    x0 = random_images(3)
    eps = jax.random.normal(jax.random.key(3), x0.shape)
    t = jnp.asarray([2, 400, 997])
    alpha, sigma = model.alpha_sigma(t)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=1e-5)
    np.testing.assert_allclose(alpha**2, schedules.alpha_bars(schedules.betas("linear", 1000))[t], rtol=1e-3)

    @jax.jit
    def run(alpha, sigma, x0, eps):
        seen, tau = [], sigma / alpha
        alpha, sigma = expand_like(x0, alpha), expand_like(x0, sigma)
        xt, right = alpha * x0 + sigma * eps, {"eps": eps, "x0": x0, "v": alpha * eps - sigma * x0}
        stub_net(monkeypatch, lambda x, at, label: seen.append((x, at)) or right[predict])
        got, _ = model.predict_x0_and_variance({"denoiser": {}}, CONTEXT, xt / alpha, tau, {})
        return got, xt, *seen[0]

    got, xt, x, at = run(alpha, sigma, x0, eps)
    np.testing.assert_allclose(x, xt, atol=2e-3)
    np.testing.assert_allclose(got, x0, atol=5e-3 / float(alpha.min()))
    np.testing.assert_allclose(at, t, atol=0.05)


def test_the_bound_from_some_of_its_terms_is_unbiased(monkeypatch):
    model = DDPM(IMAGE, net=NET, timesteps=T, schedule="cosine", predict="x0")
    stub_net(monkeypatch, lambda x, t, label: 0.7 * x)
    batch = {"image": jnp.broadcast_to(random_images(1), (4000, *IMAGE))}
    whole = jax.jit(lambda: model.log_prob({"denoiser": {}}, CONTEXT, batch, keys(4000), T))()
    some = jax.jit(lambda: model.log_prob({"denoiser": {}}, CONTEXT, batch, keys(4000, 1), 6))()
    assert float(some.std()) > float(whole.std())
    error = 4 * float(jnp.hypot(some.std(), whole.std())) / 4000**0.5
    assert error < 0.2 * abs(float(whole.mean()))
    assert float(some.mean()) == pytest.approx(float(whole.mean()), abs=error)


def test_the_bound_trains_the_variance_and_not_the_mean(monkeypatch):
    model = DDPM(IMAGE, net=NET, timesteps=T, schedule="cosine", variance="learned")
    batch = {"image": random_images(16)}

    def loss(out, raw):
        stub_net(monkeypatch, lambda x, t, label: jnp.concatenate([out * x, raw * jnp.ones_like(x)], -1))
        return model.loss({"denoiser": {}}, CONTEXT, batch, jax.random.key(0))

    (value, aux), (of_out, of_raw) = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(0.3, 0.1)
    assert abs(float(of_raw)) > 1e-6

    def plain(out):
        stub_net(monkeypatch, lambda x, t, label: out * x)
        return replace(model, variance="small").loss({"denoiser": {}}, CONTEXT, batch, jax.random.key(0))[0]

    assert float(jax.jit(jax.grad(plain))(0.3)) == pytest.approx(float(of_out), rel=1e-4)
    assert float(value) == pytest.approx(
        float(aux.metrics["squared_error"]) + 0.001 * float(aux.metrics["bits_per_dimension"]), rel=1e-4
    )


# ---------------------------------------------------------------- EDM


def test_the_input_and_target_of_the_net_have_variance_one(monkeypatch):
    model = EDM(IMAGE, net=NET)

    @jax.jit
    def run(x, level):
        seen = []
        stub_net(monkeypatch, lambda x, t, label: seen.append((x, t)) or jnp.zeros_like(x))
        skipped = model.predict_x0({"denoiser": {}}, CONTEXT, x, level, {})
        stub_net(monkeypatch, lambda x, t, label: jnp.ones_like(x))
        return skipped, model.predict_x0({"denoiser": {}}, CONTEXT, x, level, {}), *seen[0]

    for sigma in (0.01, 0.5, 40.0):
        draw = np.random.default_rng(0)
        x0, eps = (draw.normal(size=(4000, *IMAGE)).astype(np.float32) for _ in range(2))
        x0 = np.float32(0.5) * x0
        x = x0 + np.float32(sigma) * eps
        skipped, answered, seen, t = map(np.asarray, run(x, np.full(len(x), sigma, np.float32)))
        c_out = (answered - skipped).mean()
        assert float(seen.std()) == pytest.approx(1, rel=0.01)
        assert float(t[0]) == pytest.approx(math.log(sigma) / 4, rel=1e-4)
        assert float(((x0 - skipped) / c_out).std()) == pytest.approx(1, rel=0.02)
        weight = (sigma**2 + 0.25) / (sigma * 0.5) ** 2
        assert float(c_out) ** 2 * weight == pytest.approx(1, rel=1e-3)


def fresh(model: Any):
    """Return a task and its initial parameters. The net's output is 0: an EDM's D is that of N(0, sigma_data^2)."""
    return model.task(1), model.init(jax.random.key(0))[0]


@pytest.mark.slow
def test_samples_of_an_untrained_edm_are_normal():
    task, params = fresh(EDM(IMAGE, net=NET, sigma_data=0.2, sampling=Sampling(steps=40)))
    got = jax.jit(lambda: generate(task)(params, CONTEXT, keys(600), {})["image"])()
    assert float(got.std()) == pytest.approx(0.2, rel=0.03) and abs(float(got.mean())) < 0.01
    assert stats.kstest(np.asarray(got).ravel() / float(got.std()), "norm").pvalue > 1e-3


@pytest.mark.slow
def test_the_likelihood_of_an_untrained_edm_is_the_normals():
    model = EDM(IMAGE, net=NET, sigma_data=0.4)
    task, params = fresh(model)
    x = jnp.round((0.4 * jax.random.normal(jax.random.key(1), (6, *IMAGE)) + 1) * 127.5) / 127.5 - 1
    got = jax.jit(lambda: log_prob(task)(params, CONTEXT, {"image": x}, keys(6), 4))()
    spread = math.hypot(0.4, model.sigma_min)
    levels = stats.norm.cdf(np.asarray(x) + 1 / 255, 0, spread) - stats.norm.cdf(np.asarray(x) - 1 / 255, 0, spread)
    want = np.log(levels).sum((1, 2, 3))
    np.testing.assert_allclose(got, want, atol=0.01 * 16)
    assert EIGHT_BIT == 2 / 255


# ---------------------------------------------------------------- flows


@pytest.mark.parametrize("path", ["straight", "cosine"])
def test_an_exact_velocity_gives_the_exact_x0(path, monkeypatch):
    model = Flow(IMAGE, net=NET, path=path)
    x0 = random_images(4)
    eps = jax.random.normal(jax.random.key(0), x0.shape)
    t = jnp.asarray([0.02, 0.3, 0.7, 1.0])
    step = 1e-3

    @jax.jit
    def run(x0, eps, t):
        seen = []
        alpha, sigma, d_alpha, d_sigma = (expand_like(x0, v) for v in model.coefficients(t))
        later = [expand_like(x0, v) for v in model.coefficients(t + step)[:2]]
        slope = ((later[0] - alpha) * x0 + (later[1] - sigma) * eps) / step
        velocity, tau = d_alpha * x0 + d_sigma * eps, sigma / (alpha + sigma)
        stub_net(monkeypatch, lambda x, at, label: seen.append((x, at)) or velocity)
        got = model.predict_x0({"denoiser": {}}, CONTEXT, (1 - tau) * x0 + tau * eps, tau[:, 0, 0, 0], {})
        stub_net(monkeypatch, lambda x, t, label: jnp.zeros_like(x))
        batch = {"image": jnp.zeros((500, *IMAGE))}
        loss, _ = model.loss({"denoiser": {}}, CONTEXT, batch, jax.random.key(0))
        return velocity, slope, got, alpha * x0 + sigma * eps, *seen[0], loss

    velocity, slope, got, xt, x, at, loss = run(x0, eps, t)
    np.testing.assert_allclose(velocity, slope, atol=2e-2)
    np.testing.assert_allclose(x, xt, atol=1e-5)
    np.testing.assert_allclose(got, x0, atol=1e-4)
    np.testing.assert_allclose(at, 1000 * t, rtol=1e-4)
    # For x0 = 0 the velocity is sigma' eps. sigma' is 1, or pi / 2 cos(pi t / 2) with a mean square of pi^2 / 8.
    assert float(loss) == pytest.approx(1 if path == "straight" else math.pi**2 / 8, rel=0.05)


def test_times_in_training():
    changes: list[Any] = [{}, {"times": "logit-normal"}, {"shift": 3.0}]
    draw = lambda key: [Flow(IMAGE, net=NET, **rest).draw_times(key, 20_000) for rest in changes]  # noqa: E731
    plain, normal, t = map(np.asarray, jax.jit(draw)(jax.random.key(0)))
    assert stats.kstest(plain, "uniform").pvalue > 1e-3
    assert stats.kstest(stats.logistic.ppf(normal), "norm").pvalue > 1e-3
    assert stats.kstest(t / (3 - 2 * t), "uniform").pvalue > 1e-3  # t' = 3 t / (1 + 2 t)


@pytest.mark.parametrize(
    ("count", "numbers", "mean"),
    [(64, 2, 0.0), (64, 1024, -0.7), pytest.param(256, 1024, -0.7, marks=pytest.mark.slow)],
)
def test_noise_is_paired_by_an_optimal_plan(count, numbers, mean):
    """The cost is near the optimum, also for images, where all distances to noise are nearly equal."""
    draw = np.random.default_rng(0)
    x0, eps = (jnp.asarray(draw.normal(size=(count, numbers, 1, 1)), jnp.float32) for _ in range(2))
    if mean:
        x0 = mean + 0.5 * x0 * (draw.random(x0.shape) < 0.2)
    a, b = (np.float64(v).reshape(count, -1) for v in (x0, eps))
    cost = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    row, column = linear_sum_assignment(cost)
    best, before = cost[row, column].mean(), cost.mean()
    pairing = jax.jit(ot_pairing)
    found = np.stack([np.asarray(pairing(x0, eps, key)) for key in keys(50)])
    got = np.mean([cost[np.arange(count), f].mean() for f in found])
    assert got < best + 0.1 * (before - best)
    times = np.bincount(found.ravel(), minlength=count) / 50
    assert times.max() < 2.2 and times.min() > 0.2, "each is ot_pairing about once"


def test_noise_is_exchanged_within_a_class():
    """Two classes at -1 and 1: noise paired over the whole batch has a mean of 0.3 in the class at 1."""
    draw = np.random.default_rng(0)
    label = jnp.asarray([0, 1, 1, 2] * 8).at[0].set(3)  # the last class has one image
    x0 = jnp.asarray(0.1 * draw.normal(size=(32, 4, 1, 1)), jnp.float32)
    x0 = x0 + expand_like(x0, label - 1.0)
    eps = jnp.asarray(draw.normal(size=(40, *x0.shape)), jnp.float32)
    found = jax.jit(jax.vmap(lambda eps, key: ot_pairing(x0, eps, key, label)))(eps, keys(40))
    np.testing.assert_array_equal(label[found], np.broadcast_to(label, found.shape))
    dealt = np.stack([e[f] for e, f in zip(np.asarray(eps), found, strict=True)])
    for one in range(3):
        assert abs(dealt[:, label == one].mean()) < 0.1
    within = lambda e: (np.asarray(x0)[label == 1] * e[:, label == 1]).mean()  # noqa: E731
    assert within(dealt) > within(np.asarray(eps)) + 0.02, "nearer than the noise that was drawn"


def test_reflow_trains_a_straight_flow(monkeypatch):
    """The teacher maps noise to mean + spread eps. The straight flow between them is known, and its loss is 0."""
    mean, spread = 0.2, 0.3
    model = Flow(IMAGE, net=NET, coupling="reflow", teacher="a run")
    teacher = Flow(IMAGE, net=NET, sampling=Sampling("heun", 60, "time"))
    monkeypatch.setattr("jaxgen.models.diffusion.flow.teacher_of", lambda *_: teacher)

    def answer(module, params, x, t, label=None, second=None, dropout=None):
        t = expand_like(x, t / 1000)
        if isinstance(params, str):  # flow with independent noise: u = (x - E[x0 | x]) / t
            gain = (1 - t) * spread**2 / ((1 - t) ** 2 * spread**2 + t**2)
            return (x - mean - gain * (x - (1 - t) * mean)) / jnp.maximum(t, 1e-6)
        eps = (x - (1 - t) * mean) / ((1 - t) * spread + t)
        return eps - mean - spread * eps + params

    monkeypatch.setattr(_nets, "call", answer)
    now = CONTEXT.replace(frozen={"teacher": "teacher"})
    batch = {"image": random_images(200)}
    loss = jax.jit(lambda wrong: model.loss({"denoiser": wrong}, now, batch, jax.random.key(0))[0])
    assert loss(0.0) < 1e-4 and float(loss(0.1)) == pytest.approx(0.01, rel=0.1)
    eps = jax.random.normal(jax.random.key(1), (50, *IMAGE))
    made = jax.jit(lambda eps: model.teacher_samples(now, eps, None))(eps)
    np.testing.assert_allclose(made, mean + spread * eps, atol=0.02)


# ---------------------------------------------------------------- labels, guidance, settings


def test_label_dropout():
    label = jnp.arange(10_000) % 7
    got = drop_labels(label, 7, 0.2, jax.random.key(0))
    assert got is not None
    assert float((got == 7).mean()) == pytest.approx(0.2, abs=0.02)
    assert bool(jnp.where(got < 7, got == label, True).all())
    assert drop_labels(None, 0, 0.2, jax.random.key(0)) is None


def test_guidance_extrapolates(monkeypatch):
    """The stub predicts a grey level for each class and 0 for the null label: guidance multiplies the grey level."""
    model = EDM(IMAGE, classes=3, net=NET, sampling=Sampling(steps=8, guidance=2.0))

    def answer(x, t, label):
        sigma = jnp.exp(4 * t)
        total = jnp.sqrt(sigma**2 + 0.25)
        grey = jnp.where(label == 3, 0.0, 0.1 * (label + 1))  # D = grey
        return expand_like(x, 1 / (sigma * 0.5 / total)) * (expand_like(x, grey) - expand_like(x, 0.25 / total) * x)

    stub_net(monkeypatch, answer)
    task: Any = model.task(1)
    given = {"label": jnp.asarray([0, 1, 2])}
    other: Any = replace(model, sampling=Sampling(steps=8)).task(1)
    low: Any = replace(model, sampling=Sampling(steps=8, guidance=2.0, interval=(0.5, 1e9))).task(1)

    @jax.jit
    def greys(keys):
        made = [generate(t)({"denoiser": {}}, CONTEXT, keys, given)["image"] for t in (task, other, low)]
        return [x.mean((1, 2, 3)) for x in made]

    got, plain, late = greys(keys(3))
    np.testing.assert_allclose(got, [0.2, 0.4, 0.6], atol=1e-4)
    np.testing.assert_allclose(plain, [0.1, 0.2, 0.3], atol=1e-4)
    np.testing.assert_allclose(late, [0.1, 0.2, 0.3], atol=0.02)  # no guidance in the last steps
    with pytest.raises(InputError, match="conditional: give labels, from 0 to 2"):
        generate(task)({"denoiser": {}}, CONTEXT, keys(3), {})


@pytest.fixture
def saved(tmp_path):
    """Return (model, name) -> the folder of a run with this model, without nets."""

    def save(model, name: str) -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(to_json(Run(model, "edm2" if isinstance(model, EDM2) else "edm")))
        return str(tmp_path / name)

    return save


def test_a_conditional_net_is_guided_by_an_unconditional_one(monkeypatch, saved):
    """EDM2's way. The stub predicts a grey level for each class, the guide 0: guidance multiplies the grey level."""
    guide = saved(EDM2(IMAGE, net=NET), "guide")
    model = EDM2(IMAGE, 3, NET, sampling=Sampling(steps=8, guidance=2.0, guide=guide))

    def answer(x, t, label):
        sigma = jnp.exp(4 * t)
        total = jnp.sqrt(sigma**2 + 0.25)
        grey = jnp.zeros(len(x)) if label is None else 0.1 * (label + 1)  # D = grey
        return expand_like(x, 1 / (sigma * 0.5 / total)) * (expand_like(x, grey) - expand_like(x, 0.25 / total) * x)

    stub_net(monkeypatch, answer)
    nets = {"params": {"denoiser": {}}, "extra": {}}
    given = {"label": jnp.asarray([0, 1, 2])}
    now, task = CONTEXT.replace(frozen={"guide": nets}), model.task(1)
    got = np.asarray(jax.jit(lambda keys: generate(task)({"denoiser": {}}, now, keys, given)["image"])(keys(3)))
    np.testing.assert_allclose(got.mean((1, 2, 3)), [0.2, 0.4, 0.6], atol=1e-4)
    with pytest.raises(InputError, match="same images, classes"):
        replace(model, classes=0, sampling=replace(model.sampling, guide=saved(replace(model), "other"))).task(1)


def test_a_label_that_was_never_dropped_can_not_be_left_out():
    denoiser = EDM2(IMAGE, 3, NET).denoiser
    with pytest.raises(InputError, match="always trained with a label"):
        denoiser.unconditional(2)
    assert denoiser.unconditional(2, {"label": jnp.ones(2)}).keys() == {"label"}
    np.testing.assert_array_equal(EDM(IMAGE, 3, NET).denoiser.unconditional(2)["label"], [3, 3])


def test_guides_and_teachers_of_latents_at_another_scale(monkeypatch, saved):
    """Of images the scale is only that of the net's inputs; of latents it is what x0 means."""
    latents = EDM(IMAGE, net=NET, sigma_data=1.0, autoencoder="a run")
    other, images = saved(latents, "latents"), saved(replace(latents, autoencoder=""), "images")
    own = EDM(IMAGE, net=NET)
    assert teacher_of(images, EDM, own).sigma_data == 1
    check_guide(images, own, own.denoiser)
    monkeypatch.setattr(denoising, "shape_of", lambda model: IMAGE)
    monkeypatch.setattr("jaxgen.tasks.latent_diffusion.latent_codec", lambda model: (None, None))
    own = replace(own, autoencoder="a run")
    for check in (lambda: teacher_of(other, EDM, own), lambda: check_guide(other, own, own.denoiser)):
        with pytest.raises(InputError, match="latents of standard deviation 1, this model latents of"):
            check()


@pytest.mark.parametrize(
    "model, words",
    [
        (EDM(IMAGE, net=NET, sampling=Sampling(steps=0)), "model.sampling.steps must be at least 1"),
        (EDM(IMAGE, net=NET, sampling=Sampling(guidance=2.0)), "needs a class-conditional model"),
        (EDM(IMAGE, 3, NET, drop=0.0, sampling=Sampling(guidance=2.0)), "without dropping labels .* or name a guide"),
        (VDM(IMAGE, 3, NET, sampling=Sampling("ddpm", 5, "log-snr", 2.0)), "without dropping labels"),
        (Masked(IMAGE, 3, NET, drop=0.0, sampling=MaskedSampling(guidance=0.0)), "without dropping labels"),
        (EDM(IMAGE, net=NET, sampling=Sampling(grid="time")), "An EDM's time is its noise level"),
        (EDM(IMAGE, net=NET, sigma_max=1.0), "does not end at noise: at the end the image is still 50% of the noise"),
        (EDM(IMAGE, net=NET, sigma_data=0.0), "model.sigma_data must be above 0"),
        (EDM(IMAGE, net=NET, sampling=Sampling("ddim", churn=3)), "churn is a setting of heun"),
        (EDM((5, 4, 1), net=BackboneConfig(multipliers=(1, 2))), "must be multiples of 2, not 5x4"),
        (EDM((6, 4, 1), net=BackboneConfig("dit", 16, 2, 2, patch=4)), "Patches of 4x4 don't tile a 6x4 image"),
        (Flow(IMAGE, net=NET, sampling=Sampling("heun", churn=1.0)), 'needs the "ve" frame'),
        (Flow(IMAGE, net=NET, coupling="reflow"), "coupling=reflow needs model.teacher"),
        (Flow(IMAGE, net=NET, teacher="a run"), "give both or neither"),
        (Flow(IMAGE, net=NET, coupling="reflow", teacher="no/run"), "There is no run folder no/run"),
        (Flow(IMAGE, net=BackboneConfig("uvit", 16, 4, 2)), "odd number of layers"),
        (Flow(IMAGE, net=replace(NET, depth=0)), "model.net.depth must be at least 1"),
        (VDM(IMAGE, net=NET, gamma_min=5.0), "must be below model.gamma_max"),
        (VDM(IMAGE, net=NET, gamma_max=0.0), "does not end at noise: at the end the image is still 50% of the noise"),
        (VDM(IMAGE, net=NET, sampling=Sampling("ddpm", 5, "time")), "A VDM's time is learned"),
        (DDPM(IMAGE, net=NET, timesteps=10), "betas of 1 or more"),
        (DDPM(IMAGE, net=NET, timesteps=40), "it cannot be sampled in 50 steps"),
        (DDPM(IMAGE, net=NET, ema=1.0), "model.ema must be at least 0 and below 1"),
        (DDPM(IMAGE, net=NET, drop=1.0), "model.drop must be at least 0 and below 1"),
        (DDPM(IMAGE, net=NET, drop=float("nan")), "model.drop must be a finite number, not nan"),
    ],
)
def test_invalid_settings_are_refused(model, words):
    with pytest.raises(InputError, match=words):
        model.task(1)
