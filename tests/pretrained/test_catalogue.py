"""The catalogue: facts of published files, shipped files, and the commands that take a name from it."""

import hashlib
import json
import re
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.core.errors import InputError
from jaxgen.inference import restoration, stylization
from jaxgen.interop.read import read
from jaxgen.interop.write import write_safetensors
from jaxgen.pretrained import catalogue, fetching
from jaxgen.pretrained.catalogue import PUBLISHED
from jaxgen.runs.config_io import load_config
from tests.helpers import pages
from tests.helpers.file_server import serving
from tests.helpers.photo_samples import pixels_of, save, smooth

# The copies of the published files among the real data: the first file of each.
COPIES = {
    "imdn-x4": "IMDN_x4.pth",
    "span-x2": "span/spanx2_ch48.param",
    "span-x4": "span/spanx4_ch48.param",
    "vdsr-291": "vdsr_model_epoch_50.pth",
    "dncnn-25": "dncnn_25.pth",
    "fast-style-wave": "fast_style_wave.zip",
    "resnet20-cifar10": "resnet20-12fca82f.th",
    "lenet5-mnist": "mnist_lenet_epoch=12_test_acc=0.991.pth",
    "vae-mnist": "mnist_vae_epoch_25.pth",
    "gan-mnist": "mnist_gan_mlp_G--300.ckpt",
    "basicvsr-vimeo": "BasicVSR_Vimeo90K_BIx4.pth",
}
RARE = ("basicvsr-vimeo",)  # that a folder of real data may lack


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Return an empty cache; nothing is fetched."""
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("JAXGEN_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.fixture
def put(cache, real_data):
    """Return (name) -> its first file in the cache, where it was put by hand."""

    def copied(name: str) -> Path:
        folder = cache / "weights" / name
        folder.mkdir(parents=True)
        for file, path in copies(name, real_data):
            (folder / file.name).write_bytes(unix(path))
        return folder / PUBLISHED[name].files[0].name

    return copied


def copies(name: str, real_data: Path) -> list[tuple[fetching.File, Path]]:
    """Return the files of an entry, each with its copy among the real data."""
    first, *more = PUBLISHED[name].files
    path = real_data / "weights" / COPIES[name]
    return [(first, path), *((file, path.with_name(file.name)) for file in more)]


def unix(path: Path) -> bytes:
    """Return a file's content: in a text with its lines' ends as published."""
    content = path.read_bytes()
    return content.replace(b"\r\n", b"\n") if path.suffix == ".param" else content


@pytest.mark.parametrize("name", PUBLISHED)
def test_entries_are_complete_and_their_addresses_pinned(name):
    entry = PUBLISHED[name]
    assert name == entry.name and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    assert name not in zoo.ZOO, "jaxgen.load would not know whether the preset or the weights are meant"
    assert entry.what and entry.licence and entry.source.startswith("https://github.com/")
    task = entry.model().task(1)
    assert task.learners and entry.family in zoo.families()
    assert len({file.name for file in entry.files}) == len(entry.files)
    for file in entry.files:
        owner_and_name = entry.source.removeprefix("https://github.com/")
        pinned = rf"https://raw\.githubusercontent\.com/{owner_and_name}/[0-9a-f]{{40}}/[\w./%-]+"
        assert re.fullmatch(pinned, file.address) and file.address.endswith("/") == bool(file.parts)
        assert re.fullmatch("[0-9a-f]{64}", file.sha256) and 0 < file.size < 2**26


@pytest.mark.parametrize("name", COPIES)
def test_digests_are_those_of_the_published_files(name, real_data):
    for file, path in copies(name, real_data):
        if name in RARE and not path.exists():
            pytest.skip(f"JAXGEN_TEST_DATA has no weights {name}")
        if file.parts:  # the same files in another zip
            with zipfile.ZipFile(path) as archive:
                content = b"".join(archive.read(part) for part in file.parts)
        else:
            content = unix(path)
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (file.sha256, file.size)


def test_a_name_is_fetched_and_announced_once(cache, monkeypatch, capsys):
    entry, content = PUBLISHED["imdn-x4"], b"weights"
    monkeypatch.delenv("JAXGEN_OFFLINE")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as server:
        server.answers["/IMDN_x4.pth"] = [content]
        digest = hashlib.sha256(content).hexdigest()
        file = fetching.File("IMDN_x4.pth", digest, len(content), f"{server.address}IMDN_x4.pth")
        monkeypatch.setitem(PUBLISHED, "imdn-x4", replace(entry, files=(file,)))
        for _ in range(2):
            assert catalogue.file_of("imdn-x4") == cache / "weights" / "imdn-x4" / "IMDN_x4.pth"
        assert server.asked == ["/IMDN_x4.pth"]
    assert capsys.readouterr().err == (
        "Fetching imdn-x4 (0.0 MB): enlarges 4 times; licence: none stated; from https://github.com/Zheng222/IMDN\n"
    )


def test_names_and_what_is_wrong_with_others(cache):
    assert {"lenet_mnist", *PUBLISHED} <= set(catalogue.names())
    assert set(catalogue.names(("classifier",))) >= {"lenet_mnist", "lenet5-mnist", "resnet20-cifar10"}
    assert not {"imdn-x4", "vae-mnist"} & set(catalogue.names(("classifier",)))
    assert catalogue.find("imdn") is None and catalogue.find("../weights/lenet_mnist") is None
    for name, hint in (("imdn_x4", "did you mean 'imdn-x4'?"), ("?", "choose one of ")):
        with pytest.raises(InputError, match=re.escape(f"Unknown weights {name!r}: {hint}")):
            catalogue.file_of(name)
    with pytest.raises(InputError) as offline:
        catalogue.file_of("vdsr-291")
    [file] = PUBLISHED["vdsr-291"].files
    for part in (
        "JAXGEN_OFFLINE is set",
        file.address,
        file.sha256,
        str(cache / "weights/vdsr-291/model_epoch_50.pth"),
    ):
        assert part in str(offline.value)


def test_a_file_that_is_added_is_an_entry(tmp_path, monkeypatch):
    """Also one of another width than the preset's: its model card has the settings."""
    monkeypatch.setattr(catalogue, "WEIGHTS", tmp_path)
    model = replace(zoo.load("dncnn").tiny.model, width=12)
    card = {"preset": "dncnn", "net": "restorer", "model": json.dumps(asdict(model)), "step": "7"}
    about = {"what": "removes noise", "licence": "CC0", "data": "drawn shapes", "hardware": "2 cores"}
    write_safetensors(tmp_path / "clean.safetensors", {"x": np.zeros(3, np.float32)}, {**card, **about})
    assert catalogue.names()[0] == "clean" and catalogue.names(("restoration",))[0] == "clean"
    found = catalogue.find("clean")
    assert found and (found.preset, found.what, found.licence) == ("dncnn", "removes noise", "CC0")
    assert found.model() == model and found.card["hardware"] == "2 cores" and found.family == "restoration"
    assert catalogue.file_of("clean") == tmp_path / "clean.safetensors" and found.size > 0


def test_the_shipped_lenet_is_an_entry():
    found = catalogue.find("lenet_mnist")
    assert found and found.preset == "lenet5" and found.model().image == (32, 32, 1)
    assert (found.what, found.licence) == ("classifies digits", "Apache-2.0"), "its card says neither"
    assert len(read(catalogue.file_of("lenet_mnist"))) == 10


# ---- the commands


def test_restore_takes_a_name(put, real_data, tmp_path, cli):
    put("imdn-x4")
    args = ["--with", "imdn-x4", "--degrade", "--out", tmp_path / "a.png"]
    out = cli(0, "restore", real_data / "sr/Set5/butterfly.png", *args)
    score = float(re.findall(r"psnr_y_border4 ([0-9.]+)", out)[0])
    assert score == pytest.approx(28.57, abs=0.02), "the mean of all five is published: in the second tier"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "score"), [("imdn-x4", 32.20), ("span-x2", 38.085), ("span-x4", 32.199)])
def test_a_name_reaches_the_published_score(put, real_data, tmp_path, cli, name, score):
    put(name)
    out = cli(0, "restore", real_data / "sr/Set5", "--with", name, "--degrade", "--out", tmp_path / "x")
    found = re.findall(r"mean of 5: psnr_y_border\d ([0-9.]+)", out)
    assert list(map(float, found)) == [pytest.approx(score, abs=0.02)]


def test_restore_guesses_nothing_about_a_name(put):
    put("dncnn-25")
    put("vdsr-291")
    model = restoration.open_model("dncnn-25", "", None)
    pipeline: Any = model.degrade
    assert (model.name, model.doubt, pipeline.noise) == ("dncnn-25", "", (25, 25)), "the file alone leaves that open"
    assert [restoration.open_model("vdsr-291", "", scale).scale for scale in (2, 3, 4)] == [2, 3, 4]


def test_mistakes_in_names_give_one_sentence(put, tmp_path, cli):
    image, put_there = save(tmp_path / "a.png", smooth(16, 16)), put("imdn-x4")
    for args, words in [
        (["--with", "imdn_x4"], "There is no run folder or file imdn_x4: did you mean 'imdn-x4'?"),
        (["--with", "bicubik"], "did you mean 'bicubic'?"),
        (["--with", "lenet_mnist"], "The weights lenet_mnist are of lenet5: --with takes bicubic, "),
        (["--with", "imdn-x4", "--preset", "imdn"], "--preset is for a file of weights: imdn-x4 is of imdn"),
        (["--with", "imdn-x4", "--scale", "2"], "imdn-x4 enlarges by 4, not by 2"),
        (["--with", "imdn-x3"], "The weights imdn-x3 can't be fetched (JAXGEN_OFFLINE is set): get https://raw.g"),
    ]:
        assert words in cli(2, "restore", image, *args)
    put_there.write_bytes(b"\x80")
    text = cli(2, "restore", image, "--with", "imdn-x4")
    assert "IMDN_x4.pth is not the published file: it has 1 bytes, not 2,879,112; delete it" in text
    assert "are of imdn: --with takes gatys, wct, styles, fast-style" in cli(2, "stylize", image, "--with", "imdn-x4")
    assert "did you mean the weights 'vae-mnist'?" in cli(2, "import", "vae_mnist", "--out", tmp_path / "run")
    text = cli(2, "import", "nowhere.pth", "--out", tmp_path / "run")
    assert "There is no file nowhere.pth, and no trained weights have this name." in text
    assert "--model is missing: the preset that" in cli(2, "import", put_there, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_file_of_this_name_comes_first(cache, tmp_path, monkeypatch, cli):
    monkeypatch.chdir(tmp_path)
    image = save(tmp_path / "a.png", smooth(16, 16))
    (tmp_path / "imdn-x4").write_text("mine")
    assert "imdn-x4 is no weights file" in cli(2, "restore", image, "--with", "imdn-x4")


def test_stylize_takes_a_name(put):
    put("fast-style-wave")
    request = stylization.StyleRequest()
    found: Any = stylization.open_stylist("fast-style-wave", request)
    assert (found.name, found.request.styles) == ("fast-style-wave", ("wave",))
    assert sum(x.size for x in jax.tree.leaves(found.params)) == 1_677_638


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("lenet5-mnist", 61_706),
        pytest.param("vae-mnist", 652_824, marks=pytest.mark.slow),
        pytest.param("gan-mnist", 283_920, marks=pytest.mark.slow),
        pytest.param("resnet20-cifar10", 271_098, marks=pytest.mark.slow),
    ],
)
def test_import_takes_a_name_and_its_settings(put, tmp_path, cli, name, count):
    put(name)
    out = cli(0, "import", name, "--out", tmp_path / "run")
    assert f"of {name}: {count:,} parameters" in out
    run = load_config(tmp_path / "run")
    assert (run.preset, run.model) == (PUBLISHED[name].preset, PUBLISHED[name].model())


@pytest.mark.slow
def test_the_short_way_of_the_readme_runs_as_it_stands(put, tmp_path, monkeypatch):
    [code] = [code for code in pages.python(pages.ROOT / "README.md") if "jaxgen.load(" in code]
    put("gan-mnist")
    save(tmp_path / "photo.png", smooth(16, 24))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert pixels_of(tmp_path / "large.png").shape == (64, 96, 3)
    assert names["digits"].shape == (16, 28, 28, 1) and "restore" in names["model"].can
