"""A layer of the hierarchical VAE and its gradients against PyTorch; the KL against torch.distributions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.losses.elbo import kl_normal
from jaxgen.models.vae.hierarchical import DecoderLayer

pytestmark = pytest.mark.parity
torch: Any = pytest.importorskip("torch")

WIDTH, MIDDLE, LATENT = 6, 4, 3


def test_kl_of_two_normals():
    draw = np.random.default_rng(0)
    mean_q, log_q, mean_p, log_p = draw.normal(size=(4, 7, 5)).astype(np.float32)
    q, p = (
        torch.distributions.Normal(torch.tensor(m), torch.tensor(s).exp())
        for m, s in ((mean_q, log_q), (mean_p, log_p))
    )
    want = torch.distributions.kl_divergence(q, p).numpy()
    np.testing.assert_allclose(kl_normal(*(jnp.asarray(x) for x in (mean_q, log_q, mean_p, log_p))), want, rtol=1e-5)


def torch_layer(weights: dict[str, Any], x, eps, features):
    """Return the outputs of openai/vdvae's decoder layer, [b c h w]; `weights` have our names."""

    def conv(y, name: str):
        kernel = weights[f"{name}.kernel"]
        return torch.nn.functional.conv2d(y, kernel, weights[f"{name}.bias"], padding=kernel.shape[2] // 2)

    def block(y, name: str):
        for i in range(4):
            y = conv(torch.nn.functional.gelu(y), f"{name}.conv_{i}")
        return y

    out = block(x, "prior")
    mean_p, log_p, more = out[:, :LATENT], out[:, LATENT : 2 * LATENT], out[:, 2 * LATENT :]
    mean_q, log_q = block(torch.cat([x, features], 1), "posterior").chunk(2, 1)
    q, p = (torch.distributions.Normal(m, s.exp()) for m, s in ((mean_q, log_q), (mean_p, log_p)))
    z = mean_q + log_q.exp() * eps
    x = x + more + conv(z, "enter")
    weight = (p.log_prob(z) - q.log_prob(z)).sum((1, 2, 3))
    return x + block(x, "block"), torch.distributions.kl_divergence(q, p).sum((1, 2, 3)), weight


@pytest.mark.parametrize("side", [2, 5])
def test_a_layer_and_its_gradients(side):
    draw = np.random.default_rng(side)
    x, features = draw.normal(size=(2, 3, side, side, WIDTH)).astype(np.float32)
    eps = draw.normal(size=(3, side, side, LATENT)).astype(np.float32)
    layer: Any = DecoderLayer(MIDDLE, LATENT, 0.5)
    start: Any = layer.init(jax.random.key(0), x, (eps, None), features)["params"]
    params = jax.tree.map(lambda p: jnp.asarray(draw.normal(size=p.shape) * 0.3, jnp.float32), start)

    def ours(params, x, features):
        y, drawn = layer.apply({"params": params}, x, (eps, None), features)
        return (y**2).sum() + drawn.kl.sum(), (y, drawn.kl, drawn.log_weight)

    slopes, found = jax.jit(jax.grad(ours, (0, 1, 2), has_aux=True))(params, x, features)

    def theirs(a):
        return torch.tensor(np.moveaxis(np.asarray(a), -1, 1) if np.ndim(a) == 4 else np.asarray(a))

    flat = {
        f"{'.'.join(k.key for k in path)}": torch.tensor(
            np.asarray(a).transpose(3, 2, 0, 1).copy() if a.ndim == 4 else np.asarray(a), requires_grad=True
        )
        for path, a in jax.tree_util.tree_leaves_with_path(params)
    }
    xt, ft = theirs(x).requires_grad_(), theirs(features).requires_grad_()
    y, kl, weight = torch_layer(flat, xt, theirs(eps), ft)
    np.testing.assert_allclose(found[0], y.detach().permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], kl.detach(), rtol=1e-4)
    np.testing.assert_allclose(found[2], weight.detach(), rtol=1e-3, atol=1e-3)
    (y.square().sum() + kl.sum()).backward()
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4 * float(np.abs(b).max()))  # noqa: E731
    for path, a in jax.tree_util.tree_leaves_with_path(slopes[0]):
        grad = flat[".".join(k.key for k in path)].grad
        close(np.asarray(a), grad.permute(2, 3, 1, 0).numpy() if a.ndim == 4 else grad.numpy())
    close(slopes[1], xt.grad.permute(0, 2, 3, 1).numpy())
    close(slopes[2], ft.grad.permute(0, 2, 3, 1).numpy())
