"""Images of two domains: derived sources, pairs side by side or in two folders, unpaired sets."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxgen.core.config import Data
from jaxgen.data import RandomSubset, batches, check_source, derived_sources, open_source
from jaxgen.data.arrays import Arrays
from jaxgen.data.domains import UnpairedImages
from tests.data.test_idx_npz import write_idx
from tests.helpers.data_samples import REAL, encoded, message, own_cache, real, sample_image, tree  # noqa: F401
from tests.helpers.image_formats import chunk, exif_of

SHAPE = (16, 16, 3)


def taken(source, data, count=1, seed=0, train=True, shape=SHAPE, batch=8, **how):
    stream = batches(source, data, shape, batch=batch, seed=seed, train=train, **how)
    found = [next(stream) for _ in range(count)]
    stream.close()
    return found


def u8(x):
    return np.rint((x + 1) * 127.5).astype(np.uint8)


@pytest.mark.parametrize("pair", derived_sources.DERIVED_SOURCES)
def test_the_source_is_derived_from_the_transformed_image(pair):
    data = Data("shapes", pair=pair, flip=True, turn=True, crop="random")
    (batch,) = taken(open_source(data, (24, 24, 3)), data)
    assert np.array_equal(u8(batch["source"]), derived_sources.DERIVED_SOURCES[pair](u8(batch["image"])))
    assert batch["source"].shape == (8, *SHAPE) and batch["label"].shape == (8,)


def test_derived_sources_by_value():
    x = np.zeros((1, 16, 16, 3), np.uint8)
    x[0, :, 8:] = (255, 0, 0)
    drawn = derived_sources.edges(x)[0]
    assert (drawn[:, [7]] == 0).all() ^ (drawn[:, [8]] == 0).all(), "one line, of one pixel's width"
    assert (np.delete(drawn, [7, 8], 1) == 255).all()
    assert (derived_sources.edges(np.full_like(x, 90)) == 255).all(), "a flat image has no edge"
    assert (derived_sources.grey(x)[0, 0, [0, 8]] == [[0] * 3, [76] * 3]).all()
    thing = np.full((1, 16, 16, 3), 250, np.uint8)
    thing[0, 4:9, 5:11] = (40, 200, 250)
    found = derived_sources.mask(thing)[0]
    assert (found[4:9, 5:11] == 255).all() and (found == 255).sum() == 5 * 6 * 3
    noise = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    small = derived_sources.small(noise)
    assert small.shape == noise.shape and small.std() < 0.4 * noise.std()
    assert abs(float(small.mean()) - float(noise.mean())) < 3


def test_a_derived_source_depends_on_its_own_image_only():
    x = np.random.default_rng(0).integers(0, 256, (3, 16, 20, 3), dtype=np.uint8)
    for make in derived_sources.DERIVED_SOURCES.values():
        assert np.array_equal(make(x)[1:2], make(x[1:2]))


def two_folders(root, count=5, size=(20, 16)):
    """Return pairs in which the image is the source with inverted colours."""
    for i in range(count):
        a = sample_image(i, size)
        for folder, x in (("A", a), ("B", Image.fromarray(255 - np.asarray(a)))):
            (root / folder).mkdir(parents=True, exist_ok=True)
            x.save(root / folder / f"{i}.png")
    return root


def side_by_side(root, count=5, size=(20, 16)):
    root.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        a = np.asarray(sample_image(i, size))
        Image.fromarray(np.concatenate([a, 255 - a], 1)).save(root / f"{i}.png")
    return root


@pytest.mark.parametrize("make", [two_folders, side_by_side])
@pytest.mark.parametrize("crop", ["random", "patch", "center", "area", "jitter"])
def test_pairs_are_cropped_and_flipped_together(tmp_path, make, crop):
    data = Data(f"paired:{make(tmp_path / 'set')}", pair="edges", crop=crop, flip=True, turn=True, shift=1)
    source = open_source(data)
    assert len(source) == 5
    a, b = taken(source, replace(data, shift=0), 2, shape=(12, 12, 3))
    for x in (a, b):
        # Overshoots of bicubic interpolation are clipped to black and white.
        assert np.abs(x["source"] + x["image"]).max() <= 2.1 / 127.5
    assert not np.array_equal(a["image"], b["image"])
    again = taken(source, replace(data, shift=0), 1, shape=(12, 12, 3), start=1)[0]
    assert all(np.array_equal(b[name], again[name]) for name in b)
    held = taken(RandomSubset(source, 3), data, train=False, batch=3, shape=(12, 12, 3))[0]
    assert len(held["image"]) == 3 and np.abs(held["source"] + held["image"]).max() <= 2.1 / 127.5


def test_splits_of_pairs(tmp_path):
    two_folders(tmp_path / "set" / "train", 3)
    two_folders(tmp_path / "set" / "test", 2)
    data = Data(f"paired:{tmp_path / 'set'}")
    assert [len(open_source(data.at(split))) for split in ("train", "test")] == [3, 2]


def test_a_corrupt_image_and_its_partner_can_be_skipped(tmp_path):
    two_folders(tmp_path / "set")
    (tmp_path / "set/B/3.png").write_bytes(b"no image")
    data = Data(f"paired:{tmp_path / 'set'}", skip_bad=True)
    source = open_source(data)
    assert len(source) == 4
    message(lambda: open_source(replace(data, skip_bad=False)), "3.png cannot be read")


def late(png: bytes, orientation: int) -> bytes:
    """Return a PNG whose EXIF follows its pixels."""
    body = exif_of(orientation).tobytes()[6:]
    return png[:-12] + chunk(b"eXIf", body) + png[-12:]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "late PNG"])
def test_pairs_are_turned_before_they_are_compared_and_cut(tmp_path, kind):
    """A is 21 wide as stored and 15 as seen, as B is; side by side they are 30 wide as seen."""
    b = np.asarray(sample_image(0, (15, 21)))
    both = np.concatenate([b, 255 - b], 1)
    for name, x in (("two/A", b), ("one", both)):
        stored = Image.fromarray(np.ascontiguousarray(np.rot90(x)))  # orientation 6 turns it back
        (tmp_path / name).mkdir(parents=True)
        if kind == "late PNG":
            data = late(encoded(stored), 6)
        elif kind == "TIFF":
            data = encoded(stored, kind, tiffinfo={0x0112: 6})
        else:
            lossless = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
            data = encoded(stored, kind, exif=exif_of(6), **lossless)
        (tmp_path / name / "1.png").write_bytes(data)
    (tmp_path / "two/B").mkdir()
    Image.fromarray(b).save(tmp_path / "two/B/1.png")
    for name, change in (("two", 0), ("one", 255)):
        (pair,) = [open_source(Data(f"paired:{tmp_path / name}"))[0]]
        assert pair["source"].shape == pair["image"].shape == (21, 15, 3)
        np.testing.assert_allclose(pair["source"].astype(int), b, atol=6)
        np.testing.assert_allclose(pair["image"].astype(int), np.abs(change - b.astype(int)), atol=6)


def test_unpaired_domains_are_drawn_independently():
    fill = lambda n, by: Arrays(np.full((n, *SHAPE), 1, np.uint8) * by(n), None, ())  # noqa: E731
    a = fill(5, lambda n: np.arange(n, dtype=np.uint8)[:, None, None, None])
    b = fill(7, lambda n: (100 + np.arange(n, dtype=np.uint8))[:, None, None, None])
    source = UnpairedImages(a, b)
    found = taken(source, Data("unpaired:a,b"), 10, batch=7)
    of = lambda name: np.concatenate([u8(x[name])[:, 0, 0, 0] for x in found])  # noqa: E731
    assert all(sorted(part) == list(range(5)) for part in of("source").reshape(-1, 5)), "each once in its own epoch"
    assert all(sorted(part) == list(range(100, 107)) for part in of("image").reshape(-1, 7))
    assert len(set(zip(of("source"), of("image"), strict=True))) > 20, "all kinds of pairs"
    again = taken(source, Data("unpaired:a,b"), 1, batch=7, start=4)[0]
    assert all(np.array_equal(again[name], found[4][name]) for name in again)
    other = taken(source, Data("unpaired:a,b"), 1, batch=7, seed=1)[0]
    assert not np.array_equal(other["source"], found[0]["source"])
    whole = taken(source, Data("unpaired:a,b"), 1, batch=7, train=False)[0]
    assert u8(whole["source"])[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 0, 1]


def test_unpaired_domains_of_different_source_kinds(tmp_path):
    parts = [tree(tmp_path / name, dict.fromkeys(f"{name}{i}.png" for i in range(4))) for name in "ab"]
    data = Data(f"unpaired:{parts[0]},{parts[1]}", pair="grey", flip=True)
    (batch,) = taken(open_source(data), data)
    assert (batch["source"][..., :1] == batch["source"]).all() and np.ptp(batch["image"], axis=3).max() > 0.1
    data = Data(f"unpaired:shapes,{parts[1]}")
    assert len(open_source(data, SHAPE)) == 60_000


def test_digits_and_fashion(tmp_path):
    """Sources of different kinds and sizes, 8x8 of scikit-learn and 28x28 of idx files, give images of one size."""
    fashion = tmp_path
    if REAL:
        fashion = Path(REAL).absolute() / "fashion_mnist"
    else:
        write_idx(tmp_path / "t10k-images-idx3-ubyte", np.random.default_rng(0).integers(0, 256, (9, 28, 28), np.uint8))
    data = Data(f"unpaired:digits,idx:{fashion}", split="test")
    (batch,) = taken(open_source(data), data, shape=(16, 16, 1))
    assert batch.keys() == {"source", "image"} and batch["source"].shape == batch["image"].shape == (8, 16, 16, 1)
    for name, source in (("source", "digits"), ("image", f"idx:{fashion}")):
        alone = Data(source, split="test")
        known = taken(open_source(alone), alone, shape=(16, 16, 1), batch=len(open_source(alone)), train=False)[0]
        found = {x.tobytes() for x in known["image"]}
        assert all(x.tobytes() in found for x in batch[name]), name


def test_invalid_pairs_are_refused_in_a_sentence(tmp_path):
    two_folders(tmp_path / "odd")
    (tmp_path / "odd/B/3.png").rename(tmp_path / "odd/B/9.png")
    two_folders(tmp_path / "sizes")
    sample_image(9, (21, 16)).save(tmp_path / "sizes/B/2.png")
    tree(tmp_path / "cats", dict.fromkeys(["cats/1.png", "dogs/1.png"]))
    side_by_side(tmp_path / "wide")
    sample_image(9, (31, 16)).save(tmp_path / "wide/2.png")
    opened = lambda source, **how: lambda: open_source(Data(source, **how))  # noqa: E731
    message(
        opened(f"paired:{tmp_path / 'odd'}"),
        "has A/3 but no B/3, and 1 more have none: both images of a pair need one name",
    )
    message(opened(f"paired:{tmp_path / 'sizes'}"), "A/2.png is 16x20", "B/2.png is 16x21: a pair needs equal sizes")
    message(opened(f"paired:{tmp_path / 'cats'}"), "sub-folders cats, dogs: pairs must be in A and B")
    message(opened(f"paired:{tmp_path / 'wide'}"), "2.png is 31 pixels wide: two images side by side need an even")
    message(opened("paired"), "lacks its PATH")
    message(opened("unpaired:a"), "must name two sets: write unpaired:PATH_A,PATH_B")
    message(opened(f"unpaired:{tmp_path / 'cats'},{tmp_path / 'none'}"), "no file or folder", "none")
    message(opened("unpaired:shapes,shapes", only="1"), "has no labels")


def test_a_translation_model_needs_two_domains():
    from jaxgen.models.translation.pix2pix import SMALL

    source = open_source(Data("shapes"), SMALL.image)
    message(
        lambda: check_source(source, Data(), SMALL.task(1).example),
        "translates images between two domains",
        "--data.pair",
    )
    check_source(source, Data(pair="edges"), SMALL.task(1).example)


@real
def test_emoji_to_flowers(real_data):
    files = [real_data / name for name in ("noto_emoji/noto_emoji_2000.zip", "flowers128/flowers128_2000.zip")]
    data = Data(f"unpaired:{files[0]},{files[1]}", crop="center")
    (batch,) = taken(open_source(data), data, shape=(32, 32, 3), batch=32)
    assert batch.keys() == {"source", "image"} and batch["source"].shape == batch["image"].shape == (32, 32, 32, 3)
    corners = (u8(batch[name])[:, [0, 0, -1, -1], [0, -1, 0, -1]] for name in ("source", "image"))
    emoji, flowers = ((x > 250).all(2).mean() for x in corners)
    assert emoji > 0.6 > 0.2 > flowers, "emoji lie on white"


@real
def test_edges_of_emoji(real_data, tmp_path):
    data = Data(f"folder:{real_data / 'noto_emoji/noto_emoji_2000.zip'}", pair="edges")
    batch = taken(open_source(data), data, shape=(64, 64, 3), batch=32)[0]
    share = (batch["source"] < 0).mean()
    assert 0.03 < share < 0.25, "lines, neither none nor everywhere"
