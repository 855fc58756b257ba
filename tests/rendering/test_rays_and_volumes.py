"""Rays of posed images and volume rendering against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.rendering.posed_rays import distorted, orbit, pixel_centres, posed_rays
from jaxgen.rendering.volume import box_span, composite, resampled

FOX = (0.0578421, -0.0805099, -0.000980296, 0.00015575)  # the lens of Instant-NGP's fox


def camera(place=(0, 0, 4), turn=((1, 0, 0), (0, 1, 0), (0, 0, 1)), row=(1.2, 1.2, 0.5, 0.5), lens=(0, 0, 0, 0)):
    return np.concatenate([np.c_[turn, place], [row], [lens]]).astype(np.float32)


@pytest.fixture(scope="module")
def rays():
    return jax.jit(posed_rays)


def test_rays_are_those_of_the_pinhole(rays):
    """The ray through (u, v) has the direction ((u - cx) / fx, (cy - v) / fy, -1), turned with the camera."""
    angle = 0.7
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    at = np.array([[0.5, 0.5], [0.9, 0.2], [0, 1]], np.float32)
    origin, direction = rays(camera((1, 2, 3), turn, (1.5, 1.2, 0.5, 0.4)), at)
    plane = np.stack([(at[:, 0] - 0.5) / 1.5, (0.4 - at[:, 1]) / 1.2, -np.ones(3)], -1) @ turn.T
    assert np.asarray(direction) == pytest.approx(plane / np.linalg.norm(plane, axis=1, keepdims=True), abs=1e-6)
    assert np.asarray(origin) == pytest.approx(np.tile([1, 2, 3], (3, 1)))


def test_a_lens_is_undone(rays):
    """The lens shows the point that a ray meets in the plane z = 1 at the pixel of the ray."""
    at = np.stack(np.meshgrid([0.05, 0.4, 0.95], [0.05, 0.6, 0.95]), -1).reshape(-1, 2).astype(np.float32)
    row = 1.27, 0.716, 0.513, 0.503
    _, direction = np.asarray(rays(camera(row=row, lens=FOX), at))
    seen = np.stack([direction[:, 0], -direction[:, 1]], -1) / -direction[:, 2:]
    shown = np.asarray(jax.jit(distorted)(jnp.asarray(seen), jnp.asarray(FOX)))
    assert shown * row[:2] + row[2:] == pytest.approx(at, abs=1e-5)
    assert np.abs(seen * row[:2] + row[2:] - at).max() > 2e-3  # the lens matters


def test_constant_density_has_the_closed_form():
    """Opacity 1 - exp(-density length); the mean distance is that of an exponential that ends at the far side."""
    density, near, far = 0.7, 2.0, 5.0
    edges = np.linspace(near, far, 400, dtype=np.float32)[None]
    colour = np.tile(np.array([0.2, 0.5, 0.9], np.float32), (1, 399, 1))
    seen = jax.jit(composite)(np.full((1, 399), density, np.float32), colour, edges)
    through = np.exp(-density * (far - near))
    assert seen.opacity[0] == pytest.approx(1 - through, rel=1e-5)
    assert np.asarray(seen.colour[0]) == pytest.approx(np.array([0.2, 0.5, 0.9]) * (1 - through), rel=1e-5)
    assert seen.distance[0] == pytest.approx(near + (1 - through) / density, rel=1e-4)


def test_samples_follow_the_weights():
    """Of weights 1, 0, 3 in equal parts, a quarter of the samples lies in the first, evenly, and none in the second."""
    edges, weights = np.array([[0, 1, 2, 3]], np.float32), np.array([[1, 0, 3]], np.float32)
    at = np.asarray(jax.jit(resampled, static_argnums=(2, 3))(edges, weights, 400, None))[0]
    assert ((at < 1).sum(), ((at > 1.01) & (at < 1.99)).sum()) == (100, 0) and (np.diff(at) >= 0).all()
    assert np.mean(at[at < 1]) == pytest.approx(0.5, abs=0.01) and np.mean(at[at > 1.5]) == pytest.approx(2.5, abs=0.01)
    drawn = jax.jit(lambda key: resampled(jnp.asarray(edges), jnp.asarray(weights), 64, key))(jax.random.key(0))
    assert np.histogram(drawn, [0, 1, 2, 3])[0].tolist() == [16, 0, 48]


def test_the_span_of_a_ray_in_a_box():
    origin = jnp.array([[0, 0, 4], [0, 0, 4], [0.5, 0, 0]])
    direction = jnp.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])
    near, far = box_span(origin, direction, 1.5, 0.1, 9.0)
    assert np.asarray(near)[[0, 2]] == pytest.approx([2.5, 0.1]) and np.asarray(far)[[0, 2]] == pytest.approx([5.5, 1])
    assert near[1] == far[1]


def test_an_orbit_goes_on_from_its_cameras():
    """Of cameras on a circle it is the same circle: the same distance, height, and all look at its centre."""
    given = []
    for angle in np.arange(7) * 2 * np.pi / 7:
        back = np.array([4 * np.sin(angle), 1, 4 * np.cos(angle)]) / np.sqrt(17)
        right = np.array([np.cos(angle), 0, -np.sin(angle)])
        given.append(camera(back * np.sqrt(17), np.stack([right, np.cross(back, right), back], 1)))
    made = orbit(np.stack(given), 12)
    assert np.linalg.norm(made[:, [0, 2], 3], axis=1) == pytest.approx(np.full(12, 4), rel=1e-4)
    assert made[:, 1, 3] == pytest.approx(np.full(12, 1), rel=1e-4)
    assert made[:, :3, 2] * np.sqrt(17) == pytest.approx(made[:, :3, 3], abs=1e-4)
    turns = made[:, :3, :3]
    assert np.einsum("nij,nkj->nik", turns, turns) == pytest.approx(np.tile(np.eye(3), (12, 1, 1)), abs=1e-5)
    assert np.linalg.det(turns) == pytest.approx(np.ones(12), abs=1e-5)


def test_pixel_centres_run_row_by_row():
    assert np.asarray(pixel_centres(2, 4))[[0, 1, 4]].tolist() == [[0.125, 0.25], [0.375, 0.25], [0.125, 0.75]]
