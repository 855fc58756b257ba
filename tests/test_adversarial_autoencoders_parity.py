"""The three phases of a VAE-GAN against the same game in PyTorch: losses and gradients, through batch norm."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import core, rng
from jaxgen.models.vae.nets import Nets
from jaxgen.models.vae.vae_gan import VAEGAN

pytestmark = pytest.mark.parity
torch: Any = pytest.importorskip("torch")

MODEL = VAEGAN((16, 16, 3), 5, Nets("conv", 4), gamma=0.2, margin=100.0)
BATCH = 6


def to_torch(tree: Any) -> Any:
    """A net's arrays as leaves that PyTorch differentiates, in our layout."""
    return jax.tree.map(lambda x: torch.tensor(np.asarray(x), requires_grad=True), tree)


def conv(x, p):
    return torch.nn.functional.conv2d(x, p["kernel"].permute(3, 2, 0, 1), p.get("bias"), 2, 1)


def double(x, p):
    return torch.nn.functional.conv_transpose2d(x, p["kernel"].permute(2, 3, 0, 1), p["bias"], 2, 1)


def dense(x, p):
    return x @ p["kernel"] + p.get("bias", 0)


def game(params: Any, x, eps, z_p) -> dict[str, Any]:
    """The paper's losses, images [b c h w]."""
    encoder, decoder, judge = (params[net] for net in ("encoder", "decoder", "discriminator"))
    h = torch.relu(conv(torch.relu(conv((x + 1) / 2, encoder["down_0"])), encoder["down_1"])).flatten(1)
    mean, log_var = dense(h, encoder["mean"]), dense(h, encoder["log_var"])
    q = torch.distributions.Normal(mean, (log_var / 2).exp())
    prior = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1)

    def paint(z):
        h = torch.relu(dense(z, decoder["in"]).reshape(BATCH, 4, 4, 8)).permute(0, 3, 1, 2)
        return torch.tanh(double(torch.relu(double(h, decoder["up_1"])), decoder["out"]) / 2)

    y = torch.cat([x, paint(q.loc + q.scale * eps), paint(z_p)])
    net = judge["net"]
    y = torch.nn.functional.leaky_relu(conv(y, net["Conv_0"]), 0.2)
    norm = net["BatchNorm_0"]
    y = torch.nn.functional.batch_norm(conv(y, net["Conv_1"]), None, None, norm["scale"], norm["bias"], True, 0.1, 1e-5)
    d_l = torch.nn.functional.leaky_relu(y, 0.2).permute(0, 2, 3, 1).flatten(1)
    logits = dense(d_l, judge["out"])[:, 0]
    llike = ((d_l[:BATCH] - d_l[BATCH : 2 * BATCH]) ** 2).sum(1) / 2
    cross = torch.nn.functional.binary_cross_entropy_with_logits
    truth = torch.tensor([1.0] * BATCH + [0.0] * 2 * BATCH)
    gan = cross(logits, truth, reduction="sum") / BATCH
    return {
        "encoder": (prior + llike).mean(),
        "decoder": 0.2 * llike.mean() - gan,
        "discriminator": gan,
    }


@pytest.mark.parametrize("phase", ["encoder", "decoder", "discriminator"])
def test_a_phase_has_pytorchs_loss_and_gradient(phase):
    task = MODEL.task(1)
    params, _ = task.init(jax.random.key(0), {})
    leaves, tree = jax.tree.flatten(params)
    draw = np.random.default_rng(0)
    params = jax.tree.unflatten(tree, [x + jnp.float32(0.1 * draw.normal(size=x.shape)) for x in leaves])
    x = draw.uniform(-1, 1, (BATCH, 16, 16, 3)).astype(np.float32)
    key = jax.random.key(1)
    loss = next(p.loss for p in task.phases if p.name == phase)
    context = core.Context({}, {}, {}, jnp.int32(0))
    own = {phase: params[phase]}
    both = jax.jit(jax.value_and_grad(lambda own: loss({**params, **own}, context, {"image": x}, key)[0]))
    value, gradient = both(own)
    noise = (
        np.asarray(rng.normal(jax.random.split(rng.fold(key, name), BATCH), (5,))) for name in ("posterior", "prior")
    )
    theirs = to_torch(params)
    true = game(theirs, torch.tensor(x.transpose(0, 3, 1, 2).copy()), *(torch.tensor(v.copy()) for v in noise))[phase]
    true.backward()
    assert float(value) == pytest.approx(float(true.detach()), rel=1e-4)
    for ours, their in zip(jax.tree.leaves(gradient[phase]), jax.tree.leaves(theirs[phase]), strict=True):
        size = float(their.grad.abs().max())
        np.testing.assert_allclose(ours, their.grad.numpy(), rtol=1e-3, atol=1e-4 * size)
