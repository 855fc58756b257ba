"""Super-resolution nets: parameter counts, PSNR of published weights on real images, refused settings."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgen import zoo
from jaxgen.core.errors import InputError
from jaxgen.core.step import make_step
from jaxgen.core.task import Task
from jaxgen.core.types import Context
from jaxgen.interop.entries import to_ours
from jaxgen.interop.read import read
from jaxgen.interop.weight_names import rule_of, to_theirs
from jaxgen.metrics.pixels import luma, psnr
from jaxgen.models.super_resolution import liif
from jaxgen.models.super_resolution._discriminator import PerceptualGANConfig
from jaxgen.nn.colour import eight_bit
from jaxgen.nn.resample import imresize, resize
from jaxgen.nn.shuffle import depth_to_space, space_to_depth
from jaxgen.training.dry_run import count
from tests.helpers.capabilities import restore
from tests.helpers.untrained import drawn_state

NAMES = zoo.family("super_resolution")


def model_of(name: str, **changes) -> Any:
    """A preset's model."""
    return dataclasses.replace(zoo.load(name).run.model, **changes)


def shapes(task: Task) -> tuple[Any, Any]:
    return jax.eval_shape(lambda: task.init(jax.random.key(0), {}))


# Published or, where a paper gives only a rounded number, counted from the published code.
PARAMETERS = {
    ("srcnn", None): 57_281,
    ("vdsr", None): 664_704,
    ("espcn", 3): 22_729,
    ("fsrcnn", 2): 12_464 + 173 + 172,
    ("imdn", 2): 694_404,
    ("imdn", 3): 703_059,
    ("imdn", 4): 715_176,
    ("edsr", 2): 1_369_859,
    ("edsr", 3): 1_554_499,
    ("edsr", 4): 1_517_571,
    ("edsr-full", 2): 40_729_603,
    ("edsr-full", 4): 43_089_923,
    ("rcan", 2): 15_444_667 - 24,  # without the authors' two layers that shift the mean
    ("rcan", 4): 15_592_379 - 24,
    ("srresnet", 4): 1_547_350,
    ("rrdb", 4): 16_697_987,
    ("swinir", 2): 11_752_487,
    ("swinir", 4): 11_900_199,
    ("swinir-light", 2): 910_152,
    ("swinir-light", 4): 929_628,
    ("liif", None): 1_220_416 + 346_883,  # EDSR without upsampling, and the perceptron
}


@pytest.mark.parametrize(("name", "scale"), PARAMETERS)
def test_the_nets_have_the_published_number_of_parameters(name, scale):
    side = 48 * (scale or 1)
    changes = {"scale": scale, "image": (side, side, 3)} if scale else {}
    assert count(shapes(model_of(name, **changes).task(1))[0]) == PARAMETERS[name, scale]


def test_discriminators_have_the_authors_number_of_parameters():
    """BasicSR's VGGStyleDiscriminator, for patches of 128 and of 256."""

    def size(side: int) -> int:
        widths = [64, 64, 128, 128, 256, 256, 512, 512, 512, 512] + ([512, 512] if side == 256 else [])
        kernels = [(3, 4)[i % 2] for i in range(len(widths))]
        weights = sum(i * o * k**2 for i, o, k in zip([3, *widths[:-1]], widths, kernels, strict=True))
        return weights + 64 + 2 * sum(widths[1:]) + (4 * 4 * 512 + 1) * 100 + 101

    assert size(128) == 14_499_401
    for name, side in (("esrgan", 128), ("real-esrgan", 256)):
        assert count(shapes(model_of(name).task(1))[0]["critic"]) == size(side)


def test_presets_have_the_authors_settings():
    """RCAN's option.py (1,000 epochs of 1,000 batches), KAIR's swinir options, train_realesrgan_x4plus.yml (4 GPUs)."""
    assert zoo.load("rcan").run.steps == 1_000_000
    assert model_of("swinir").recipe.beta2 == model_of("swinir-light").recipe.beta2 == 0.999
    real, game = zoo.load("real-esrgan").run, model_of("real-esrgan").game
    assert (real.batch, real.steps, real.optim.schedule) == (4 * 12, 400_000, "constant")
    assert (game.loss, game.adversarial, game.perceptual, 2 * game.pixel) == ("non-saturating", 0.1, 1.0, 1.0)
    assert model_of("real-esrgan").recipe.beta2 == game.beta2 == 0.99
    game = model_of("esrgan").game
    assert (game.loss, game.adversarial, 2 * game.pixel) == ("relativistic-average", 5e-3, 1e-2)


def published(name: str, path) -> tuple[Task, Any, Any]:
    """A preset's task, and parameters and a context from a file of published weights."""
    model = zoo.load(name).run.model
    task = model.task(1)
    weights = to_ours(rule_of(name), model, "restorer", {"params": shapes(task)[0]["restorer"]}, read(path))
    return task, {"restorer": weights["params"]}, Context({}, {}, {}, jnp.zeros((), jnp.int32))


def psnr_y(name: str, weights, folder, scale: int, rounded: bool) -> float:
    """The mean PSNR of luma over a folder's images, downsampled by MATLAB's imresize and enlarged by the net."""
    task, params, context = published(name, weights)
    restored = jax.jit(restore(task), static_argnums=4)
    found = []
    for path in sorted(folder.glob("*.png")):
        clean = np.asarray(Image.open(path).convert("RGB"), np.float32)[None] / 127.5 - 1
        h, w = (side - side % scale for side in clean.shape[1:3])
        clean = jnp.asarray(clean[:, :h, :w])
        keys = jax.random.split(jax.random.key(0), 1)
        small = imresize(clean, 1 / scale)
        given = {"degraded": eight_bit(small) if rounded else small}
        better = jnp.clip(restored(params, context, given, keys, scale), -1, 1)
        found.append(float(psnr(luma(better), luma(clean), scale)[0]))
    return float(np.mean(found))


# VDSR's authors measured on images downsampled as doubles, IMDN's on 8-bit files.
PUBLISHED = [
    *(("vdsr", "vdsr_model_epoch_50.pth", s, False, score) for s, score in ((2, 37.65), (4, 31.45))),
    ("imdn", "IMDN_x4.pth", 4, True, 32.20),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "file", "scale", "rounded", "score"), PUBLISHED)
def test_published_weights_reach_the_published_psnr(real_data, name, file, scale, rounded, score):
    found = psnr_y(name, real_data / "weights" / file, real_data / "sr" / "Set5", scale, rounded)
    assert found == pytest.approx(score, abs=0.02)


def test_depth_to_space_and_back():
    x = jnp.arange(2 * 3 * 4 * 8.0).reshape(2, 3, 4, 8)
    y = depth_to_space(x, 2)
    assert y.shape == (2, 6, 8, 2)
    assert y[1, 5, 2, 1] == x[1, 2, 1, 1 * 4 + 1 * 2 + 0]
    assert jnp.array_equal(space_to_depth(y, 2), x)


@pytest.mark.parametrize("name", ["edsr", "swinir"])
def test_constants_in_published_files_are_left_out(name):
    model: Any = zoo.load(name).tiny.model
    like = {"params": shapes(model.task(1))[0]["restorer"]}
    ours = jax.tree.map(lambda x: np.ones(x.shape, np.float32), like)
    theirs = to_theirs(rule_of(name), model, "restorer", ours)
    constants = (
        ["sub_mean.weight", "add_mean.bias"] if name == "edsr" else ["layers.0.residual_group.blocks.1.attn_mask"]
    )
    again = to_ours(rule_of(name), model, "restorer", like, {**theirs, **{m: np.ones(3) for m in constants}})
    assert jax.tree.all(jax.tree.map(np.array_equal, ours, again))


WRONG = [
    ("srcnn", {"kernels": (9, 4, 5)}, "must be odd"),
    ("srcnn", {"scale": 1}, "model.scale must be at least 2"),
    ("vdsr", {"scales": (2, 1)}, "model.scales must be at least 2"),
    ("espcn", {"image": (33, 34, 3)}, "multiples of 2"),
    ("fsrcnn", {"scale": 10}, "at most 9"),
    ("imdn", {"width": 18}, "multiple of 4"),
    ("espcn", {"image": (34, 34, 2)}, "can't have 2"),
    ("edsr", {"scale": 6}, "must be 3 or a power of 2"),
    ("rcan", {"groups": 0}, "model.groups must be at least 1"),
    ("srresnet", {"scale": 0}, "model.scale must be at least 2"),
    ("rrdb", {"scale": 3}, "must be 1, 2 or 4"),
    ("rrdb", {"scale": 2, "image": (90, 90, 3)}, "multiples of 4"),
    ("swinir", {"heads": 7}, "a multiple of the 7 heads"),
    ("swinir", {"image": (88, 96, 3)}, "multiples of 16"),
    ("liif", {"small": 193}, "smaller than model.small"),
    ("esrgan", {"image": (144, 144, 3)}, "halves patches 5 times"),
    ("srgan", {"game": PerceptualGANConfig(kernel=5)}, "model.game.kernel must be 3 or 4"),
]


@pytest.mark.parametrize(("name", "changes", "words"), WRONG)
def test_bad_settings_are_refused(name, changes, words):
    with pytest.raises(InputError, match=words):
        model_of(name, **changes).task(1)


@pytest.mark.parametrize("side", [8, 13, 21, 24])
def test_liif_downsamples_as_resize_does(side):
    x = np.random.default_rng(0).normal(size=(24, 24, 3)).astype(np.float32)
    small = jax.jit(liif.downsampled, static_argnums=2)(x, jnp.float32(side), 8)
    np.testing.assert_allclose(small, resize(jnp.asarray(x[:side, :side]), (8, 8)), atol=1e-5)


def test_liif_trains_on_the_levels_of_files():
    model: Any = zoo.load("liif").tiny.model
    squares = np.indices(model.image[:2]).sum(0) // 8 % 2 * 2.0 - 1
    image = jnp.asarray(np.repeat(squares[..., None], 3, 2), jnp.float32)
    pair = jax.jit(lambda: liif.training_pair(model, image, jax.random.key(1)))()
    levels = (np.asarray(pair[0]) + 1) * 127.5
    assert np.abs(levels - np.clip(np.rint(levels), 0, 255)).max() < 1e-3
    side, small = 2 / float(pair[3]), model.small
    assert np.abs(liif.downsampled(image, jnp.float32(side), small)).max() > 1.02, "what a file can't hold"


@pytest.mark.parametrize("scale", [1.3, 2, 3.7])
def test_liif_enlarges_by_any_factor(scale):
    task = zoo.load("liif").tiny.model.task(1)
    params, _ = task.init(jax.random.key(0), {})
    context, keys = Context({}, {}, {}, jnp.zeros((), jnp.int32)), jax.random.split(jax.random.key(0), 2)
    x = jax.random.uniform(jax.random.key(1), (2, 9, 11, 3), minval=-1)
    made = jax.jit(restore(task), static_argnums=4)(params, context, {"degraded": x}, keys, scale)
    assert made.shape == (2, round(9 * scale), round(11 * scale), 3)
    assert jnp.isfinite(made).all()


@pytest.mark.slow
@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize("name", ["srgan", "esrgan"])
def test_the_perceptual_loss_works_with_any_frozen_net(name):
    """With no other loss, the gradient through a backbone of random weights changes the parameters."""
    model: Any = zoo.load(name).tiny.model
    game = dataclasses.replace(model.game, backbone="random", perceptual=1.0, pixel=0.0, adversarial=0.0)
    model = dataclasses.replace(model, game=game)
    game.check(model.image)
    task = model.task(1)
    frozen = {net: load() for net, load in task.frozen.items()}
    batch = {"image": jnp.full((2, 32, 32, 3), 0.5).at[:, 8:24].set(-0.5)}
    state = drawn_state(task, 2)
    after, metrics = jax.jit(make_step(task))(state, batch, frozen)
    assert metrics["restorer/perceptual"] > 0 and metrics["restorer/finite"] == 1
    change = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), state.params["restorer"], after.params["restorer"])
    assert max(jax.tree.leaves(change)) > 1e-5
    with pytest.raises(InputError, match="layer of the backbone random"):
        dataclasses.replace(game, layers=("conv",)).check(model.image)
    with pytest.raises(InputError, match="did you mean 'vgg16'"):
        dataclasses.replace(game, backbone="vgg17").check(model.image)
