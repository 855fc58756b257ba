"""The path tracer against closed forms, Mitsuba's Cornell box, and finite differences."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.rendering.materials import conductor_fresnel, dielectric_fresnel
from jaxgen.rendering.meshes import BOX
from jaxgen.rendering.path_tracing import render
from jaxgen.rendering.scene_file import open_scene, read_scene

traced = jax.jit(render, static_argnums=(3, 4))
VIEW = {"origin": [0, 0, 4], "target": [0, 0, 0], "fov": 20, "width": 16, "height": 16}


def scene_of(shapes, materials, **rest):
    """Return the scene of a camera that looks from z = 4 at the origin."""
    return read_scene({"camera": VIEW, "materials": materials, "shapes": shapes, **rest}, "test", Path()).scene


def mean(scene, depth, samples, seed=0):
    """Return the mean radiance f[3] over all pixels."""
    return np.asarray(traced(scene, jnp.arange(scene.camera.pixels), jax.random.key(seed), depth, samples)).mean(0)


def test_a_white_scene_in_white_light_is_as_bright_as_the_light():
    """The furnace test: a sphere that absorbs nothing cannot be seen. It is seen through glass, too."""
    white, glass = {"kind": "lambert", "albedo": 1}, {"kind": "dielectric", "ior": 1.5}
    spheres = [{"kind": "sphere", "center": [0, 0, z], "radius": 0.5, "material": m} for z, m in ((0, "w"), (2, "g"))]
    scene = scene_of(spheres, {"w": white, "g": glass}, environment=1)
    assert mean(scene, 24, 128) == pytest.approx(1, abs=1e-3)


def test_a_closed_room_of_glowing_walls_sums_the_series_of_reflections():
    """Walls of radiance E and albedo a send out E (1 + a + ... + a^(d-1)) along paths of d segments."""
    corners, faces = BOX
    inside = {"kind": "mesh", "vertices": (5 * corners).tolist(), "faces": faces[:, ::-1].tolist()}
    scene = scene_of([{**inside, "material": "m", "emission": [1, 2, 0.5]}], {"m": {"kind": "lambert", "albedo": 0.5}})
    found = [mean(scene, depth, 64) for depth in (1, 2, 4)]
    for depth, light in zip((1, 2, 4), found, strict=True):
        assert light == pytest.approx(np.array([1, 2, 0.5]) * (2 - 0.5 ** (depth - 1)), rel=4e-3), depth


def test_a_spherical_lamp_lights_a_floor_by_the_closed_form():
    """At a distance d above the point, facing it, a sphere of radius r and radiance L gives a L (r / d)^2."""
    wall = {"kind": "rectangle", "matrix": [[9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "material": "w"}
    lamp = {"kind": "sphere", "center": [0, 0, 6], "radius": 1.5, "material": "w", "emission": [8, 4, 2]}
    scene = scene_of([wall, lamp], {"w": {"kind": "lambert", "albedo": [0.8, 0.5, 0.2]}})
    narrow = scene.replace(camera=scene.camera.replace(tangent=jnp.float32(1e-3)))
    assert mean(narrow, 2, 128) == pytest.approx(np.array([8, 4, 2]) * [0.8, 0.5, 0.2] / 16, rel=1e-2)


def test_gradients_are_those_of_finite_differences():
    """With the same random numbers, for an albedo, an emission, the environment and an index of refraction."""
    glass = {"kind": "dielectric", "ior": 1.5}
    scene = scene_of(
        [
            {"kind": "sphere", "center": [0, 0, 0], "radius": 0.6, "material": "w"},
            {"kind": "sphere", "center": [0.3, 0.3, 1.5], "radius": 0.3, "material": "g"},
            {"kind": "sphere", "center": [2, 2, 2], "radius": 0.5, "material": "w", "emission": 3},
        ],
        {"w": {"kind": "lambert", "albedo": 0.6}, "g": glass},
        environment=[0.5, 0.6, 0.7],
    )

    @jax.jit
    @jax.value_and_grad
    def loss(parts):
        image = render(scene.replace(**parts), jnp.arange(256), jax.random.key(1), 4, 2)
        return jnp.square(image).mean()

    parts = {name: getattr(scene, name) for name in ("albedo", "emission", "environment")}
    _, gradient = loss(parts)
    for name, at in (("albedo", (0, 1)), ("emission", (2, 0)), ("environment", (0, 0, 2))):
        high, low = (loss(parts | {name: parts[name].at[at].add(h)})[0] for h in (1e-2, -1e-2))
        assert gradient[name][at] == pytest.approx(float(high - low) / 2e-2, rel=2e-2), name


def test_fresnel_at_normal_incidence_brewsters_and_the_critical_angle():
    one = jnp.ones(1)
    assert dielectric_fresnel(one, one * 1.5)[0][0] == pytest.approx(0.04)
    brewster = jnp.cos(jnp.arctan(one * 1.5))
    share, far = dielectric_fresnel(brewster, one * 1.5)
    across = (brewster - 1.5 * far) / (brewster + 1.5 * far)
    assert share[0] == pytest.approx(float(across[0] ** 2) / 2, abs=1e-6)  # no parallel light is reflected
    assert dielectric_fresnel(jnp.cos(jnp.arcsin(one / 1.5)) - 1e-3, one / 1.5)[0][0] == 1
    eta, k = jnp.array([[0.2, 1.5, 3.0]]), jnp.array([[3.0, 0.0, 3.3]])
    closed = ((eta - 1) ** 2 + k**2) / ((eta + 1) ** 2 + k**2)
    assert np.asarray(conductor_fresnel(one, eta, k)) == pytest.approx(np.asarray(closed), abs=1e-4)


def test_an_environment_is_drawn_as_it_is_looked_up(tmp_path):
    """A map with one bright cell lights a wall by the cell's solid angle: drawn light and drawn directions agree."""
    sky = np.zeros((8, 16, 3), np.float32)
    sky[3, 8] = 50  # around +z: the camera's side
    np.save(tmp_path / "sky.npy", sky)
    wall = {"kind": "rectangle", "matrix": np.diag([9.0, 9, 1, 1]).tolist(), "material": "w"}
    values = {"camera": VIEW, "materials": {"w": {"kind": "lambert", "albedo": 0.5}}, "shapes": [wall]}
    scene = read_scene({**values, "environment": {"file": "sky.npy"}}, "test", tmp_path).scene
    around, polar = np.meshgrid(np.linspace(0, 1, 513), np.linspace(0, 1, 513), indexing="ij")
    phi, theta = np.pi + around * np.pi / 8, (3 + polar) * np.pi / 8
    z = -np.sin(theta) * np.cos(phi)
    irradiance = 50 * (z * np.sin(theta)).mean() * (np.pi / 8) ** 2
    assert mean(scene, 2, 128) == pytest.approx(0.5 / np.pi * irradiance, rel=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3, 8])
def test_the_cornell_box_is_mitsubas(depth, real_data):
    reference = np.load(real_data / "render" / "mitsuba_cornell64.npz")[f"path_depth{depth}"]
    scene = open_scene("cornell", (64, 64)).scene
    keys = range(6)
    images = [traced(scene, jnp.arange(4096), jax.random.key(i), depth, 16) for i in keys]
    image = np.mean(images, 0).reshape(64, 64, 3)
    assert image.mean((0, 1)) == pytest.approx(reference.mean((0, 1)), rel=1e-2)
    blocks = [each.reshape(8, 8, 8, 8, 3).mean((1, 3)) for each in (image, reference)]
    lit = blocks[1].min(-1) > 1e-3  # the rest is outside of the box
    assert np.median(np.abs(blocks[0] - blocks[1])[lit] / blocks[1][lit]) < 0.02


@pytest.mark.slow
def test_an_albedo_and_a_light_are_found_from_their_image():
    """Inverse rendering: gradient descent on the colours of a ball and of the sky finds those that made an image."""
    shapes = [
        {"kind": "sphere", "center": [0, 0, 0], "radius": 0.6, "material": "a"},
        {"kind": "sphere", "center": [0, -6.6, 0], "radius": 6, "material": "b"},
    ]
    materials = {name: {"kind": "lambert", "albedo": x} for name, x in (("a", [0.7, 0.3, 0.1]), ("b", 0.5))}
    scene = scene_of(shapes, materials, environment=[0.5, 0.7, 0.9])
    pixels = jnp.arange(0, scene.camera.pixels, 2)
    target = render(scene, pixels, jax.random.key(7), 3, 16)
    start = {"ball": jnp.full(3, 0.5), "sky": jnp.full((1, 1, 3), 0.3)}
    optimizer = optax.adam(0.03)

    def loss(found, key):
        albedo = scene.albedo.at[0].set(found["ball"])
        # The product of two independent estimates has the square of the error, without the noise, as its mean.
        one, other = (
            render(scene.replace(albedo=albedo, environment=found["sky"]), pixels, key, 3, 2) - target
            for key in jax.random.split(key)
        )
        return (one * other).mean()

    @jax.jit
    def descend(found):
        def step(state, key):
            found, moments = state
            updates, moments = optimizer.update(jax.grad(loss)(found, key), moments)
            return (optax.apply_updates(found, updates), moments), None

        keys = jax.random.split(jax.random.key(1), 120)
        return jax.lax.scan(step, (found, optimizer.init(found)), keys)[0][0]

    found = descend(start)
    assert np.asarray(found["ball"]) == pytest.approx([0.7, 0.3, 0.1], abs=0.03)
    assert np.asarray(found["sky"]).ravel() == pytest.approx([0.5, 0.7, 0.9], abs=0.02)
