"""Denoising nets against the published ones written in PyTorch: outputs, gradients, names, the number of parameters."""

from typing import Any

import jax
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.interop.entries import to_ours
from jaxgen.interop.weight_names import rule_of
from jaxgen.models.restoration import dncnn, ffdnet, nafnet, unet
from jaxgen.models.restoration.dncnn import DnCNN
from jaxgen.models.restoration.ffdnet import FFDNet
from jaxgen.models.restoration.nafnet import NAFNet
from jaxgen.models.restoration.restormer import Restormer
from jaxgen.models.restoration.unet import UNet
from jaxgen.models.restoration.zero_dce import ZeroDCE
from jaxgen.training.dry_run import count

pytestmark = pytest.mark.parity
torch: Any = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional


# ---- the nets, [b c h w], their parameters under the authors' names


def stack(channels: tuple[int, int], width: int, depth: int, norm: bool) -> Any:
    """Convolutions with rectifiers between, and batch norm before those but the first."""
    layers = [nn.Conv2d(channels[0], width, 3, padding=1), nn.ReLU()]
    for _ in range(depth - 2):
        layers += [nn.Conv2d(width, width, 3, padding=1, bias=not norm)]
        layers += [nn.BatchNorm2d(width), nn.ReLU()] if norm else [nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, channels[1], 3, padding=1))


class TorchDnCNN(nn.Module):
    def __init__(self, m: DnCNN):
        super().__init__()
        self.model = stack((m.channels, m.channels), m.width, m.depth, m.norm)

    def forward(self, x):
        return x - self.model(x)


class TorchFFDNet(nn.Module):
    def __init__(self, m: FFDNet):
        super().__init__()
        self.model = stack((4 * m.channels + 1, 4 * m.channels), m.width, m.depth, False)

    def forward(self, x, sigma):
        small = F.pixel_unshuffle(x, 2)
        level = (sigma / 255)[:, None, None, None].expand(-1, 1, *small.shape[2:])
        return F.pixel_shuffle(self.model(torch.cat([small, level], 1)), 2)


def over_channels(x, weight, bias, epsilon):
    return F.layer_norm(x.movedim(1, -1), weight.shape, weight, bias, epsilon).movedim(-1, 1)


class Gates(nn.Module):
    """NAFNet's block."""

    def __init__(self, c: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(c), nn.LayerNorm(c)
        sizes = {"conv1": (c, 2 * c), "conv3": (c, c), "conv4": (c, 2 * c), "conv5": (c, c)}
        for name, (here, there) in sizes.items():
            self.add_module(name, nn.Conv2d(here, there, 1))
        self.conv2 = nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1))
        self.beta, self.gamma = (nn.Parameter(torch.zeros(1, c, 1, 1)) for _ in range(2))

    def forward(self, x):
        gate = lambda x: torch.mul(*x.chunk(2, 1))  # noqa: E731
        y = gate(self.conv2(self.conv1(over_channels(x, self.norm1.weight, self.norm1.bias, 1e-6))))
        x = x + self.beta * self.conv3(y * self.sca(y))
        y = gate(self.conv4(over_channels(x, self.norm2.weight, self.norm2.bias, 1e-6)))
        return x + self.gamma * self.conv5(y)


class TorchNAFNet(nn.Module):
    def __init__(self, m: NAFNet):
        super().__init__()
        blocks = lambda c, n: nn.Sequential(*[Gates(c) for _ in range(n)])  # noqa: E731
        widths = [m.width * 2**i for i in range(len(m.encoder) + 1)]
        *fine, coarse = widths
        self.intro = nn.Conv2d(m.image[2], m.width, 3, padding=1)
        self.encoders = nn.ModuleList([blocks(c, n) for c, n in zip(fine, m.encoder, strict=True)])
        self.downs = nn.ModuleList([nn.Conv2d(c, 2 * c, 2, 2) for c in fine])
        self.middle_blks = blocks(coarse, m.middle)
        ups = [nn.Sequential(nn.Conv2d(2 * c, 4 * c, 1, bias=False), nn.PixelShuffle(2)) for c in fine[::-1]]
        self.ups = nn.ModuleList(ups)
        self.decoders = nn.ModuleList([blocks(c, n) for c, n in zip(fine[::-1], m.decoder, strict=True)])
        self.ending = nn.Conv2d(m.width, m.image[2], 3, padding=1)

    def forward(self, x):
        y, left = self.intro(x), []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            left.append(encoder(y))
            y = down(left[-1])
        y = self.middle_blks(y)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            y = decoder(up(y) + left.pop())
        return x + self.ending(y)


def plain(here: int, there: int, side: int = 1, groups: int = 1) -> Any:
    return nn.Conv2d(here, there, side, padding=side // 2, groups=groups, bias=False)


class Scale(nn.Module):
    """Restormer's two norms."""

    def __init__(self, c: int, centred: bool):
        super().__init__()
        self.body = nn.Module()
        self.body.weight = nn.Parameter(torch.ones(c))
        if centred:
            self.body.bias = nn.Parameter(torch.zeros(c))
        self.centred = centred

    def forward(self, x):
        if self.centred:
            return over_channels(x, self.body.weight, self.body.bias, 1e-5)
        return x / (x.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt() * self.body.weight[:, None, None]


class Transposed(nn.Module):
    """Restormer's block."""

    def __init__(self, c: int, heads: int, expansion: float, centred: bool):
        super().__init__()
        hidden = int(c * expansion)
        self.norm1, self.norm2 = Scale(c, centred), Scale(c, centred)
        self.attn, self.ffn, self.heads = nn.Module(), nn.Module(), heads
        self.attn.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.attn.qkv, self.attn.qkv_dwconv = plain(c, 3 * c), plain(3 * c, 3 * c, 3, 3 * c)
        self.attn.project_out = plain(c, c)
        self.ffn.project_in, self.ffn.dwconv = plain(c, 2 * hidden), plain(2 * hidden, 2 * hidden, 3, 2 * hidden)
        self.ffn.project_out = plain(hidden, c)

    def forward(self, x):
        attn, ffn = self.attn, self.ffn
        qkv = attn.qkv_dwconv(attn.qkv(self.norm1(x)))
        q, k, v = (y.unflatten(1, (self.heads, -1)).flatten(3) for y in qkv.chunk(3, 1))
        weights = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * attn.temperature).softmax(-1)
        x = x + attn.project_out((weights @ v).flatten(1, 2).unflatten(2, x.shape[2:]))
        a, b = ffn.dwconv(ffn.project_in(self.norm2(x))).chunk(2, 1)
        return x + ffn.project_out(F.gelu(a) * b)


class TorchRestormer(nn.Module):
    """Of any number of resolutions; the authors' has four."""

    def __init__(self, m: Restormer):
        super().__init__()
        self.last = len(m.blocks) - 1
        at = lambda level: m.width * 2**level  # noqa: E731

        def stage(name: str, c: int, level: int, n: int):
            made = [Transposed(c, m.heads[level], m.expansion, m.centred) for _ in range(n)]
            self.add_module(name, nn.Sequential(*made))

        def resample(name: str, here: int, there: int, shuffle):
            self.add_module(name, nn.Module())
            getattr(self, name).body = nn.Sequential(plain(here, there, 3), shuffle(2))

        self.patch_embed = nn.Module()
        self.patch_embed.proj = plain(m.image[2], m.width, 3)
        for level in range(self.last):
            i = level + 1
            stage(f"encoder_level{i}", at(level), level, m.blocks[level])
            resample(f"down{i}_{i + 1}", at(level), at(level) // 2, nn.PixelUnshuffle)
            resample(f"up{i + 1}_{i}", at(level + 1), 2 * at(level + 1), nn.PixelShuffle)
            if level:
                self.add_module(f"reduce_chan_level{i}", plain(2 * at(level), at(level)))
            stage(f"decoder_level{i}", at(level) if level else 2 * at(0), level, m.blocks[level])
        stage("latent", at(self.last), self.last, m.blocks[-1])
        stage("refinement", 2 * m.width, 0, m.refinement)
        self.output = plain(2 * m.width, m.image[2], 3)

    def forward(self, x):
        y, left = self.patch_embed.proj(x), []
        for i in range(1, self.last + 1):
            left.append(getattr(self, f"encoder_level{i}")(y))
            y = getattr(self, f"down{i}_{i + 1}").body(left[-1])
        y = self.latent(y)
        for i in range(self.last, 0, -1):
            y = torch.cat([getattr(self, f"up{i + 1}_{i}").body(y), left.pop()], 1)
            y = getattr(self, f"decoder_level{i}")(getattr(self, f"reduce_chan_level{i}")(y) if i > 1 else y)
        return x + self.output(self.refinement(y))


class TorchUNet(nn.Module):
    def __init__(self, m: UNet):
        super().__init__()
        w, c, self.depth = m.width, m.image[2], m.depth
        sizes = {"enc_conv0": (c, w)} | {f"enc_conv{i}": (w, w) for i in range(1, m.depth + 2)}
        for i in range(m.depth, 0, -1):
            below, skip = (w if i == m.depth else 2 * w), (w if i > 1 else c)
            wide, narrow = (2 * w, 2 * w) if i > 1 else (4 * w // 3, 2 * w // 3)
            sizes |= {f"dec_conv{i}a": (below + skip, wide), f"dec_conv{i}b": (wide, narrow)}
        sizes["dec_conv1c"] = 2 * w // 3, c
        for name, (here, there) in sizes.items():
            self.add_module(name, nn.Conv2d(here, there, 3, padding=1))

    def forward(self, x):
        layer = lambda y, name: F.leaky_relu(getattr(self, name)(y), 0.1)  # noqa: E731
        left, y = [x], layer(x, "enc_conv0")
        for i in range(1, self.depth + 1):
            y = F.max_pool2d(layer(y, f"enc_conv{i}"), 2)
            left.append(y)
        y = layer(left.pop(), f"enc_conv{self.depth + 1}")
        for i in range(self.depth, 0, -1):
            y = torch.cat([F.interpolate(y, scale_factor=2, mode="nearest"), left.pop()], 1)
            y = layer(layer(y, f"dec_conv{i}a"), f"dec_conv{i}b")
        return self.dec_conv1c(y)


class TorchZeroDCE(nn.Module):
    """The image after the curves, [b 3 h w] in [0, 1], as in Li-Chongyi/Zero-DCE."""

    def __init__(self, m: ZeroDCE):
        super().__init__()
        sizes = [3, *[m.width] * 3, *[2 * m.width] * 3]
        for i, (here, there) in enumerate(zip(sizes, [*[m.width] * 6, 3 * m.curves], strict=True), 1):
            setattr(self, f"e_conv{i}", nn.Conv2d(here, there, 3, padding=1))
        self.curves = m.curves

    def forward(self, x):
        layers = [F.relu(self.e_conv1(x))]
        for conv in (self.e_conv2, self.e_conv3, self.e_conv4):
            layers.append(F.relu(conv(layers[-1])))
        y = layers.pop()
        for conv in (self.e_conv5, self.e_conv6):
            y = F.relu(conv(torch.cat([layers.pop(), y], 1)))
        for r in torch.tanh(self.e_conv7(torch.cat([layers.pop(), y], 1))).chunk(self.curves, 1):
            x = x + r * (x**2 - x)
        return x


# ---- the comparison


def arrays(tensors) -> dict[str, np.ndarray]:
    """Copies: training moves the statistics of norms."""
    return {name: x.detach().numpy().copy() for name, x in tensors}


def compare(name: str, model: Any, net: Any, reference: Any, train: bool = False, conditioning: tuple = ()):
    """Assert that outputs and gradients agree, of all parameters and the image."""
    torch.manual_seed(0)
    for key, p in reference.named_parameters():
        around = 1.0 if (p.ndim == 1 and key.endswith("weight")) or key.endswith("temperature") else 0.0
        p.data = around + torch.randn_like(p) * (0.1 if p.ndim == 1 else 1 / np.sqrt(p[0].numel()))
    for key, p in reference.named_buffers():
        if key.endswith("running_var"):
            p.copy_(1 + torch.rand_like(p))
        elif key.endswith("running_mean"):
            p.copy_(torch.randn_like(p) * 0.1)
    reference.train(train)
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(2, 2, *model.image)).astype(np.float32)
    like = jax.eval_shape(lambda: net.init(jax.random.key(0), x, *conditioning, train=False))
    rule, before = rule_of(name), arrays(reference.state_dict().items())
    ours = to_ours(rule, model, "restorer", like, before)

    def loss(params, x):
        out = net.apply(ours | {"params": params}, x, *conditioning, train=train, mutable=["batch_stats"])[0]
        return (out * y).sum(), out

    slopes, out = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(ours["params"], x)

    tensor = torch.tensor(x, requires_grad=True)
    want = reference(tensor.permute(0, 3, 1, 2), *map(torch.tensor, conditioning)).permute(0, 2, 3, 1)
    (want * torch.tensor(y)).sum().backward()

    def close(a, b, what, tolerance):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max(), err_msg=what)

    close(out, want.detach().numpy(), "output", 1e-5)
    close(slopes[1], tensor.grad.numpy(), "image", 1e-4)
    theirs = before | arrays((key, p.grad) for key, p in reference.named_parameters())
    grads = to_ours(rule, model, "restorer", like, theirs)["params"]
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(slopes[0]), jax.tree.leaves(grads), strict=True):
        assert np.abs(b).max() > 0, path
        close(a, b, jax.tree_util.keystr(path), 1e-4)


@pytest.mark.parametrize("train", [False, True], ids=["running", "batch"])
@pytest.mark.parametrize("norm", [True, False], ids=["norm", "folded"])
def test_dncnn_is_the_published_one(norm, train):
    model = DnCNN((8, 10, 3), channels=3, depth=5, width=6, norm=norm)
    compare("dncnn", model, dncnn.DnCNNNet(5, 6, norm, 3), TorchDnCNN(model), train)


@pytest.mark.parametrize("channels", [1, 3])
def test_ffdnet_is_the_published_one(channels):
    model = FFDNet((8, 10, channels), channels=channels, depth=5, width=6)
    sigma = np.array([15, 60], np.float32)
    compare("ffdnet", model, ffdnet.FFDNetModule(5, 6, channels), TorchFFDNet(model), conditioning=(sigma,))


def test_nafnet_is_the_published_one():
    model = NAFNet((8, 12, 3), width=4, encoder=(1, 2), middle=1, decoder=(2, 1))
    net = nafnet.NAFNetModule(model.width, model.encoder, model.middle, model.decoder, 3)
    compare("nafnet", model, net, TorchNAFNet(model))


@pytest.mark.parametrize("centred", [False, True], ids=["bias-free", "centred"])
def test_restormer_is_the_published_one(centred):
    model = Restormer((8, 12, 3), width=4, blocks=(1, 2, 1), refinement=1, heads=(1, 2, 4), centred=centred)
    compare("restormer", model, model.module(), TorchRestormer(model))


def test_the_u_net_is_noise2noises():
    model = UNet((8, 12, 3), width=6, depth=2)
    compare("unet-denoise", model, unet.UNetModule(6, 2, 3), TorchUNet(model))


class Brightened:
    """Zero-DCE's image as if it were a net's answer."""

    def __init__(self, model: ZeroDCE):
        self.model = model

    def init(self, key, x, train):
        return {"params": self.model.init(key)[0]["restorer"]}

    def apply(self, variables, x, train, mutable):
        return self.model.brighten({"restorer": variables["params"]}, x)[0], {}


def test_zero_dces_weights_brighten_what_the_published_ones_do():
    model = ZeroDCE((16, 16, 3), width=4, curves=3)
    compare("zero-dce", model, Brightened(model), TorchZeroDCE(model))


REFERENCES = {
    "dncnn": TorchDnCNN,
    "dncnn-blind": TorchDnCNN,
    "dncnn-colour": TorchDnCNN,
    "ffdnet": TorchFFDNet,
    "ffdnet-colour": TorchFFDNet,
    "nafnet": TorchNAFNet,
    "nafnet-64": TorchNAFNet,
    "restormer": TorchRestormer,
    "unet-denoise": TorchUNet,
    "zero-dce": TorchZeroDCE,
}


@pytest.mark.parametrize("name", REFERENCES)
def test_the_presets_have_the_published_number_of_parameters(name):
    preset = zoo.load(name)
    with torch.device("meta"):
        theirs = sum(p.numel() for p in REFERENCES[name](preset.run.model).parameters())
    ours = jax.eval_shape(lambda: preset.run.model.task(1).init(jax.random.key(0), {}))[0]
    assert count(ours) == theirs == preset.parameters


def test_restormer_with_bias_has_the_papers_number():
    """The paper states 26.13 M for its nets for rain and blur."""
    task = Restormer(centred=True).task(1)
    assert count(jax.eval_shape(lambda: task.init(jax.random.key(0), {}))[0]) == 26_126_644
