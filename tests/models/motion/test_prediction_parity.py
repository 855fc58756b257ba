"""siMLPe and LTD beside PyTorch nets written from the papers, with the authors' names: outputs and gradients."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.core.capabilities import Transform
from jaxgen.core.types import Context
from jaxgen.interop.weight_names import rule_of, to_theirs
from tests.helpers.torch_twins import shaken

torch: Any = pytest.importorskip("torch")
nn: Any = torch.nn
pytestmark = pytest.mark.parity

JOINTS, COUNT = 4, 24  # of few windows the batch norm's gradients are differences of large numbers


class MLPBlock(nn.Module):
    def __init__(self, c: int, n: int):
        super().__init__()
        self.fc0, self.norm0 = nn.Module(), nn.Module()
        self.fc0.fc = nn.Linear(n, n)
        self.norm0.alpha, self.norm0.beta = nn.Parameter(torch.ones(1, c, 1)), nn.Parameter(torch.zeros(1, c, 1))

    def forward(self, x):
        y = nn.functional.layer_norm(self.fc0.fc(x).transpose(1, 2), x.shape[1:2]).transpose(1, 2)
        return x + y * self.norm0.alpha + self.norm0.beta


class SiMLPe(nn.Module):
    def __init__(self, c: int, n: int, depth: int):
        super().__init__()
        self.motion_fc_in, self.motion_fc_out, self.motion_mlp = nn.Linear(c, c), nn.Linear(c, c), nn.Module()
        self.motion_mlp.mlps = nn.Sequential(*(MLPBlock(c, n) for _ in range(depth)))

    def forward(self, x):
        return self.motion_fc_out(self.motion_mlp.mlps(self.motion_fc_in(x).transpose(1, 2)).transpose(1, 2))


class GraphConv(nn.Module):
    def __init__(self, into: int, out: int, nodes: int):
        super().__init__()
        self.weight, self.att = nn.Parameter(torch.zeros(into, out)), nn.Parameter(torch.zeros(nodes, nodes))
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x):
        return self.att @ (x @ self.weight) + self.bias


class LTDBlock(nn.Module):
    def __init__(self, width: int, nodes: int):
        super().__init__()
        self.gc1, self.gc2 = GraphConv(width, width, nodes), GraphConv(width, width, nodes)
        self.bn1, self.bn2 = nn.BatchNorm1d(nodes * width), nn.BatchNorm1d(nodes * width)

    def forward(self, x):
        y = torch.tanh(self.bn1(self.gc1(x).flatten(1))).view_as(x)
        return x + torch.tanh(self.bn2(self.gc2(y).flatten(1))).view_as(x)


class LTD(nn.Module):
    def __init__(self, waves: int, width: int, depth: int, nodes: int):
        super().__init__()
        self.gc1, self.gc7 = GraphConv(waves, width, nodes), GraphConv(width, waves, nodes)
        self.bn1, self.gcbs = nn.BatchNorm1d(nodes * width), nn.ModuleList(LTDBlock(width, nodes) for _ in range(depth))

    def forward(self, x):
        y = self.gc1(x)
        y = torch.tanh(self.bn1(y.flatten(1))).view_as(y)
        for block in self.gcbs:
            y = block(y)
        return x + self.gc7(y)


def transform(frames: int):
    """Return the orthonormal cosine transform, by SciPy."""
    from scipy.fft import dct

    return torch.from_numpy(np.asarray(dct(np.eye(frames), norm="ortho", axis=0), np.float32))


def theirs_simlpe(model, net, window):
    """Return the predicted poses and the loss, by the paper's section 3.3."""
    past, future = window[:, : model.past], window[:, model.past :]
    longer = model.future > model.past
    if longer:
        past = torch.cat([past, past[:, -1:].expand(-1, model.future, -1)], 1)
    matrix = transform(past.shape[1])
    made = matrix.T @ net(matrix @ past) + window[:, model.past - 1 : model.past]
    made = made[:, model.past :] if longer else made[:, : model.future]
    away = lambda a, b: (a - b).unflatten(-1, (-1, 3)).norm(dim=-1).mean()  # noqa: E731
    return made, away(made, future) + away(made.diff(dim=1), future.diff(dim=1))


def theirs_ltd(model, net, window):
    """Return the predicted poses and the loss of all poses, by the paper's section 3.3."""
    matrix = transform(window.shape[1])[: model.waves]
    given = torch.cat([window[:, : model.past], window[:, model.past - 1 : model.past].expand(-1, model.future, -1)], 1)
    made = (net((matrix @ given).transpose(1, 2)) @ matrix).transpose(1, 2)
    return made[:, model.past :], (made - window).unflatten(-1, (-1, 3)).norm(dim=-1).mean()


CASES = {  # preset: changes of the tiny model
    "simlpe": {"backwards": False},
    "simlpe-cmu": {"backwards": False},
    "ltd": {"dropout": 0.0},
}


@pytest.mark.parametrize("preset", list(CASES))
def test_outputs_loss_and_gradients(preset):
    model = replace(zoo.module(preset).PRESETS[preset].tiny.model, **CASES[preset], unit=2.0)
    task = model.task(8)
    window = np.random.default_rng(0).normal(size=(COUNT, model.past + model.future, JOINTS, 3)).astype(np.float32)
    batch = {"past": window[:, : model.past], "future": window[:, model.past :]}
    params, extra = task.init(jax.random.key(0), None)
    params = {"predictor": shaken(params["predictor"])}
    context = Context(extra=extra, ema={}, frozen={}, step=jnp.int32(1))
    loss = jax.jit(jax.value_and_grad(lambda p: task.phases[0].loss(p, context, batch, jax.random.key(1))[0]))
    value, grads = loss(params)

    rule = rule_of(preset)
    tensors = lambda tree: {  # noqa: E731
        name: torch.from_numpy(np.array(x)) for name, x in to_theirs(rule, model, "predictor", tree).items()
    }
    c, frames = 3 * JOINTS, model.past + model.future
    if preset == "ltd":
        net, theirs = LTD(model.waves, model.width, model.depth, c), theirs_ltd
    else:
        net, theirs = SiMLPe(c, frames if model.future > model.past else model.past, model.depth), theirs_simlpe
    state = tensors({"params": params["predictor"], **extra.get("predictor", {})})
    missing = net.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys and all("num_batches" in name for name in missing.missing_keys)
    x = torch.from_numpy(window.reshape(COUNT, frames, c) / 2)
    _, total = theirs(model, net, x)
    total.backward()
    np.testing.assert_allclose(float(value), total.item(), rtol=1e-5)
    for name, g in tensors({"params": grads["predictor"]}).items():
        own = net.get_parameter(name).grad
        assert (g - own).abs().max() <= 1e-5 * max(1, float(own.abs().max())), name

    net = net.eval()
    net.load_state_dict(state, strict=False)  # the running statistics before the step
    with torch.no_grad():
        made = 2 * theirs(model, net, x)[0].numpy()
    found = task.get(Transform)
    out = jax.jit(lambda p: found.apply(p, context.replace(train=False), {"past": batch["past"]}, None))(params)[
        "future"
    ]
    np.testing.assert_allclose(out.reshape(made.shape), made, atol=1e-5 * np.abs(made).max())
