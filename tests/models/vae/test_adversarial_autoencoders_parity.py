"""The three phases of a VAE-GAN against PyTorch: losses and gradients, through batch norm."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core import rng
from jaxgen.core.types import Context
from jaxgen.models.vae.vae_gan import VAEGAN

pytestmark = pytest.mark.parity
torch: Any = pytest.importorskip("torch")

MODEL = VAEGAN((16, 16, 3), 5, 4, gamma=0.2, margin=100.0, judge_reconstructions=True)
BATCH = 6


def to_torch(tree: Any) -> Any:
    """Return a net's arrays as PyTorch leaves that need gradients, in our layout."""
    return jax.tree.map(lambda x: torch.tensor(np.asarray(x), requires_grad=True), tree)


def conv(x, p):
    return torch.nn.functional.conv2d(x, p["kernel"].permute(3, 2, 0, 1), None, 2, 1)


def double(x, p):
    return torch.nn.functional.conv_transpose2d(x, p["kernel"].permute(2, 3, 0, 1), None, 2, 1)


def dense(x, p):
    return x @ p["kernel"] + p.get("bias", 0)


def normed(x, p):
    return torch.nn.functional.batch_norm(x, None, None, p["scale"], p["bias"], True, 0.1, 1e-5)


def convolutions(x, net):
    """Return the features of DCGAN's discriminator, without its last layer."""
    x = torch.nn.functional.leaky_relu(conv(x, net["Conv_0"]), 0.2)
    x = torch.nn.functional.leaky_relu(normed(conv(x, net["Conv_1"]), net["BatchNorm_0"]), 0.2)
    return x.permute(0, 2, 3, 1).flatten(1)


def losses(params: Any, x, eps, z_p) -> dict[str, Any]:
    """Return the paper's losses of images [b c h w]."""
    encoder, decoder, discriminator = (params[net] for net in ("encoder", "decoder", "discriminator"))
    h = convolutions(x, encoder["net"])
    mean, log_var = dense(h, encoder["mean"]), dense(h, encoder["log_var"])
    q = torch.distributions.Normal(mean, (log_var / 2).exp())
    prior = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1)
    h = dense(torch.cat([q.loc + q.scale * eps, z_p]), decoder["Dense_0"]).reshape(2 * BATCH, 4, 4, 8)
    h = torch.relu(normed(h.permute(0, 3, 1, 2), decoder["BatchNorm_0"]))
    h = torch.relu(normed(double(h, decoder["ConvTranspose_0"]), decoder["BatchNorm_1"]))
    y = torch.cat([x, torch.tanh(double(h, decoder["ConvTranspose_1"]))])
    d_l = convolutions(y, discriminator["net"])
    logits = dense(d_l, discriminator["out"])[:, 0]
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
    params, extra = task.init(jax.random.key(0), {})
    leaves, tree = jax.tree.flatten(params)
    draw = np.random.default_rng(0)
    params = jax.tree.unflatten(tree, [x + jnp.float32(0.1 * draw.normal(size=x.shape)) for x in leaves])
    x = draw.uniform(-1, 1, (BATCH, 16, 16, 3)).astype(np.float32)
    key = jax.random.key(1)
    loss = next(p.loss for p in task.phases if p.name == phase)
    context = Context(extra, {}, {}, jnp.int32(0))
    own = {phase: params[phase]}
    both = jax.jit(jax.value_and_grad(lambda own: loss({**params, **own}, context, {"image": x}, key)[0]))
    value, gradient = both(own)
    noise = (
        np.asarray(rng.normal(jax.random.split(rng.fold(key, name), BATCH), (5,))) for name in ("posterior", "prior")
    )
    theirs = to_torch(params)
    true = losses(theirs, torch.tensor(x.transpose(0, 3, 1, 2).copy()), *(torch.tensor(v.copy()) for v in noise))[phase]
    true.backward()
    assert float(value) == pytest.approx(float(true.detach()), rel=1e-4)
    for ours, their in zip(jax.tree.leaves(gradient[phase]), jax.tree.leaves(theirs[phase]), strict=True):
        size = float(their.grad.abs().max())
        np.testing.assert_allclose(ours, their.grad.numpy(), rtol=1e-3, atol=1e-4 * size)
