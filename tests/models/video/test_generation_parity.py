"""Models that generate clips, beside PyTorch nets with the published structure and names."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.interop.weight_names import rule_of, to_theirs
from tests.helpers.torch_twins import shaken

torch: Any = pytest.importorskip("torch")
nn: Any = torch.nn
pytestmark = pytest.mark.parity
RNG = np.random.default_rng(0)


def tensors(preset: str, model: Any, net: str, variables: Any) -> dict[str, Any]:
    found = to_theirs(rule_of(preset), model, net, variables)
    return {name: torch.from_numpy(np.array(x)) for name, x in found.items()}


def test_mocogan():
    """16x16 frames: two stages, with batch norm in both discriminators. Used as it is when samples are drawn."""
    model = replace(zoo.load("mocogan").tiny.model, image=(16, 16, 3), frames=7, categories=3)
    m, w = model.motion, model.width
    theirs = nn.Module()
    theirs.recurrent = nn.GRUCell(m, m)
    up = lambda a, b: nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False)  # noqa: E731
    first = nn.ConvTranspose2d(model.content + 3 + m, 2 * w, 4, 1, 0, bias=False)
    layers = [first, nn.BatchNorm2d(2 * w), nn.ReLU(), up(2 * w, w), nn.BatchNorm2d(w), nn.ReLU(), up(w, 3), nn.Tanh()]
    theirs.main = nn.Sequential(*layers)
    flat = lambda a, b: nn.Conv2d(a, b, 4, 2, 1, bias=False)  # noqa: E731
    deep = lambda a, b: nn.Conv3d(a, b, 4, (1, 2, 2), (0, 1, 1), bias=False)  # noqa: E731
    noise, leaky = nn.Identity(), nn.LeakyReLU(0.2)
    judge = nn.Module()
    judge.image_main = nn.Sequential(noise, flat(3, w), leaky, noise, flat(w, 1))
    judge.video_main = nn.Sequential(
        *(noise, deep(3, w), leaky, noise, deep(w, 2 * w), nn.BatchNorm3d(2 * w), leaky),
        nn.Conv3d(2 * w, 4, (1, 4, 4), bias=False),
    )

    task = model.task(1)
    params, extra = task.init(jax.random.key(0), None)
    params = shaken(params)
    both = {net: {"params": params[net], **extra[net]} for net in params}
    theirs.load_state_dict(tensors("mocogan", model, "generator", both["generator"]))
    judge.load_state_dict(tensors("mocogan", model, "discriminator", both["discriminator"]))
    theirs.eval()
    judge.eval()

    game = task.phases[0].loss.__self__  # pyright: ignore
    z = np.asarray(model.draw(jax.random.split(jax.random.key(1), 2)))
    ours = np.asarray(jax.jit(lambda v, z: game.generator.apply(v, z, train=False))(both["generator"], z))
    content, motion, category = (torch.from_numpy(np.array(x)) for x in model.parts(z))
    h, *noises = motion.reshape(2, 8, m).unbind(1)
    frames = []
    for e in noises:
        h = theirs.recurrent(e, h)
        frames.append(theirs.main(torch.cat([content, category, h], 1)[:, :, None, None]))
    clip = torch.stack(frames, 2)  # [b c t h w]
    np.testing.assert_allclose(ours, clip.permute(0, 2, 3, 4, 1).detach().numpy(), atol=1e-5)

    logits, heads = jax.jit(lambda v, x: game.discriminator.apply(v, x, train=False))(both["discriminator"], ours)
    image, video = judge.image_main(clip[:, :, 0]), judge.video_main(clip)[:, :, :, 0, 0]
    np.testing.assert_allclose(logits["image"], image[:, 0].detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(logits["video"], video[:, 0].detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(heads["category"], video[:, 1:].mean(2).detach().numpy(), atol=1e-5)
