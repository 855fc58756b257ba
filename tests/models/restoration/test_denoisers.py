"""Denoisers: parameter counts, PSNR of published weights on real images, training losses against closed forms."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from jaxgen import zoo
from jaxgen.core import capabilities
from jaxgen.core.errors import InputError
from jaxgen.core.task import Task
from jaxgen.core.types import Context
from jaxgen.data.degradations import Degradation
from jaxgen.interop.entries import to_ours
from jaxgen.interop.read import read
from jaxgen.interop.weight_names import rule_of
from jaxgen.losses import restoration as losses
from jaxgen.models.restoration.dncnn import DnCNN
from jaxgen.models.restoration.ffdnet import FFDNet
from jaxgen.models.restoration.nafnet import NAFNet
from jaxgen.models.restoration.noise2noise import Noise2Noise, noisy_target
from jaxgen.models.restoration.noise2void import Noise2Void, Noise2VoidNet, blind_spot_pair, blinded
from jaxgen.models.restoration.restormer import Restormer
from jaxgen.models.restoration.unet import UNet
from jaxgen.nn.resample import imresize
from jaxgen.tasks.restoration import Recipe, RestorationTask, TrainingPair, clean_target
from jaxgen.training.dry_run import count
from tests.helpers.capabilities import restore
from tests.helpers.quick_keys import quick_key

# Published, or counted from the authors' code where the paper rounds (Restormer 26.1 M, NAFNet 29.2 M and 116 M).
PARAMETERS = {
    "dncnn": 556_097,
    "dncnn-blind": 667_073,
    "dncnn-colour": 669_379,
    "dncnn-3": 667_073,
    "ffdnet": 485_316,
    "ffdnet-colour": 852_108,
    "nafnet": 29_159_715,
    "nafnet-64": 115_982_915,
    "restormer": 26_111_668,
    "unet-denoise": 991_203,
    "noise2noise": 991_203,
}


def shapes(task: Task) -> tuple[Any, Any]:
    return jax.eval_shape(lambda: task.init(jax.random.key(0), {}))


def context(extra: Any = None) -> Context:
    return Context({"restorer": extra or {}}, {}, {}, jnp.zeros((), jnp.int32))


def uniform(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, shape), jnp.float32)


def started(model: Any, seed: int = 0) -> tuple[Task, Any, Context]:
    """A task, its initial parameters and a context."""
    task = model.task(1)
    params, extra = jax.jit(lambda: task.init(quick_key(seed), {}))()
    return task, params, context(extra["restorer"])


@pytest.mark.parametrize("name", ["dncnn", "ffdnet", "nafnet", "restormer", "unet-denoise", "noise2noise"])
def test_the_nets_have_the_published_number_of_parameters(name):
    preset = zoo.load(name)
    assert count(shapes(preset.run.model.task(1))[0]) == PARAMETERS[name] == preset.parameters


def test_the_presets_name_the_published_number_of_parameters():
    """test_zoo.py counts those of the later presets of a file."""
    assert {name: zoo.load(name).parameters for name in PARAMETERS} == PARAMETERS


def test_folded_norms_leave_555137_parameters():
    assert count(shapes(DnCNN(norm=False).task(1))[0]) == 555_137


# ---- real images


def published_psnr(folder, weights) -> float:
    """The mean PSNR over a folder's images with noise of 25, restored by published weights."""
    model = DnCNN(norm=False)
    task = model.task(1)
    params = to_ours(rule_of("dncnn"), model, "restorer", {"params": shapes(task)[0]["restorer"]}, read(weights))
    restored = jax.jit(restore(task))
    draw, found = np.random.RandomState(0), []
    for path in sorted(folder.glob("*.png")):
        clean = np.asarray(Image.open(path), np.float64) / 255
        noisy = (clean + draw.normal(0, 25 / 255, clean.shape)) * 2 - 1
        given = {"degraded": noisy.astype(np.float32)[None, :, :, None]}
        made = restored({"restorer": params["params"]}, context(), given, jax.random.split(jax.random.key(0), 1))
        error = (np.asarray(made, np.float64)[0, :, :, 0] + 1) / 2 - clean
        found.append(-10 * np.log10(np.mean(error**2)))
    return float(np.mean(found))


@pytest.mark.slow
def test_published_dncnn_on_set12(real_data):
    """The benchmark restoration_scores measures it on BSD68."""
    found = published_psnr(real_data / "denoise/Set12", real_data / "weights/dncnn_25.pth")
    assert found == pytest.approx(30.44, abs=0.02)


# ---- inputs and conditioning of the nets


def test_ffdnet_uses_the_noise_level_of_each_image():
    task, params, now = started(FFDNet((16, 16, 1), depth=3, width=8))
    transform, degrade = task.get(capabilities.Transform), task.get(capabilities.Degradation).degrade
    assert transform.conditions == ("sigma",) and transform.source.multiple == 2
    keys = jax.random.split(quick_key(1), 3)
    given = jax.jit(degrade)(uniform(3, 16, 16, 1), keys)
    assert given["sigma"].shape == (3,) and given["sigma"].min() >= 0 and given["sigma"].max() <= 75
    restored = jax.jit(lambda given: restore(task)(params, now, given, keys, 1.0))
    given = {name: np.asarray(x) for name, x in given.items()}
    made = np.asarray(restored(given))
    for i in range(3):
        one = {name: np.repeat(x[i : i + 1], 3, 0) for name, x in given.items()}
        np.testing.assert_allclose(np.asarray(restored(one))[0], made[i], atol=1e-5)
    louder = np.asarray(restored(given | {"sigma": given["sigma"] + 10}))
    assert (np.abs(louder - made).max((1, 2, 3)) > 1e-4).all()


@pytest.mark.parametrize("model", [DnCNN((8, 8, 1), depth=3, width=4), FFDNet((8, 8, 1), depth=3, width=4)])
def test_a_grey_net_restores_each_channel_of_colour(model):
    task, params, now = started(model)
    keys = jax.random.split(quick_key(1), 2)
    x, sigma = np.asarray(uniform(2, 8, 8, 3)), jnp.array([10.0, 50.0])
    restored = jax.jit(lambda x: restore(task)(params, now, {"degraded": x, "sigma": sigma}, keys, 1.0))
    made = np.asarray(restored(x))
    for i in range(3):
        grey = restored(x[..., i : i + 1])
        np.testing.assert_allclose(made[..., i : i + 1], grey, atol=1e-5)


def dncnn_3_task(**degradation) -> tuple[Task, list]:
    """The task of DnCNN-3 with these degradations, and a list of the net's inputs in training."""
    seen: list = []

    def spy(clean, keys, degrade) -> TrainingPair:
        pair = clean_target(clean, keys, degrade)
        jax.debug.callback(seen.append, pair.inputs["degraded"])
        return pair

    fixed: Any = {"channels": 1, "scales": (1, 2, 3, 4), "interpolated": True, "one_kind": True, "make_pair": spy}
    one = Degradation(**degradation, rounded=False)
    return RestorationTask(Affine(), (24, 24, 1), Recipe(), one, **fixed).task(), seen


def test_dncnn_3_degrades_a_patch_in_one_of_three_kinds():
    task, seen = dncnn_3_task(noise=(50, 50), jpeg=(5, 5))
    params, extra = jax.jit(lambda: task.init(jax.random.key(0), {}))()
    one = np.sign(np.random.default_rng(0).normal(size=(1, 24, 24, 1))).astype(np.float32) / 5
    clean = jnp.repeat(jnp.asarray(one), 300, 0)
    jax.jit(lambda: task.phases[0].loss(params, context(extra["restorer"]), {"image": clean}, jax.random.key(1)))()
    jax.effects_barrier()
    (given,) = seen
    small = [
        np.asarray(jax.image.resize(imresize(jnp.asarray(one), 1 / s), (1, 24, 24, 1), "bicubic", antialias=False))
        for s in (2, 3, 4)
    ]
    degrade = task.get(capabilities.Degradation).degrade
    keys = jax.random.split(jax.random.key(2), 300)
    alone = jax.jit(lambda: degrade(clean, keys, 1))()["degraded"]
    whole = Degradation(jpeg=(5, 5))(jnp.asarray(one), keys[:1])["degraded"]

    def near(x, y) -> np.ndarray:
        inside = np.asarray(x - np.broadcast_to(y, x.shape))[:, 8:16, 8:16]
        return np.abs(inside).max((1, 2, 3)) < 1e-3

    by_jpeg, enlarged = near(given, whole), [near(given, x) for x in small]
    noisy = np.abs(np.std(given - clean, (1, 2, 3)) - 50 / 127.5) < 0.06
    kinds = np.stack([noisy, by_jpeg, *enlarged])
    assert (kinds.sum(0) == 1).all(), "each patch gets exactly one kind"
    shares = kinds.mean(1)
    np.testing.assert_allclose(shares, [1 / 3, 1 / 3, 1 / 9, 1 / 9, 1 / 9], atol=0.08)
    assert near(alone, whole).mean() == pytest.approx(0.5, abs=0.09), "at scale 1, noise or JPEG"
    np.testing.assert_array_equal(degrade(clean, keys, 2)["degraded"], imresize(clean, 1 / 2))


# ---- Noise2Noise


class Affine(nn.Module):
    """a x + b, for pixels from 0 to 1."""

    channels: int = 1

    @nn.compact
    def __call__(self, x, train=False):
        a, b = (self.param(name, nn.initializers.zeros, ()) for name in "ab")
        return jnp.broadcast_to(a, x.shape) * x + jnp.broadcast_to(b, x.shape)


def minimiser(make_pair, clean) -> tuple[float, float]:
    """The a and b of the least squared error, from one step of Newton's method: the gradient is affine."""
    degradation = Degradation(noise=(51, 51))
    task = RestorationTask(
        Affine(), (32, 32, 1), Recipe(loss="l2"), degradation, channels=1, make_pair=make_pair
    ).task()
    extra = jax.jit(lambda: task.init(jax.random.key(0), {}))()[1]

    def loss(v):
        params = {"restorer": {"a": v[0], "b": v[1]}}
        return task.phases[0].loss(params, context(extra["restorer"]), {"image": clean}, jax.random.key(3))[0]

    zero, *ones = np.asarray(jax.jit(jax.vmap(jax.grad(loss)))(np.eye(3, 2, -1, dtype=np.float32)), np.float64)
    a, b = -np.linalg.solve(np.stack(ones, 1) - zero[:, None], zero)
    return float(a), float(b)


def test_noise2noise_has_the_clean_minimiser():
    """Of pixels with mean m and variance v the best affine denoiser is Wiener's: a = v / (v + s^2), b = (1 - a) m."""
    x = np.random.default_rng(0).normal(0.3, 0.1, size=(256, 32, 32, 1)).astype(np.float32)
    clean, noise = jnp.asarray(2 * x - 1), 51 / 255
    a = x.var() / (x.var() + noise**2)
    assert minimiser(noisy_target, clean) == pytest.approx((a, (1 - a) * x.mean()), abs=0.006)
    assert minimiser(clean_target, clean) == pytest.approx((a, (1 - a) * x.mean()), abs=0.006)
    same = lambda clean, keys, degrade: TrainingPair(degrade(clean, keys), degrade(clean, keys)["degraded"])  # noqa: E731
    assert minimiser(same, clean) == pytest.approx((1, 0), abs=1e-3), (
        "with the same noise in both copies the net learns the identity"
    )


def test_noise2noise_of_constant_images_finds_the_clean_mean():
    clean = jnp.full((256, 32, 32, 1), 0.4)  # 0.7 in [0, 1]: all variation is noise
    a, b = minimiser(noisy_target, clean)
    assert a == pytest.approx(0, abs=0.006) and a * 0.7 + b == pytest.approx(0.7, abs=0.002)


def test_noise2noise_draws_both_copies_and_their_levels_independently():
    clean, keys = jnp.zeros((64, 32, 32, 1)), jax.random.split(jax.random.key(0), 64)
    inputs, target, mask = jax.jit(lambda: noisy_target(clean, keys, Degradation(noise=(0, 50))))()
    assert mask is None
    a, b = np.asarray(inputs["degraded"]), np.asarray(target)
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(a.std((1, 2, 3)), b.std((1, 2, 3)))[0, 1]) < 0.35


@pytest.mark.parametrize("net", ["dncnn", *(pytest.param(net, marks=pytest.mark.slow) for net in ("unet", "nafnet"))])
def test_noise2noise_trains_any_net(net):
    task, params, now = started(Noise2Noise((8, 8, 3), net=net, width=6, depth=2))
    batch = {"image": uniform(2, 8, 8, 3)}
    loss, aux = jax.jit(lambda: task.phases[0].loss(params, now, batch, quick_key(2)))()
    assert np.isfinite(loss) and np.isfinite(aux.metrics["psnr"])


# ---- Noise2Void


@pytest.mark.parametrize(("box", "radius"), [(4, 2), (8, 2), (2, 1), (3, 4)])
def test_a_blind_spot_is_replaced_by_a_neighbour(box, radius):
    h, w = 4 * box, 3 * box
    x = jnp.asarray(np.random.default_rng(0).permutation(h * w * 2).reshape(h, w, 2), jnp.float32)
    made, where = map(np.asarray, jax.jit(partial(blinded, box=box, radius=radius))(x, quick_key(0)))
    x = np.asarray(x)
    assert where.shape == (h, w, 1) and set(np.unique(where)) == {0, 1}
    assert (where.reshape(4, box, 3, box).sum((1, 3)) == 1).all(), "one in each box"
    for i in range(h):
        for j in range(w):
            if not where[i, j]:
                assert (made[i, j] == x[i, j]).all()
                continue
            ((k, l),) = np.argwhere((x == made[i, j]).all(-1))
            assert max(abs(k - i), abs(l - j)) <= radius and not where[k, l]


def test_blind_spots_lie_anywhere_and_show_any_neighbour():
    keys = jax.random.split(jax.random.key(0), 4000)
    x = jnp.arange(25.0).reshape(5, 5, 1)
    made, where = jax.jit(jax.vmap(lambda key: blinded(x, key, box=5, radius=1)))(keys)
    np.testing.assert_allclose(where.mean(0), 1 / 25, atol=0.015)
    middle = np.asarray(made[:, 2, 2, 0])[np.asarray(where[:, 2, 2, 0]) == 1]
    assert set(middle) == {6, 7, 8, 11, 13, 16, 17, 18}


def test_noise2void_does_not_depend_on_the_blind_spot():
    """The net's output at blind spots has no gradient with respect to their values."""
    task, params, now = started(Noise2Void((8, 8, 1), width=4, depth=1, box=4))
    keys = jax.random.split(quick_key(2), 2)

    def output(x):
        pair = blind_spot_pair(x, keys, Degradation(), box=4, radius=2)
        return restore(task)(params, now, pair.inputs, keys, 1.0), pair.mask

    jacobian, mask = jax.jit(jax.jacobian(output, has_aux=True))(uniform(2, 8, 8, 1))  # [2 8 8 1 2 8 8 1]
    assert mask is not None
    jacobian = np.asarray(jacobian).reshape(128, 128)
    blind = np.asarray(mask).reshape(-1) == 1
    assert (jacobian[:, blind] == 0).all() and (np.abs(jacobian[blind][:, ~blind]).max(1) > 0).all()


def test_noise2void_compares_blind_spots_only():
    model = Noise2Void((8, 8, 1), width=4, depth=1, box=4)
    task, params, now = started(model)
    x, key = uniform(3, 8, 8, 1), quick_key(2)
    nets = {"params": params["restorer"], **now.extra["restorer"]}
    net = partial(Noise2VoidNet(4, 1, 1).apply, train=True, mutable=["batch_stats"])

    @jax.jit
    def parts():
        loss, _ = task.phases[0].loss(params, now, {"image": x}, key)
        inputs, target, mask = blind_spot_pair(x, jax.random.split(key, 3), Degradation(), box=4, radius=2)
        out: Any = net(nets, (inputs["degraded"] + 1) / 2)
        return loss, target, mask, out[0]

    loss, target, mask, out = parts()
    np.testing.assert_array_equal(target, x)
    error = (2 * np.asarray(out) - 1 - np.asarray(x)) ** 2
    assert loss == pytest.approx(error[np.asarray(mask) == 1].mean(), rel=1e-5)


def test_noise2void_finds_the_clean_value_under_independent_noise():
    """The best constant output is the pixels' clean mean."""
    clean = jnp.full((256, 32, 32, 1), 0.4)
    a, b = minimiser(partial(blind_spot_pair, box=4, radius=2), clean)
    assert a == pytest.approx(0, abs=0.02) and a * 0.7 + b == pytest.approx(0.7, abs=0.005)


# ---- losses and mistakes


def test_the_losses_are_their_formulas():
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(2, 3, 5, 6, 2))
    d, axes = a - b, (1, 2, 3)
    spectrum = np.fft.rfft2(d, axes=(1, 2))
    want = {
        "l1": np.abs(d).mean(axes),
        "l2": (d**2).mean(axes),
        "charbonnier": np.sqrt(d**2 + 1e-6).mean(axes),
        "psnr": 10 * np.log10((d**2).mean(axes) / 4 + 1e-8),
        "frequency": (np.abs(spectrum.real) + np.abs(spectrum.imag)).mean(axes) / 2,
    }
    a, b = (jnp.asarray(x, jnp.float32) for x in (a, b))
    for name, value in want.items():
        loss = losses.PIXEL_LOSSES.get(name, losses.frequency)
        np.testing.assert_allclose(jax.jit(loss)(a, b), value, rtol=1e-5, err_msg=name)
    x = np.asarray(a)
    steps = np.abs(np.diff(x, axis=1)).sum(axes) + np.abs(np.diff(x, axis=2)).sum(axes)
    np.testing.assert_allclose(losses.total_variation(a), steps / x[0].size, rtol=1e-5)
    assert losses.negative_psnr(a, a) == pytest.approx(-80), "finite for equal images"


BAD = {
    "model.depth must be at least 2": DnCNN(depth=1),
    "model.width must be at least 1": FFDNet(width=0),
    "model.scales must be at least 1": DnCNN(scales=(0, 2)),
    "restores images of 3 channels": dataclasses.replace(DnCNN(), channels=3),
    "multiples of 2": FFDNet(image=(71, 70, 1)),
    "multiples of 16": NAFNet(image=(40, 40, 3)),
    "the same number of resolutions": NAFNet(encoder=(1, 1), decoder=(1,)),
    "model.encoder_and_decoder must be at least 0": NAFNet(encoder=(1, -1), decoder=(1, 1)),
    "multiples of 32": UNet(image=(48, 48, 3)),
    "model.depth must be at least 1": Noise2Noise(depth=0),
    "multiples of 8": Restormer(image=(20, 20, 3)),
    "model.heads and model.blocks": Restormer(heads=(1, 2)),
    "divisible by model.heads": Restormer(width=6, blocks=(1, 1), heads=(4, 1)),
    "model.box must be at least 2": Noise2Void(box=1),
    "multiples of model.box 8": Noise2Void(image=(60, 64, 1)),
    "l1 or l2 for blind spots": Noise2Void(recipe=Recipe(loss="charbonnier")),
    "model.radius must be at least 1": Noise2Void(radius=0),
    "must be 0 <= low <= high": UNet(degradation=Degradation(noise=(5, 1))),
}


@pytest.mark.parametrize("words", BAD)
def test_bad_settings_give_one_sentence(words):
    with pytest.raises(InputError) as error:
        BAD[words].task(1)
    assert words in str(error.value)
