"""SPAN: its sizes, its two forms, and the published nets of ncnn on Set5."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.core.types import Context
from jaxgen.media import photo
from jaxgen.media.comparison_sheet import measured
from jaxgen.models.super_resolution.span import fused
from jaxgen.training.dry_run import count
from tests.helpers.capabilities import restore
from tests.helpers.untrained import drawn

# Counted of the authors' code: 481K and 498K in the paper, and the files for ncnn less the three means of colours.
MERGED = {("span-52", 2): 481_324, ("span-52", 4): 498_208, ("span", 2): 410_703 - 3, ("span", 4): 426_291 - 3}


def model_of(name: str, size: str = "run", **changes) -> Any:
    return dataclasses.replace(getattr(zoo.load(name), size).model, **changes)


@pytest.mark.parametrize(("name", "scale"), MERGED)
def test_merged_it_has_the_published_number_of_parameters(name, scale):
    task = model_of(name, scale=scale, expanded=False).task(1)
    assert count(jax.eval_shape(lambda: task.init(jax.random.key(0), {}))[0]) == MERGED[name, scale]
    assert scale != 4 or zoo.load(name).merged == MERGED[name, scale]


def test_the_merged_net_is_the_same_function():
    model = model_of("span", "tiny", scale=3, image=(18, 18, 3))
    task, merged = model.task(1), dataclasses.replace(model, expanded=False).task(1)
    wide = drawn(jax.eval_shape(lambda: task.init(jax.random.key(0), {})[0]))["restorer"]
    draw = np.random.default_rng(1)
    wide = jax.tree.map(lambda x: draw.normal(size=x.shape).astype("f4") if x.ndim == 1 else x, wide)  # biases
    x = np.random.default_rng(0).uniform(-1, 1, (1, 7, 9, 3)).astype(np.float32)

    def run(task, params):
        keys, context = jax.random.split(jax.random.key(0), 1), Context({}, {}, {}, jnp.zeros((), jnp.int32))
        return jax.jit(restore(task), static_argnums=4)({"restorer": params}, context, {"degraded": x}, keys, 3)

    narrow = fused(wide)
    like = jax.eval_shape(lambda: merged.init(jax.random.key(0), {}))[0]["restorer"]
    assert jax.tree.map(jnp.shape, narrow) == jax.tree.map(jnp.shape, like)
    a, b = run(task, wide), run(merged, narrow)
    assert a.shape == (1, 21, 27, 3) and np.ptp(np.asarray(a)) > 0.1
    np.testing.assert_allclose(a, b, atol=1e-4 * float(jnp.abs(b).max()))


def scores(cli, data, out, images: str, scale: int) -> dict[str, float]:
    """Return the PSNR of luma of each file that `restore` writes, which are of 8 bits, as the authors measured."""
    args = ["--with", str(data / f"weights/span/spanx{scale}_ch48.param"), "--degrade", "--out", str(out)]
    cli(0, "restore", str(data / "sr/Set5" / images), *args)
    found = {}
    for file in photo.find(out):
        made = photo.read(file).pixels
        clean = photo.read(data / "sr/Set5" / f"{file.stem}.png").pixels[: made.shape[0], : made.shape[1]]
        found[file.stem] = measured(clean, made, scale)[f"psnr_y_border{scale}"]
    return found


def test_published_weights_enlarge_one_image(cli, real_data, tmp_path):
    args = ["--with", str(real_data / "weights/span/spanx4_ch48.bin"), "--degrade", "--scale", "4"]
    out = cli(0, "restore", str(real_data / "sr/Set5/butterfly.png"), *args, "--out", str(tmp_path / "x.png"))
    assert "psnr_y_border4 28.63" in out  # bicubic: 22.10
    assert "matched by their order" not in out


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "published"), [(2, 38.085), (4, 32.199)])
def test_published_weights_reach_the_published_psnr(cli, real_data, tmp_path, scale, published):
    found = scores(cli, real_data, tmp_path / "x", "", scale)
    assert len(found) == 5
    assert float(np.mean(list(found.values()))) == pytest.approx(published, abs=0.002)
