"""Commands replace no existing file without --overwrite: jaxgen/media/output_files.py."""

import errno
import os
from dataclasses import replace

import pytest
from PIL import Image

from jaxgen import zoo
from jaxgen.core.errors import InputError
from jaxgen.media import output_files
from jaxgen.runs.config_io import to_json

COMMANDS = {  # command: (its arguments, the files that it writes)
    "generate": ([], ["grid.png"]),
    "generate --out x.npz": ([], ["x.npz", "x.png"]),
    "interpolate": ([], ["walk.gif"]),
    "mix": ([], ["mix.png"]),
    "project": (["image.png"], ["projected.png", "projected.npz"]),
    "directions": ([], ["directions.png", "directions.npz"]),
    "traverse": ([], ["traversal.png"]),
    "reconstruct": ([], ["reconstructions.png"]),
    "map": ([], ["map.png"]),
    "arithmetic": (["--start", "label:1", "--minus", "label:2", "--plus", "label:3"], ["arithmetic.png"]),
    "score": (["digits"], ["scores.csv", "scores.png"]),
    "inpaint": (["image.png", "--mask", "image.png"], ["inpainted.png"]),
    "upscale": (["image.png"], ["upscaled.png"]),
    "edit": (["image.png"], ["edited.png"]),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_existing_files_are_kept_and_reported_before_any_work(command, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (8, 8)).save("image.png")
    verb, *more = command.split()
    given, made = COMMANDS[command]
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text(to_json(replace(zoo.load("dcgan").tiny, preset="dcgan")))
    for name in made:
        (tmp_path / name).write_text("mine")
        assert "There is no run folder nowhere" in cli(2, verb, "nowhere", *given, *more)
        printed = cli(2, verb, "run", *given, *more)
        assert f"{name} exists already: name another file with --out, or add --overwrite." in printed
        assert (tmp_path / name).read_text() == "mine"
        assert "exists already" not in cli(2, verb, "run", *given, *more, "--overwrite")
        (tmp_path / name).unlink()
    assert "exists already" not in cli(2, verb, "run", *given, *more)
    if "image.png" in given:
        printed = cli(2, verb, "run", *given, "--out", "image.png", "--overwrite")
        assert "image.png would be replaced by its own output" in printed


def test_output_names_that_are_refused(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    bad = {
        tmp_path / "x.txt": "--out must end in .png or .npz, not 'x.txt'.",
        tmp_path / "folder.png": "folder.png is a folder: name a file.",
        tmp_path / "file" / "deep" / "x.png": "file is a file, not a folder: x.png can't be written into it.",
    }
    for path, words in bad.items():
        with pytest.raises(InputError, match=words):
            output_files.check(path, (".png", ".npz"), True)
    output_files.check(tmp_path / "new" / "folder" / "x.PNG", (".png",), False)
    assert not (tmp_path / "new").exists()


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "x.png"
    with output_files.whole(path) as part:
        part.write_text("first")
        assert not path.exists()
    with (
        pytest.raises(InputError, match=r"x\.png can't be written: No space left on device"),
        output_files.whole(path) as part,
    ):
        part.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(KeyboardInterrupt), output_files.whole(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "first" and os.listdir(path.parent) == ["x.png"]
    with pytest.raises(InputError, match=r"y\.png can't be written"), output_files.whole(path / "y.png"):
        raise AssertionError("there is no such folder")
