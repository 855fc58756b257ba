"""The nets of the VQ models against the same layers in PyTorch, with the same weights."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models.vae.vq_vae import VQVAEDecoder, VQVAEEncoder
from jaxgen.models.vae.vqgan import PatchDiscriminator

pytestmark = pytest.mark.parity
torch: Any = pytest.importorskip("torch")


def layer(params: Any, name: str, strides: int = 1, padding: int = 1, transposed: bool = False):
    """Return torch's convolution with our weights: [h w in out] -> [out in h w]; transposed: [in out h w]."""
    nn = torch.nn
    kernel = np.asarray(params[name]["kernel"])
    h, _, a, b = kernel.shape
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    made = kind(a, b, h, strides, padding, bias="bias" in params[name])
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(kernel.transpose((2, 3, 0, 1) if transposed else (3, 2, 0, 1)).copy()))
        if "bias" in params[name]:
            made.bias.copy_(torch.from_numpy(np.array(params[name]["bias"])))
    return made


class Block(torch.nn.Module):
    def __init__(self, params):
        super().__init__()
        relu = torch.nn.ReLU
        self.net = torch.nn.Sequential(relu(), layer(params, "conv_0"), relu(), layer(params, "conv_1", padding=0))

    def forward(self, x):
        return x + self.net(x)


def compare(ours: Any, theirs: Any, x: np.ndarray):
    """Assert that torch's net gives our output for images f32[b h w c]."""
    with torch.no_grad():
        out = theirs(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(ours, out.reshape(np.shape(ours)), atol=2e-5)


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_the_encoder_and_the_decoder():
    relu, seq = torch.nn.ReLU(), torch.nn.Sequential
    x, encoder, decoder = random_images(2, 16, 12, 3), VQVAEEncoder(2, 8, 2, 5), VQVAEDecoder(2, 8, 2, 3)
    p: Any = encoder.init(jax.random.key(0), jnp.asarray(x))["params"]
    blocks = [Block(p[f"block_{i}"]) for i in range(2)]
    down = [layer(p, "down_0", 2), relu, layer(p, "down_1", 2), relu]
    theirs = seq(*down, layer(p, "in"), *blocks, relu, layer(p, "out", padding=0))
    compare(encoder.apply({"params": p}, x), theirs, x)
    z = random_images(2, 4, 3, 5)
    p = decoder.init(jax.random.key(1), jnp.asarray(z))["params"]
    blocks = [Block(p[f"block_{i}"]) for i in range(2)]
    up = [relu, layer(p, "up_1", 2, transposed=True), relu, layer(p, "out", 2, transposed=True)]
    compare(decoder.apply({"params": p}, z), seq(layer(p, "in"), *blocks, *up), z)


def test_the_patch_discriminator():
    nn, x, net = torch.nn, random_images(2, 32, 32, 3), PatchDiscriminator(2, 8)
    found: Any = net.init(jax.random.key(0), jnp.asarray(x))
    p, layers = found["params"], []
    for i, strides in enumerate((2, 2, 1)):
        layers.append(layer(p, f"layer_{i}", strides))
        if i:
            norm = nn.BatchNorm2d(8 * 2**i)
            with torch.no_grad():
                norm.weight.copy_(torch.from_numpy(np.array(p[f"norm_{i}"]["scale"])))
            layers.append(norm)
        layers.append(nn.LeakyReLU(0.2))
    theirs = nn.Sequential(*layers, layer(p, "out")).train()
    compare(net.apply(found, x, mutable=["batch_stats"])[0], theirs, x)
