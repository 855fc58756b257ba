"""BasicVSR and SPyNet beside PyTorch nets with the published structure and names, and with the published weights."""

import hashlib
import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgen import zoo
from jaxgen.core.capabilities import Degradation, Transform
from jaxgen.core.config import Mesh
from jaxgen.core.types import Context, averaged
from jaxgen.inference.opening import open_trained
from jaxgen.inference.optical_flow import open_flow
from jaxgen.interop.weight_names import plain, to_theirs
from jaxgen.metrics.pixels import MEASURES, psnr
from jaxgen.nn.colour import eight_bit
from jaxgen.nn.warping import warp
from jaxgen.pretrained.catalogue import PUBLISHED
from tests.helpers.torch_twins import shaken

torch: Any = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional
pytestmark = pytest.mark.parity


def warped(x, flow, edges: str):
    """x [b c h w], flow [b 2 h w]."""
    h, w = x.shape[2:]
    y, x0 = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    place = torch.stack([x0, y])[None] + flow
    unit = torch.stack([2 * place[:, 0] / (w - 1) - 1, 2 * place[:, 1] / (h - 1) - 1], -1)
    return F.grid_sample(x, unit, padding_mode=edges, align_corners=True)


class Level(nn.Module):
    def __init__(self, widths):
        super().__init__()
        layers, c = [], 8
        for width in (*widths, 2):
            layers += [nn.Conv2d(c, width, 7, padding=3), nn.ReLU()]
            c = width
        self.basic_module = nn.Sequential(*layers[:-1])


class Flow(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.basic_module = nn.ModuleList(Level(model.flow_widths) for _ in range(model.flow_levels))

    def forward(self, first, second):
        (h, w), grain = first.shape[2:], 2 ** (len(self.basic_module) - 1)
        size = -(-h // grain) * grain, -(-w // grain) * grain
        mean, std = (torch.tensor(v)[None, :, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        pairs = [[(F.interpolate(x, size, mode="bilinear") - mean) / std for x in (first, second)]]
        while len(pairs) < len(self.basic_module):
            pairs.insert(0, [F.avg_pool2d(x, 2) for x in pairs[0]])
        flow = torch.zeros_like(pairs[0][0][:, :2])
        for level, (a, b) in zip(self.basic_module, pairs, strict=True):
            if flow.shape[2:] != a.shape[2:]:
                flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
            flow = flow + level.basic_module(torch.cat([a, warped(b, flow, "border"), flow], 1))
        scale = torch.tensor([w / size[1], h / size[0]])[None, :, None, None]
        return F.interpolate(flow, (h, w), mode="bilinear") * scale


class Residual(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x):
        return x + self.conv2(F.relu(self.conv1(x)))


class Trunk(nn.Module):
    def __init__(self, c: int, depth: int):
        super().__init__()
        blocks = nn.Sequential(*(Residual(c) for _ in range(depth)))
        self.main = nn.Sequential(nn.Conv2d(c + 3, c, 3, padding=1), nn.LeakyReLU(0.1), blocks)


class BasicVSR(nn.Module):
    def __init__(self, model):
        super().__init__()
        c = self.width = model.width
        self.spynet = Flow(model)
        self.backward_trunk, self.forward_trunk = Trunk(c, model.depth), Trunk(c, model.depth)
        self.fusion = nn.Conv2d(2 * c, c, 1)
        self.upconv1, self.upconv2 = nn.Conv2d(c, 4 * c, 3, padding=1), nn.Conv2d(c, 4 * c, 3, padding=1)
        self.conv_hr, self.conv_last = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, 3, 3, padding=1)

    def forward(self, x):  # [b t 3 h w]
        behind = self.one_way(x.flip(1), self.backward_trunk)[::-1]
        ahead = self.one_way(x, self.forward_trunk)
        return torch.stack([self.frame(*parts) for parts in zip(behind, ahead, x.unbind(1), strict=True)], 1)

    def one_way(self, x, trunk):
        features, found = torch.zeros(len(x), self.width, *x.shape[3:]), []
        for i, frame in enumerate(x.unbind(1)):
            if i:
                features = warped(features, self.spynet(frame, x[:, i - 1]), "zeros")
            features = trunk.main(torch.cat([frame, features], 1))
            found.append(features)
        return found

    def frame(self, behind, ahead, x):
        y = F.leaky_relu(self.fusion(torch.cat([behind, ahead], 1)), 0.1)
        for conv in (self.upconv1, self.upconv2):
            y = F.leaky_relu(F.pixel_shuffle(conv(y), 2), 0.1)
        return F.interpolate(x, scale_factor=4, mode="bilinear") + self.conv_last(F.leaky_relu(self.conv_hr(y), 0.1))


def test_the_net_is_the_published_one(plain_convolutions):
    """Outputs, and gradients by the weights and the frames; sides that the pyramid does not have."""
    del plain_convolutions
    model = replace(zoo.load("basicvsr").tiny.model, depth=2, flow_levels=3)
    task, rng = model.task(1), np.random.default_rng(0)
    params, _ = jax.eval_shape(task.init, jax.random.key(0), {})
    drawn = lambda x: rng.normal(size=x.shape) / (8 * np.prod(x.shape[:-1]) ** 0.5 if x.ndim > 1 else 50)  # noqa: E731
    params = shaken(jax.tree.map(lambda x: drawn(x).astype(np.float32), params))
    x = rng.uniform(-1, 1, (1, 3, 9, 11, 3)).astype(np.float32)
    y = rng.normal(size=(1, 3, 36, 44, 3)).astype(np.float32)
    apply, context = task.get(Transform).apply, Context({}, {}, {}, jnp.zeros((), jnp.int32))

    @jax.jit
    def run(params, x):
        made, back = jax.vjp(lambda params, x: apply(params, context, {"degraded": x}, None)["video"], params, x)
        return made, *back(y)

    made, slopes, slope = run(params, x)
    theirs = BasicVSR(model)
    names = lambda tree: to_theirs(plain, model, "restorer", {"params": tree["restorer"]})  # noqa: E731
    theirs.load_state_dict({name: torch.tensor(value) for name, value in names(params).items()})
    given = torch.tensor(x, requires_grad=True)
    want = 2 * theirs(((given + 1) / 2).permute(0, 1, 4, 2, 3)).permute(0, 1, 3, 4, 2) - 1
    want.backward(torch.tensor(y))
    assert given.grad is not None
    pairs = {name: (value, dict(theirs.named_parameters())[name].grad) for name, value in names(slopes).items()}
    pairs |= {"frames": (slope, given.grad), "output": (made, want.detach())}
    for name, (ours, reference) in pairs.items():
        reference = reference.numpy()
        scale = np.abs(reference).max()
        assert scale > 1e-6, name
        np.testing.assert_allclose(ours, reference, atol=2e-4 * scale, err_msg=name)


def real_data() -> tuple[Path, Path]:
    """Return the clip of Vid4 and the file of published weights; skip the test where they are not there."""
    data = Path(os.environ.get("JAXGEN_TEST_DATA", ""))
    clip, file = data / "video/vid4/vid4_31_city_webp.zip", data / "weights/BasicVSR_Vimeo90K_BIx4.pth"
    if not clip.is_file() or not file.is_file():
        pytest.skip("JAXGEN_TEST_DATA has no Vid4, or no weights of BasicVSR")
    return clip, file


def city(clip: Path, numbers: slice) -> np.ndarray:
    """Return frames of the city f32[t h w 3]; number 0 is frame 1."""
    with zipfile.ZipFile(clip) as files:
        names = sorted(name for name in files.namelist() if name.endswith(".webp"))[numbers]
        frames = [np.asarray(Image.open(io.BytesIO(files.read(name))).convert("RGB")) for name in names]
    return (np.stack(frames) / 127.5 - 1).astype(np.float32)


@pytest.mark.slow
def test_the_flow_of_the_published_weights_aligns_frames():
    clip, file = real_data()
    net = open_flow(str(file), "spynet")
    first, last = city(clip, slice(0, 5))[::4, ::4, ::4]  # four frames apart

    @jax.jit
    def run(variables, first, last):
        flow = net.apply(variables, first[None], last[None])
        return jnp.stack([psnr(first[None], x, 8) for x in (last[None], warp(last[None], flow, "border"))])

    still, aligned = map(float, run(net.variables, first, last)[:, 0])
    assert aligned > still + 6


@pytest.mark.slow
def test_published_weights_enlarge_the_city_as_published():
    """Luma of the 8-bit image, no border, frame 16 of frames 9 to 23; the whole test set's published mean is 27.28."""
    clip, file = real_data()
    known = PUBLISHED["basicvsr-vimeo"].files[0]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == known.sha256 and file.stat().st_size == known.size
    clean = city(clip, slice(8, 23))
    opened = open_trained(str(file), mesh=Mesh(data=1))
    assert opened.run.preset == "basicvsr"

    @jax.jit
    def run(nets, clean):
        key = jax.random.split(jax.random.key(0), 1)
        small = opened.task.get(Degradation).degrade(clean[None], key, 4)["degraded"]
        made = eight_bit(opened.task.get(Transform).apply(*nets, {"degraded": small}, key)["video"][0, 7])
        return MEASURES["psnr_y"](made, clean[7]), MEASURES["ssim_y"](made, clean[7])

    found, ssim = map(float, run(averaged(opened.state, opened.frozen), clean))
    assert found == pytest.approx(26.8643, abs=2e-3) and ssim == pytest.approx(0.77484, abs=2e-4)
