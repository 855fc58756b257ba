"""Operations of StyleGAN2 against explicit sums: FIR resampling, modulation, equalised layers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxgen.nn.modulated import FIR, EqualConv, EqualDense, demodulation, modulated_conv, resampled_conv
from jaxgen.nn.upfirdn import blur, downsample, upfirdn2d, upsample


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


# ---- upfirdn


def naive(x, taps, up=1, down=1, pads=((0, 0), (0, 0)), gain=1.0):
    """Return the reference: insert zeros, pad or crop, convolve by NumPy, keep every down-th pixel."""
    y = np.zeros((x.shape[0], x.shape[1] * up, x.shape[2] * up, x.shape[3]))
    y[:, ::up, ::up] = x
    for axis, pad in zip((1, 2), pads, strict=True):
        width = [(0, 0)] * 4
        width[axis] = (max(pad[0], 0), max(pad[1], 0))
        y = np.pad(y, width)
        y = np.take(y, range(max(-pad[0], 0), y.shape[axis] - max(-pad[1], 0)), axis)
        y = np.apply_along_axis(lambda row: np.convolve(row, taps, "valid"), axis, y)
        y = np.take(y, range(0, y.shape[axis], down), axis)
    return y * gain


CASES = [  # up, down, pads, taps
    (1, 1, ((0, 0), (0, 0)), 1),
    (1, 1, ((2, 1), (2, 1)), 4),
    (2, 1, ((2, 1), (2, 1)), 4),
    (1, 2, ((1, 1), (1, 1)), 4),
    (2, 1, ((0, 3), (4, -2)), 3),
    (1, 2, ((-1, 3), (0, -2)), 4),
    (1, 1, ((-2, 3), (5, -1)), 5),
    (3, 2, ((2, 2), (1, 3)), 5),
    (2, 3, ((-2, 4), (3, -3)), 4),
    (4, 1, ((1, 2), (0, 0)), 2),  # phases without a tap
    (2, 1, ((6, 5), (6, 5)), 12),  # two passes
    (1, 2, ((-2, 9), (5, 5)), 12),
]
each = pytest.mark.parametrize(("up", "down", "pads", "n"), CASES)


@each
def test_upfirdn_is_zeros_convolution_and_every_nth_pixel(up, down, pads, n):
    x, taps = normal(2, 7, 9, 3), normal(n, seed=1)
    with jax.enable_x64(True):
        y = upfirdn2d(jnp.asarray(x), taps, up, down, pads, gain=2.5)
        np.testing.assert_allclose(y, naive(x, taps, up, down, pads, 2.5), rtol=0, atol=1e-12)
        half = upfirdn2d(jnp.asarray(x, jnp.bfloat16), taps, up, down, pads)
    rounded = naive(np.asarray(jnp.asarray(x, jnp.bfloat16), np.float64), taps, up, down, pads)
    assert half.dtype == jnp.bfloat16
    twice = 1 if n < 6 else 2  # errors are roundings to 8 bits only
    np.testing.assert_allclose(np.asarray(half, np.float64), rounded, rtol=0, atol=twice * 2**-8 * abs(rounded).max())


@each
def test_upfirdn_transpose_derivatives_and_vmap(up, down, pads, n):
    x, taps = normal(2, 7, 9, 3), normal(n, seed=1)
    with jax.enable_x64(True):

        def apply(x):
            return upfirdn2d(x, taps, up, down, pads)

        y, back = jax.vjp(apply, jnp.asarray(x))
        other = normal(*y.shape, seed=2)
        assert np.vdot(y, other) == pytest.approx(np.vdot(x, back(jnp.asarray(other))[0]), rel=1e-12)
        _, tangent = jax.jvp(apply, (jnp.asarray(x),), (jnp.asarray(2 * x),))
        np.testing.assert_allclose(tangent, 2 * y, rtol=0, atol=1e-12)
        many = jnp.asarray(normal(2, 7, 9, 3, 4, seed=3))
        batched = jax.vmap(apply, in_axes=4, out_axes=4)(many)
        np.testing.assert_allclose(batched[..., 2], apply(many[..., 2]), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("up", "down", "pads", "n"), [CASES[i] for i in (2, 3, 7)])
def test_upfirdn_derivatives_equal_finite_differences(up, down, pads, n):
    taps = normal(n, seed=1)
    with jax.enable_x64(True):
        x = jnp.asarray(normal(1, 4, 5, 2))
        check_grads(jax.jit(lambda x: jnp.sin(upfirdn2d(x, taps, up, down, pads)).sum()), (x,), 2, rtol=1e-6)


def test_resampling_keeps_size_and_brightness():
    x = normal(2, 6, 8, 3)
    with jax.enable_x64(True):
        for n in (2, 3, 4, 6):
            taps = np.abs(normal(n, seed=n))
            taps /= taps.sum()
            up, down, same = (f(jnp.asarray(x), taps) for f in (upsample, downsample, blur))
            assert (up.shape, down.shape, same.shape) == ((2, 12, 16, 3), (2, 3, 4, 3), x.shape)
        flat = jnp.ones((1, 8, 8, 1))
        for f in (upsample, downsample, blur):
            np.testing.assert_allclose(f(flat, FIR)[:, 2:-2, 2:-2], 1, atol=1e-12)
        # A ramp keeps its position: pixel i of the large image lies at (i + 1/2) / 2 - 1/2 of the small one.
        ramp = jnp.broadcast_to(jnp.arange(8.0)[None, :, None, None], (1, 8, 8, 1))
        np.testing.assert_allclose(upsample(ramp, FIR)[0, 2:-2, 4, 0], (np.arange(16) / 2 - 0.25)[2:-2], atol=1e-12)
        np.testing.assert_allclose(downsample(ramp, FIR)[0, 1:-1, 2, 0], (2 * np.arange(4) + 0.5)[1:-1], atol=1e-12)


def test_upfirdn_of_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing is left"):
        upfirdn2d(jnp.ones((1, 2, 2, 1)), FIR)
    with pytest.raises(ValueError, match="nothing is left"):
        upfirdn2d(jnp.ones((8, 8, 1)), FIR, pad=(2, 1))


# ---- layers


def slide(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlate x [b h w i] with a kernel [k k i o], without padding."""
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], (1, 2))  # [b h w i k k]
    return np.einsum("bhwijk,jkio->bhwo", windows, kernel)


def naive_resampled(x, kernel, up, down):
    """Return the reference: insert zeros, pad once, filter, convolve, keep every down-th pixel."""
    side = kernel.shape[0] // 2
    pad = {(1, 1): (0, 0), (2, 1): (2, 1), (1, 2): (1, 1)}[up, down]
    pads = ((pad[0] + side, pad[1] + side),) * 2
    y = naive(x, FIR if up * down > 1 else np.ones(1), up, 1, pads, up**2)
    return slide(y, kernel[::-1, ::-1] if up > 1 else kernel)[:, ::down, ::down]


RESAMPLED = pytest.mark.parametrize(("size", "up", "down"), [(k, *s) for k in (1, 3) for s in ((1, 1), (2, 1), (1, 2))])


@RESAMPLED
def test_resampled_convolution(size, up, down):
    x, kernel = normal(2, 6, 8, 3), normal(size, size, 3, 5, seed=1)
    with jax.enable_x64(True):
        y = resampled_conv(jnp.asarray(x), jnp.asarray(kernel), up, down)
    assert y.shape == (2, 6 * up // down, 8 * up // down, 5)
    np.testing.assert_allclose(y, naive_resampled(x, kernel, up, down), rtol=0, atol=1e-12)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("size", [1, 3])
def test_modulation_is_a_kernel_for_each_image(size, up, demodulate):
    x, kernel, style = normal(3, 5, 4, 6), normal(size, size, 6, 2, seed=1), normal(3, 6, seed=2)
    with jax.enable_x64(True):
        y = modulated_conv(jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(style), up, demodulate)
    for image, s, found in zip(x, style, y, strict=True):
        w = kernel * s[:, None]  # equation 1
        w = w / np.sqrt((w**2).sum((0, 1, 2)) + 1e-8) if demodulate else w  # equation 3
        np.testing.assert_allclose(found, naive_resampled(image[None], w, up, 1)[0], rtol=0, atol=1e-12)


def test_demodulated_outputs_have_unit_variance():
    x, kernel = normal(8, 16, 16, 32).astype(np.float32), normal(3, 3, 32, 16, seed=1).astype(np.float32)
    style = np.exp(normal(8, 32, seed=2)).astype(np.float32)
    inside = np.s_[:, 1:-1, 1:-1]
    arrays = jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(style)
    y, raw = (np.asarray(modulated_conv(*arrays, demodulate=d)) for d in (True, False))
    variances = y[inside].var((1, 2))  # [b c_out], over 196 pixels, with correlated neighbours
    assert variances.mean() == pytest.approx(1, abs=0.03)
    assert variances.std() < 0.25
    assert raw[inside].var() > 100


def test_demodulation_of_a_dead_style_is_finite():
    found = demodulation(jnp.ones((3, 3, 4, 2)), jnp.zeros((1, 4)))
    np.testing.assert_allclose(found, 1e4, rtol=1e-6)


def test_equalised_dense():
    layer: Any = EqualDense(3000, activate=True, multiplier=0.01, bias=2)
    x = normal(4, 50).astype(np.float32)
    params = layer.init(jax.random.key(0), x)["params"]
    assert np.std(params["kernel"]) == pytest.approx(100, rel=0.01), "N(0, 1) / multiplier"
    assert (params["bias"] == 2).all()
    y = x.astype(np.float64) @ np.asarray(params["kernel"], np.float64) * 0.01 / np.sqrt(50) + 0.01 * 2
    expected = np.where(y > 0, y, 0.2 * y) * np.sqrt(2)
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, rtol=1e-5, atol=1e-5)


@RESAMPLED
def test_equalised_convolution(size, up, down):
    layer: Any = EqualConv(40, size, up, down, gain=0.5)
    x = normal(2, 6, 6, 30).astype(np.float32)
    params = layer.init(jax.random.key(0), x)["params"]
    assert np.std(params["kernel"]) == pytest.approx(1, rel=0.05)
    params["bias"] = normal(40, seed=1).astype(np.float32)
    y = naive_resampled(x, np.asarray(params["kernel"], np.float64) / np.sqrt(30 * size**2), up, down) + params["bias"]
    expected = np.where(y > 0, y, 0.2 * y) * np.sqrt(2) * 0.5
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, rtol=1e-5, atol=2e-5)
    plain: Any = EqualConv(40, size, up, down, activate=False, use_bias=False, gain=0.5)
    found = plain.apply({"params": {"kernel": params["kernel"]}}, x)
    np.testing.assert_allclose(found, 0.5 * (y - params["bias"]), rtol=1e-5, atol=2e-5)
