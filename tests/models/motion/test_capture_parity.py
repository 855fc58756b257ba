"""Capture nets beside PyTorch's LSTM and convolutions over time: outputs, the loss by SciPy's rotations, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxgen import zoo
from jaxgen.core.capabilities import Transform
from jaxgen.core.types import Context
from jaxgen.data.known_skeletons import BODY
from jaxgen.interop.weight_names import rule_of, to_theirs
from jaxgen.tasks.motion_capture import START, TURNS
from tests.helpers.torch_twins import shaken

torch = pytest.importorskip("torch")
nn = torch.nn
pytestmark = pytest.mark.parity
BATCH = 6


class Encoder(nn.Module):
    def __init__(self, model):
        super().__init__()
        widths = (model.image[2], *model.widths)
        make = lambda i: nn.Conv2d(widths[i], widths[i + 1], 3 if i else 4, 2 if i else 4, 1 if i else 0, bias=False)  # noqa: E731
        self.conv = nn.ModuleList([make(i) for i in range(len(model.widths))])
        self.norm = nn.ModuleList([nn.BatchNorm2d(width) for width in model.widths])
        side = model.image[0] // 4 // 2 ** (len(model.widths) - 1)
        self.out = nn.Linear(widths[-1] * side**2, model.features)

    def forward(self, clip):
        x = clip.flatten(0, 1).permute(0, 3, 1, 2)
        for conv, norm in zip(self.conv, self.norm, strict=True):
            x = norm(conv(x)).relu()
        return self.out(x.flatten(1)).unflatten(0, clip.shape[:2])


class OneLSTM(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.ih, self.hh = (nn.Linear(n, 4 * model.width) for n in (model.features, model.width))

    def forward(self, x):
        both = nn.LSTM(x.shape[-1], self.hh.in_features, batch_first=True)
        names = [f"{kind}_{part}_l0" for part in ("ih", "hh") for kind in ("weight", "bias")]
        own = [self.ih.weight, self.ih.bias, self.hh.weight, self.hh.bias]
        return torch.func.functional_call(both, dict(zip(names, own, strict=True)), (x,))[0]


class WithLSTM(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.encoder, self.forwards, self.backwards = Encoder(model), OneLSTM(model), OneLSTM(model)
        self.head = nn.Linear(model.features + 2 * model.width, 6 * TURNS + 3)

    def forward(self, clip):
        x = self.encoder(clip).relu()
        return self.head(torch.cat([x, self.forwards(x), self.backwards(x.flip(1)).flip(1)], -1))


class OverTime(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.encoder, width = Encoder(model), model.width
        conv = lambda c, span, dilation: nn.Conv2d(c, width, (span, 1), dilation=(dilation, 1), bias=False)  # noqa: E731
        self.expand_conv, self.expand_bn = conv(model.features, 3, 1), nn.BatchNorm1d(width)
        some = [conv(width, *((1, 1) if i % 2 else (3, 3 ** (i // 2 + 1)))) for i in range(2 * model.blocks)]
        self.layers_conv = nn.ModuleList(some)
        self.layers_bn = nn.ModuleList([nn.BatchNorm1d(width) for _ in some])
        self.shrink = nn.Linear(width, 6 * TURNS + 3)

    def forward(self, clip):
        def step(conv, norm, x):
            wide = (conv.kernel_size[0] - 1) * conv.dilation[0] // 2
            padded = nn.functional.pad(x, (wide, wide), "replicate") if wide else x
            return norm(conv(padded[..., None])[..., 0]).relu()

        x = step(self.expand_conv, self.expand_bn, self.encoder(clip).relu().transpose(1, 2))
        for i in range(0, len(self.layers_conv), 2):
            y = step(self.layers_conv[i], self.layers_bn[i], x)
            x = x + step(self.layers_conv[i + 1], self.layers_bn[i + 1], y)
        return self.shrink(x.transpose(1, 2))


def poses(y):
    """Return rotations [b t 22 3 3], places [b t 27 3] and the root [b t 3], one joint after the other."""
    six = (y[..., :-3] + torch.tensor([1.0, 0, 0, 0, 1, 0]).repeat(TURNS)).unflatten(-1, (TURNS, 6))
    first = nn.functional.normalize(six[..., :3], dim=-1)
    second = six[..., 3:] - (first * six[..., 3:]).sum(-1, keepdim=True) * first
    second = nn.functional.normalize(second, dim=-1)
    turned = torch.stack([first, second, torch.linalg.cross(first, second)], -1)
    places, world = [torch.zeros(*y.shape[:2], 3)], [turned[:, :, 0]]
    for joint, parent in enumerate(BODY.parents[1:], 1):
        offset = torch.tensor(BODY.offsets[joint], dtype=torch.float32)
        places.append(places[parent] + world[parent] @ offset)
        world.append(world[parent] @ turned[:, :, joint] if joint < TURNS else world[parent])
    return turned, torch.stack(places, 2), y[..., -3:] + torch.tensor(START)


@pytest.mark.parametrize(("preset", "twin"), [("capture-lstm", WithLSTM), ("capture-temporal", OverTime)])
def test_outputs_loss_and_gradients(preset, twin):
    model = zoo.module(preset).PRESETS[preset].tiny.model
    task, rng = model.task(8), np.random.default_rng(0)
    true = Rotation.random(BATCH * model.frames * TURNS, rng=rng).as_matrix().reshape(BATCH, model.frames, TURNS, 3, 3)
    shape = lambda *rest: (BATCH, model.frames, *rest)  # noqa: E731
    batch = {
        "clip": np.tanh(rng.normal(size=shape(*model.image))).astype(np.float32),
        "turns": np.concatenate([true[..., 0], true[..., 1]], -1).astype(np.float32),
        "pose": rng.normal(size=shape(len(BODY), 3)).astype(np.float32),
        "root": rng.normal(size=shape(1, 3)).astype(np.float32),
    }
    params, extra = task.init(jax.random.key(0), None)
    params = {"capture": shaken(params["capture"])}
    context = Context(extra=extra, ema={}, frozen={}, step=jnp.int32(1))
    value, grads = jax.jit(jax.value_and_grad(lambda p: task.phases[0].loss(p, context, batch, jax.random.key(1))[0]))(
        params
    )
    rule, net = rule_of(preset), twin(model)
    tensors = lambda tree: {  # noqa: E731
        name: torch.from_numpy(np.array(x)) for name, x in to_theirs(rule, model, "capture", tree).items()
    }
    state = tensors({"params": params["capture"], **extra["capture"]})
    missing = net.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys and all("num_batches" in name for name in missing.missing_keys)
    y = net(torch.from_numpy(batch["clip"]))
    turned, places, root = poses(y)
    between = turned.transpose(-1, -2) @ torch.from_numpy(true.astype(np.float32))
    angle = (((between.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1 + 1e-6, 1 - 1e-6)).acos()
    by_scipy = Rotation.from_matrix(between.detach().numpy().reshape(-1, 3, 3)).magnitude().mean()
    np.testing.assert_allclose(angle.mean().item(), by_scipy, rtol=1e-4)
    apart = (places - torch.from_numpy(batch["pose"])).norm(dim=-1).mean()
    away = (root - torch.from_numpy(batch["root"][:, :, 0])).norm(dim=-1).mean()
    total = angle.mean() + model.place_weight * apart + model.root_weight * away
    total.backward()
    np.testing.assert_allclose(float(value), total.item(), rtol=1e-4)
    for name, g in tensors({"params": grads["capture"]}).items():
        own = net.get_parameter(name).grad
        assert (g - own).abs().max() <= 2e-3 * max(0.05, float(own.abs().max())), name
    net = net.eval()
    net.load_state_dict(state, strict=False)  # the running statistics before the step
    with torch.no_grad():
        turned, places, root = poses(net(torch.from_numpy(batch["clip"])))
    apply = task.get(Transform).apply
    out = jax.jit(lambda p: apply(p, context.replace(train=False), {"clip": batch["clip"]}, None))(params)
    np.testing.assert_allclose(out["pose"], places.numpy(), atol=1e-4)
    np.testing.assert_allclose(out["root"][:, :, 0], root.numpy(), atol=1e-4)
    np.testing.assert_allclose(out["turns"][..., :3], turned[..., 0].numpy(), atol=1e-4)
