"""DiffAugment: each operation against a closed form, and the random numbers' distributions."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.errors import InputError
from jaxgen.tasks.diff_augmentation import POLICIES, check_policy, diffaugment
from tests.helpers.draws import is_share, is_uniform
from tests.tasks.test_ada_augmentation import KEY, noise


@cache
def many_of(name: str, height: int = 16, width: int = 24, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return one image without zeros, and 500 augmented versions by one operation."""
    (step,) = [step for steps in POLICIES.values() for step in steps if step.__name__ == name]
    x = noise(height, width, channels) + 2
    return x, np.asarray(jax.jit(jax.vmap(step, (0, None)))(jax.random.split(KEY, 500), x))


def test_brightness_adds_up_to_a_half():
    x, many = many_of("brightness")
    added = many - x
    assert np.ptp(added, axis=(1, 2, 3)).max() < 1e-6
    is_uniform(added[:, 0, 0, 0] + 0.5)


def test_saturation_multiplies_the_channels_distance_from_their_mean():
    x, many = many_of("saturation")
    grey = x.mean(-1, keepdims=True)
    factor = ((many - grey) * (x - grey)).sum((1, 2, 3)) / ((x - grey) ** 2).sum()
    np.testing.assert_allclose(many, grey + factor[:, None, None, None] * (x - grey), atol=1e-5)
    is_uniform(factor / 2)
    one, ones = many_of("saturation", channels=1)
    assert np.array_equal(ones, np.broadcast_to(one, ones.shape)), "grey has no saturation"


def test_contrast_multiplies_the_pixels_distance_from_their_mean():
    x, many = many_of("contrast")
    factor = ((many - x.mean()) * (x - x.mean())).sum((1, 2, 3)) / ((x - x.mean()) ** 2).sum()
    np.testing.assert_allclose(many, x.mean() + factor[:, None, None, None] * (x - x.mean()), atol=1e-5)
    is_uniform(factor - 0.5)


def test_translation_is_by_an_eighth_at_most_with_zeros():
    x, many = many_of("translation")
    padded = np.pad(x, ((2, 2), (3, 3), (0, 0)))
    moved = np.stack([padded[i : i + 16, j : j + 24] for i in range(5) for j in range(7)])
    which = (many[:, None] == moved[None]).all((2, 3, 4))
    assert (which.sum(1) == 1).all()
    for k in range(35):
        is_share(which[:, k], 1 / 35)


@pytest.mark.parametrize(("height", "width"), [(16, 24), (7, 9)])
def test_cutout_is_half_of_each_side_and_clipped(height, width):
    x, many = many_of("cutout", height, width)
    hole = many[..., 0] == 0
    assert np.array_equal(many, np.where(hole[..., None], 0, x))
    for n, found in ((height, hole.any(2)), (width, hole.any(1))):
        size = (n + 1) // 2
        starts = np.arange(n + 1 - size % 2) - size // 2
        inside = np.stack([(np.arange(n) >= s) & (np.arange(n) < s + size) for s in starts])
        which = (found[:, None] == inside[None]).all(2)
        assert (which.sum(1) == 1).all()
        is_share(which[:, 0], 1 / len(starts))


def test_a_policy_applies_its_names_in_order():
    x = noise(3, 8, 8, 2)
    whole = diffaugment(KEY, x, "color,translation,cutout")
    steps = diffaugment(KEY, diffaugment(KEY, diffaugment(KEY, x, "color"), ("translation",)), "cutout")
    np.testing.assert_allclose(whole, steps, atol=1e-6)
    np.testing.assert_allclose(diffaugment(KEY, x[:2]), whole[:2], atol=1e-6)
    assert np.array_equal(diffaugment(KEY, x, ""), x) and check_policy("") == ()
    assert np.abs(whole[0] - whole[1]).max() > 0.1
    with pytest.raises(InputError, match="Unknown augmentation 'colour': did you mean 'color'"):
        diffaugment(KEY, x, "colour,cutout")


def test_diffaugments_second_derivatives_are_those_of_finite_differences():
    with jax.enable_x64(True):
        draw = np.random.default_rng(0)
        x, towards = (jnp.asarray(draw.uniform(-1, 1, (2, 8, 8, 3))) for _ in range(2))
        slope = jax.jit(jax.grad(lambda x: jnp.sin(2 * diffaugment(KEY, x)).sum()))
        curve = jax.grad(lambda x: jnp.vdot(slope(x), towards))(x)
        step = 1e-5 * towards
        assert np.abs(curve).max() > 0.1
        np.testing.assert_allclose(curve, (slope(x + step) - slope(x - step)) / 2e-5, atol=1e-7)
