"""Radiance fields: the hash encoding against NumPy, learning a scene of known views, the command for runs."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgen import zoo
from jaxgen.models.rendering.hash_grid import HashGrid, encode, harmonics, resolutions
from jaxgen.models.rendering.nerf import encode as positional
from tests.helpers.scenes import posed
from tests.helpers.untrained import untrained


def looked_up(point, table, levels, sizes):
    """Return the features of one point, corner by corner, with Python's integers."""
    found, start = [], 0
    for resolution, size in zip(levels, sizes, strict=True):
        at = np.float64(point) * resolution
        low = np.clip(np.floor(at), 0, resolution - 1).astype(int)
        part, total = at - low, np.zeros(table.shape[1])
        for dx in (0, 1):
            for dy in (0, 1):
                for dz in (0, 1):
                    x, y, z = (int(v) for v in low + np.array([dx, dy, dz]))
                    if (resolution + 1) ** 3 <= size:
                        row = x + (resolution + 1) * (y + (resolution + 1) * z)
                    else:
                        row = (x ^ (y * 2654435761 & 0xFFFFFFFF) ^ (z * 805459861 & 0xFFFFFFFF)) % size
                    share = np.prod([p if d else 1 - p for p, d in zip(part, (dx, dy, dz), strict=True)])
                    total += share * table[start + row]
        found.append(total)
        start += size
    return np.concatenate(found)


def test_the_hash_encoding_is_the_plain_lookup():
    levels = (3, 7, 19)
    sizes = [min((n + 1) ** 3, 128) for n in levels]  # 64 without a hash, 128 and 128 with one
    rng = np.random.default_rng(0)
    table = rng.normal(size=(sum(sizes), 2)).astype(np.float32)
    points = np.concatenate([rng.random((20, 3)), [[0, 0, 0], [1, 1, 1], [1, 0, 0.5]]]).astype(np.float32)
    made = jax.jit(lambda p, t: encode(p, t, levels, sizes))(points, table)
    true = np.stack([looked_up(point, table, levels, sizes) for point in points])
    assert np.asarray(made) == pytest.approx(true, abs=1e-4)


def test_the_levels_are_those_of_the_paper():
    found = resolutions(HashGrid(levels=16, coarsest=16, finest=512))
    assert (found[0], found[-1], len(found)) == (16, 512, 16)
    assert found[1] == int(16 * np.exp((np.log(512) - np.log(16)) / 15))


def test_harmonics_are_orthonormal():
    """The mean over the sphere of the products, times its area, is the identity."""
    z, angle = np.polynomial.legendre.leggauss(8)[0], np.arange(16) * np.pi / 8
    weight = np.repeat(np.polynomial.legendre.leggauss(8)[1], 16) * np.pi / 8
    radius = np.sqrt(1 - z**2)
    d = np.stack([np.outer(radius, np.cos(angle)), np.outer(radius, np.sin(angle)), np.outer(z, np.ones(16))], -1)
    y = np.asarray(harmonics(jnp.asarray(d.reshape(-1, 3), jnp.float32)))
    assert (y * weight[:, None]).T @ y == pytest.approx(np.eye(16), abs=1e-5)


def test_the_positional_encoding():
    x = np.array([[0.3, -0.2, 0.9]], np.float32)
    made = np.asarray(positional(jnp.asarray(x), 10))
    assert made.shape == (1, 63) and (made[:, :3] == x).all()
    assert made[0, 3 + 6 * 4] == pytest.approx(np.sin(16 * 0.3), abs=1e-5)
    assert made[0, 3 + 6 * 4 + 3] == pytest.approx(np.cos(16 * 0.3), abs=1e-5)


def test_a_runs_views_become_a_film_and_an_image(tmp_path, cli):
    posed(tmp_path)
    run = untrained(tmp_path / "runs" / "h", "rendering", "hash-grid", "--data.source", f"nerf:{tmp_path}")
    film, image = tmp_path / "turn.gif", tmp_path / "view.png"
    assert "3 views" in cli(0, "render", run, "--frames", 3, "--size", "12x10", "--out", film)
    with Image.open(film) as found:
        assert found.size == (12, 10)
    cli(0, "render", run, "--size", "12x10", "--show", "distance", "--out", image)
    assert "trainedAlgorithmicMedia" in cli(0, "inspect", image)


def test_a_run_without_cameras_renders_no_views(tmp_path, cli):
    run = untrained(tmp_path / "gan", "gan", "dcgan")
    assert "renders no views" in cli(2, "render", run, "--out", tmp_path / "x.png")


def test_augmentations_that_cameras_do_not_follow_are_refused(tmp_path, cli):
    posed(tmp_path)
    start = ("train.rendering", "--preset", "nerf", "--tiny", "--data.source", f"nerf:{tmp_path}")
    for setting in ("--data.flip", "--data.crop=random"):
        assert "would not fit the images' cameras" in cli(2, *start, setting, "--out", tmp_path / "r")


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["nerf", "hash-grid"])
def test_a_scene_is_learned(preset, tmp_path, cli):
    """Views of a square, seen from other distances: far better than their mean colour."""
    posed(tmp_path)
    more = ("--model.activation", "softplus") if preset == "nerf" else ()
    more += ("--steps", 200, "--log.samples", 0, "--log.every", 100, "--save.every", 200, "--model.near", 1)
    start = ("train.rendering", "--preset", preset, "--tiny", "--data.source", f"nerf:{tmp_path}")
    cli(0, *start, *more, "--out", tmp_path / "run")
    cli(0, "evaluate", tmp_path / "run", "--metrics", "psnr_rgb")
    found = json.loads((tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()[-1])
    assert found["value"] > 16, found


def test_the_number_of_parameters_is_the_papers():
    assert zoo.load("nerf").parameters == 2 * 595_844
