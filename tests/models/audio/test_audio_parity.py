"""WaveNet beside the same net in PyTorch, after the paper's figure 4: outputs and gradients. Transforms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.interop.weight_names import to_theirs
from jaxgen.models.audio.vocoder import WaveNetVocoder
from jaxgen.models.audio.wavenet import WaveNet, weight_name
from jaxgen.nn import mu_law
from jaxgen.nn.spectrogram import Mel, stft
from tests.helpers.torch_twins import shaken
from tests.helpers.untrained import drawn_state

torch: Any = pytest.importorskip("torch")
F: Any = torch.nn.functional
pytestmark = pytest.mark.parity
SIZES: dict[str, Any] = {"length": 32, "dilations": (1, 2, 4, 1, 2), "width": 6, "gates": 5, "skip": 7}
MODELS = {
    "labels": WaveNet(**SIZES, classes=3),
    "frames": WaveNetVocoder(**SIZES, kernel=3, output="logistics", components=2, mel=Mel(16, 4, 3)),
}


def twin(model, p: dict[str, Any], levels, label, frames):
    """Return the outputs [b outputs t] of a net with the arrays p."""

    def causal(name, x, dilation=1):
        weight = p[f"{name}.weight"]
        return F.conv1d(F.pad(x, ((weight.shape[2] - 1) * dilation, 0)), weight, p[f"{name}.bias"], dilation=dilation)

    def point(name, x, bias=True):
        return F.conv1d(x, p[f"{name}.weight"][..., None], p[f"{name}.bias"] if bias else None)

    if model.output == "softmax":
        before = F.pad(F.one_hot(levels, 256).permute(0, 2, 1)[..., :-1], (1, 0)).float()
    else:
        before = F.pad((levels / 127.5 - 1)[:, None, :-1], (1, 0))
    x, total = causal("first", before), 0
    skips = torch.split(p["skips.weight"], model.gates, 1)
    for i, dilation in enumerate(model.dilations):
        h = causal(f"convs.{i}", x, dilation)
        if label is not None:
            h = h + (F.one_hot(label, model.classes).float() @ p[f"labels.{i}.weight"].T)[..., None]
        if frames is not None:
            own = point(f"locals.{i}", frames.permute(0, 2, 1), False)  # [b 2g n]
            kernel = torch.cat([p["upsampling.taps"][1], p["upsampling.taps"][0]])  # [2 hop]
            wide = kernel.expand(own.shape[1], 1, -1)
            up = F.conv_transpose1d(own, wide, stride=model.hop, groups=own.shape[1])
            h = h + up[..., model.hop : model.hop + h.shape[2]]
        value, gate = h.chunk(2, 1)
        z = torch.tanh(value) * torch.sigmoid(gate)
        total = total + F.conv1d(z, skips[i][..., None])
        if i + 1 < len(model.dilations):
            x = x + point(f"residuals.{i}", z)
    total = total + p["skips.bias"][:, None]
    return point("out", F.relu(point("hidden", F.relu(total))))


@pytest.mark.parametrize("name", MODELS)
def test_a_wavenet_equals_its_twin(name):
    model, draw = MODELS[name], np.random.default_rng(0)
    params = shaken(drawn_state(model.task(1), 2).params)
    audio = jnp.asarray(draw.uniform(-0.5, 0.5, (2, model.length, 1)), jnp.float32)
    batch = {"audio": audio, "label": jnp.asarray([0, 2])}
    levels, frames = mu_law.to_levels(audio[..., 0]), model.frames(batch)
    out, pull = jax.vjp(jax.jit(lambda params: model.outputs_of(params, levels, batch)), params)
    weight = draw.normal(size=out.shape).astype(np.float32)
    (grads,) = pull(jnp.asarray(weight))

    theirs = to_theirs(weight_name, model, "net", {"params": params["net"]})
    p = {key: torch.tensor(x, requires_grad=True) for key, x in theirs.items()}
    label = torch.tensor([0, 2]) if model.classes else None
    heard = None if frames is None else torch.tensor(np.array(frames))
    made = twin(model, p, torch.tensor(np.array(levels)).long(), label, heard).permute(0, 2, 1)
    np.testing.assert_allclose(out, made.detach().numpy(), atol=1e-5)
    (made * torch.tensor(weight)).sum().backward()
    ours = to_theirs(weight_name, model, "net", {"params": jax.tree.map(np.asarray, grads["net"])})
    assert ours.keys() == p.keys()
    for key, x in p.items():
        np.testing.assert_allclose(ours[key], x.grad.numpy(), rtol=2e-4, atol=2e-5, err_msg=key)


def test_the_transform_is_that_of_torch():
    x = np.random.default_rng(0).normal(size=(2, 512)).astype(np.float32)
    found = torch.stft(torch.tensor(x), 64, 16, window=torch.hann_window(64), center=True, return_complex=True)
    np.testing.assert_allclose(jax.jit(lambda x: stft(x, 64, 16))(x), found.numpy().swapaxes(1, 2), atol=1e-5)
