"""python -m jaxgen inspect, --no-mark, and the marks of every command's files."""

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from jaxgen.__main__ import COMMANDS
from jaxgen.media import marks, photo
from jaxgen.media.inspection import NO_MARK, facts
from jaxgen.runs import seals
from tests.helpers.image_formats import chunk
from tests.helpers.photo_samples import pixels_of, save, smooth
from tests.helpers.running import TINY
from tests.helpers.untrained import untrained

RUNS = {
    "gan": ("gan", "dcgan"),
    "stylegan2": ("gan", "stylegan2"),
    "vae": ("vae", "vae", "--model.latent", "2"),
    "edm": ("diffusion", "edm", "--model.sampling.steps", "3"),
    "net": ("restoration", "partial-conv"),
    "cyclegan": ("translation", "cyclegan"),
    "harmonise": ("translation", "harmonisation"),
}


def with_runs(folder: Path, *names: str):
    """Have the untrained runs of these names in the folder."""
    for name in set(names) & set(RUNS):
        if not (folder / name).exists():
            untrained(folder / name, *RUNS[name])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Images and masks; a test adds the runs that it needs."""
    folder = tmp_path_factory.mktemp("marks")
    save(folder / "a.png", smooth(32, 32))
    save(folder / "grey.png", smooth(8, 8, 1))
    mask = np.zeros((8, 8), np.uint8)
    mask[4:] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray(mask.repeat(4, 0).repeat(4, 1)).save(folder / "large-mask.png")
    return folder


# Command -> its arguments, and for each of its files the source and the run whose preset and weights it states.
# A command that writes images and has no row here fails the test below.
D, E, C, N = marks.DRAWN, marks.EDITED, marks.COMPOSED, ""
MARKED: dict[str, list[tuple[str, dict[str, tuple[str, str]]]]] = {
    "generate": [("gan --count 2 --seed 5 --out o.npz", {"o.npz": (D, "gan"), "o.png": (D, "gan")})],
    "interpolate": [("gan --points 2 --frames 1 --rows 1 --columns 1 --out o.gif", {"o.gif": (D, "gan")})],
    "mix": [("stylegan2 --rows 1 --columns 1 --out o.png", {"o.png": (D, "stylegan2")})],
    "project": [("gan grey.png --steps 1 --distance pixels --out o.png", {"o.png": (E, "gan"), "o.npz": (E, "gan")})],
    "directions": [("gan --count 1 --out o.png", {"o.png": (D, "gan"), "o.npz": (N, "")})],
    "traverse": [("gan --latents 1 --out o.png", {"o.png": (D, "gan")})],
    "reconstruct": [("vae --count 2 --out o.png", {"o.png": (E, "vae")})],
    "map": [
        ("vae --count 4 --side 2 --out o.png", {"o.png": (D, "vae")}),
        ("vae --count 4 --by pca --out o.png", {"o.png": (N, "")}),
    ],
    "arithmetic": [
        (
            "vae --start grey.png --minus grey.png --plus grey.png --steps 2 --out o.png",
            {"o.png": (E, "vae")},
        )
    ],
    "score": [("vae digits --by reconstruction --limit 4 --count 4 --out o.csv", {"o.png": (N, "")})],
    "inpaint": [("edm grey.png --mask mask.png --method ddnm --count 1 --out o.png", {"o.png": (E, "edm")})],
    "upscale": [("edm grey.png --count 1 --out o.png", {"o.png": (E, "edm")})],
    "edit": [("edm grey.png --count 1 --out o.png", {"o.png": (E, "edm")})],
    "restore": [
        (
            "a.png --with net --mask large-mask.png --sheet --out o.png",
            {"o.png": (E, "net"), "o-sheet.png": (E, "net")},
        ),
        ("a.png --with bicubic --sheet --out o.jpg", {"o.jpg": (N, ""), "o-sheet.png": (N, "")}),
    ],
    "compose": [
        ("a.png grey.png --how paste --out o.png", {"o.png": (C, "paste")}),
        ("a.png grey.png --how harmonise --with harmonise --out o.tif", {"o.tif": (E, "harmonise")}),
    ],
    "extend": [
        ("a.png --by 4 --with net --out o.webp", {"o.webp": (E, "net")}),
        ("a.png --tile --out o.png", {"o.png": (N, "")}),
    ],
    "translate": [("cyclegan a.png --out o.png", {"o.png": (E, "cyclegan")})],
    "stylize": [
        (
            "a.png --style a.png --backbone random --steps 1 --progress --out o.png",
            {"o.png": (E, "gatys"), "o-progress.png": (E, "gatys")},
        )
    ],
}
# They write no images, or have a test of their own: train below, demo and predict in their own files; inspect reads,
# report shows what a run has.
OTHERS = {
    "list",
    "demo",
    "predict",
    "capture",
    "retarget",
    "edit-video",
    "render",
    "train",
    "evaluate",
    "import",
    "export",
    "prepare",
    "inspect",
    "report",
}


def test_no_command_is_forgotten():
    assert set(COMMANDS) == set(MARKED) | OTHERS, "does the new command write images? Then it has a row in MARKED"


LONG = ("mix", "project", "map", "arithmetic", "inpaint", "upscale", "edit", "translate", "stylize")  # compile for long
CASES = [
    pytest.param(command, case, id=f"{command} {case[0]}", marks=[pytest.mark.slow] if command in LONG else [])
    for command, cases in MARKED.items()
    for case in cases
]


@pytest.mark.parametrize(("command", "case"), CASES)
def test_every_command_marks_its_files(command, case, folder, cli, monkeypatch, tmp_path):
    """As its row says; and --no-mark leaves the same images without a mark."""
    monkeypatch.chdir(folder)
    arguments, files = case
    with_runs(folder, *arguments.split())
    given = arguments.replace("--out ", f"--out {tmp_path}/").split()
    cli(0, command, *given)
    assert {path.name for path in tmp_path.iterdir()} - {"o.csv"} == set(files), "a row for each image"
    for name, (source, by) in files.items():
        mark = facts(tmp_path / name)["mark"]
        if not source:
            assert mark is None
            continue
        assert (mark["source"], mark["software"]) == (source, marks.SOFTWARE)
        run = folder / by
        if run.is_dir():
            config = json.loads((run / "config.json").read_text())
            assert mark["preset"] == config["preset"]
            last = (run / "checkpoints" / f"{config['steps']}.sha256").read_text().splitlines()[-1]
            assert mark["weights_sha256"] == last.removeprefix("# ") and len(mark["weights_sha256"]) == 64
        else:
            assert mark["preset"] == by
        assert mark.get("seed", 0) == (5 if "--seed" in arguments else 0)


def test_no_mark_leaves_the_mark_out(folder, cli, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    with_runs(folder, "gan")
    made = []
    for name, flags in (("a", []), ("b", ["--no-mark"]), ("c", [])):
        cli(0, "generate", "gan", "--count", "2", "--out", tmp_path / f"{name}.png", *flags)
        made.append((tmp_path / f"{name}.png").read_bytes())
    assert made[0] == made[2], "the same seed gives the same bytes, and the flag holds for one command"
    assert facts(tmp_path / "b.png")["mark"] is None and facts(tmp_path / "a.png")["mark"]
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.png"), pixels_of(tmp_path / "b.png"))
    assert "(DigitalSourceType) of files that a" in cli(0, "generate", "--help")


@pytest.mark.slow
def test_previews_of_a_training_are_marked(cli, tmp_path):
    run = tmp_path / "run"
    cli(0, "train.gan", *TINY, "--mesh.data", "1", "--out", run)
    samples = sorted((run / "samples").iterdir())
    assert samples and all(facts(path)["mark"]["source"] == marks.DRAWN for path in samples)
    assert facts(samples[0])["mark"]["preset"] == "dcgan" and facts(run / "losses.png")["mark"] is None


def test_weights_in_a_file_are_named_by_their_digest(folder, cli, real_data, tmp_path):
    weights = real_data / "weights/dncnn_25.pth"
    cli(0, "restore", folder / "grey.png", "--with", weights, "--out", tmp_path / "o.png")
    mark = facts(tmp_path / "o.png")["mark"]
    assert mark["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert mark["preset"] == "dncnn" and "seed" not in mark


def test_a_composition_with_a_drawn_foreground(folder, cli, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    with_runs(folder, "gan")
    cli(0, "generate", "gan", "--count", "1", "--out", tmp_path / "drawn.png")
    cli(0, "compose", "a.png", tmp_path / "drawn.png", "--how", "paste", "--out", tmp_path / "o.png")
    assert facts(tmp_path / "o.png")["mark"]["source"] == marks.COMPOSED_WITH_DRAWN
    cli(0, "restore", tmp_path / "drawn.png", "--with", "bicubic", "--out", tmp_path / "large.png")
    assert facts(tmp_path / "large.png")["mark"] == facts(tmp_path / "drawn.png")["mark"], "enlarged, it is still drawn"


def test_inspect_prints_what_is_known(tmp_path, cli):
    mark = marks.Mark(marks.EDITED, "imdn", "cd" * 32, 7)
    values, like = smooth(8, 12), photo.Photo(np.zeros((4, 4, 3), np.float32))
    photo.write(tmp_path / "a.png", values, like, mark=mark)
    said = cli(0, "inspect", tmp_path / "a.png")
    for words in (
        "changed by a trained model, which is generative AI (compositeWithTrainedAlgorithmicMedia)",
        f"software: {marks.SOFTWARE}",
        "preset: imdn",
        f"weights: {'cd' * 32}",
        "seed: 7",
        "PNG, 12x8, RGB of 8 bits, no colour profile, upright",
    ):
        assert words in said
    photo.write(tmp_path / "b.tif", values.astype(np.uint16) * 257, like, mark=None)
    assert f"{NO_MARK} TIFF, 12x8, RGB of 16 bits" in cli(0, "inspect", tmp_path / "b.tif")
    found = json.loads(cli(0, "inspect", tmp_path, "--json"))
    assert [Path(each["file"]).name for each in found] == ["a.png", "b.tif"]
    assert found[0]["mark"]["seed"] == 7 and found[1]["mark"] is None and found[1]["image"]["bits"] == 16


def test_inspect_reads_the_marks_of_others(tmp_path, cli):
    exif = Image.Exif()
    exif[0x0112], exif[305] = 6, "Camera firmware"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a castle, steps: 20\x1b[31m" + "x" * 1000)
    path = tmp_path / "a.png"
    Image.new("RGB", (12, 8)).save(path, pnginfo=info, exif=exif, icc_profile=profile)
    data = path.read_bytes()
    path.write_bytes(data[:33] + chunk(b"caBX", b"jumb c2pa") + data[33:])
    said = cli(0, "inspect", path)
    assert (
        "a C2PA manifest, which is neither read nor verified" in said
        and NO_MARK not in said
        and "EXIF Software: Camera firmware" in said
    )
    assert "parameters: a castle, steps: 20\\x1b[31mxxx" in said and "xxx..." in said
    assert "turned by EXIF orientation 6" in said and "sRGB" in said and "PNG, 8x12" in said


C2PA = {  # where each format has its manifest, by the C2PA specification
    ".png": lambda x: x[:33] + chunk(b"caBX", b"c2pa") + x[33:],
    ".jpg": lambda x: x[:2] + b"\xff\xeb" + struct.pack(">H", 20) + b"JP\0\1\0\0\0\1jumb..c2pa" + x[2:],
    ".webp": lambda x: x + struct.pack("<4sI", b"C2PA", 4) + b"jumb",
    ".gif": lambda x: x[:-1] + b"\x21\xff\x0bC2PA_GIF\1\0\0\4jumb\0" + x[-1:],
}


@pytest.mark.parametrize("suffix", C2PA)
def test_c2pa_manifests_are_found(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (8, 8)).save(path)
    assert not facts(path)["c2pa"]
    path.write_bytes(C2PA[suffix](path.read_bytes()))
    assert facts(path)["c2pa"]


def test_inspect_refuses_what_is_no_image(tmp_path, cli):
    (tmp_path / "note.txt").write_text("no image")
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    save(tmp_path / "a.png", smooth(8, 8))
    said = cli(2, "inspect", tmp_path / "a.png", tmp_path / "note.txt", tmp_path / "cut.png")
    assert NO_MARK in said, "the others are shown"
    assert "note.txt can't be read: its content is not an image" in said and "cut.png can't be read" in said
    assert "There is no image or folder" in cli(2, "inspect", tmp_path / "none.png")
    assert "Name an image" in cli(2, "inspect")


def test_the_digest_of_an_old_checkpoint(tmp_path):
    """Seals of version 0.1 have no heading and no last line: their digest is that of their text."""
    (tmp_path / "5.sha256").write_text("ab  5/x\n")
    assert seals.digest(tmp_path, 5) == hashlib.sha256(b"ab  5/x\n").hexdigest()
