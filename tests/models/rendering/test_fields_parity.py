"""The perceptron of NeRF against one written with PyTorch's layers."""

from typing import Any

import jax
import numpy as np
import pytest

from jaxgen.interop.weight_names import rule_of
from jaxgen.models.rendering.nerf import RadianceNet
from tests.helpers.untrained import drawn

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")


def encoded(x, frequencies):
    return torch.cat([x, *(f(2.0**k * x) for k in range(frequencies) for f in (torch.sin, torch.cos))], -1)


def test_density_colour_and_gradients_are_pytorchs():
    net = RadianceNet(32, 8, 10, 4)
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (50, 3)).astype(np.float32)
    toward = rng.normal(size=(50, 3)).astype(np.float32)
    toward /= np.linalg.norm(toward, axis=1, keepdims=True)
    params = drawn(jax.eval_shape(net.init, jax.random.key(0), points, toward))["params"]
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape).astype(np.float32), params)

    apply: Any = net.apply

    def total(params):
        density, colour = apply({"params": params}, points, toward)
        return density.sum() + (colour**2).sum(), (density, colour)

    (_, (density, colour)), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(params)

    leaves = {}

    def linear(name, x):
        if name not in leaves:
            layer = torch.nn.Linear(*params[name]["kernel"].shape)
            with torch.no_grad():
                layer.weight.copy_(torch.tensor(np.asarray(params[name]["kernel"]).T))
                layer.bias.copy_(torch.tensor(np.asarray(params[name]["bias"])))
            leaves[name] = layer
        return leaves[name](x)

    x = place = encoded(torch.tensor(points), 10)
    for i in range(8):
        x = torch.relu(linear(f"pts_linears_{i}", x))
        x = torch.cat([place, x], -1) if i == 4 else x
    theirs = torch.relu(linear("alpha_linear", x))[:, 0]
    x = torch.cat([linear("feature_linear", x), encoded(torch.tensor(toward), 4)], -1)
    their_colour = torch.sigmoid(linear("rgb_linear", torch.relu(linear("views_linears_0", x))))
    (theirs.sum() + (their_colour**2).sum()).backward()
    assert np.asarray(density) == pytest.approx(theirs.detach().numpy(), abs=2e-5)
    assert np.asarray(colour) == pytest.approx(their_colour.detach().numpy(), abs=2e-5)
    for name, layer in leaves.items():
        assert pytest.approx(layer.weight.grad.numpy(), abs=2e-3) == np.asarray(gradient[name]["kernel"]).T, name
    assert rule_of("nerf") is not None
