"""python -m jaxgen restore: outputs and refusals."""

from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen.commands import restore
from jaxgen.commands.parse import parse
from jaxgen.core.errors import InputError
from jaxgen.media.batch_files import ImageJob
from jaxgen.media.photo import find, read
from jaxgen.nn.resample import imresize
from jaxgen.training import loop
from tests.helpers.photo_samples import pixels_of, save, save_smooth, smooth


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A denoiser trained for a moment."""
    folder = tmp_path_factory.mktemp("restore") / "run"
    options = ["--preset", "dncnn", "--tiny", "--mesh.data", "1", "--data.source", "shapes", "--out", str(folder)]
    loop.fit(parse("restoration", options).run)
    return folder


def test_training_shows_degraded_restored_and_clean_images(run):
    with Image.open(run / "restorations" / "000020.png") as image:
        assert image.size[0] > 16 * 3


def test_one_command_restores_and_keeps_alpha(run, tmp_path, cli):
    image = save(tmp_path / "a.png", smooth(50, 60, 4))
    out = cli(0, "restore", str(image), "--with", str(run))
    assert str(tmp_path / "a-restored.png") in out
    made = read(tmp_path / "a-restored.png")
    before = read(image)
    assert made.alpha is not None and before.alpha is not None and np.array_equal(made.alpha, before.alpha)
    assert 0 < np.abs(made.pixels - before.pixels).mean() < 1
    out = cli(2, "restore", str(image), "--with", str(run))
    assert "exists already: name another file" in out
    cli(0, "restore", str(image), "--with", str(run), "--overwrite")


def test_enlarging_enlarges_alpha(tmp_path, cli):
    values = smooth(20, 30, 4)
    values[..., 3] = 77
    cli(0, "restore", str(save(tmp_path / "a.png", values)), "--with", "lanczos3", "--scale", "2.5")
    made = pixels_of(tmp_path / "a-restored.png")
    assert made.shape == (50, 75, 4) and (made[..., 3] == 77).all()


def test_several_images_and_folders(tmp_path, cli):
    for name in ("a.png", "b.png", "deep/a.png", "deep/more/c.png", "other/c.png"):
        save_smooth(tmp_path / name)
    some = [str(tmp_path / name) for name in ("a.png", "b.png", "deep", "other", "a.png")]
    cli(0, "restore", *some, "--with", "nearest")
    names = ("a-restored.png", "b-restored.png", "deep-restored/a.png", "deep-restored/more/c.png")
    assert all((tmp_path / name).exists() for name in (*names, "other-restored/c.png"))
    out = cli(0, "restore", *some, "--with", "nearest")
    assert "5 existed already" in out
    cli(0, "restore", *some, "--with", "nearest", "--out", str(tmp_path / "x"))
    made = sorted(path.relative_to(tmp_path / "x").as_posix() for path in find(tmp_path / "x"))
    assert made == ["a.png", "b.png", "deep/a.png", "deep/more/c.png", "other/c.png"]
    for command in (["restore", "--with", "nearest"], ["stylize"]):
        assert "for several images name a folder" in cli(2, *command, *some, "--out", some[0], "--overwrite")
    assert "Name an image, or a folder" in cli(2, "restore", "--with", "nearest")


def test_images_with_one_name_get_names_that_differ(tmp_path, cli):
    for name in ("a.bmp", "a.tiff", "b.png", "x/b.png", "x/b.bmp", "y/b.bmp", "c.png", "c-sheet.png"):
        save_smooth(tmp_path / "in" / name)
    cli(0, "restore", str(tmp_path / "in"), "--with", "nearest")
    made = [path.relative_to(tmp_path / "in-restored").as_posix() for path in find(tmp_path / "in-restored")]
    assert made == ["a-bmp.png", "a-tiff.png", "b.png", "c-sheet.png", "c.png", "x/b-bmp.png", "x/b-png.png", "y/b.png"]
    some = [tmp_path / "in" / name for name in ("b.png", "x/b.png", "x/b.bmp", "y/b.bmp")]
    job = ImageJob(some, tmp_path / "out", "restored", lambda target: [target], False)
    assert [path.name for path in job.targets] == ["b-png.png", "b-png-2.png", "b-bmp.png", "b-bmp-2.png"]
    job = ImageJob([tmp_path / "in"], None, "restored", lambda target: restore.written(target, 1, True), False)
    assert {"c-png.png", "c-sheet-png.png"} <= {path.name for path in job.targets}


def test_a_folder_is_no_mask(tmp_path, cli):
    image = str(save(tmp_path / "a.png", smooth(64, 64)))
    out = cli(2, "restore", image, "--with", "deep-image-prior", "--mask", str(tmp_path))
    assert "is a folder: name an image" in out


def test_a_folder_with_bad_files(run, tmp_path, cli):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    save(folder / "a.png", smooth(20, 20))
    save(folder / "deep" / "b.png", smooth(20, 20, 1))
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes()[:300])
    (folder / "d.jpg").write_text("no image")
    out = cli(1, "restore", str(folder), "--with", str(run))
    assert "2 of 4 could not be restored" in out and "c.png" in out and "d.jpg" in out
    made = sorted(p.relative_to(tmp_path / "in-restored").as_posix() for p in (tmp_path / "in-restored").rglob("*.png"))
    assert made == ["a.png", "deep/b.png"]
    again = cli(1, "restore", str(folder), "--with", str(run))
    assert "2 existed already and were kept" in again


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    frames = [Image.fromarray(smooth(16, 16, seed=i)) for i in range(3)]
    frames[0].save(folder / "pages.tif", save_all=True, append_images=frames[1:])
    Image.new("F", (16, 16)).save(folder / "height.tif")
    good = save(folder / "good.png", smooth(16, 16))
    (folder / "cut.png").write_bytes(good.read_bytes()[:-200])
    (folder / "text.png").write_text("hello")
    (folder / "empty.png").write_bytes(b"")
    save(folder / "dot.png", smooth(1, 1))
    save(folder / "long.png", np.zeros((8, 20_000, 3), np.uint8))
    return {
        "pages.tif": (folder / "pages.tif", "has 3 pages"),
        "height.tif": (folder / "height.tif", "its pixels are floats, of which black and white are unknown"),
        "cut.png": (folder / "cut.png", "can't be read"),
        "text.png": (folder / "text.png", "its content is not an image"),
        "empty.png": (folder / "empty.png", "can't be read"),
        "dot.png": (folder / "dot.png", "1x1: an image must have 4x4 pixels or more"),
        "none.png": (folder / "none.png", "There is no image or folder"),
    }


def test_files_that_cant_be_restored_give_one_sentence(tmp_path, cli):
    for path, words in bad_files(tmp_path).values():
        out = cli(2, "restore", str(path), "--with", "bicubic", "--out", str(tmp_path / "out.png"))
        assert words in out and out.count("\n") <= 1 and "Traceback" not in out
    assert not (tmp_path / "out.png").exists()
    long = str(tmp_path / "long.png")
    assert "more than --memory 0.001" in cli(2, "restore", long, "--with", "bicubic", "--memory", "0.001")
    cli(0, "restore", long, "--with", "bicubic")
    with Image.open(tmp_path / "long-restored.png") as image:
        assert image.size == (40_000, 16)


def test_what_the_net_takes_counts_as_memory(run, tmp_path, cli):
    image = str(save(tmp_path / "a.png", smooth(600, 600, 1)))
    few = ["--memory", "0.03"]
    out = cli(2, "restore", image, "--with", str(run), "--tile", "0", *few)
    assert "a.png is 600x600" in out and "more than --memory 0.03. Set a smaller --tile, or" in out
    cli(0, "restore", image, "--with", str(run), "--tile", "128", *few)
    out = cli(2, "restore", image, "--with", "deep-image-prior", "--memory", "2", "--overwrite")
    assert "it needs 3" in out and out.count("\n") <= 1
    sharp = ["--with", "lanczos3", "--scale", "1.2345", "--overwrite"]  # goes whole
    out = cli(2, "restore", image, *sharp, "--memory", "0.022")
    assert "more than --memory" in out and "--tile" not in out, "which would not help"


def test_mistakes_in_settings_give_one_sentence(run, tmp_path, cli):
    image = str(save(tmp_path / "a.png", smooth(40, 40)))
    save(tmp_path / "small.png", smooth(8, 8, 1))
    for args, words in [
        (["--with", "nothing"], "There is no run folder or file nothing"),
        (["--with", str(tmp_path)], "is no run: it has no config.json"),
        (["--with", image], "is no weights file"),
        (["--with", str(run), "--scale", "2"], "does not enlarge: leave out --scale"),
        (["--with", "bicubic", "--scale", "0.5"], "--scale must be from 1 to 16"),
        (["--with", "bicubic", "--scale", "0"], "--scale must be from 1 to 16, not 0"),
        (["--with", "bicubic", "--memory", "-1"], "--memory must be above 0"),
        (["--with", "bicubic", "--out", image, "--overwrite"], "would be replaced by its own output"),
        (["--with", "bicubic", "--sigma", "5"], "takes no --sigma"),
        (["--with", "deep-image-prior", "--sigma", "inf"], "--sigma must be a finite number, not inf"),
        (["--with", "bicubic", "--mask", str(tmp_path / "small.png")], "takes no --mask"),
        (["--with", "bicubic", "--tile", "16"], "--tile 16 must be at least 32"),
        (["--with", "bicubic", "--out", str(tmp_path / "x.txt")], "--out must end in .png, .jpg"),
        (["--with", "bicubic", "--degrade", "--original", image], "leave out --original"),
        (["--with", "bicubic", "--original", str(tmp_path)], "must be a file for one image"),
        (["--with", "bicubic", "--original", str(tmp_path / "none.png")], "there is no image or folder"),
        (
            ["--with", "bicubic", "--scale", "1", "--original", str(tmp_path / "small.png")],
            "8x8, but the output for",
        ),
        (["--with", "bicubic", "--preset", "dncnn"], "--preset is for a file of weights"),
    ]:
        out = cli(2, "restore", image, *args)
        assert words in out and "Traceback" not in out, out


def test_nothing_is_replaced_that_was_there(run, tmp_path, cli):
    folder = tmp_path / "in"
    folder.mkdir()
    save(folder / "a.png", smooth(20, 20))
    made = tmp_path / "in-restored"
    made.mkdir()
    (made / "a-sheet.png").write_text("mine")
    out = cli(0, "restore", str(folder), "--with", str(run), "--sheet")
    assert "existed already and were kept" in out and (made / "a-sheet.png").read_text() == "mine"
    sheet = str(save(folder / "b-sheet.png", smooth(20, 20)))
    for image, to in ((str(folder), folder), (sheet, folder / "b.png")):
        out = cli(2, "restore", image, "--with", "bicubic", "--sheet", "--out", str(to), "--overwrite")
        assert "would be replaced by its own output" in out


def test_outputs_that_cant_be_written_give_one_sentence(tmp_path, cli):
    image = save(tmp_path / "a.png", smooth(40, 4500, 1))
    (tmp_path / "file").write_text("")
    out = cli(2, "restore", str(image), "--with", "nearest", "--out", str(tmp_path / "file" / "x.png"))
    assert "is a file, not a folder: x.png can't be written into it" in out
    out = cli(2, "restore", str(image), "--with", "nearest", "--scale", "4", "--out", str(tmp_path / "x.webp"))
    assert "x.webp can't be written" in out and not list(tmp_path.glob("*.part"))


def test_damage_that_makes_small_keeps_alpha_and_odd_sizes(tmp_path, cli):
    for name, shape, scale in (("a", (31, 33, 4), "2"), ("b", (101, 101, 3), "1.5")):
        image = save(tmp_path / f"{name}.png", smooth(*shape))
        cli(0, "restore", str(image), "--with", "bicubic", "--scale", scale, "--degrade")
        assert pixels_of(tmp_path / f"{name}-restored.png").shape[2] == shape[2]


def test_training_that_can_teach_nothing_is_refused(tmp_path):
    for changes, words in (
        (["--model.degradation.noise", "0", "0"], "No degradation is set"),
        (["--model.image", "16", "24", "1"], "data.turn needs square images"),
    ):
        parsed = parse("restoration", ["--preset", "dncnn", "--tiny", "--out", str(tmp_path / "run"), *changes])
        with pytest.raises(InputError, match=words):
            loop.fit(parsed.run)
        assert not (tmp_path / "run").exists()


def test_a_mask_of_another_size_or_all_black(tmp_path):
    photo = read(save(tmp_path / "a.png", smooth(20, 20)))
    save(tmp_path / "small.png", np.full((8, 8, 1), 255, np.uint8))
    with pytest.raises(InputError, match=r"8x8, .*a\.png is 20x20: they must have the same size"):
        restore.read_mask(tmp_path / "small.png", tmp_path / "a.png", photo)
    save(tmp_path / "white.png", np.full((20, 20, 1), 255, np.uint8))
    with pytest.raises(InputError, match="all white"):
        restore.read_mask(tmp_path / "white.png", tmp_path / "a.png", photo)
    save(tmp_path / "black.png", np.zeros((20, 20, 1), np.uint8))
    with pytest.raises(InputError, match="all black"):
        restore.read_mask(tmp_path / "black.png", tmp_path / "a.png", photo)


def test_damaging_first_is_what_training_does(run, tmp_path, cli):
    clean = smooth(40, 40, 1)
    image = save(tmp_path / "a.png", clean)
    out = cli(0, "restore", str(image), "--with", str(run), "--degrade")
    value = float(out.split("psnr_y ")[1].split(",")[0])
    assert 10 < value < 40
    x = clean.astype(np.float32)[None] / 127.5 - 1
    small = imresize(jax.numpy.asarray(x), 0.5)
    assert small.shape == (1, 20, 20, 1)
