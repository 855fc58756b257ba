"""What commands write replaces nothing that is there, unless that is asked for."""

import errno
import os

import pytest
from PIL import Image

from jaxgen.core.errors import InputError
from jaxgen.media import output_files

COMMANDS = {  # its arguments, and the files of its answer
    "generate": ([], ["grid.png"]),
    "generate --out x.npz": ([], ["x.npz", "x.png"]),
    "interpolate": ([], ["walk.gif"]),
    "mix": ([], ["mix.png"]),
    "project": (["picture.png"], ["projected.png", "projected.npz"]),
    "directions": ([], ["directions.png", "directions.npz"]),
    "traverse": ([], ["traversal.png"]),
    "reconstruct": ([], ["reconstructions.png"]),
    "map": ([], ["map.png"]),
    "arithmetic": (["--start", "label:1", "--minus", "label:2", "--plus", "label:3"], ["arithmetic.png"]),
    "score": (["digits"], ["scores.csv", "scores.png"]),
    "inpaint": (["picture.png", "--mask", "picture.png"], ["inpainted.png"]),
    "upscale": (["picture.png"], ["upscaled.png"]),
    "edit": (["picture.png"], ["edited.png"]),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_there_is_kept_and_told_before_anything_else(command, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (8, 8)).save("picture.png")
    verb, *more = command.split()
    given, made = COMMANDS[command]
    for name in made:
        (tmp_path / name).write_text("mine")
        told = cli(2, verb, "nowhere", *given, *more)
        assert f"{name} exists already: name another file with --out, or add --overwrite." in told
        assert (tmp_path / name).read_text() == "mine"
        assert "There is no run folder" in cli(2, verb, "nowhere", *given, *more, "--overwrite")
        (tmp_path / name).unlink()
    assert "There is no run folder" in cli(2, verb, "nowhere", *given, *more)
    if "picture.png" in given:
        told = cli(2, verb, "nowhere", *given, "--out", "picture.png", "--overwrite")
        assert "picture.png would be replaced by its own output" in told


def test_names_that_no_answer_can_have(tmp_path):
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


def test_a_file_is_whole_or_as_it_was(tmp_path):
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
