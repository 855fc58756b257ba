"""Convolutions and transposed convolutions against PyTorch's: values, gradients, gradients of gradient norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn.conv import conv, conv_transpose

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

CONVS = [  # window, stride, padding, dilation, groups
    ((3, 3), 1, 1, 1, 1),
    ((4, 4), 2, 1, 1, 1),
    ((5, 3), 2, 2, 1, 1),
    ((1, 1), 2, 0, 1, 1),
    ((3, 3), 1, 2, 2, 1),
    ((3, 3), 2, 1, 1, 2),
    ((3, 3), 1, 1, 1, 4),
]
TRANSPOSED = [((4, 4), 2, 1, 0), ((5, 5), 2, 2, 1), ((4, 4), 1, 0, 0), ((3, 2), 3, 0, 2), ((2, 2), 2, 0, 0)]


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def compare(ours, theirs, x: np.ndarray, k: np.ndarray, to_torch: tuple[int, ...]):
    """Compare the value and, for loss = sum sin(value), the gradients and the gradients of |d loss / d x|^2."""
    to_ours = tuple(int(i) for i in np.argsort(to_torch))

    def loss(x, k):
        return jnp.sum(jnp.sin(ours(x, k)))

    def penalty(x, k):
        return jnp.sum(jax.grad(loss)(x, k) ** 2)

    images = torch.tensor(x.transpose(0, 3, 1, 2)).requires_grad_()
    kernel = torch.tensor(k.transpose(*to_torch).copy()).requires_grad_()
    value = theirs(images, kernel)
    first = torch.autograd.grad(value.sin().sum(), (images, kernel), create_graph=True)
    second = torch.autograd.grad((first[0] ** 2).sum(), (images, kernel))

    got = (ours(x, k), *jax.grad(loss, (0, 1))(x, k), *jax.grad(penalty, (0, 1))(x, k))
    for a, b in zip(got, (value, *first, *second), strict=True):
        b = b.detach().numpy()
        b = b.transpose(to_ours) if b.shape == kernel.shape else b.transpose(0, 2, 3, 1)
        np.testing.assert_allclose(a, b, rtol=0, atol=5e-5 * np.abs(b).max())


@pytest.mark.parametrize(("window", "stride", "padding", "dilation", "groups"), CONVS)
def test_conv(window, stride, padding, dilation, groups):
    pairs = ((padding, padding), (padding, padding))
    compare(
        lambda x, k: conv(x, k, (stride, stride), pairs, (dilation, dilation), groups),
        lambda x, k: torch.nn.functional.conv2d(x, k, None, stride, padding, dilation, groups),
        draw(2, 9, 8, 4),
        draw(*window, 4 // groups, 8),
        (3, 2, 0, 1),
    )


@pytest.mark.parametrize(("window", "stride", "padding", "output_padding"), TRANSPOSED)
def test_conv_transpose(window, stride, padding, output_padding):
    pair = (padding, padding - output_padding)
    compare(
        lambda x, k: conv_transpose(x, k, (stride, stride), (pair, pair)),
        lambda x, k: torch.nn.functional.conv_transpose2d(x, k, None, stride, padding, output_padding),
        draw(2, 4, 3, 5),
        draw(*window, 5, 6),
        (2, 3, 0, 1),
    )
