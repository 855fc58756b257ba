"""Shifts, area and jitter crops, subsets and binarisation: values and distributions."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxgen.core.config import Data
from jaxgen.data import RandomSubset, batches, transform
from jaxgen.data.arrays import Arrays
from jaxgen.data.domains import UnpairedImages
from jaxgen.data.transforms import to_size


def lit(n: int, side: int = 9) -> Arrays:
    """Return n equal images with distinct pixels, none black."""
    pixels = np.arange(100, 100 + side * side, dtype=np.uint8).reshape(1, side, side, 1)
    return Arrays(np.repeat(pixels, n, 0), np.arange(n, dtype=np.int32) % 10, tuple("0123456789"))


def stream(source: Any, data: Data, image: tuple[int, int, int], count: int, **rest) -> list[dict[str, np.ndarray]]:
    iterator = batches(source, data, image, **{"batch": 8, "seed": 0, **rest})
    found = [next(iterator) for _ in range(count)]
    iterator.close()
    return found


def to_pixels(image: np.ndarray) -> np.ndarray:
    return np.round((image + 1) * 127.5).astype(int)


def offset_of(pixels: np.ndarray, whole: np.ndarray) -> tuple[int, int]:
    """Return the shift of u8[h w] down and right relative to `whole`; the uncovered pixels must be black."""
    side, middle = len(whole), whole[len(whole) // 2, len(whole) // 2]
    [[y, x]] = np.argwhere(pixels == middle)
    down, right = int(y) - side // 2, int(x) - side // 2
    wanted = np.zeros_like(whole)
    wanted[max(down, 0) : side + min(down, 0), max(right, 0) : side + min(right, 0)] = whole[
        max(-down, 0) : side - max(down, 0), max(-right, 0) : side - max(right, 0)
    ]
    assert np.array_equal(pixels, wanted)
    return down, right


def test_shift_is_bounded_and_fills_with_black():
    source, most = lit(600), 3
    [batch] = stream(source, Data(shift=most), (9, 9, 1), 1, batch=600)
    whole = source.images[0, :, :, 0].astype(int)
    moved = [offset_of(x, whole) for x in to_pixels(batch["image"])[..., 0]]
    wanted = {(y, x) for y in range(-most, most + 1) for x in range(-most, most + 1)}
    assert set(moved) == wanted, "all 49 positions and no other"
    counts = [moved.count(place) for place in wanted]
    assert max(counts) < 40, "none much more often than 600 / 49 times"
    rng = np.random.default_rng(0)
    alone = [transform(source[0], (9, 9, 1), Data(shift=1), rng)["image"] for _ in range(100)]
    assert len({offset_of(to_pixels(x)[..., 0], whole) for x in alone}) == 9


@pytest.mark.parametrize(
    "change", [{"shift": 2}, {"crop": "area"}, {"crop": "jitter"}, {"shift": 2, "crop": "area", "flip": True}]
)
def test_augmentation_is_a_function_of_seed_epoch_and_example(change):
    """It is equal for any batch size, number of processes and start, and differs between epochs."""
    source, data, image = lit(16), Data(**change), (9, 9, 1)
    three = np.concatenate([b["image"] for b in stream(source, data, image, 6)])  # three epochs
    by_four = np.concatenate([b["image"] for b in stream(source, data, image, 12, batch=4)])
    assert np.array_equal(three, by_four)
    processes = [stream(source, data, image, 6, process=(p, 4)) for p in range(4)]
    together = np.concatenate([processes[p][i]["image"] for i in range(6) for p in range(4)])
    assert np.array_equal(three, together)
    assert np.array_equal(stream(source, data, image, 1, start=3)[0]["image"], three[24:32])
    other = np.concatenate([b["image"] for b in stream(source, data, image, 2, seed=1)])
    assert not np.array_equal(three[:16], other), "another seed, other images"
    assert not np.array_equal(three[:16], three[16:32]) and not np.array_equal(three[16:32], three[32:])


def test_a_share_of_images_becomes_grey():
    pixels = np.random.default_rng(0).integers(0, 256, (400, 4, 4, 3), np.uint8)
    source = Arrays(pixels)
    rows = stream(source, Data(grey=0.3), (4, 4, 3), 1, batch=400)[0]["image"]
    grey = (rows == rows[..., :1]).all((1, 2, 3))
    assert 0.2 < grey.mean() < 0.4
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    order = [int(np.abs(luma - x).mean((1, 2)).argmin()) for x in to_pixels(rows[grey])[..., 0]]
    assert np.abs(luma[order] - to_pixels(rows[grey])[..., 0]).max() < 1 and len(set(order)) == grey.sum()
    plain = stream(source, Data(grey=0.3), (4, 4, 3), 1, batch=400, train=False)[0]["image"]
    assert np.array_equal(to_pixels(plain), pixels), "held-out images keep their colours"


def test_evaluation_has_no_random_shift_or_crop():
    source = lit(16)
    plain = stream(source, Data(), (9, 9, 1), 2, train=False)
    for data in (Data(shift=3), Data(crop="area"), Data(crop="area", shift=3, flip=True)):
        for a, b in zip(stream(source, data, (9, 9, 1), 2, train=False), plain, strict=True):
            assert np.array_equal(a["image"], b["image"]) and np.array_equal(a["label"], b["label"])
    pixels = np.arange(200, dtype=np.uint8)[None, :, None, None].repeat(100, 2).repeat(8, 0)  # [8 200 100 1]
    long = Arrays(np.ascontiguousarray(pixels))
    area, center = (stream(long, Data(crop=crop), (20, 20, 1), 1, train=False)[0] for crop in ("area", "center"))
    assert np.array_equal(area["image"], center["image"])
    jitter, none = (stream(long, Data(crop=crop), (20, 20, 1), 1, train=False)[0] for crop in ("jitter", "none"))
    assert np.array_equal(jitter["image"], none["image"]), "squashed whole"


@pytest.mark.parametrize("size", [(256, 256), (286, 286), (300, 420)])
def test_jitter_crops_from_the_image_resized_to_286(size):
    """It equals Pillow's resize to 286x286 and crop, at some of the 31x31 positions."""
    grid = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    whole = Image.fromarray(grid).resize(size[::-1], Image.Resampling.BICUBIC)
    large = np.asarray(whole.resize((286, 286), Image.Resampling.BICUBIC)).astype(int)
    for y, x in ((0, 0), (29, 7), (13, 29)):
        draws = ((y + 0.5) / 31, (x + 0.5) / 31) if size == (286, 286) else (y / 30, x / 30)  # at whole pixels, or not
        found = to_size(np.asarray(whole), (256, 256, 3), "jitter", *draws, 0.5, 0.5)
        apart = np.abs(found - large[y : y + 256, x : x + 256])
        assert apart.max() <= 2 and apart.mean() < 0.01, (y, x)  # Pillow stores a box with 24 bits


def test_jitter_crops_are_uniform_and_reach_the_borders():
    whole = np.zeros((256, 256, 3), np.uint8)
    whole[..., 0], whole[..., 1] = np.arange(256)[:, None], np.arange(256)[None]
    source = Arrays(np.broadcast_to(whole, (300, 256, 256, 3)))
    [batch] = stream(UnpairedImages(source, source), Data(crop="jitter"), (64, 64, 3), 1, batch=300)
    corners = [to_pixels(batch[name])[:, 0, 0, :2].T for name in ("image", "source")]  # [2 n], twice
    for corner in np.concatenate(corners):  # positions are uniform in the remaining 8/72 of 256
        room = 256 * 8 / 72
        assert corner.min() <= 2.5 and abs(corner.max() - room - 1.5) <= 2 and abs(corner.mean() - room / 2 - 1.5) < 2
    alike = np.corrcoef(np.concatenate(corners)) - np.eye(4)
    assert np.abs(alike).max() < 0.3, "up and across, and in both domains, by themselves"


@pytest.mark.parametrize("height, width", [(200, 200), (120, 250), (250, 60)])
@pytest.mark.parametrize("frame", [(40, 40), (30, 60)])
def test_area_crops_8_to_100_per_cent_with_aspect_3_4_to_4_3(height, width, frame):
    """The pixel values are coordinates, so the slope in a crop gives its size."""
    whole = np.zeros((height, width, 3), np.uint8)
    whole[..., 0], whole[..., 1] = np.arange(height)[:, None], np.arange(width)[None]
    source = Arrays(np.broadcast_to(whole, (400, height, width, 3)))
    [batch] = stream(source, Data(crop="area"), (*frame, 3), 1, batch=400)
    x = to_pixels(batch["image"]).astype(np.float64)  # [n h w 3]
    inner = slice(4, -4)  # at the border the filter is truncated
    tall = (x[:, inner, 4, 0][:, -1] - x[:, inner, 4, 0][:, 0]) / (frame[0] - 9) * frame[0]
    wide = (x[:, 4, inner, 1][:, -1] - x[:, 4, inner, 1][:, 0]) / (frame[1] - 9) * frame[1]
    share, aspect = tall * wide / (height * width), (wide / tall) / (frame[1] / frame[0])
    slack = 1 + 3 / tall.min() + 3 / wide.min()  # 8 bits
    assert aspect.min() > 3 / 4 / slack and aspect.max() < 4 / 3 * slack, "the frame's aspect, not far from it"
    assert share.max() < slack and share.min() > 0.08 / slack
    fits = (
        min(height / frame[0], width / frame[1]) ** 2 * frame[0] * frame[1] / (height * width)
    )  # aspect ratio of the frame
    assert share.max() > 0.9 * fits and share.min() < 0.13
    assert aspect.min() < 0.85 and aspect.max() > 1.15
    first, last = (x[:, k, k, :2] / (height, width) for k in (4, -5))
    assert (first.min(0) < 0.2).all() and (last.max(0) > 0.8).all(), "up to each border"
    longer = int(width > height)
    assert first[:, longer].max() > 0.5 > 0.4 > last[:, longer].min(), "and far from it"


def test_a_random_subset_does_not_depend_on_the_order():
    n = 1000
    label = np.repeat(np.arange(10, dtype=np.int32), 100)
    source = Arrays(np.zeros((n, 2, 2, 1), np.uint8), label, tuple("0123456789"))
    some = RandomSubset(source, 100)
    assert len(some) == 100 == len(set(some.indices.tolist())) and some.classes == source.classes
    labels = [some[i]["label"] for i in range(100)]
    assert labels == [source[int(i)]["label"] for i in some.indices]
    counts = np.bincount(labels, minlength=10)
    assert counts.min() > 2 and counts.max() < 20, "of a source sorted by class, every class"
    assert np.array_equal(RandomSubset(source, 100).indices, some.indices), "the same ones each time"
    assert np.array_equal(RandomSubset(source, n).indices, np.arange(n)) and len(RandomSubset(source, 2 * n)) == n


def grey(n: int) -> Arrays:
    """Return n equal images with all grey levels."""
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    return Arrays(np.repeat(pixels, n, 0), np.arange(n, dtype=np.int32) % 10, tuple("0123456789"))


def test_binarisation_probabilities_are_grey_levels():
    levels = np.arange(256).reshape(16, 16)
    plain = stream(grey(8), Data(binarise="threshold"), (16, 16, 1), 1)[0]["image"]
    assert np.array_equal(plain[0, ..., 0], np.where(levels < 128, -1, 1))
    for how in ("fixed", "dynamic"):
        drawn = stream(grey(2000), Data(binarise=how), (16, 16, 1), 1, batch=2000)[0]["image"][..., 0]
        assert set(np.unique(drawn)) == {-1.0, 1.0}
        share = (drawn == 1).mean(0)
        assert (share.flat[0], share.flat[255]) == (0, 1)
        np.testing.assert_allclose(share, levels / 255, atol=0.06)  # 5 standard errors
        pairs = (drawn == 1).reshape(2000, -1)[:, 118:138].astype(float)
        assert np.abs(np.corrcoef(pairs.T) - np.eye(20)).max() < 0.12, "pixels are drawn alone"


def test_binarisation_is_fixed_or_per_epoch_at_any_batch_size():
    def epochs(how, **rest):
        batch = {"batch": 8, **rest}
        some = stream(grey(8), Data(binarise=how), (16, 16, 1), 16 // batch["batch"], **batch)
        images, labels = (np.concatenate([b[name] for b in some]) for name in ("image", "label"))
        return [images[i : i + 8][np.argsort(labels[i : i + 8])] for i in (0, 8)]

    once, again = epochs("fixed")
    assert np.array_equal(once, again) and np.array_equal(once, epochs("fixed", seed=7)[0])
    first, second = epochs("dynamic")
    assert not np.array_equal(first, second) and not np.array_equal(first, epochs("dynamic", seed=7)[0])
    for whole, parts in zip((first, second), epochs("dynamic", batch=4), strict=True):
        assert np.array_equal(whole, parts)
    held_out = [stream(grey(8), Data(binarise=how), (16, 16, 1), 1, train=False)[0] for how in ("fixed", "dynamic")]
    assert np.array_equal(held_out[0]["image"], held_out[1]["image"])
