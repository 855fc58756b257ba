"""Commands replace no existing file without --overwrite: jaxgen/media/output_files.py."""

import errno
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxgen import zoo
from jaxgen.core.errors import InputError
from jaxgen.interop.write import write_safetensors, write_torch
from jaxgen.media import output_files
from jaxgen.media.image_grid import save_npz, save_png
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
        assert re.search("There is no run folder (or file )?nowhere", cli(2, verb, "nowhere", *given, *more))
        printed = cli(2, verb, "run", *given, *more)
        assert f"{name} exists already: name another file with --out, or add --overwrite." in printed
        assert (tmp_path / name).read_text() == "mine"
        assert "exists already" not in cli(2, verb, "run", *given, *more, "--overwrite")
        (tmp_path / name).unlink()
    assert "exists already" not in cli(2, verb, "run", *given, *more)
    if "image.png" in given:
        printed = cli(2, verb, "run", *given, "--out", "image.png", "--overwrite")
        assert "image.png would be replaced by its own output" in printed


def test_output_names_that_are_refused(tmp_path, monkeypatch):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    bad = {
        tmp_path / "x.txt": "--out must end in .png or .npz, not 'x.txt'.",
        tmp_path / "folder.png": "folder.png is a folder: name a file.",
        tmp_path / "file" / "deep" / "x.png": "file is a file, not a folder: x.png can't be written into it.",
        tmp_path / f"{'n' * 300}.png": r"n\.png can't be written: File name too long\.",
        tmp_path / ("n" * 300) / "x.png": r"x\.png can't be written: File name too long\.",
        Path(""): "--out must end in .png or .npz, not ''.",
    }
    for path, words in bad.items():
        with pytest.raises(InputError, match=words):
            output_files.check(path, (".png", ".npz"), True)
    with monkeypatch.context() as patch:  # root writes everywhere
        patch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
        with pytest.raises(InputError, match=f"x.png can't be written: {tmp_path} is read-only."):
            output_files.check(tmp_path / "new" / "x.png", (".png",), True)
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


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path):
    path = tmp_path / ("ä" * 125 + ".png")  # 254 bytes
    with output_files.whole(path) as part:
        part.write_text("whole")
    assert os.listdir(tmp_path) == [path.name]


def test_two_processes_write_one_file_each_under_a_name_of_its_own(tmp_path):
    path = tmp_path / "x.png"
    with output_files.whole(path) as one:
        one.write_text("one")
        with output_files.whole(path) as other:
            other.write_text("other")
        assert path.read_text() == "other" and one != other
    assert path.read_text() == "one" and os.listdir(tmp_path) == ["x.png"]


def test_the_cleaning_up_does_not_hide_the_error(tmp_path, monkeypatch):
    def refuse(*args, **more):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("open", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    with (
        pytest.raises(InputError, match=r"x\.png can't be written: Read-only file system\."),
        output_files.whole(tmp_path / "x.png"),
    ):
        raise AssertionError("there is no such file")


def test_files_are_written_with_the_umask_of_the_user(tmp_path):
    arrays = {"x": np.zeros((2, 2), np.float32)}
    made = {
        "a.png": lambda path: save_png(path, np.zeros((2, 2), np.uint8), None),
        "a.npz": lambda path: save_npz(path, None, **arrays),
        "a.safetensors": lambda path: write_safetensors(path, arrays),
        "a.pth": lambda path: write_torch(path, arrays),
    }
    for mask in (0o022, 0o027, 0o002):
        before = os.umask(mask)
        try:
            for name, write in made.items():
                (tmp_path / name).unlink(missing_ok=True)
                write(tmp_path / name)
                assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~mask, name
        finally:
            os.umask(before)


def test_files_of_one_answer_appear_together_and_the_first_last(tmp_path, monkeypatch):
    main, beside = tmp_path / "main.png", tmp_path / "beside.png"

    def write():
        for path in (main, beside):
            with output_files.whole(path) as part:
                part.write_text("new")

    with pytest.raises(KeyboardInterrupt), output_files.together():
        write()
        assert not main.exists() and not beside.exists()
        raise KeyboardInterrupt
    assert not os.listdir(tmp_path)
    renamed, rename = [], Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, to: (renamed.append(to), rename(path, to)))
    with output_files.together():
        write()
    assert renamed == [beside, main] and sorted(os.listdir(tmp_path)) == ["beside.png", "main.png"]
    write()  # afterwards files are alone again
    assert renamed[2:] == [main, beside]
    main.unlink()
    main.mkdir()
    with pytest.raises(InputError, match=r"main\.png can't be written: Is a directory\."), output_files.together():
        write()
    assert sorted(os.listdir(tmp_path)) == ["beside.png", "main.png"]


@pytest.mark.parametrize("command", [("restore", "{}", "--with", "nearest"), ("generate", "{}"), ("score", "{}", "{}")])
def test_names_of_inputs_that_are_too_long(command, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "n" * 300
    assert f"{name} can't be opened: File name too long." in cli(2, *(word.format(name) for word in command))
