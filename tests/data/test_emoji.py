"""The source emoji: drawn icons of several styles, their labels, splits, pairs and cache."""

import io
import json
import lzma
import shutil
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxgen import data
from jaxgen.core.config import Data
from jaxgen.data import batches, emoji, open_source, svg
from jaxgen.data.domains import UnpairedImages
from jaxgen.data.fingerprint import difference, fingerprint
from jaxgen.zoo import load
from tests.helpers.data_samples import message, own_cache, real  # noqa: F401
from tests.helpers.icon_samples import BLUE, CORNER, LEFT_RED, RED, WHITE, filled, needs_resvg, write_set
from tests.helpers.running import arrays

pytestmark = needs_resvg
SHAPE = (16, 16, 3)
FACES = {"grinning-face": LEFT_RED, "cat": CORNER, "cat-face": CORNER, "axe": filled("#00f")}
HELD = "name-16"  # in "test", as the hash says


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two styles: noto with categories spelled in one way, twemoji in another, and with an alias."""
    of = {"grinning-face": "Smileys & Emotion", "cat": "Animals & Nature", HELD: "Flags"}
    write_set(tmp_path / "sets/noto.json", {**FACES, HELD: filled("#010203")}, categories=of)
    other = {"Smileys Emotion": ["grinning-face"], "Animals Nature": ["kitten"], "Flags": [HELD]}
    icons = {"grinning-face": filled("red"), "kitten": filled("#0f0"), HELD: filled("#040506")}
    write_set(tmp_path / "sets/twemoji.json.xz", icons, categories=other, aliases={"cat": {"parent": "kitten"}})
    return tmp_path / "sets"


def of(folder: Path | str, split: str = "all", kind: str = "", image: Any = SHAPE, **settings) -> Any:
    return open_source(Data(f"{kind}emoji:{folder}", split=split, **settings), image)


def test_examples_are_drawn_icons_with_categories(folder):
    source = of(folder)
    assert source.names == [
        *("noto/axe", "noto/cat", "noto/grinning-face", f"noto/{HELD}"),
        *("twemoji/grinning-face", "twemoji/kitten", f"twemoji/{HELD}"),
    ], "equal icons and aliases count once"
    assert source.captions[2] == "grinning face" and source.captions[3] == "name 16"
    assert source.classes == ("animals-nature", "flags", "other", "smileys-emotion")
    assert [source.classes[i] for i in source.labels] == [
        *("other", "animals-nature", "smileys-emotion", "flags"),
        *("smileys-emotion", "animals-nature", "flags"),
    ]
    image = source[2]["image"]
    assert image.dtype == np.uint8 and (image[:, :8] == RED).all() and (image[:, 8:] == WHITE).all()
    assert (source[0]["image"] == BLUE).all() and source[3]["label"] == 1
    assert [len(of(folder, styles=styles)) for styles in ("noto", "twemoji", "twemoji,noto")] == [4, 3, 7]
    assert of(folder, styles="twemoji,noto").names == source.names


def test_labels_are_styles_or_both(folder):
    source = of(folder, labels="style")
    assert source.classes == ("noto", "twemoji") and source.labels.tolist() == [0] * 4 + [1] * 3
    both = of(folder, labels="both")
    assert both.classes[:2] == ("noto/animals-nature", "noto/flags") and both.classes[-1] == "twemoji/smileys-emotion"
    chosen = of(folder, labels="both", only="noto/flags,twemoji/animals-nature")
    assert chosen.names == [f"noto/{HELD}", "twemoji/kitten"] and chosen.captions == ["name 16", "kitten"]
    plain = write_set(folder / "plain.json", {"a": LEFT_RED, "b": CORNER})
    assert of(plain).classes == () and set(of(plain)[0]) == {"image"}
    conditional = load("cgan").tiny.model.task(1).example
    message(lambda: of(plain, image=conditional), str(plain), "--data.labels style")
    assert of(plain, image=conditional, labels="style").classes == ("plain",)


def test_the_split_is_by_name(folder):
    parts = [of(folder, split) for split in ("train", "test")]
    assert parts[1].names == [f"noto/{HELD}", f"twemoji/{HELD}"], "all styles of a name"
    assert sorted(parts[0].names + parts[1].names) == sorted(of(folder).names)
    assert parts[0].classes == parts[1].classes, "the same numbers in both"
    message(lambda: of(folder, "val"), "split of emoji", "'val'")
    # What `printf NAME | sha256sum` says: the first 16 digits, divisible by 10. No change may move a name.
    known = ["grinning-face", "red-heart", "pizza", "dog-face", "rocket", "fox", HELD]
    assert [emoji.held_out(name) for name in known] == [False, False, False, False, False, True, True]
    assert 0.08 < np.mean([emoji.held_out(f"name-{i}") for i in range(5000)]) < 0.12
    tones = ("", "-light-skin-tone", "-medium-dark-skin-tone", "-dark", "-medium-light", "-dark-medium-light")
    assert all(emoji.held_out(HELD + tone) for tone in (*tones, "-dark-skin-tone-medium-skin-tone"))
    assert all(emoji.TONES.sub("", name) == name for name in ("light-bulb", "black-medium-square", "flashlight"))
    assert emoji.TONES.sub("", "person-kneeling-dark-skin-tone-facing-right") == "person-kneeling-facing-right"


def test_pairs_have_a_name_in_common(folder):
    pairs = of(folder, kind="paired:", styles="noto,twemoji")
    assert pairs.names == ["cat", "grinning-face", HELD], "by an alias too"
    pair = pairs[1]
    assert set(pair) == {"source", "image", "label"} and pairs.classes[pair["label"]] == "smileys-emotion"
    assert (pair["source"][:, 8:] == WHITE).all() and (pair["image"] == RED).all()
    back = of(folder, kind="paired:", styles="twemoji,noto")
    assert np.array_equal(back[1]["source"], pair["image"]) and np.array_equal(back[1]["image"], pair["source"])
    assert [of(folder, x, kind="paired:", styles="noto,twemoji").names for x in ("train", "test")] == [
        ["cat", "grinning-face"],
        [HELD],
    ]
    assert of(folder, kind="paired:", styles="noto,twemoji", only="flags").names == [HELD]
    for styles in ("", "noto", "noto,noto"):
        message(lambda styles=styles: of(folder, kind="paired:", styles=styles), "two styles")
    write_set(folder / "third.json", {"grinning-face": LEFT_RED, "fox": CORNER}, aliases={"axe": {"parent": "fox"}})
    assert of(folder, kind="paired:", styles="noto,third").names == ["grinning-face"], "axe and fox: different splits"
    write_set(folder / "third.json", {"nothing-alike": LEFT_RED})
    message(lambda: of(folder, kind="paired:", styles="noto,third"), "no name in common")
    batch = next(batches(pairs, Data(f"paired:emoji:{folder}", pair="edges"), SHAPE, batch=3, seed=0, train=False))
    assert (batch["image"][1] == np.array([1, -1, -1])).all() and batch["source"].shape == (3, *SHAPE)


def test_unpaired_styles_and_derived_sources(folder):
    source = of(folder, kind="unpaired:", styles="noto,twemoji")
    assert isinstance(source, UnpairedImages) and (len(source.source), len(source.image)) == (4, 3)
    assert (source[0]["source"] == BLUE).all() and (source[0]["image"] == RED).all()
    alike = of(f"{folder / 'noto.json'},emoji:{folder / 'twemoji.json.xz'}", kind="unpaired:")
    assert all(np.array_equal(source[3][key], alike[3][key]) for key in ("source", "image"))
    message(lambda: of(folder, kind="unpaired:", styles="noto"), "two styles")
    settings = Data(f"emoji:{folder}", split="all", pair="edges")
    batch = next(batches(open_source(settings, SHAPE), settings, SHAPE, batch=7, seed=0, train=False))
    lines = (batch["source"][2] == -1).all(2)  # of the half-red icon: one line along the middle
    assert lines.any(1).all() and lines.sum() == 16 and set(np.argwhere(lines)[:, 1]) <= {7, 8}


def test_grey_models_other_shapes_and_the_crop_jitter(folder):
    settings = Data(f"emoji:{folder}", split="all", styles="noto")
    grey = next(batches(open_source(settings, (8, 8, 1)), settings, (8, 8, 1), batch=4, seed=0, train=False))
    assert grey["image"].shape == (4, 8, 8, 1)
    np.testing.assert_allclose(grey["image"][2, :, :4], 76 / 127.5 - 1, atol=1e-6)  # ITU-R 601 of red
    wide = of(folder, image=(8, 16, 3), styles="noto")[0]["image"]
    assert (wide[:, 4:12] == BLUE).all() and (wide[:, :4] == WHITE).all() and (wide[:, 12:] == WHITE).all()
    assert of(folder, crop="jitter", image=(64, 64, 3))[0]["image"].shape == (72, 72, 3), "286/256 of the size"
    assert of(folder, image=None)[0]["image"].shape == (64, 64, 3)


def test_a_second_start_draws_nothing(folder, cache, monkeypatch):
    first = of(folder)
    monkeypatch.setattr(svg, "draw", None)  # a call would raise TypeError
    again = of(folder)
    assert all(np.array_equal(first[i]["image"], again[i]["image"]) for i in range(len(first)))
    assert len(list((cache / "emoji").iterdir())) == 2, "one file for each style, none left over"
    with pytest.raises(TypeError):
        of(folder, image=(24, 24, 3))
    write_set(folder / "noto.json", {**FACES, "another": filled("red")})
    with pytest.raises(TypeError):
        of(folder)
    monkeypatch.setattr(svg, "renderer", lambda: "resvg-py 99")
    with pytest.raises(TypeError):
        of(folder, styles="twemoji")


def test_a_damaged_file_of_the_cache_is_made_again_or_named(folder, cache):
    before = of(folder, styles="noto")[0]["image"]
    [path] = (cache / "emoji").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert np.array_equal(of(folder, styles="noto")[0]["image"], before) and zipfile.is_zipfile(path)
    where = path.read_bytes().index(b"IDAT") + 8
    path.write_bytes(path.read_bytes()[:where] + b"\0\1\2\3" + path.read_bytes()[where + 4 :])
    message(lambda: of(folder, styles="noto")[0], str(path), "is damaged", "remove it")


def test_an_interrupted_drawing_leaves_nothing(folder, cache, monkeypatch):
    def stopped(svgs):
        yield svg.Drawn(b"png")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(svg, "draw", stopped)
        of(folder)
    assert list((cache / "emoji").iterdir()) == []
    monkeypatch.setenv("JAXGEN_CACHE", str(folder / "noto.json"))
    message(lambda: of(folder), "can't be kept in", "JAXGEN_CACHE")


def test_two_starts_at_once_do_not_disturb_each_other(folder, cache):
    found: list = []
    threads = [threading.Thread(target=lambda: found.append(of(folder, styles="noto"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and all(np.array_equal(found[0][i]["image"], found[1][i]["image"]) for i in range(4))
    assert [path.suffix for path in (cache / "emoji").iterdir()] == [".zip"]


def test_an_icon_that_cannot_be_drawn_is_named_or_skipped(folder, capsys):
    path = write_set(folder / "bad.json", {**FACES, "broken": "<path", "box": {"body": LEFT_RED, "width": 0}})
    message(lambda: of(path), str(path), "'box'", "its box", "and 1 more can't", "--data.skip-bad")
    for _ in range(2):  # drawn, and from the cache
        source = of(path, skip_bad=True)
        assert source.names == [f"bad/{name}" for name in ("axe", "cat", "grinning-face")]
        assert "Skipped 2 of 5 icons" in (said := capsys.readouterr().err) and "'box'" in said
    write_set(folder / "bad.json", {"broken": "<path"})
    message(lambda: of(path, skip_bad=True), "None of 1 icons can be drawn", "'broken'")
    write_set(folder / "noto.json", {**FACES, "grinning-face": "<path"})
    pairs = of(folder, kind="paired:", styles="noto,twemoji", skip_bad=True)
    assert pairs.names == ["cat"] and len(pairs) == 1


def test_a_run_notices_changed_sets_and_keeps_its_classes(folder, tmp_path):
    before = fingerprint(of(folder))
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert fingerprint(of(copy)) == before and before["files"] == 2
    write_set(copy / "noto.json", {**FACES, HELD: filled("#010204")})
    assert difference(before, fingerprint(of(copy))).startswith("the names or sizes")
    assert "examples" in difference(before, fingerprint(of(copy, styles="noto")))
    one, other = (fingerprint(of(folder, kind=kind, styles="noto,twemoji")) for kind in ("paired:", "unpaired:"))
    turned = fingerprint(of(folder, kind="paired:", styles="twemoji,noto"))
    assert one["digest"] == other["digest"] != turned["digest"]
    example = load("cgan").tiny.model.task(1).example
    settings = Data(f"emoji:{folder}", split="all")
    saved = data.with_classes(settings, open_source(settings, example), example)
    assert saved.classes == ("animals-nature", "flags", "other", "smileys-emotion")
    later = open_source(replace(saved, styles="twemoji"), example)  # twemoji alone has three of them
    assert later.classes == saved.classes and later[0]["label"] == 3
    message(lambda: of(folder / "nowhere"), "no file or folder")
    message(lambda: open_source(Data("emoji:")), "emoji:FOLDER")


def test_a_training_on_emoji_starts(folder, cli):
    said = cli(0, "train.gan", "--preset", "dcgan", "--tiny", "--data.source", f"emoji:{folder}", "--dry-run")
    assert "dcgan" in said
    said = cli(2, "train.gan", "--preset", "dcgan", "--tiny", "--data.source", f"emoji:{folder}", "--data.styles", "no")
    assert "did you mean 'noto'" in said


@pytest.mark.slow
def test_a_resumed_training_is_bit_equal(folder, tmp_path, cli):
    settings = ["--data.source", f"emoji:{folder}", "--tiny", "--save.every", "4", "--batch", "8", "--data.flip"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    cli(0, "train.vae", "--preset", "vae", *settings, "--steps", "8", "--out", whole)
    cli(0, "train.vae", "--preset", "vae", *settings, "--steps", "4", "--out", parts)
    cli(0, "train", "--resume", parts, "--steps", "8")
    a, b = arrays(whole, 8), arrays(parts, 8)
    assert a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@real
def test_published_icons_equal_images_drawn_elsewhere(real_data, tmp_path):
    with zipfile.ZipFile(real_data / "emoji4/emoji4_64_third.zip") as file:
        names = [name.removesuffix(".png") for name in file.namelist() if name.endswith(".png")]
        names = [name for i, name in enumerate(names) if i % 40 == 0]
        theirs = {name: np.asarray(Image.open(io.BytesIO(file.read(f"{name}.png")))) for name in names}
    for style in sorted({name.split("/")[0] for name in names}):
        whole = json.loads(lzma.decompress((real_data / f"emoji4/{style}.json.xz").read_bytes()))
        chosen = {name.split("/")[1] for name in names if name.startswith(f"{style}/")}
        icons = {name: icon for name, icon in whole["icons"].items() if name in chosen}
        assert len(icons) == len(chosen) > 5
        write_set(
            tmp_path / f"real/{style}.json", icons, **{key: whole[key] for key in ("width", "height", "categories")}
        )
    source = of(tmp_path / "real", image=(64, 64, 3))
    for i, name in enumerate(source.names):
        assert np.array_equal(source[i]["image"], theirs.pop(name)), name
    assert not theirs and "people-body" in source.classes


@real
def test_every_icon_of_published_sets_has_a_category(real_data):
    sets = {x.style: x for x in emoji.read_sets(real_data / "emoji4", "")}
    assert {style: len(x.icons) + len(x.other_names) for style, x in sets.items()} == {
        "fluent-emoji-flat": 3146,
        "noto": 4032,
        "openmoji": 4616,
        "twemoji": 4388,
    }
    assert all(set(x.icons) <= set(x.categories) for x in sets.values())
    spelled = {category for x in sets.values() for category in x.categories.values()}
    assert len(spelled) == 11, "nine categories of Unicode, and two of openmoji"
