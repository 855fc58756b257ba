"""RIFE beside a PyTorch net with the structure and names of the authors' code: outputs, losses and gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.core.capabilities import Transform
from jaxgen.core.types import Context
from jaxgen.interop.weight_names import plain, to_theirs
from jaxgen.losses.restoration import laplacian

torch: Any = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional
pytestmark = pytest.mark.parity


def warped(x, flow):
    h, w = x.shape[2:]
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    place = torch.stack([2 * (columns + flow[:, 0]) / (w - 1) - 1, 2 * (rows + flow[:, 1]) / (h - 1) - 1], -1)
    return F.grid_sample(x, place, padding_mode="border", align_corners=True)


def scaled(x, factor):
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def conv(c, out, stride=1):
    return nn.Sequential(nn.Conv2d(c, out, 3, stride, 1), nn.PReLU(out))


def deconv(c, out):
    return nn.Sequential(nn.ConvTranspose2d(c, out, 4, 2, 1), nn.PReLU(out))


class Block(nn.Module):
    def __init__(self, c, width):
        super().__init__()
        self.conv0 = nn.Sequential(conv(c, width // 2, 2), conv(width // 2, width, 2))
        self.convblock = nn.Sequential(*(conv(width, width) for _ in range(8)))
        self.lastconv = nn.ConvTranspose2d(width, 5, 4, 2, 1)

    def forward(self, x, flow, scale):
        x = torch.cat([scaled(x, 1 / scale), *([] if flow is None else [scaled(flow, 1 / scale) / scale])], 1)
        x = self.conv0(x)
        made = scaled(self.lastconv(self.convblock(x) + x), 2 * scale)
        return made[:, :4] * scale * 2, made[:, 4:]


class Halving(nn.Module):
    def __init__(self, c, out):
        super().__init__()
        self.conv1, self.conv2 = conv(c, out, 2), conv(out, out)

    def forward(self, x):
        return self.conv2(self.conv1(x))


class ContextNet(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = (
            Halving(n, m) for n, m in ((3, c), (c, 2 * c), (2 * c, 4 * c), (4 * c, 8 * c))
        )

    def forward(self, x, flow):
        found = []
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x, flow = layer(x), scaled(flow, 0.5) / 2
            found.append(warped(x, flow))
        return found


class UNet(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.down0, self.down1 = Halving(17, 2 * c), Halving(4 * c, 4 * c)
        self.down2, self.down3 = Halving(8 * c, 8 * c), Halving(16 * c, 16 * c)
        self.up0, self.up1, self.up2, self.up3 = (
            deconv(n, m) for n, m in ((32 * c, 8 * c), (16 * c, 4 * c), (8 * c, 2 * c), (4 * c, c))
        )
        self.conv = nn.Conv2d(c, 3, 3, padding=1)

    def forward(self, x, near, far):
        s0 = self.down0(x)
        s1 = self.down1(torch.cat([s0, near[0], far[0]], 1))
        s2 = self.down2(torch.cat([s1, near[1], far[1]], 1))
        x = self.up0(torch.cat([self.down3(torch.cat([s2, near[2], far[2]], 1)), near[3], far[3]], 1))
        x = self.up2(torch.cat([self.up1(torch.cat([x, s2], 1)), s1], 1))
        return torch.sigmoid(self.conv(self.up3(torch.cat([x, s0], 1))))


class RIFE(nn.Module):
    def __init__(self, model):
        super().__init__()
        a, b, c = model.widths
        self.block0, self.block1, self.block2 = Block(6, a), Block(17, b), Block(17, c)
        self.block_tea = Block(20, model.teacher)
        self.contextnet, self.unet = ContextNet(model.refiner), UNet(model.refiner)

    def forward(self, first, last, true):
        flow: Any = None
        mask: Any = None
        near, far, flows, frames = first, last, [], []
        for i, scale in enumerate((4, 2, 1)):
            seen = torch.cat([first, last, *([near, far, mask] if i else [])], 1)
            change, more = (self.block0, self.block1, self.block2)[i](seen, flow, scale)
            flow, mask = (change, more) if flow is None else (flow + change, mask + more)
            near, far = warped(first, flow[:, :2]), warped(last, flow[:, 2:])
            flows.append(flow)
            frames.append(near * torch.sigmoid(mask) + far * (1 - torch.sigmoid(mask)))
        change, more = self.block_tea(torch.cat([first, last, near, far, mask, true], 1), flow, 1)
        best, share = flow + change, torch.sigmoid(mask + more)
        taught = warped(first, best[:, :2]) * share + warped(last, best[:, 2:]) * (1 - share)
        distillation: Any = 0.0
        for one, frame in zip(flows, frames, strict=True):
            better = (frame - true).abs().mean(1) > (taught - true).abs().mean(1) + 0.01
            distillation = distillation + (((best.detach() - one) ** 2).mean(1) ** 0.5 * better.detach()).mean()
        near_features, far_features = self.contextnet(first, flow[:, :2]), self.contextnet(last, flow[:, 2:])
        details = self.unet(torch.cat([first, last, near, far, mask, flow], 1), near_features, far_features)
        return (frames[-1] + 2 * details - 1).clamp(0, 1), taught, distillation


def pyramid_loss(a, b, levels):
    kernel = torch.tensor([1.0, 4, 6, 4, 1]).outer(torch.tensor([1.0, 4, 6, 4, 1])) / 256

    def smoothed(x):
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel.expand(3, 1, 5, 5), groups=3)

    total: Any = 0.0
    for _ in range(levels):
        downs = [smoothed(x)[:, :, ::2, ::2] for x in (a, b)]
        ups = []
        for x, down in zip((a, b), downs, strict=True):
            wide = torch.zeros_like(x)
            wide[:, :, ::2, ::2] = down
            ups.append(x - 4 * smoothed(wide))
        total = total + F.l1_loss(*ups)
        a, b = downs
    return total


def channels_last(x):
    return x.permute(0, 2, 3, 1).detach().numpy()


def test_the_net_and_its_losses_are_the_published_ones(plain_convolutions):
    del plain_convolutions
    model = zoo.load("rife").tiny.model
    task, rng = model.task(1), np.random.default_rng(0)
    shapes, _ = jax.eval_shape(task.init, jax.random.key(0), {})

    def drawn(x):
        if x.ndim == 1:
            return rng.uniform(-0.2, 0.3, x.shape).astype(np.float32)
        return (rng.normal(size=x.shape) / np.prod(x.shape[:-1]) ** 0.5).astype(np.float32)

    params = jax.tree.map(drawn, shapes)
    first, true, last = (rng.uniform(-1, 1, (2, 1, 32, 32, 3)).astype(np.float32) for _ in range(3))
    context = Context({}, {}, {}, jnp.zeros((), jnp.int32), train=False)
    batch = {"first": first, "middle": true, "last": last}

    @jax.jit
    def run(params):
        loss = lambda params: task.phases[0].loss(params, context, batch, jax.random.key(0))  # noqa: E731
        (value, aux), slopes = jax.value_and_grad(loss, has_aux=True)(params)
        given = {"first": first, "last": last}
        return value, aux.metrics, slopes, task.get(Transform).apply(params, context, given, None)["middle"]

    value, metrics, slopes, made = run(params)
    theirs = RIFE(model)
    names = lambda tree: to_theirs(plain, model, "interpolator", {"params": tree["interpolator"]})  # noqa: E731
    theirs.load_state_dict({name: torch.tensor(x) for name, x in names(params).items()})
    a, b, c = (torch.tensor((x[:, 0] + 1) / 2).permute(0, 3, 1, 2) for x in (first, true, last))
    want, taught, distillation = theirs(a, c, b)
    np.testing.assert_allclose(made[:, 0], 2 * channels_last(want) - 1, atol=2e-4)
    student, teacher = pyramid_loss(want, b, 4), pyramid_loss(taught, b, 4)
    whole = student + teacher + 0.01 * distillation
    for ours, reference in (
        (metrics["student"], student),
        (metrics["teacher"], teacher),
        (metrics["distillation"], distillation),
        (value, whole),
    ):
        assert float(ours) == pytest.approx(float(reference.detach()), rel=1e-4)
    whole.backward()
    for name, p in theirs.named_parameters():
        scale = max(np.abs(p.grad.numpy()).max(), 1e-5)  # the slope of a unit that is never below 0 has none
        np.testing.assert_allclose(names(slopes)[name], p.grad.numpy(), atol=2e-3 * scale, err_msg=name)


def test_the_numbers_of_parameters_are_those_of_the_authors_code():
    net = RIFE(zoo.load("rife").run.model)
    count = lambda net: sum(p.numel() for p in net.parameters())  # noqa: E731
    assert count(net) == zoo.load("rife").parameters == 10_708_215
    assert round((count(net) - count(net.block_tea) - count(net.contextnet)) / 1e6, 1) == 9.8  # the paper's table


def test_the_laplacian_loss_has_five_levels():
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(0, 1, (1, 64, 96, 3)).astype(np.float32) for _ in range(2))
    x, y = (torch.tensor(x).permute(0, 3, 1, 2) for x in (a, b))
    found = jax.jit(laplacian)(a, b)
    np.testing.assert_allclose(found, [float(pyramid_loss(x, y, 5))], rtol=1e-5)
