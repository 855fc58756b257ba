"""Transforms and decoding of images, against Pillow."""

import numpy as np
import pytest
from PIL import Image

from jaxgen.core.config import Data
from jaxgen.data import batches, transform
from jaxgen.data.arrays import Arrays
from jaxgen.data.image_decoding import decode
from jaxgen.data.transforms import all_to_size, pixels_of, to_size
from tests.helpers.data_samples import as_unit, encoded, message, numbered, sample_image
from tests.helpers.data_samples import own_cache as own_cache  # for every test here

# --- transforms ---


def test_pixels_become_exactly_x_over_127_5_minus_1():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    image = transform({"image": ramp}, (16, 16, 1), Data(), np.random.default_rng(0))["image"]
    assert image.dtype == np.float32 and image.min() == -1 and image.max() == 1
    assert np.array_equal(image, as_unit(ramp))
    iterator = batches(Arrays(ramp[None]), Data(), (16, 16, 1), batch=1, seed=0)
    assert np.array_equal(next(iterator)["image"][0], image)
    iterator.close()


@pytest.mark.parametrize("size", [(32, 32), (20, 50), (8, 8), (31, 17)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_resize_equals_pillow_bicubic(size, mode):
    source = sample_image(size=(40, 30), mode=mode)
    channels = len(source.getbands())
    pixels = np.asarray(source).reshape(30, 40, channels)
    ours = transform({"image": pixels}, (*size, channels), Data(crop="none"), np.random.default_rng(0))["image"]
    theirs = source.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    assert np.array_equal(ours, as_unit(theirs).reshape(*size, channels))


def test_center_crop_covers_the_frame():
    source = sample_image(size=(60, 30))
    ours = transform({"image": np.asarray(source)}, (15, 15, 3), Data(crop="center"), np.random.default_rng(0))["image"]
    theirs = source.resize((15, 15), Image.Resampling.BICUBIC, (15, 0, 45, 30))
    assert np.array_equal(ours, as_unit(theirs))
    tall = transform({"image": np.asarray(sample_image(size=(20, 80)))}, (10, 30, 3), Data(), np.random.default_rng(0))[
        "image"
    ]
    theirs = sample_image(size=(20, 80)).resize(
        (30, 10), Image.Resampling.BICUBIC, (0, (80 - 20 / 3) / 2, 20, (80 + 20 / 3) / 2)
    )
    np.testing.assert_allclose(tall, as_unit(theirs), atol=1.01 / 127.5)


@pytest.mark.parametrize("size", [28, 50, 224, 299, 300])
def test_crops_of_all_sizes_lie_in_the_image(size):
    """size * (side / size) can be above side by rounding."""
    rng = np.random.default_rng(0)
    for side in range(size // 2, size + 60):
        for shape in ((side, side + 1, 1), (side + 1, side, 3)):
            found = transform({"image": np.zeros(shape, np.uint8)}, (size, size, shape[2]), Data(), rng)
            assert found["image"].shape == (size, size, shape[2])


def test_random_crops_are_everywhere_and_center_crops_are_not():
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None], (8, 64, 1))  # the value is the column
    rng = np.random.default_rng(0)
    found = [transform({"image": ramp}, (8, 8, 1), Data(crop="random"), rng)["image"][0, 0, 0] for _ in range(900)]
    assert {round((value + 1) * 127.5) for value in found} == set(range(57))
    middle = {float(transform({"image": ramp}, (8, 8, 1), Data(), rng)["image"][0, 0, 0]) for _ in range(9)}
    assert middle == {float(as_unit(28))}


def test_flip_flips_half_of_the_images():
    source = sample_image(size=(16, 16))
    pixels, rng = np.asarray(source), np.random.default_rng(0)
    plain, mirrored = as_unit(pixels), as_unit(pixels[:, ::-1])
    found = [transform({"image": pixels}, (16, 16, 3), Data(flip=True), rng)["image"] for _ in range(200)]
    count = sum(np.array_equal(image, mirrored) for image in found)
    assert 70 < count < 130 and count + sum(np.array_equal(image, plain) for image in found) == 200
    assert all(
        np.array_equal(transform({"image": pixels}, (16, 16, 3), Data(), rng)["image"], plain) for _ in range(20)
    )


def test_flips_are_per_epoch_and_example():
    left = np.zeros((200, 2, 2, 1), np.uint8)
    left[:, :, 0] = 255
    iterator = batches(Arrays(left, np.arange(200, dtype=np.int32)), Data(flip=True), (2, 2, 1), batch=200, seed=0)
    epochs = []
    for _ in range(2):
        batch = next(iterator)
        epochs.append(batch["image"][np.argsort(batch["label"]), 0, 0, 0] < 0)
    iterator.close()
    assert 70 < epochs[0].sum() < 130 and 60 < (epochs[0] != epochs[1]).sum() < 140


def test_colour_is_converted_to_itu_r_601_luma():
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [12, 200, 77]], np.uint8)[None]
    grey = transform({"image": colours}, (1, 5, 1), Data(), np.random.default_rng(0))["image"]
    luma = colours @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose((grey[..., 0] + 1) * 127.5, luma, atol=0.51)


def test_grey_is_repeated_and_alpha_is_blended_with_white():
    rng = np.random.default_rng(0)
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    assert np.array_equal(transform({"image": grey}, (4, 4, 3), Data(), rng)["image"], as_unit(np.repeat(grey, 3, 2)))
    alpha = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [10, 20, 30, 128]]], np.uint8)
    seen = transform({"image": alpha}, (1, 3, 3), Data(), rng)["image"]
    mixed = [(c * 128 + 255 * 127) / 255 for c in (10, 20, 30)]
    np.testing.assert_allclose((seen[0] + 1) * 127.5, [[10, 20, 30], [255, 255, 255], mixed], atol=0.51)
    kept = transform({"image": alpha}, (1, 3, 4), Data(), rng)[
        "image"
    ]  # a model with four channels gets the alpha channel
    assert np.array_equal(kept, as_unit(alpha))


def test_any_number_of_channels():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 5), dtype=np.uint8)
    image = transform({"image": pixels}, (8, 8, 5), Data(), np.random.default_rng(0))["image"]
    plane = Image.fromarray(pixels[..., 3]).resize((8, 8), Image.Resampling.BICUBIC)
    assert image.shape == (8, 8, 5) and np.array_equal(image[..., 3], as_unit(plane))
    for channels in (1, 2, 3, 4):
        call = lambda c=channels: transform({"image": pixels}, (8, 8, c), Data(), np.random.default_rng(0))  # noqa: E731
        message(call, "5 channels", channels)
    message(lambda: batches(numbered(3), Data(), (4, 4, 2), batch=1, seed=0), "1 channels", "2")


def test_grey_images_resized_together_equal_separate_ones():
    images = list(np.random.default_rng(0).integers(0, 256, (7, 28, 20, 1), dtype=np.uint8))
    for image in ((32, 32, 1), (9, 20, 3), (28, 20, 1)):
        for crop in ("none", "center"):
            alone = [to_size(pixels, image, crop) for pixels in images]
            assert np.array_equal(all_to_size(images, image, crop), alone)


def test_whole_pixels_are_not_resampled():
    pixels = np.random.default_rng(0).integers(0, 256, (11, 8, 3), dtype=np.uint8)
    image = transform({"image": pixels}, (8, 8, 3), Data(), np.random.default_rng(0))["image"]
    assert np.array_equal(image, as_unit(pixels[1:9]))


# --- images ---


def decoded(data):
    return pixels_of(decode(data))


def test_modes_and_depths():
    deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    assert np.array_equal(decoded(encoded(Image.fromarray(deep)))[..., 0], np.arange(256).reshape(16, 16))
    assert np.array_equal(decoded(encoded(Image.fromarray(deep), "TIFF"))[..., 0], np.arange(256).reshape(16, 16))
    bits = Image.fromarray(np.eye(8, dtype=bool))
    assert np.array_equal(decoded(encoded(bits))[..., 0], np.eye(8) * 255)
    indexed = sample_image().quantize(16)
    assert np.array_equal(decoded(encoded(indexed)), np.asarray(indexed.convert("RGB")))
    indexed.info["transparency"] = 3
    assert np.array_equal(decoded(encoded(indexed, transparency=3)), np.asarray(indexed.convert("RGBA")))
    ink = sample_image(mode="CMYK")
    assert np.array_equal(decoded(encoded(ink, "TIFF")), np.asarray(ink.convert("RGB")))
    assert decoded(encoded(sample_image(mode="LA"))).shape == (30, 40, 4)
    assert decoded(encoded(sample_image(mode="L"), "JPEG")).shape == (30, 40, 1)
    frames = [sample_image(seed) for seed in range(3)]
    first = decoded(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert np.abs(first[..., :3].astype(int) - np.asarray(frames[0])).mean() < 10  # the first frame, in 256 colours


@pytest.mark.parametrize("turn", [(3, 180), (6, 270), (8, 90)])
def test_exif_orientation_is_applied(turn):
    tag, degrees = turn
    source = sample_image()
    exif = Image.Exif()
    exif[0x0112] = tag
    seen = decoded(encoded(source, "PNG", exif=exif.tobytes()))
    assert np.array_equal(seen, np.asarray(source.rotate(degrees, expand=True)))
