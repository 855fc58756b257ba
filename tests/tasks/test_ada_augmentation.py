"""ADA: each operation against a closed form, the parameters' distributions, no leaking, the controller."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxgen.core.errors import InputError
from jaxgen.tasks import ada_augmentation
from jaxgen.tasks.ada_augmentation import Controller, Parameters
from tests.helpers.draws import is_normal, is_share, is_uniform
from tests.helpers.quick_keys import quick_key

MANY = 4000
f32 = np.float32
KEY, QUICK = jax.random.key(0), quick_key(0)
# The filter's centre of mass is LEAN pixels from its central tap. Upsampling moves the image by this distance, and
# downsampling moves it back. A rotation or flip between them leaves a small remaining shift.
LEAN = (np.arange(12) @ np.array(ada_augmentation.SYM6) / np.sum(ada_augmentation.SYM6) - ada_augmentation.CENTRE) / 2
AUGMENT = jax.jit(ada_augmentation.augment, static_argnames="pipe")
DRAW = jax.jit(ada_augmentation.draw, static_argnums=(1, 3, 4))
APPLY = jax.jit(ada_augmentation.apply)
GEOMETRY, BLIT, COLOR = map(jax.jit, (ada_augmentation.geometry, ada_augmentation.blit, ada_augmentation.color))


def noise(*shape: int) -> Any:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def smooth(y: Any, x: Any, height: int, width: int) -> Any:
    """Return low-frequency cosines, continuous under reflection at the borders, at row y and column x, 3 channels."""
    u, v = np.pi * x / (width - 1), np.pi * y / (height - 1)
    return np.stack([np.cos(u) * np.cos(2 * v), np.cos(2 * u), np.cos(v) + 0.5 * np.cos(u)], -1).astype(np.float32)


def smooth_image(height: int, width: int) -> Any:
    rows, columns = np.mgrid[:height, :width]
    return smooth(rows, columns, height, width)


def warped(x: Any, inverse: Any) -> np.ndarray:
    return np.asarray(APPLY(jnp.asarray(x)[None], Parameters(inverse=inverse[None]))[0])


def geometry(scale=1.0, before=0.0, aspect=1.0, after=0.0, shift=(0.0, 0.0)) -> Any:
    return GEOMETRY(f32(scale), f32(before), f32(aspect), f32(after), np.array(shift, f32))


def blit(flip=0.0, turns=0.0, shift=(0.0, 0.0)) -> Any:
    return BLIT(f32(flip), f32(turns), np.array(shift, f32))


def color(brightness=0.0, contrast=1.0, flip=0.0, hue=0.0, saturation=1.0) -> Any:
    return COLOR(f32(brightness), f32(contrast), f32(flip), f32(hue), f32(saturation))


def colored(x: Any, **change: float) -> np.ndarray:
    return np.asarray(APPLY(jnp.asarray(x)[None], Parameters(color=color(**change)[None]))[0])


@cache
def drawn(pipe: str, p: float) -> Any:
    """Return the parameters of MANY images of 16x24x3, in float64."""
    return jax.tree.map(lambda x: np.asarray(x, np.float64), DRAW(KEY, MANY, p, pipe, (16, 24, 3)))


# ---- names


def test_the_pipes_are_the_papers():
    assert list(ada_augmentation.PIPES)[6:] == ["bg", "bgc", "bgcf", "bgcfn", "bgcfnc"]
    assert ada_augmentation.check_pipe("bgcfnc") == ("blit", "geom", "color", "filter", "noise", "cutout")
    assert ada_augmentation.check_pipe("bgc") == ("blit", "geom", "color") and ada_augmentation.check_pipe("noise") == (
        "noise",
    )
    with pytest.raises(InputError, match="Unknown augmentation pipe 'colour': did you mean 'color'"):
        ada_augmentation.check_pipe("colour")


@pytest.mark.parametrize("channels", [2, 4])
def test_only_one_or_three_channels_have_colours(channels):
    with pytest.raises(InputError, match=f"'bgc' needs images of 1 or 3 channels, not {channels}"):
        ada_augmentation.augment(KEY, jnp.zeros((2, 8, 8, channels)), 0.5)
    both = jax.eval_shape(lambda x: ada_augmentation.augment(KEY, x, 0.5, "bg"), jnp.zeros((2, 8, 8, channels)))
    assert both.shape == (2, 8, 8, channels)


# ---- the whole pipe


@pytest.mark.parametrize("shape", [(9, 14, 3), (12, 8, 1), (1, 5, 1)])
def test_p_zero_changes_nothing(shape):
    x = noise(3, *shape)
    np.testing.assert_allclose(AUGMENT(QUICK, x, 0.0, "bgcfnc"), x, atol=1e-6)


@pytest.mark.parametrize("pipe", ["color", "filter", "noise", "cutout"])
def test_p_zero_without_resampling_is_exactly_the_identity(pipe):
    x = noise(3, 8, 8, 3)
    assert np.array_equal(AUGMENT(QUICK, x, 0.0, pipe), x)
    changed = np.abs(np.asarray(AUGMENT(QUICK, x, 1.0, pipe)) - x).max((1, 2, 3))
    assert (changed > 1e-3).all()


def test_an_augmented_image_depends_only_on_the_image_and_its_index():
    x = noise(6, 9, 14, 3)
    parameters = DRAW(QUICK, 6, 0.8, "bgcfnc", (9, 14, 3))
    whole = np.asarray(APPLY(x, parameters))
    order = np.array([3, 1, 5, 0, 2, 4])
    again = APPLY(x[order], jax.tree.map(lambda a: a[order], parameters))
    np.testing.assert_allclose(again, whole[order], atol=1e-5)
    np.testing.assert_allclose(AUGMENT(QUICK, x[:3], 0.8, "bgcfnc"), whole[:3], atol=1e-4)


@pytest.mark.slow
def test_second_derivatives_are_those_of_finite_differences():
    with jax.enable_x64(True):
        draw = np.random.default_rng(0)
        x, towards = (jnp.asarray(draw.uniform(-1, 1, (2, 5, 6, 3))) for _ in range(2))
        step = 1e-5 * towards

        @jax.jit
        def value(x):
            return jnp.sin(2 * ada_augmentation.augment(KEY, x, 0.9, "bgcfnc")).sum()

        slope = jax.jit(jax.grad(value))
        np.testing.assert_allclose(jnp.vdot(slope(x), towards), (value(x + step) - value(x - step)) / 2e-5, rtol=1e-7)
        curve = jax.jit(jax.grad(lambda x: jnp.vdot(jax.grad(value)(x), towards)))(x)
        assert np.abs(curve).max() > 0.1
        np.testing.assert_allclose(curve, (slope(x + step) - slope(x - step)) / 2e-5, atol=1e-7)


# ---- geometry


@pytest.mark.parametrize("shift", [(1, 0), (0, -2), (-3, 4)])
def test_integer_translations_move_pixels_and_reflect_the_border(shift):
    x = noise(24, 36, 3)
    dx, dy = shift
    padded = np.pad(x, ((8, 8), (8, 8), (0, 0)), "reflect")
    expected = padded[8 - dy : 32 - dy, 8 - dx : 44 - dx]
    np.testing.assert_allclose(warped(x, blit(shift=shift)), expected, atol=1e-6)


def test_the_reflection_is_periodic():
    x = noise(4, 5, 1)
    far = np.pad(x, ((0, 0), (0, 23), (0, 0)), "reflect")[:, 23:]
    np.testing.assert_allclose(warped(x, blit(shift=(-23, 0))), far, atol=1e-6)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("flip", [0, 1])
def test_flips_and_quarter_turns(flip, turns):
    columns = np.broadcast_to(np.arange(24.0), (24, 24))
    rows, columns = (np.rot90(at[:, ::-1] if flip else at, turns) for at in (columns.T, columns))
    mirrored = [at[-1, -1] < at[0, 0] for at in (rows, columns)]
    expected = smooth(*(at - 2 * LEAN * m for at, m in zip((rows, columns), mirrored, strict=True)), 24, 24)
    np.testing.assert_allclose(warped(smooth_image(24, 24), blit(flip, turns)), expected, atol=1e-3)


def test_a_blit_is_a_flip_then_a_rotation_then_a_translation():
    x = noise(24, 24, 3)  # this flip with this rotation swaps rows and columns, so LEAN has no effect
    expected = np.roll(np.rot90(x[:, ::-1]), (2, 1), (0, 1))[3:, 3:]
    np.testing.assert_allclose(warped(x, blit(1, 1, (1, 2)))[3:, 3:], expected, atol=1e-5)


@pytest.mark.parametrize("degrees", [30, -75, 160])
def test_rotation_equals_scipys(degrees):
    x, angle = smooth_image(32, 32)[..., :1], np.deg2rad(degrees)
    # scipy's matrix acts on (row, column).
    back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    offset = (15.5 - LEAN) - back @ np.full(2, 15.5 - LEAN)
    expected = ndimage.affine_transform(x[..., 0], back, offset, order=3, mode="mirror")
    assert np.abs(expected - x[..., 0]).max() > 0.5
    np.testing.assert_allclose(warped(x, geometry(before=angle))[..., 0], expected, atol=5e-3)
    np.testing.assert_allclose(warped(x, geometry(after=angle))[..., 0], expected, atol=5e-3)


CHANGES = {
    "scale": {"scale": 1.3},
    "smaller": {"scale": 0.7},
    "aspect": {"aspect": 1.25},
    "shift": {"shift": (2.3, -1.6)},
    "all": {"scale": 1.1, "before": 0.4, "aspect": 0.8, "after": -1.0, "shift": (1.5, 0.7)},
}


@pytest.mark.parametrize("name", CHANGES)
def test_geometry_transforms_a_function_of_the_plane(name):
    """From the new image to the old: translate by -shift, rotate by `after`, stretch, rotate by `before`, scale."""
    height, width = 24, 36
    o: dict[str, Any] = {"scale": 1, "before": 0, "aspect": 1, "after": 0, "shift": (0, 0)} | CHANGES[name]

    def turn(angle):
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    stretch = np.diag([1 / o["aspect"], o["aspect"]])
    y, x = np.mgrid[:height, :width]
    at = np.stack([x - (width - 1) / 2, y - (height - 1) / 2], -1) - np.array(o["shift"]) + LEAN
    at = at @ (turn(o["before"]) @ stretch @ turn(o["after"]) / o["scale"]).T - LEAN
    expected = smooth(at[..., 1] + (height - 1) / 2, at[..., 0] + (width - 1) / 2, height, width)
    found = warped(smooth_image(height, width), geometry(**CHANGES[name]))
    assert np.abs(expected - smooth_image(height, width)).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_the_wavelets_are_orthonormal():
    for taps in (np.array(ada_augmentation.SYM2), np.array(ada_augmentation.SYM6)):
        assert taps.sum() == pytest.approx(np.sqrt(2), abs=1e-9)
        overlaps = np.correlate(taps, taps, "full")[len(taps) - 1 :: 2]
        np.testing.assert_allclose(overlaps, np.eye(1, len(overlaps))[0], atol=1e-9)


# ---- colour


def test_brightness_and_contrast():
    x = noise(4, 5, 3)
    np.testing.assert_allclose(colored(x, brightness=0.3), x + 0.3, atol=1e-6)
    np.testing.assert_allclose(colored(x, contrast=1.7), 1.7 * x, atol=1e-6)
    np.testing.assert_allclose(colored(x, brightness=0.3, contrast=1.7), 1.7 * (x + 0.3), atol=1e-6)


def test_luma_flip_keeps_chroma_and_negates_luma():
    x = noise(4, 5, 3)
    luma = x.mean(-1, keepdims=True)
    np.testing.assert_allclose(colored(x, flip=1), x - 2 * luma, atol=1e-6)


@pytest.mark.parametrize("thirds", [1, 2, 3])
def test_a_hue_rotation_of_120_degrees_permutes_the_channels(thirds):
    x = noise(4, 5, 3)
    np.testing.assert_allclose(colored(x, hue=thirds * 2 * np.pi / 3), np.roll(x, thirds, -1), atol=1e-6)


def test_a_hue_rotation_of_180_degrees_negates_chroma():
    x = noise(4, 5, 3)
    luma = x.mean(-1, keepdims=True)
    np.testing.assert_allclose(colored(x, hue=np.pi), 2 * luma - x, atol=1e-6)
    np.testing.assert_allclose(colored(x, saturation=0), np.repeat(luma, 3, -1), atol=1e-6)
    np.testing.assert_allclose(colored(x, saturation=2.5), luma + 2.5 * (x - luma), atol=1e-6)


def test_grey_images_are_transformed_as_three_equal_channels():
    x, change = noise(4, 5, 1), {"brightness": 0.2, "contrast": 1.3, "flip": 1, "hue": 1.0, "saturation": 2.0}
    np.testing.assert_allclose(colored(x, **change), -1.3 * (x + 0.2), atol=1e-6)
    np.testing.assert_allclose(colored(np.repeat(x, 3, -1), **change), -1.3 * (np.repeat(x, 3, -1) + 0.2), atol=1e-6)


# ---- filter, noise, cutout


@pytest.mark.parametrize("n", [1, 7, 32, 64])
def test_the_bands_add_up_to_the_image(n):
    np.testing.assert_allclose(ada_augmentation.bands(n).sum(0), np.eye(n), atol=1e-9)


def test_the_lowest_and_the_highest_band():
    height, width = 12, 16
    gains = jnp.array([[2.0, 3.0, 5.0, 7.0]])
    flat = np.ones((1, height, width, 1), np.float32)
    stripes = flat * (-1) ** np.arange(width, dtype=np.float32)[None, None, :, None]
    chequers = stripes * (-1) ** np.arange(height, dtype=np.float32)[None, :, None, None]
    for x, gain in ((flat, 2 * 2), (stripes, 2 * 7), (chequers, 7 * 7)):
        np.testing.assert_allclose(APPLY(x, Parameters(gains=gains)), gain * x, atol=1e-4)


def test_bands_split_the_spectrum_by_octaves():
    """In the middle of a band the gain is mostly that of this band."""
    n = 256
    for band, frequency in ((0, 1 / 32), (1, 3 / 32), (2, 3 / 16), (3, 3 / 8)):
        wave = np.cos(2 * np.pi * frequency * np.arange(n))
        response = ada_augmentation.bands(n) @ wave @ wave / (wave @ wave)
        assert response.argmax() == band and response[band] > 0.6, response


def test_gains_keep_the_expected_power_after_each_band():
    t = np.array([1.5, 0.4, 2.0, 3.0])
    expected = np.ones(4)
    for i in range(4):
        one = np.ones(4)
        one[i] = t[i]
        expected *= one / np.sqrt((ada_augmentation.POWER * one**2).sum())
    np.testing.assert_allclose(ada_augmentation.gains(jnp.asarray(t, jnp.float32)), expected, rtol=1e-6)


def test_cutout_is_a_box_of_half_the_sides():
    keep = np.asarray(ada_augmentation.cutout(jnp.array([0.5, 0.25]), jnp.float32(0.5), 8, 16))
    expected = np.ones((8, 16))
    expected[:4, 4:12] = 0
    assert np.array_equal(keep, expected)
    corner = np.asarray(ada_augmentation.cutout(jnp.array([1.0, 0.0]), jnp.float32(0.5), 8, 16))
    assert (corner == 0).sum() == 2 * 4 and (corner[:2, 12:] == 0).all()
    x = noise(1, 8, 16, 3)
    assert np.array_equal(
        ada_augmentation.apply(x, Parameters(keep=jnp.asarray(keep)[None]))[0], x[0] * expected[..., None]
    )


# ---- distributions


def test_the_blits_distributions():
    inverse = drawn("blit", 1.0).inverse
    linear = inverse[:, :2, :2]
    flips = np.linalg.det(linear) < 0
    is_share(flips, 0.5)
    linear[flips, 0] *= -1
    turns = np.round(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]) / (np.pi / 2)).astype(int) % 4
    shift = -np.linalg.solve(linear, np.where(flips[:, None], [-1, 1], 1)[..., None] * inverse[:, :2, 2:])[..., 0]
    for k in range(4):
        is_share(turns == k, 0.25)
    np.testing.assert_allclose(shift, shift.round(), atol=1e-5)
    for axis, (side, limit) in enumerate(((24, 3), (16, 2))):  # 1/8 of 24 and of 16
        share = np.diff([-limit, *np.arange(-limit + 0.5, limit), limit]) / (2 * side / 8)
        for k in range(-limit, limit + 1):
            is_share(shift[:, axis].round() == k, share[k + limit])


def test_the_geometrys_distributions():
    inverse = drawn("geom", 1.0).inverse
    linear = inverse[:, :2, :2]
    determinants, stretch = np.linalg.det(linear), np.linalg.svd(linear, compute_uv=False)
    is_normal(np.log2(determinants) / -2, 0.2)  # the scale is lognormal
    folded = np.log2(stretch[:, 0] / stretch[:, 1]) / 2  # |log2 aspect|
    assert abs((folded**2).mean() - 0.04) < 5 * 0.04 * np.sqrt(2 / MANY)
    angle = np.arctan2(linear[:, 1, 0] - linear[:, 0, 1], linear[:, 0, 0] + linear[:, 1, 1])  # before + after
    is_uniform(angle / (2 * np.pi) + 0.5)
    move = -np.linalg.solve(linear, inverse[:, :2, 2:])[..., 0]
    is_normal(move[:, 0], 24 / 8)
    is_normal(move[:, 1], 16 / 8)


def test_rotation_before_or_after_has_probability_p():
    linear = drawn("geom", 0.5).inverse[:, :2, :2]
    is_share((linear[:, 0, 1] != 0) | (linear[:, 1, 0] != 0), 0.5)


def test_the_colours_distributions():
    found = drawn("color", 1.0).color
    luma = found[:, :, :3].sum((1, 2)) / 3  # contrast, negated by the flip
    is_share(luma < 0, 0.5)
    is_normal(np.log2(np.abs(luma)), 0.5)
    is_normal(found[:, 0, 3] / luma, 0.2)  # brightness
    chroma = found[:, :, :3] - luma[:, None, None] / 3
    amount = np.sqrt((chroma**2).sum((1, 2)) / 2) / np.abs(luma)
    is_normal(np.log2(amount), 1)
    turn = chroma / (amount * np.abs(luma))[:, None, None]
    sine = (turn[:, 1, 0] - turn[:, 0, 1]) * np.sqrt(3)
    is_uniform(np.arctan2(sine, np.trace(turn, axis1=1, axis2=2)) / (2 * np.pi) + 0.5)


def test_the_filters_noises_and_cutouts_distributions():
    gains = np.log2(drawn("filter", 1.0).gains)
    for i, j in ((0, 1), (1, 2), (2, 3), (3, 0)):
        is_normal(gains[:, i] - gains[:, j], np.sqrt(2))
    pixels = drawn("noise", 1.0).noise
    sigma = pixels.std((1, 2, 3))
    assert abs((sigma**2).mean() - 0.01) < 5 * 0.01 * np.sqrt(2 / MANY)  # sigma = |N(0, 0.1)|
    is_normal((pixels / np.sqrt((pixels**2).mean((1, 2, 3), keepdims=True)))[:, :4, :4, 0], 1)
    keep = drawn("cutout", 1.0).keep
    is_share(keep[:, 7, 11] == 0, 0.25)  # share of the centres within a quarter of each side
    is_share(keep[:, 0, 0] == 0, (0.25 + 1 / 32) * (0.25 + 1 / 48))  # share of the centres near the corner pixel


@pytest.mark.parametrize("p", [0.3, 0.7])
def test_each_operation_happens_with_probability_p(p):
    found = drawn("color", p).color
    is_share(np.abs(found[..., 3]).max(1) > 0, p)  # brightness
    is_share(np.abs(np.abs(found[:, :, :3].sum((1, 2)) / 3) - 1) > 1e-6, p)  # contrast
    is_share(drawn("noise", p).noise.std((1, 2, 3)) > 0, p)
    flips = np.linalg.det(drawn("blit", p).inverse[:, :2, :2]) < 0
    is_share(flips, p / 2)
    is_share((drawn("filter", p).gains == 1).all(1), (1 - p) ** 4)
    is_share(drawn("cutout", p).keep.min((1, 2)) == 0, p)


def test_p_above_one_acts_as_one():
    one, more = drawn("geom", 1.0), drawn("geom", 1.5)
    assert np.array_equal(one.inverse, more.inverse)


# ---- no leaking (section 2.2)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.8, 1.0])
def test_random_quarter_rotations_are_invertible_unless_p_is_one(p):
    """The distribution of the four rotations is mapped by T = (1 - p) I + p / 4, with eigenvalues 1 and 1 - p."""
    linear = np.array(drawn("blit", p).inverse[:, :2, :2])
    linear[np.linalg.det(linear) < 0, 0] *= -1
    turns = np.round(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]) / (np.pi / 2)).astype(int) % 4
    chance = np.bincount(turns, minlength=4) / MANY
    transition = np.stack([np.roll(chance, k) for k in range(4)], 1)  # to rotation i, from rotation k
    error = 5 / np.sqrt(MANY)
    values = np.sort(np.abs(np.linalg.eigvals(transition)))
    np.testing.assert_allclose(values, [abs(1 - p)] * 3 + [1], atol=error)
    originals = np.array([[0.7, 0.3, 0, 0], [0.25, 0.25, 0.25, 0.25]])
    seen = originals @ ((1 - p) * np.eye(4) + p / 4).T  # the difference that a discriminator would have to detect
    if p < 1:
        np.testing.assert_allclose(np.linalg.solve(transition, seen.T).T, originals, atol=2 * error / (1 - p))
    else:
        np.testing.assert_allclose(transition @ originals[0], transition @ originals[1], atol=error)
        np.testing.assert_allclose(seen[0], seen[1], atol=1e-12)


# ---- the controller


def run(logits: Any, steps: int, p0: float, **options: Any) -> np.ndarray:
    """Return p after each of the steps."""
    update = partial(Controller.update, **options)
    _, metrics = jax.lax.scan(lambda state, _: update(state, logits), Controller.empty(p0), None, steps)
    return np.asarray(metrics["p"])


def test_p_changes_at_the_papers_speed():
    sure, images = jnp.full(50, 2.0), 50 * np.arange(1, 401)
    seen = images // 200 * 200  # changes every 4 minibatches
    np.testing.assert_allclose(run(sure, 400, 0.0), seen / 500_000, atol=1e-6)
    np.testing.assert_allclose(run(-sure, 400, 0.5), 0.5 - seen / 500_000, atol=1e-5)
    np.testing.assert_allclose(run(sure, 400, 0.1, every=1, images_per_unit=100_000), 0.1 + images / 100_000, atol=1e-5)


def test_p_stays_at_the_target_and_above_zero():
    assert (run(jnp.array([1.0, 1, 1, 1, -1]), 20, 0.25) == 0.25).all()  # r_t = 0.6
    assert (run(-jnp.ones(100), 50, 0.001, images_per_unit=10_000)[4:] == 0).all()
    assert run(jnp.ones(100), 80, 0.9, images_per_unit=10_000)[-1] > 1.5, "no upper limit, as in the authors' code"
    assert (np.diff(run(jnp.array([1.0, 1, 1, 1, -1]), 20, 0.25, target=0.5)[3::4]) > 0).all()


def test_the_signs_of_all_minibatches_count():
    state = Controller.empty(0.5)
    update = jax.jit(Controller.update)
    for k, share in enumerate((1.0, 1.0, -1.0, 1.0)):  # their mean is 0.5, the last one's 1
        state, metrics = update(state, np.full(8, 3 * share, f32))
        assert metrics["r_t"] == share
        assert (state["count"] == 8 * (k + 1)) == (k < 3)
    assert float(state["p"]) == pytest.approx(0.5 - 32 / 500_000, abs=1e-7)
    assert state["sign_sum"] == state["count"] == 0


def test_a_negative_initial_p_raises():
    with pytest.raises(InputError, match="p must be at least 0"):
        Controller.empty(-0.1)
