"""MaskGIT's sampling against diffusers' AmusedScheduler, with the same net and the same random numbers."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core import rng
from jaxgen.models.diffusion.masked import MaskedSampling, unmask

pytestmark = pytest.mark.parity
torch: Any = pytest.importorskip("torch")
amused: Any = pytest.importorskip("diffusers.schedulers.scheduling_amused")

B, N, V, STEPS = 5, 31, 7, 6  # no share of N is an integer, which rounding in f32 could reduce


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_every_step_keeps_the_same_tokens(schedule: Literal["linear", "cosine"], monkeypatch):
    how = MaskedSampling(STEPS, "confidence", schedule, noise=1.5)
    draw = np.random.default_rng(0)
    logits, mixing = (2 * np.float32(draw.normal(size=shape)) for shape in ((N, V), (V + 1, V)))
    keys = jax.random.split(jax.random.key(0), B)
    seen = []

    def log_probs(x):  # the logits depend on the visible tokens
        seen.append(np.asarray(x))
        around = jnp.asarray(mixing)[x].mean(1, keepdims=True)  # [b 1 v]
        return jax.nn.log_softmax(jnp.asarray(logits)[None] + jnp.broadcast_to(around, (B, N, V)))

    with jax.disable_jit(), jax.numpy_rank_promotion("allow"):
        last = np.asarray(unmask(log_probs, keys, N, V, how))

    random: dict[str, Any] = {}

    def gumbel(name: str, i: int, *shape: int):
        own = [jax.random.gumbel(rng.fold(jax.random.fold_in(key, i), name), shape) for key in keys]
        return torch.from_numpy(np.stack([np.asarray(x) for x in own]))

    monkeypatch.setattr(amused, "gumbel_noise", lambda probs, generator=None: random["order"])
    monkeypatch.setattr(
        torch, "multinomial", lambda p, *_, **__: (p.log() + random["token"].reshape(p.shape)).argmax(-1, keepdim=True)
    )
    scheduler = amused.AmusedScheduler(mask_token_id=V, masking_schedule=schedule)
    scheduler.set_timesteps(STEPS, (how.noise * (1 - 1 / STEPS), 0.0))
    x = torch.full((B, N), V)
    for i, t in enumerate(scheduler.timesteps, 1):
        np.testing.assert_array_equal(x, seen[i - 1])
        random |= {"token": gumbel("token", i, N, V), "order": gumbel("order", i, N)}
        around = torch.from_numpy(mixing)[x].mean(1, keepdim=True)
        x = scheduler.step(torch.from_numpy(logits)[None] + around, t, x).prev_sample
    np.testing.assert_array_equal(x, last)
    assert (last < V).all() and len(np.unique(last, axis=0)) == B
