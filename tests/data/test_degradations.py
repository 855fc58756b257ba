"""Degradations: common properties, noise, JPEG, haze and low light, old photographs; against scipy and Pillow."""

import io
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from jaxgen import zoo
from jaxgen.data import degradation_ops, masks, old_photo
from jaxgen.data.degradations import Degradation
from jaxgen.nn.resample import imresize
from tests.helpers.data_samples import message, sample_image
from tests.helpers.degradation_samples import batch, floats, keys
from tests.helpers.quick_keys import quick_key

DAMAGES = {
    "blur": Degradation(blur=(0.5, 3)),
    "motion": Degradation(motion=(3, 9)),
    "shake": Degradation(shake=(3, 20)),
    "noise": Degradation(noise=(1, 50)),
    "poisson": Degradation(poisson=(0.5, 3)),
    "camera": Degradation(camera=(1e-4, 1e-2)),
    "jpeg": Degradation(jpeg=(20, 90)),
    "all": Degradation((0.5, 2), (1, 5), (1, 5), "haze", (1, 9), (1, 2), (1e-3, 1e-2), (30, 90), "boxes"),
    **{name: Degradation(pipeline=name) for name in ("real-esrgan", "photo", "haze", "low-light", "grey")},
    **{name: Degradation(mask=name) for name in ("boxes", "strokes", "scratches", "text")},
}


def quick_keys(n: int) -> jax.Array:
    return jax.random.split(quick_key(0), n)


def psnr(a, b) -> float:
    return 10 * math.log10(255**2 / max(np.mean(np.square(np.asarray(a, float) - b)), 1e-9))


# ---------------------------------------------------------------- common properties


LONG = ("real-esrgan", "photo", "all")  # they compile for long


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in DAMAGES])
def test_an_image_depends_on_its_own_key(name):
    degrade = jax.jit(DAMAGES[name], static_argnums=2)
    x, k = np.asarray(batch()), quick_keys(3)
    others = np.array([1, 0, 0])
    three, again, moved = degrade(x, k, 1), degrade(x, k, 1), degrade(x[others], k[others], 1)
    for part, rows in three.items():
        assert np.array_equal(rows, again[part])
        assert np.mean(np.abs(rows[1] - moved[part][0])) < 1e-4, part  # rounding may give the other level
        assert rows.dtype == jnp.float32 and np.isfinite(rows).all()
    same = degrade(np.stack([x[0]] * 3), k, 1)
    changed = [part for part, rows in same.items() if not np.array_equal(rows[0], rows[1])]
    assert bool(changed) != (name == "grey")
    if name not in ("noise", "poisson", "camera"):
        assert np.abs(three["degraded"]).max() <= 1 + 1e-5


@pytest.mark.parametrize(
    "name",
    [
        "blur",
        "poisson",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("noise", "low-light", "strokes", "shake", "jpeg")),
    ],
)
def test_compiled_equals_not_compiled(name):
    x, k = batch(2, (17, 20)), quick_keys(2)
    eager = DAMAGES[name](x, k)
    for part, rows in jax.jit(DAMAGES[name])(x, k).items():
        assert np.mean(np.abs(rows - eager[part])) < 1e-4


@pytest.mark.parametrize(
    "pipeline, size, mode, scale",
    [
        *((name, (37, 50), "RGB", 3) for name in ("plain", "real-esrgan", "photo")),
        ("plain", (24, 16), "L", 1),
        *(pytest.param(name, (24, 16), "L", 1, marks=pytest.mark.slow) for name in ("real-esrgan", "photo")),
    ],
)
def test_sizes_and_ranges(pipeline, size, mode, scale):
    degradation = Degradation(blur=(1, 1), jpeg=(50, 50), pipeline=pipeline)
    scale = 4 if pipeline == "real-esrgan" else scale
    made = jax.jit(degradation, static_argnums=2)(batch(2, size, mode), quick_keys(2), scale)
    small = [math.ceil(n / scale) for n in size]
    assert made["degraded"].shape == (2, *small, len(mode) if mode == "RGB" else 1)
    assert np.abs(made["degraded"]).max() <= 1 and made["sigma"].shape == (2,)
    assert ("mask" in made) == (pipeline == "photo")
    if pipeline == "photo":
        assert made["mask"].shape == (2, *small, 1) and set(np.unique(made["mask"])) <= {0, 1}


def test_sigma_is_returned_and_the_default_changes_nothing():
    x, k = batch(), keys(3)
    made = Degradation()(x, k)
    assert np.array_equal(made["degraded"], x) and not made["sigma"].any() and len(made) == 2
    made = jax.jit(Degradation(noise=(10, 30)))(jnp.zeros((64, 32, 32, 3)), keys(64))
    assert (made["sigma"] >= 10).all() and (made["sigma"] <= 30).all() and made["sigma"].std() > 4
    np.testing.assert_allclose(made["degraded"].std((1, 2, 3)) * 127.5, made["sigma"], rtol=0.1)


def test_a_downsampled_image_has_the_levels_of_a_file():
    """Bicubic interpolation overshoots where black meets white. A file can't hold that."""
    x = jnp.asarray(np.where(np.indices((16, 16)).sum(0) // 8 % 2, 1.0, -1.0)[None, :, :, None], jnp.float32)
    plain = np.asarray(imresize(x, 1 / 2))
    assert np.abs(plain).max() > 1.05
    made = np.asarray(Degradation()(x, keys(1), 2)["degraded"])
    np.testing.assert_allclose(made, np.clip(np.rint((plain + 1) * 127.5), 0, 255) / 127.5 - 1, atol=1e-6)
    assert np.array_equal(Degradation(rounded=False)(x, keys(1), 2)["degraded"], plain)


def test_only_nets_whose_authors_trained_on_doubles_do_without_rounding():
    nets = [name for family in ("restoration", "super_resolution") for name in zoo.family(family)]
    degradations = {name: getattr(zoo.load(name).run.model, "degradation", Degradation()) for name in nets}
    assert {name for name in nets if not degradations[name].rounded} == {"srcnn", "vdsr", "fsrcnn", "dncnn-3"}


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"noise": (-1, 5)}, ["noise", "-1"]),
        ({"blur": (3, 2)}, ["blur", "3 2"]),
        ({"motion": (0, math.inf)}, ["motion"]),
        ({"poisson": (math.nan, 1)}, ["poisson"]),
        ({"jpeg": (50, 101)}, ["jpeg", "100", "101"]),
        ({"jpeg": (0, 50)}, ["jpeg", "from 1"]),
        ({"pipeline": "foto"}, ["pipeline", "photo"]),
        ({"mask": "box"}, ["mask", "boxes"]),
    ],
)
def test_invalid_settings_are_refused(wrong, words):
    message(Degradation(**wrong).check, *words)


def test_other_numbers_of_channels_are_refused():
    x = jnp.zeros((1, 16, 16, 2))
    message(lambda: Degradation(jpeg=(50, 50))(x, keys(1)), "1 or 3 channels", "2")
    made = jax.eval_shape(Degradation(noise=(1, 1), blur=(1, 1), mask="boxes"), x, keys(1))
    assert made["degraded"].shape == x.shape
    for degradation in DAMAGES.values():
        degradation.check()


# ---------------------------------------------------------------- noise


@pytest.mark.parametrize("rate", [0.0, 0.3, 2.0, 3.9, 4.1, 12.0, 100.0, 255.0])
def test_poisson_quantile_equals_scipy(rate):
    u = (np.arange(100_000) + 0.5) / 100_000
    ours = np.asarray(
        jax.jit(degradation_ops.poisson_quantile)(jnp.asarray(u, jnp.float32), jnp.full(100_000, rate)), float
    )
    theirs = stats.poisson.ppf(u, rate) if rate else np.zeros_like(u)
    assert np.abs(ours - theirs).max() <= 1 and (ours == theirs).mean() > 0.994
    assert abs(ours.mean() - rate) < 1e-3 * max(rate, 1) and abs(ours.var() - rate) < 4e-3 * max(rate, 1)


def test_noise_has_its_moments():
    value = np.array([0.0, 0.2, 0.5, 0.9])
    x = jnp.broadcast_to(jnp.asarray(2 * value - 1, jnp.float32).reshape(4, 1, 1, 1), (4, 200, 200, 3))
    level = np.round(value * 255) / 255
    made = {
        "photons": (
            jax.jit(degradation_ops.poisson_noise)(x, floats(1, 1, 2, 2), keys(4)),
            np.array([1, 1, 4, 4]) * level / 255,
        ),
        "camera": (
            jax.jit(degradation_ops.camera_noise)(x, floats(*[0.01] * 4), floats(*[1e-4] * 4), keys(4)),
            0.01 * value + 1e-4,
        ),
        "gaussian": (
            jax.jit(degradation_ops.gaussian_noise)(x, floats(5, 10, 20, 40), keys(4)),
            (2.0 ** np.arange(4) / 51) ** 2,
        ),
    }
    for name, (rows, variance) in made.items():
        rows = (np.asarray(rows, float) + 1) / 2
        np.testing.assert_allclose(rows.mean((1, 2, 3)), value, atol=3e-3, err_msg=name)
        np.testing.assert_allclose(rows.var((1, 2, 3)), variance, rtol=0.02, atol=1e-9, err_msg=name)
    flat = np.asarray(made["gaussian"][0][1] - x[1]).ravel() * 12.75
    assert stats.kstest(flat, "norm").pvalue > 1e-3


@pytest.mark.parametrize("kind", [{"noise": (20, 20)}, {"poisson": (2, 2)}, {"camera": (0.01, 0.01)}])
def test_a_photograph_without_colour_gets_noise_without_colour(kind):
    x = batch(2)
    x = np.where(np.arange(2).reshape(2, 1, 1, 1) == 0, np.asarray(x)[..., :1], x)  # the first is grey
    made = jax.jit(Degradation(**kind))(x, quick_keys(2))["degraded"]
    noise = np.asarray(made) - x
    apart = np.abs(noise - noise[..., :1]).mean((1, 2, 3))
    assert apart[0] < 1e-6 and apart[1] > 0.01
    grey = jax.jit(Degradation(**kind))(x[..., :1], quick_keys(2))["degraded"]  # a file of one channel
    assert abs(float((grey - x[..., :1]).std()) / float(noise.std()) - 1) < 0.1


def test_read_noise_equals_brooks_et_al():
    read = np.log(np.asarray(jax.jit(degradation_ops.read_noise)(jnp.full(2000, 0.01), keys(2000)), float))
    assert abs(read.mean() - (2.18 * math.log(0.01) + 1.2)) < 0.02 and abs(read.std() - 0.26) < 0.015


# ---------------------------------------------------------------- JPEG


@pytest.mark.parametrize("quality", [10, 75, 95, *(pytest.param(q, marks=pytest.mark.slow) for q in (5, 30, 50))])
@pytest.mark.parametrize("mode, part", [("RGB", (301, 203)), ("RGB", (96, 64)), ("RGB", (35, 41)), ("L", (61, 150))])
def test_jpeg_equals_pillow(real_data, quality, mode, part):
    for name in ("astronaut.png", "china.jpg"):
        clean = np.asarray(Image.open(real_data / "photos" / name).convert(mode))[
            100 : 100 + part[0], 200 : 200 + part[1]
        ]
        file = io.BytesIO()
        Image.fromarray(clean).save(file, "JPEG", quality=quality)
        theirs = np.asarray(Image.open(file))
        x = jnp.asarray(clean.reshape(1, *part, -1), jnp.float32) / 127.5 - 1
        ours = (np.asarray(jax.jit(degradation_ops.jpeg)(x, floats(quality))[0]) + 1) * 127.5
        ours = ours.reshape(clean.shape)
        assert np.abs(ours - np.round(ours)).max() < 1e-3  # integer levels
        # They differ where a coefficient is between two multiples; with few blocks, one such case matters.
        assert psnr(ours, theirs) > (42 if min(part) > 50 else 38)
        assert abs(psnr(ours, clean) - psnr(theirs, clean)) < 0.1


# ---------------------------------------------------------------- haze, low light, greyscale


def test_haze_follows_koschmieder():
    x, depth, light = batch(2), jnp.full((2, 38, 45, 1), 0.7), floats(0.8, 1.0)
    made = jax.jit(degradation_ops.haze)(x, quick_keys(2), depth, light)
    for row, one, air in zip(made, x, light, strict=True):
        clean, t = (np.asarray(one, float) + 1) / 2, math.exp(-0.7)
        np.testing.assert_allclose((row + 1) / 2, clean * t + float(air) * (1 - t), atol=1e-6)
    far = np.asarray(jax.jit(degradation_ops.depth_field, static_argnums=1)(keys(32), (160, 200)))
    assert far.min() >= 0 and far.max() <= 1 and far[:, :30].mean() > far[:, -30:].mean() + 0.2
    assert np.abs(np.diff(far, axis=1)).max() < 0.08  # smooth
    hazy = np.asarray(jax.jit(Degradation(pipeline="haze"))(x, quick_keys(2))["degraded"])
    assert hazy.std() < 0.9 * x.std()


def test_low_light_is_a_gamma_and_a_gain():
    x = batch(2)
    made = degradation_ops.low_light(x, floats(0.5, 1), floats(2, 1))
    np.testing.assert_allclose((made[0] + 1) / 2, 0.5 * ((x[0] + 1) / 2) ** 2, atol=1e-6)
    np.testing.assert_allclose(made[1], x[1], atol=1e-6)


def test_grey_equals_pillow():
    x = batch(1)
    theirs = np.asarray(sample_image(0, (45, 38)).convert("L"), float)[..., None]
    assert np.abs((np.asarray(degradation_ops.grey(x)[0]) + 1) * 127.5 - theirs).max() < 0.51


# ---------------------------------------------------------------- old photographs


def test_old_photographs_are_faded_and_destroyed():
    x, k = batch(8, (64, 48)), quick_keys(8)
    made, holes = jax.jit(old_photo.old_photo)(x, k)
    assert 0.002 < float(masks.masked_share(holes).mean()) < 0.3
    paper = np.asarray(made).mean(-1, keepdims=True)[np.asarray(holes) > 0]
    assert paper.mean() > np.asarray(made).mean() + 0.1  # destroyed pixels are mostly bright
    faded = np.asarray(jax.jit(old_photo.fade)(x, k, jnp.ones(8)))
    assert (faded.std((1, 2)).mean(-1) < np.asarray(x).std((1, 2)).mean(-1)).all()
    sepia = faded[..., 0] - faded[..., 2]
    assert np.median(sepia) > 0.02  # red above blue
    grain = np.asarray(jax.jit(old_photo.add_grain)(jnp.zeros((2, 200, 200, 3)), floats(5, 20), keys(2)), float) * 127.5
    np.testing.assert_allclose(grain.std((1, 2, 3)), [5, 20], rtol=0.05)
    assert (grain[..., 0] == grain[..., 2]).all()
