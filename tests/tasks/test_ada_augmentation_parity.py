"""ADA against the same operations in PyTorch with the same parameters: grid_sample, conv2d, matrix products."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.tasks import ada_augmentation
from jaxgen.tasks.ada_augmentation import Parameters

pytestmark = pytest.mark.parity
torch: Any = pytest.importorskip("torch")
F: Any = torch.nn.functional if torch else None

BATCH = 16
APPLY = jax.jit(ada_augmentation.apply)


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (BATCH, *shape)).astype(np.float32)


def theirs(x: Any) -> Any:
    """Return our images [b h w c] as [b c h w] in float64."""
    return torch.tensor(np.asarray(x, np.float64).transpose(0, 3, 1, 2))


def separable(x: Any, taps: Any, down: int = 1) -> Any:
    """Return each channel of [b c h w] correlated with the taps vertically and horizontally, with stride `down`."""
    b, c, h, w = x.shape
    x = F.conv2d(x.reshape(b * c, 1, h, w), taps[:, None][None, None], stride=(down, 1))
    x = F.conv2d(x, taps[None, :][None, None], stride=(1, down))
    return x.reshape(b, c, *x.shape[2:])


def torch_warp(x: Any, inverse: Any) -> Any:
    """Pad by PyTorch's largest reflection, upsample by 2, sample with an affine grid, downsample and crop."""
    height, width = x.shape[2:]
    taps = torch.tensor(ada_augmentation.SYM6, dtype=torch.float64)
    taps = taps / taps.sum()
    x = F.pad(x, (width - 1, width - 1, height - 1, height - 1), mode="reflect")
    b, c, h, w = x.shape
    spread = torch.zeros(b, c, 2 * h, 2 * w, dtype=x.dtype)
    spread[:, :, ::2, ::2] = 4 * x
    fine = separable(F.pad(spread, (6, 5, 6, 5)), taps.flip(0))  # [b c 2h 2w], pixel i at 2 i
    size = (2 * (height + 6), 2 * (width + 6))  # of the range that is downsampled

    # affine_grid's coordinates are -1 and 1 at the edges, so pixel i of `fine` is at (i + 1/2) / w - 1. In our
    # coordinates it is half a fine pixel further left, at (i + 1) / 2 from the centre of the image.
    def to_pixels(n: tuple[int, int]) -> Any:
        return torch.tensor([[n[1] / 4, 0, 0.25], [0, n[0] / 4, 0.25], [0, 0, 1]], dtype=x.dtype)

    theta = torch.linalg.inv(to_pixels((2 * h, 2 * w))) @ inverse @ to_pixels(size)
    grid = F.affine_grid(theta[:, :2], (b, c, *size), align_corners=False)
    sampled = F.grid_sample(fine, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return separable(sampled[:, :, 1:-1, 1:-1], taps, down=2)


def torch_color(brightness, contrast, flip, hue, saturation) -> Any:
    """Return the 4x4 matrix as a product of five; the hue's is the exponential of the cross product with v."""
    v = torch.tensor([1.0, 1, 1, 0], dtype=torch.float64) / 3**0.5
    cross = torch.zeros(4, 4, dtype=torch.float64)
    cross[:3, :3] = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / 3**0.5
    one, luma = torch.eye(4, dtype=torch.float64), torch.outer(v, v)
    shift = one.clone()
    shift[:3, 3] = brightness
    scale = torch.diag(torch.tensor([contrast, contrast, contrast, 1.0], dtype=torch.float64))
    last = luma + (one - luma) * saturation
    last[3, 3] = 1
    return last @ torch.linalg.matrix_exp(hue * cross) @ (one - 2 * flip * luma) @ scale @ shift


@pytest.mark.parametrize("shape", [(16, 16, 3), (12, 20, 1)])
@pytest.mark.parametrize("pipe", ["blit", "geom", "bg"])
def test_geometry(pipe, shape):
    x = random_images(*shape)
    parameters = jax.jit(lambda: ada_augmentation.draw(jax.random.key(1), BATCH, 0.6, pipe, shape))()
    inverse = np.asarray(parameters.inverse, np.float64)
    # PyTorch reflects only once, and upsampling needs three pixels more: skip images that reach further.
    sides = np.array([shape[1], shape[0]])
    corners = np.array([(i, j, 1) for i in (-1, 1) for j in (-1, 1)]) * np.array([*(sides / 2 + 3), 1])
    reach = np.abs(np.einsum("bij,kj->bki", inverse, corners)[..., :2]).max(1) + 4
    near = (reach <= 1.5 * sides - 1).all(1)
    assert near.sum() >= 5
    expected = torch_warp(theirs(x), torch.tensor(inverse)).numpy().transpose(0, 2, 3, 1)
    found = np.asarray(APPLY(x, parameters))
    assert (np.abs(found - x).max((1, 2, 3)) > 0.1).mean() > 0.5
    np.testing.assert_allclose(found[near], expected[near], atol=3e-5)


def test_gradient_of_the_geometry():
    x, shape = random_images(12, 12, 2), (12, 12, 2)
    parameters = jax.jit(lambda: ada_augmentation.draw(jax.random.key(1), BATCH, 0.4, "geom", shape))()
    weight = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    found = jax.jit(jax.grad(lambda x: (weight * jnp.sin(ada_augmentation.apply(x, parameters))).sum()))(x)
    y = theirs(x).requires_grad_()
    warped = torch_warp(y, torch.tensor(np.asarray(parameters.inverse, np.float64)))
    (theirs(weight) * torch.sin(warped)).sum().backward()
    expected = y.grad.numpy().transpose(0, 2, 3, 1)
    inside = np.abs(np.asarray(parameters.inverse)[:, :2, :2]).sum((1, 2)) < 3
    moved = np.abs(np.asarray(parameters.inverse)[:, :2, 2]).max(1) < 3
    assert (inside & moved).sum() >= 4
    np.testing.assert_allclose(found[inside & moved], expected[inside & moved], atol=3e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_color(channels):
    x, draw = random_images(5, 6, channels), np.random.default_rng(1)
    drawn = [
        *(draw.normal(0, 0.2, BATCH), 2 ** draw.normal(0, 0.5, BATCH), draw.integers(0, 2, BATCH)),
        *(draw.uniform(-np.pi, np.pi, BATCH), 2 ** draw.normal(0, 1, BATCH)),
    ]
    parameters = Parameters(
        color=jax.jit(jax.vmap(ada_augmentation.color))(*(jnp.asarray(d, jnp.float32) for d in drawn))
    )
    matrices = torch.stack([torch_color(*d) for d in zip(*drawn, strict=True)])
    rgb = theirs(x).expand(-1, 3, -1, -1).reshape(BATCH, 3, -1)
    expected = (matrices[:, :3, :3] @ rgb + matrices[:, :3, 3:]).reshape(BATCH, 3, 5, 6)
    if channels == 1:
        expected = expected.mean(1, keepdim=True)
    np.testing.assert_allclose(APPLY(x, parameters), expected.numpy().transpose(0, 2, 3, 1), atol=1e-5)


def test_filter():
    """One convolution with 43 taps for each image; the filter bank is built by its recursion, as polynomials."""
    shape = (24, 30, 3)
    x = random_images(*shape)
    gains = np.asarray(ada_augmentation.draw(jax.random.key(2), BATCH, 0.7, "filter", shape).gains, np.float64)
    low = np.poly1d(ada_augmentation.SYM2)
    high = np.poly1d(np.array(ada_augmentation.SYM2) * [1, -1, 1, -1])
    low, high = (np.polymul(f, np.poly1d(f.coeffs[::-1])) / 2 for f in (low, high))
    bank = np.ones((1, 1))
    for _ in range(3):
        spread = np.zeros((len(bank), 2 * bank.shape[1] - 1))
        spread[:, ::2] = bank
        products = [np.polymul(band, low.coeffs) for band in spread]  # without leading zeros
        size = spread.shape[1] + low.order
        bank = np.stack([np.pad(product, (size - len(product), 0)) for product in products])
        side = (bank.shape[1] - len(high.coeffs)) // 2
        bank = np.concatenate([bank, np.pad(high.coeffs, side)[None]])
    assert bank.shape == (4, 43)
    padded = F.pad(theirs(x), (21, 21, 21, 21), mode="reflect")
    rows = [separable(one[None], torch.tensor(g @ bank)) for one, g in zip(padded, gains, strict=True)]
    expected = torch.cat(rows).numpy().transpose(0, 2, 3, 1)
    found = APPLY(x, Parameters(gains=jnp.asarray(gains, jnp.float32)))
    assert np.abs(expected - x).max() > 0.5
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_noise_and_cutout():
    x, shape = random_images(10, 14, 3), (10, 14, 3)
    draw = np.random.default_rng(3)
    pixels, centre = draw.normal(0, 0.1, x.shape).astype(np.float32), draw.uniform(0, 1, (BATCH, 2)).astype(np.float32)
    keep = jax.vmap(lambda c: ada_augmentation.cutout(c, jnp.float32(0.5), *shape[:2]))(jnp.asarray(centre))
    y = theirs(x) + theirs(pixels)
    for one, (cx, cy) in zip(y, centre, strict=True):  # the pixels with centres inside the box
        rows = ((torch.arange(10) + 0.5) / 10 - float(cy)).abs() < 0.25
        columns = ((torch.arange(14) + 0.5) / 14 - float(cx)).abs() < 0.25
        one[:, torch.outer(rows, columns)] = 0
    found = APPLY(x, Parameters(noise=jnp.asarray(pixels), keep=keep))
    np.testing.assert_allclose(found, y.numpy().transpose(0, 2, 3, 1), atol=1e-6)
