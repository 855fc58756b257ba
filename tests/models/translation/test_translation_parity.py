"""Translators' nets against the published ones written in PyTorch, on the same random weights."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.models.translation import bicyclegan, cut, cyclegan, munit, pix2pix, pix2pixhd, stargan
from jaxgen.models.translation._autoencoders import Decoder, Encoder
from jaxgen.models.translation._generators import ResNet
from jaxgen.nn.patch_discriminator import PatchDiscriminator
from tests.helpers.torch_twins import (
    SIDE,
    Block,
    Blur,
    Coded,
    Double,
    Judge,
    Local,
    Residual,
    Styled,
    Stylist,
    UNet,
    close,
    code,
    contents,
    convolutions,
    decoding,
    filled,
    ours_of,
    patches,
    random_image,
    resnet,
    said,
    same,
    shaken,
    size,
    stars,
    stride_2_layers,
    ups,
)

pytestmark = pytest.mark.parity
torch: Any = pytest.importorskip("torch")
nn: Any = torch.nn


def test_pix2pix_generator():
    net = pix2pix.Pix2Pix((SIDE, SIDE, 3), 5, 4, dropout=0).net
    keys, x = jax.random.split(jax.random.key(0), 1), random_image()
    own: Any = shaken(net.init(jax.random.key(0), x, keys))["params"]
    theirs = UNet(net.widths, 3)
    for i in range(5):
        filled(theirs.down[i], own[f"down_{i}"])
        filled(theirs.up[str(i)], own[f"up_{i}"])
        for side, norms in (("down", theirs.down_norm), ("up", theirs.up_norm)):
            if str(i) in norms:
                filled(norms[str(i)], own[f"{side}_{i}_norm"])
    close(jax.jit(net.apply)({"params": own}, x, keys), said(theirs, x))


def test_sizes_at_the_papers_width():
    keys, x = jax.random.split(jax.random.key(0), 1), jnp.zeros((1, 256, 256, 3))
    net = pix2pix.Pix2Pix().net
    with torch.device("meta"):
        assert ours_of(net, x, keys) == size(UNet(net.widths, 3)) == 54_413_955
        assert ours_of(cyclegan.CycleGAN().net, x) == size(resnet(3, 64, 9)) == 11_378_179
        assert (
            ours_of(PatchDiscriminator(), jnp.zeros((1, 256, 256, 6)))
            == size(patches(6, 64, 3, nn.BatchNorm2d))
            == 2_768_705
        )
        alone = size(patches(3, 64, 3, nn.InstanceNorm2d))
        assert ours_of(PatchDiscriminator(norm="instance"), x) == alone == 2_764_737
        # pix2pixHD's three critics see two images.
        whole = size(Local(64, 4, 9, 3)) + 3 * size(patches(6, 64, 3, nn.InstanceNorm2d))
        assert zoo.load("pix2pixhd-local").parameters == whole == 191_005_254
        # MUNIT's critic sees an image at three sizes, its encoder of contents has four blocks.
        critic, encoder = size(stride_2_layers(3, 64)), size(contents(3, 64, 4))
        assert ours_of(PatchDiscriminator(4, norm="none", form=munit.GAME.form), x) == critic == 2_757_057
        assert ours_of(munit.MUNIT().encoder, x) == encoder == 5_385_856
        # BicycleGAN's second scale is half as wide; there are two discriminators of two scales.
        pair = size(patches(3, 64, 3, nn.InstanceNorm2d)) + size(patches(3, 32, 3, nn.InstanceNorm2d))
        whole = size(Coded(net.widths, 3, 8)) + size(Residual(64, 5, 8)) + 2 * pair
        assert zoo.load("bicyclegan").parameters == whole == 64_302_615


def test_cyclegan_generator():
    net, x = ResNet(3, 4, 2), random_image(batch=2)
    own: Any = shaken(net.init(jax.random.key(0), x))["params"]
    theirs = resnet(3, 4, 2)
    blocks = [own[f"block_{i}"][f"conv_{j}"]["conv"] for i in range(2) for j in range(2)]
    mine = [own["in"]["conv"], own["down_0"], own["down_1"], *blocks, own["up_1"], own["up_0"], own["out"]["conv"]]
    for layer, arrays in zip(convolutions(theirs), mine, strict=True):
        filled(layer, arrays)
    close(jax.jit(net.apply)({"params": own}, x), said(theirs, x))


def test_pix2pixhds_local_enhancer():
    net, x = pix2pixhd.Pix2PixHD((SIDE, SIDE, 3), 4, 2, 1, 2).net, random_image(batch=2)
    keys = jax.random.split(jax.random.key(0), 2)
    own: Any = shaken(jax.jit(net.init)(jax.random.key(0), x, keys))["params"]
    theirs, inner = Local(4, 2, 1, 2), own["net"]
    blocks = lambda tree, n: [tree[f"block_{i}"][f"conv_{j}"]["conv"] for i in range(n) for j in range(2)]  # noqa: E731
    mine = [inner["in"]["conv"], inner["down_0"], inner["down_1"], *blocks(inner, 1), inner["up_1"], inner["up_0"]]
    mine += [own["in"]["conv"], own["down"], *blocks(own, 2), own["up"], own["out"]["conv"]]
    for layer, arrays in zip(convolutions(theirs), mine, strict=True):
        filled(layer, arrays)
    close(jax.jit(net.apply)({"params": own}, x, keys), said(theirs, x))


@pytest.mark.parametrize(("ours", "theirs"), [("affine", nn.BatchNorm2d), ("instance", nn.InstanceNorm2d)])
def test_critic(ours, theirs):
    net, x = PatchDiscriminator(2, 4, ours), random_image(6)
    own: Any = shaken(net.init(jax.random.key(0), x))["params"]
    reference = patches(6, 4, 2, theirs)
    layers = [m for m in reference if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    order = ["layer_0", "layer_1", "norm_1", "layer_2", "norm_2", "out"]
    for layer, name in zip(layers, [name for name in order if name in own], strict=True):
        filled(layer, own[name])
    made: Any = net.apply({"params": own}, x)
    close(made[..., None], said(reference, x))


def test_downsampling_between_scales():
    from jaxgen.nn.patch_discriminator import mean_downsample

    for side in (SIDE, SIDE - 1):
        x = random_image()[:, :side, :side]
        close(mean_downsample(jnp.asarray(x)), said(nn.AvgPool2d(3, 2, 1, count_include_pad=False), x))


def test_pix2pixhds_critic_has_two_pixels_around():
    net, x = PatchDiscriminator(2, 4, "instance", form=pix2pixhd.GAME.form), random_image(6)
    own: Any = shaken(net.init(jax.random.key(0), x))["params"]
    reference = patches(6, 4, 2, nn.InstanceNorm2d)
    for layer, name in zip(convolutions(reference), ("layer_0", "layer_1", "layer_2", "out"), strict=True):
        filled(layer, own[name]).padding = (2, 2)
    close(net.apply({"params": own}, x)[..., None], said(reference, x))  # pyright: ignore


def test_cuts_generator():
    net, x, norm = ResNet(3, 4, 2, smooth=True), random_image(batch=2), nn.InstanceNorm2d
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(3, 4, 7), norm(4), nn.ReLU()]
    for c in (4, 8):
        layers += [nn.Conv2d(c, 2 * c, 3, 1, 1), norm(2 * c), nn.ReLU(), Blur()]
    layers += [Block(16), Block(16)]
    for c in (16, 8):
        layers += [Double(), nn.Conv2d(c, c // 2, 3, 1, 1), norm(c // 2), nn.ReLU()]
    theirs = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(4, 3, 7), nn.Tanh())
    own: Any = shaken(net.init(jax.random.key(0), x))["params"]
    blocks = [own[f"block_{i}"][f"conv_{j}"]["conv"] for i in range(2) for j in range(2)]
    mine = [own["in"]["conv"], own["down_0"], own["down_1"], *blocks, own["up_1"], own["up_0"], own["out"]["conv"]]
    for layer, arrays in zip(convolutions(theirs), mine, strict=True):
        filled(layer, arrays)
    close(jax.jit(net.apply)({"params": own}, x), said(theirs, x))
    found: Any = net.apply({"params": own}, x, (0, 1))
    for last, y in zip((0, 4, 8, 12, 13), found, strict=True):  # a mirrored image, convolutions, blocks
        close(y, said(theirs[: last + 1], x))


def test_cuts_critic():
    net, x, norm = PatchDiscriminator(2, 4, "instance", form=cut.GAME.form), random_image(), nn.InstanceNorm2d
    layers = [nn.Conv2d(3, 4, 4, 1, 1), nn.LeakyReLU(0.2), Blur(), nn.Conv2d(4, 8, 4, 1, 1), norm(8)]
    layers += [nn.LeakyReLU(0.2), Blur(), nn.Conv2d(8, 16, 4, 1, 1), norm(16), nn.LeakyReLU(0.2)]
    theirs = nn.Sequential(*layers, nn.Conv2d(16, 1, 4, 1, 1))
    own: Any = shaken(net.init(jax.random.key(0), x))["params"]
    for layer, name in zip(convolutions(theirs), ("layer_0", "layer_1", "layer_2", "out"), strict=True):
        filled(layer, own[name])
    close(net.apply({"params": own}, x)[..., None], said(theirs, x))  # pyright: ignore


def test_munits_critic():
    net, x = PatchDiscriminator(3, 4, "none", form=munit.GAME.form), random_image()
    own: Any = shaken(net.init(jax.random.key(0), x))["params"]
    theirs = stride_2_layers(3, 4, 3)
    for layer, name in zip(convolutions(theirs), ("layer_0", "layer_1", "layer_2", "out"), strict=True):
        filled(layer, own[name])
    close(net.apply({"params": own}, x)[..., None], said(theirs, x))  # pyright: ignore


def test_munits_encoder():
    net, x = Encoder(4, 2, 1), random_image()
    own: Any = shaken(net.init(jax.random.key(0), x))["params"]
    theirs = contents(3, 4, 1)
    block = own["blocks"]["block_0"]
    mine = [own["in"], own["down_0"], own["down_1"], block["conv_0"], block["conv_1"]]
    for layer, arrays in zip(convolutions(theirs), mine, strict=True):
        filled(layer, arrays["conv"])
    close(net.apply({"params": own}, x), said(theirs, x))


def test_bicyclegans_generator_and_encoder():
    model = bicyclegan.BicycleGAN((SIDE, SIDE, 3), 5, 4, 2, 3)
    keys, x, z = jax.random.split(jax.random.key(0), 1), random_image(), np.array([[0.5, -2.0]], np.float32)
    own: Any = shaken(model.net.init(jax.random.key(0), x, keys, z))["params"]
    theirs = Coded(model.net.widths, 3, 2)
    for i in range(5):
        filled(theirs.down[i], own[f"down_{i}"])
        filled(theirs.up[i], own[f"up_{i}"])
    code = torch.from_numpy(z)
    close(jax.jit(model.net.apply)({"params": own}, x, keys, z), said(lambda x: theirs(x, code), x))

    own = shaken(model.encoder.init(jax.random.key(0), x))["params"]
    theirs = Residual(4, 3, 2)
    filled(theirs.first, own["in"])
    for i in range(2):
        for j, layer in enumerate(convolutions(theirs.inner[i])):
            filled(layer, own[f"block_{i + 1}"][f"conv_{j}"])
        filled(theirs.skips[i][1], own[f"block_{i + 1}"]["skip"])
    found: Any = model.encoder.apply({"params": own}, x)
    with torch.no_grad():
        for head, name in zip(theirs.heads, ("mean", "log_var"), strict=True):
            head.weight.copy_(torch.from_numpy(np.array(own[name]["kernel"])).T)
            head.bias.copy_(torch.from_numpy(np.array(own[name]["bias"])))
        for ours, wanted in zip(found, theirs(torch.from_numpy(x).permute(0, 3, 1, 2)), strict=True):
            close(ours, wanted.numpy())


def test_units_decoder():
    theirs = decoding(4, 2, 1)
    inner = zip(("block_0/conv_0/conv", "block_0/conv_1/conv"), convolutions(theirs[0]), strict=True)
    same(Decoder(3, 4, 2, 1), [code(16)], theirs, dict(inner) | ups(theirs[1]))


def test_munits_decoder_and_what_turns_a_style_into_moments():
    model, theirs = munit.MUNIT((SIDE, SIDE, 3), 4, 2, 2, 3, 2, 5), Styled(4, 2, 2, 3, 5)
    dense = {"dense_0": theirs.dense[0], "dense_1": theirs.dense[2], "moments": theirs.moments}
    inner = {f"decoder/block_{i}/conv_{j}/conv": theirs.blocks[i][j][1] for i in range(2) for j in range(2)}
    style = np.array([[0.5, -2, 1], [1, 0.3, -0.4]], np.float32)
    same(model.decoder, [code(16), style], theirs, dense | inner | ups(theirs.up, "decoder/"))


def test_munits_encoder_of_styles():
    theirs = Stylist(4, 3, 5)
    names = ("in/conv", "down_0/conv", "down_1/conv", "down_2/conv")
    same(
        munit.StyleEncoder(4, 3, 5),
        [random_image(batch=2)],
        theirs,
        dict(zip(names, convolutions(theirs), strict=True)) | {"out": theirs.out},
    )


def test_stargans_generator():
    theirs = stars(5, 4, 2, 1)
    convs, norms = convolutions(theirs), [m for m in theirs.modules() if isinstance(m, nn.InstanceNorm2d)]
    names = ["in", "down_0", "down_1", "block_0/conv_0", "block_0/conv_1", "up_1", "up_0", "out"]
    norm_names = ["norm_in", "down_0_norm", "down_1_norm", "block_0/norm_0", "block_0/norm_1", "up_1_norm", "up_0_norm"]
    layers = dict(zip(names, convs, strict=True)) | dict(zip(norm_names, norms, strict=True))
    same(stargan.Generator(3, 4, 2, 1), [random_image(5, 2)], theirs, layers)


def test_stargans_critic():
    theirs = Judge(SIDE, 4, 3, 5)
    layers = {f"down_{i}": layer for i, layer in enumerate(convolutions(theirs.inner))}
    layers |= {"real": theirs.real, "class": theirs.kind}
    same(stargan.Critic(4, 3, 5), [random_image(batch=2)], theirs, layers)


def test_sizes_of_games_for_sets_at_the_papers_width():
    with torch.device("meta"):
        critics = 3 * size(stride_2_layers(3, 64))
        both = size(contents(3, 64, 4)) + size(Stylist(64, 4, 8)) + size(Styled(64, 2, 4, 8, 256)) + critics
        assert zoo.load("munit").parameters == 2 * both == 46_594_716
        both = size(contents(3, 64, 3)) + size(decoding(64, 2, 3)) + size(Block(256)) + critics  # a block is shared
        assert zoo.load("unit").parameters == 2 * both == 36_462_988
        both = size(stars(11, 64, 2, 6)) + size(Judge(128, 64, 6, 8))
        assert zoo.load("stargan").parameters == both == 53_226_560
