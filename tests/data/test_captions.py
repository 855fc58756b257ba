"""Captions: their tokens, the files that they come from, and the scenes that have some."""

import itertools
import json
import shutil

import numpy as np
import pytest

from jaxgen.core.config import Data
from jaxgen.core.errors import InputError
from jaxgen.core.spec import INTEGER, ArraySpec, image_spec
from jaxgen.data import batches, open_source, with_classes
from jaxgen.data.scene_rules import judge, objects_in
from jaxgen.data.scenes import SHAPES, SLICES, Caption, Scenes, Thing, captions_of, is_held_out, parse, scene_of
from jaxgen.data.tokeniser import PAD, UNKNOWN, Tokeniser, vocabulary_of
from tests.helpers.data_samples import encoded, sample_image, tree
from tests.helpers.data_samples import own_cache as own_cache  # for every test here

TEXTS = ["low low low low low", "lower lower", "newest newest newest newest newest newest", "widest widest widest"]
EXAMPLE = {"image": image_spec((8, 8, 3)), "text": ArraySpec("tokens", (4,), INTEGER, count=60)}


def test_pairs_are_merged_by_frequency():
    """The example of Sennrich et al. 2016, figure 1: es, est and lo are the first merges but for those of spaces."""
    found = vocabulary_of(TEXTS, 100)
    assert found[:2] == (PAD, UNKNOWN) and set(found[2:13]) == set(" delnorstwi")
    assert [x for x in found[13:] if " " not in x][:2] == ["es", "est"]
    assert vocabulary_of(reversed(TEXTS), 100) == found and vocabulary_of(TEXTS, 15) == found[:15]
    tokeniser = Tokeniser(found)
    assert [found[i] for i in tokeniser.numbers("LOW  newest")] == [" low", " newest"]
    assert tokeniser.text(tokeniser.row("lower, widest", 40)) == "lower <unknown> widest"
    assert tokeniser.unknown("lower, ₂") == [",", "2"] and not tokeniser.row("", 3).any()
    with pytest.raises(InputError, match="no text"):
        vocabulary_of(["", " "], 9)


def test_captions_of_scenes_are_read_as_they_were_meant():
    for split, i in itertools.product(("train", "unseen"), range(200)):
        caption = captions_of(split, i)
        assert parse(caption.text) == caption
        held = [is_held_out(o.shape, o.colour) for o in scene_of(caption, split, i)]
        assert any(held) == (split == "unseen")
    assert [captions_of("train", i).slice for i in range(8)] == list(SLICES)
    one = parse("a red circle left of a blue square")
    assert one == Caption("position", (Thing("circle", "red"), Thing("square", "blue")), "left of")
    for wrong in ("", "a", "a blue cat", "five circles", "a red red circle", "a star and a heart in the top left"):
        with pytest.raises(InputError, match="caption of a scene"):
            parse(wrong)


@pytest.mark.parametrize(("side", "count"), [(32, 96), (64, 24)])
def test_drawn_scenes_are_right_by_rule_and_shuffled_ones_are_not(side, count):
    source, right, shuffled = Scenes("test", (side, side, 3)), 0, 0
    for i in range(count):
        image, caption = source[i]["image"], captions_of("test", i)
        named = sorted((o.shape, o.colour, o.size) for o in scene_of(caption, "test", i))
        assert sorted((o.shape, o.colour, o.size) for o in objects_in(image)) == named
        right += judge(image, caption)["all"]
        shuffled += judge(image, captions_of("test", i + 8))["all"]
    assert right == count and shuffled < 0.2 * count


def test_rules_find_each_mistake():
    image = Scenes("train")[0]["image"]  # a red circle, said to be "a circle"
    assert judge(image, parse("a circle")) == {"shape": True, "count": True, "all": True}
    for text, wrong in (("a square", "shape"), ("a blue circle", "colour"), ("two circles", "count")):
        found = judge(image, parse(text))
        assert not found[wrong] and not found["all"]
    (one,) = objects_in(image)
    right = f"{'top' if one.y < 0.5 else 'bottom'} {'left' if one.x < 0.5 else 'right'}"
    other = f"{'top' if one.y > 0.5 else 'bottom'} {'left' if one.x < 0.5 else 'right'}"
    assert judge(image, parse(f"a circle in the {right}"))["all"]
    assert not judge(image, parse(f"a circle in the {other}"))["place"]
    assert not judge(np.full((32, 32, 3), 255, np.uint8), parse("a circle"))["all"]
    assert len(SHAPES) == 6


def test_a_source_of_scenes_gives_tokens_and_a_vocabulary_to_keep(capsys):
    data = Data("scenes")
    source = open_source(data, EXAMPLE)
    assert "are cut: --model.text.context" in capsys.readouterr().err
    kept = with_classes(data, source, EXAMPLE)
    assert 20 < len(kept.vocabulary) <= 60
    tokens = Tokeniser(kept.vocabulary)
    (first,) = itertools.islice(batches(source, kept, EXAMPLE, batch=4, seed=0, train=False), 1)
    wanted = np.stack([tokens.row(captions_of("train", i).text, 4) for i in range(4)])
    assert first["text"].dtype == np.int32 and np.array_equal(first["text"], wanted)
    part = open_source(Data("scenes", split="test[8:]", vocabulary=kept.vocabulary), EXAMPLE)
    assert np.array_equal(part[0]["text"], tokens.row(captions_of("test", 8).text, 4)) and not capsys.readouterr().err
    with pytest.raises(InputError, match="write --model"):
        open_source(Data("scenes", vocabulary=tuple(map(str, range(70)))), EXAMPLE)


def source_of(root, **more):
    return open_source(Data(f"folder:{root}", **more), EXAMPLE)


@pytest.mark.parametrize("zipped", [False, True])
def test_text_files_beside_images(tmp_path, zipped):
    files = {"b.png": None, "b.txt": b"\xef\xbb\xbfa red\n cat ", "a/c.jpg.png": None, "a/c.jpg.txt": b""}
    root = tree(tmp_path / "set", files)
    if zipped:
        shutil.make_archive(str(root), "zip", root)
        root = tmp_path / "set.zip"
    source = source_of(root)
    assert list(source.captions) == ["", "a red cat"] and not source[0]["text"].any()  # pyright: ignore
    assert source[1]["text"].any()


def test_tables_of_captions(tmp_path):
    root = tree(tmp_path / "set", {"1.png": None, "2.png": encoded(sample_image(3))})
    lines = [{"file_name": "1.png", "text": "one"}, {"file": "./2.png", "caption": "two"}]
    table = tmp_path / "own.jsonl"
    table.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    assert list(source_of(root, captions=str(table)).captions) == ["one", "two"]  # pyright: ignore
    (root / "captions.csv").write_text('file_name,text\n1.png,"a, b"\n')
    with pytest.raises(InputError, match=r"2\.png has no caption in .*captions\.csv"):
        source_of(root)
    source = source_of(root, skip_bad=True)
    assert len(source) == 1 and source.captions == ["a, b"]  # pyright: ignore


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file_name,text\n9.png,x\n", "entry 1 is of '9.png', and .* has no such image"),
        ("name,words\n1.png,x\n", "entry 1 needs the columns file_name and text; it has name, words"),
        ("file_name,text\n", "hold no entry"),
        ("file_name,text\n1.png,\n", "All captions are empty"),
        (b"\xff\xfe\x00", "no text in UTF-8"),
    ],
)
def test_a_table_that_does_not_match(tmp_path, text, message):
    root = tree(tmp_path / "set", {"1.png": None})
    (root / "captions.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        source_of(root)


def test_images_without_captions(tmp_path):
    root = tree(tmp_path / "set", {"1.png": None, "2.png": None})
    with pytest.raises(InputError, match="with the same name"):
        source_of(root)
    (root / "2.txt").write_text("two")
    with pytest.raises(InputError, match=r"1\.png has no caption beside it"):
        source_of(root)
