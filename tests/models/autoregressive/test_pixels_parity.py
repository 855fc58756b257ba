"""PixelCNN++ beside the same net and the same likelihood in PyTorch, written after the authors' equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.types import Context
from jaxgen.models.autoregressive.pixelcnn_plus import PixelCNNPlus
from tests.helpers.untrained import drawn

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.parity
NOTHING = Context(extra={}, ema={}, frozen={}, step=jnp.int32(0))


class Twin:
    """The net on [b c h w], with shifts made by padding and cropping as the authors make them."""

    def __init__(self, params, model):
        self.p, self.model = params, model

    def weights(self, name):
        node = self.p[name]
        v = torch.tensor(np.asarray(node["kernel"]))
        v = v.permute(3, 2, 0, 1) if v.dim() == 4 else v.T[:, :, None, None]  # [out in kh kw]
        g, b = (torch.tensor(np.asarray(node[leaf])) for leaf in ("weight_scale", "bias"))
        return g[:, None, None, None] * v / v.flatten(1).norm(dim=1)[:, None, None, None], b

    def down(self, name, x, stride=1):
        w, b = self.weights(name)
        side = (w.shape[3] - 1) // 2
        return F.conv2d(F.pad(x, (side, side, w.shape[2] - 1, 0)), w, b, stride)

    def right(self, name, x, stride=1):
        w, b = self.weights(name)
        return F.conv2d(F.pad(x, (w.shape[3] - 1, 0, w.shape[2] - 1, 0)), w, b, stride)

    def dense(self, name, x):
        return F.conv2d(x, *self.weights(name))

    def block(self, name, conv, x, a=None):
        both = lambda x: torch.cat([F.elu(x), F.elu(-x)], 1)  # noqa: E731
        inner = Twin(self.p[name], self.model)
        conv = getattr(inner, conv)
        h = conv("first", both(x))
        if a is not None:
            h = h + inner.dense("link", both(a))
        value, gate = conv("second", both(h)).chunk(2, 1)
        return x + value * torch.sigmoid(gate)

    def grow(self, name, x):
        w, b = self.weights(name)
        y = F.conv_transpose2d(x, w.permute(1, 0, 2, 3), b, 2)
        side = (w.shape[3] - 1) // 2
        return y[:, :, : 2 * x.shape[2], side : side + 2 * x.shape[3]]

    def __call__(self, x):
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        lower = lambda y: F.pad(y, (0, 0, 1, 0))[:, :, :-1]  # noqa: E731 -- one row down
        later = lambda y: F.pad(y, (1, 0))[..., :-1]  # noqa: E731 -- one column to the right
        us, hs = (
            [lower(self.down("first_rows", x))],
            [lower(self.down("first_above", x)) + later(self.right("first_left", x))],
        )
        scales, blocks = self.model.scales, self.model.blocks
        for s in range(scales):
            for i in range(blocks):
                us.append(self.block(f"rows_down_{s}_{i}", "down", us[-1]))
                hs.append(self.block(f"pixels_down_{s}_{i}", "right", hs[-1], us[-1]))
            if s + 1 < scales:
                us.append(self.down(f"rows_shrink_{s}", us[-1], 2))
                hs.append(self.right(f"pixels_shrink_{s}", hs[-1], 2))
        u, h = us.pop(), hs.pop()
        for s in reversed(range(scales)):
            for i in range(blocks + (s + 1 < scales)):
                u = self.block(f"rows_up_{s}_{i}", "down", u, us.pop())
                h = self.block(f"pixels_up_{s}_{i}", "right", h, torch.cat([u, hs.pop()], 1))
            if s:
                u, h = self.grow(f"rows_grow_{s - 1}", u), self.grow(f"pixels_grow_{s - 1}", h)
        assert not us and not hs
        return self.dense("out", F.elu(h))


def log_prob(out, x, count):
    """Return log P of images [b 3 h w] in nats, of the mixture with parameters [b count*10 h w]."""
    parts = out.unflatten(1, (count, 10))  # [b m 10 h w]
    logits, means, scales, c = (
        parts[:, :, 0],
        parts[:, :, 1:4],
        parts[:, :, 4:7].clamp(min=-7),
        torch.tanh(parts[:, :, 7:]),
    )
    x = x[:, None]  # [b 1 3 h w]
    red, green = x[:, :, 0], x[:, :, 1]
    means = torch.stack(
        [means[:, :, 0], means[:, :, 1] + c[:, :, 0] * red, means[:, :, 2] + c[:, :, 1] * red + c[:, :, 2] * green], 2
    )
    cdf = lambda v: torch.sigmoid((v - means).double() / scales.double().exp())  # noqa: E731
    upper = torch.where(x > 0.999, 1.0, cdf(x + 1 / 255))
    lower = torch.where(x < -0.999, 0.0, cdf(x - 1 / 255))
    each = torch.log(upper - lower).sum(2) + torch.log_softmax(logits.double(), 1)
    return torch.logsumexp(each, 1).sum((1, 2))


def test_pixelcnn_plus():
    model = PixelCNNPlus((8, 12, 3), width=6, blocks=2, scales=3, components=3)
    params = drawn(jax.eval_shape(model.init, jax.random.key(0))[0])
    draw = np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + 0.3 * draw.normal(size=x.shape).astype(np.float32), params)
    levels = draw.integers(0, 256, (2, *model.image))
    levels[0, :2] = draw.choice([0, 255], levels[0, :2].shape)  # the ends have the tails
    x = (levels / 127.5 - 1).astype(np.float32)
    theirs = torch.tensor(x).permute(0, 3, 1, 2)
    out = jax.jit(lambda x: model.module.apply({"params": params["net"]}, x))(x)
    expected = Twin(params["net"], model)(theirs)
    np.testing.assert_allclose(out, expected.permute(0, 2, 3, 1), atol=2e-5)
    assert float(expected.std()) > 0.1
    found, logits = jax.jit(lambda x: (model.log_prob(params, NOTHING, {"image": x}), model.logits(params, x)))(x)
    np.testing.assert_allclose(found, log_prob(expected, theirs, model.components), rtol=1e-4)
    # The same from the distribution of each level, given those before it, by which samples are drawn.
    picked = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), levels[..., None], -1)
    np.testing.assert_allclose(picked.sum((1, 2, 3, 4)), found, rtol=1e-4)
