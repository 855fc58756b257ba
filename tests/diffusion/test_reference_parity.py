"""Schedules, grids and samplers against the diffusers library, with the same denoiser."""

from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.diffusion import samplers, schedules
from jaxgen.diffusion.grids import grid
from jaxgen.diffusion.parameterisations import from_x0
from jaxgen.diffusion.schedules import alpha_of, expand_like

# diffusers passes arrays to NumPy 2 in a deprecated way.
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:__array__ implementation")]
torch: Any = pytest.importorskip("torch")
diffusers: Any = pytest.importorskip("diffusers")

LINEAR: Any = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
KEYS = jax.random.split(jax.random.key(0), 5)
START = np.random.default_rng(0).normal(size=(5, 2, 3, 1))


@pytest.fixture(autouse=True)
def wide():
    with jax.enable_x64(True):
        yield


def denoise(x, sigma) -> Any:
    """Return E[x0 | x0 + sigma eps] for x0 from two Gaussians: non-linear, like a network."""
    scale = expand_like(x, sigma**2 + 0.04)
    means = (-0.6, 0.7)
    share = jax.nn.softmax(jnp.stack([-jnp.square(x - m) / (2 * scale) for m in means]), 0)
    return sum(s * (m + 0.04 / scale * (x - m)) for s, m in zip(share, means, strict=True))


def in_flow(x, tau) -> Any:
    """Return the same denoiser in the "flow" frame."""
    return denoise(x / expand_like(x, 1 - tau), tau / (1 - tau))


def answer(kind: str, x, sigma: float, alpha: float = 1.0):
    """Return the network output of this kind for alpha x0 + alpha sigma eps; x and the result are torch tensors."""
    y = jnp.asarray(x.numpy())
    full = lambda v: jnp.full(len(y), v)  # noqa: E731
    x0 = denoise(y / alpha, full(sigma))
    return torch.from_numpy(np.array(from_x0(kind, x0, y, full(alpha), full(alpha * sigma))))  # pyright: ignore


def noises(count: int):
    """Return the noise that our sampler adds in each step."""
    return [torch.from_numpy(np.array(samplers.noise_like(KEYS, i, jnp.asarray(START)))) for i in range(count)]


@pytest.fixture
def same_noise(monkeypatch):
    """Make diffusers use the noise of our sampler."""

    def use(*modules: str):
        drawn = iter(noises(200))
        for module in modules:
            name = import_module(f"diffusers.schedulers.{module}")
            monkeypatch.setattr(name, "randn_tensor", lambda *args, **rest: next(drawn))

    return use


def vp(scheduler, sigmas, start, **rest):
    """Run an eps-predicting scheduler with samples alpha x0 + alpha sigma eps, alpha = 1 / sqrt(1 + sigma^2)."""
    x = torch.from_numpy(start / np.sqrt(1 + sigmas[0] ** 2))
    for t, sigma in zip(scheduler.timesteps, sigmas, strict=False):
        eps = answer("eps", x, float(sigma), float(1 / np.sqrt(1 + sigma**2)))
        extra = {k: v.pop(0) if isinstance(v, list) else v for k, v in rest.items()}
        x = scheduler.step(eps, t, x, **extra).prev_sample
    return x.numpy()


def ve(scheduler, sigmas, start):
    """Run a scheduler with samples x0 + sigma eps."""
    x = torch.from_numpy(start)
    for t, sigma in zip(scheduler.timesteps, sigmas, strict=False):
        scheduler.scale_model_input(x, t)
        x = scheduler.step(answer("eps", x, float(sigma)), t, x).prev_sample
    return x.numpy()


def close(ours, theirs, tolerance=1e-5):
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------- schedules


@pytest.mark.parametrize("ours, theirs", [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_betas(ours, theirs):
    scheduler = diffusers.DDPMScheduler(**{**LINEAR, "beta_schedule": theirs})
    close(schedules.alpha_bars(schedules.betas(ours, 1000)), scheduler.alphas_cumprod.numpy())


def test_zero_terminal_snr():
    scheduler = diffusers.DDIMScheduler(**LINEAR, rescale_betas_zero_snr=True)
    close(
        schedules.alpha_bars(schedules.zero_terminal(schedules.betas("linear", 1000))), scheduler.alphas_cumprod.numpy()
    )


def test_karras_and_shifted_grids():
    scheduler = diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, rho=7.0)
    scheduler.set_timesteps(18)
    close(grid("karras", 18, "ve", 0.002, 80.0), scheduler.sigmas.numpy())
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0)
    t = scheduler.sigmas.numpy()
    close(schedules.shifted(schedules.rectified_flow(), 3.0).sigma(np.linspace(1, 0.001, 1000)), t)


# ---------------------------------------------------------------- samplers


def discrete(scheduler, steps: int):
    """Set the number of steps and return sigma / alpha at each, followed by 0."""
    scheduler.set_timesteps(steps)
    bar = scheduler.alphas_cumprod.numpy().astype(np.float64)[scheduler.timesteps.numpy().astype(int)]
    return np.append(np.sqrt((1 - bar) / bar), 0.0)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim(eta):
    # The second last step goes to the first trained timestep, the last step to the image.
    scheduler = diffusers.DDIMScheduler(**LINEAR, clip_sample=False, timestep_spacing="leading")
    taus = discrete(scheduler, 20)
    start = taus[0] * START
    theirs = vp(scheduler, taus, start, eta=eta, variance_noise=noises(20))
    close(samplers.ancestral(denoise, jnp.asarray(start), taus, KEYS, eta=eta), theirs)
    if not eta:
        close(samplers.euler(denoise, jnp.asarray(start), taus), theirs)


@pytest.mark.parametrize("kind", ["fixed_small", "fixed_large", "learned_range"])
def test_ddpm(kind, same_noise):
    same_noise("scheduling_ddpm")
    scheduler = diffusers.DDPMScheduler(**LINEAR, clip_sample=False, variance_type=kind, timestep_spacing="leading")
    taus = discrete(scheduler, 20)
    start = taus[0] * START
    nu = {"fixed_small": 0.0, "fixed_large": 1.0, "learned_range": 0.3}[kind]
    x = torch.from_numpy(start / np.sqrt(1 + taus[0] ** 2))
    for t, sigma in zip(scheduler.timesteps, taus, strict=False):
        out = answer("eps", x, float(sigma), float(1 / np.sqrt(1 + sigma**2)))
        if kind == "learned_range":
            out = torch.cat([out, torch.full_like(out, 2 * nu - 1)], 1)
        x = scheduler.step(out, t, x).prev_sample
    both = lambda x, sigma: (denoise(x, sigma), jnp.full_like(x, nu))  # noqa: E731
    close(samplers.ancestral(both, jnp.asarray(start), taus, KEYS, learned=True), x.numpy())


@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("steps", [6, 20])
def test_dpm_solver(steps, karras):
    for kind, sde in (("dpmsolver++", False), ("sde-dpmsolver++", True)):
        scheduler = diffusers.DPMSolverMultistepScheduler(
            **LINEAR, algorithm_type=kind, final_sigmas_type="zero", use_karras_sigmas=karras
        )
        scheduler.set_timesteps(steps)
        taus = scheduler.sigmas.numpy().astype(np.float64)
        start = taus[0] * START
        theirs = vp(scheduler, taus, start, variance_noise=noises(steps))
        ours = samplers.dpmpp_2m(denoise, jnp.asarray(start), taus, KEYS, sde=sde)
        close(ours, theirs, 2e-5)


@pytest.mark.parametrize("steps", [3, 10, 25])
def test_unipc(steps):
    scheduler = diffusers.UniPCMultistepScheduler(
        **LINEAR, solver_order=2, solver_type="bh2", final_sigmas_type="zero", use_karras_sigmas=True
    )
    scheduler.set_timesteps(steps)
    taus = scheduler.sigmas.numpy().astype(np.float64)
    start = taus[0] * START
    close(samplers.unipc(denoise, jnp.asarray(start), taus), vp(scheduler, taus, start), 2e-5)


def test_euler_and_lms():
    for name, ours in (("EulerDiscreteScheduler", samplers.euler), ("LMSDiscreteScheduler", samplers.lms)):
        scheduler = getattr(diffusers, name)(**LINEAR)
        scheduler.set_timesteps(20)
        taus = scheduler.sigmas.numpy().astype(np.float64)
        start = taus[0] * START
        close(ours(denoise, jnp.asarray(start), taus), ve(scheduler, taus, start))


def test_euler_ancestral(same_noise):
    same_noise("scheduling_euler_ancestral_discrete")
    scheduler = diffusers.EulerAncestralDiscreteScheduler(**LINEAR)
    scheduler.set_timesteps(20)
    taus = scheduler.sigmas.numpy().astype(np.float64)
    start = taus[0] * START
    close(samplers.ancestral(denoise, jnp.asarray(start), taus, KEYS), ve(scheduler, taus, start))


def test_heun():
    scheduler = diffusers.HeunDiscreteScheduler(**LINEAR, use_karras_sigmas=True)
    scheduler.set_timesteps(10)
    every = scheduler.sigmas.numpy().astype(np.float64)
    taus = np.append(every[[0, *range(1, len(every) - 1, 2)]], 0.0)[: 10 + 1]
    assert len(taus) == 11 and taus[-1] == 0 and (np.diff(taus) < 0).all()
    start = taus[0] * START
    close(samplers.heun(denoise, jnp.asarray(start), taus), ve(scheduler, every, start))


def test_flow_matching():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(10)
    taus = scheduler.sigmas.numpy().astype(np.float64)
    assert taus[0] == 1
    taus[0] = 1 - 1e-9  # at 1 the denoiser is a limit of 0 / 0
    x = torch.from_numpy(START)
    for t, tau in zip(scheduler.timesteps, taus, strict=False):
        y = jnp.asarray(x.numpy())
        u = from_x0("u", in_flow(y, jnp.full(5, tau)), y, jnp.full(5, alpha_of("flow", tau)), jnp.full(5, tau))
        x = scheduler.step(torch.from_numpy(np.array(u)), t, x).prev_sample
    close(samplers.euler(in_flow, jnp.asarray(START), taus), x.numpy())
