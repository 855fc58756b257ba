"""Paths in stores, by fsspec's store in memory; a real server is in tests/runs/test_object_stores.py."""

import secrets
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxgen import data
from jaxgen.core import paths, whole_file
from jaxgen.core.config import Data
from jaxgen.core.errors import InputError
from jaxgen.media import output_files


@pytest.fixture
def folder():
    place = paths.path(f"memory://{secrets.token_hex(4)}/run")
    yield place
    paths.delete(place.parent, ignore_errors=True)


def test_a_path_of_this_machine_stays_one(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert paths.path("runs/x") == Path("runs/x") and paths.path("~/x") == Path("/home/me/x")
    assert not paths.remote(tmp_path) and paths.is_path(tmp_path) and not paths.is_path(b"x")
    with paths.local(tmp_path) as here:
        assert here is tmp_path


@pytest.mark.parametrize(
    ("name", "said"),
    [("nonsense://x/y", "no address of a known kind"), ("adl://x/y", "library for adl:// that is not installed")],
)
def test_an_unknown_kind_of_store_is_refused(name, said):
    with pytest.raises(InputError, match=said):
        paths.path(name)


def test_files_are_written_whole_and_several_together(folder):
    with output_files.whole(folder / "a.txt") as part:
        part.write_text("one")
        assert not (folder / "a.txt").exists() and part.is_file()
    assert (folder / "a.txt").read_text() == "one" and not part.exists()
    with pytest.raises(InputError, match=r"exists already.*--overwrite"):
        output_files.check(folder / "a.txt", (".txt",), False)
    with pytest.raises(KeyError), whole_file.together():
        with whole_file.replacing(folder / "b.txt") as part:
            part.write_text("two")
        raise KeyError
    assert not (folder / "b.txt").exists() and not part.exists()


def test_only_one_writer_creates_an_object_and_folders_move_and_go(folder):
    paths.create(folder / "lock", b"mine")
    with pytest.raises(FileExistsError):
        paths.create(folder / "lock", b"yours")
    (folder / "5" / "state").mkdir(parents=True)
    (folder / "5" / "state" / "x").write_bytes(b"12")
    paths.move(folder / "5", folder / "5.damaged")
    assert not (folder / "5").exists() and (folder / "5.damaged/state/x").read_bytes() == b"12"
    assert {name: size for name, (size, _) in paths.stamps(folder).items()} == {"lock": 4, "5.damaged/state/x": 2}
    paths.delete(folder / "5.damaged")
    assert [path.name for path in folder.iterdir()] == ["lock"]


def test_a_path_given_to_a_command_keeps_its_address(cli):
    said = cli(2, "report", "memory://nowhere/run")
    assert "There is no run folder memory://nowhere/run" in said


def test_images_are_read_there_and_other_data_are_fetched_again_when_they_change(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / "cache"))
    for name in ("a/1.png", "b/1.png", "b/.hidden.png", "b/notes.txt"):
        with output_files.whole(folder / "images" / name) as part:
            Image.new("RGB", (4, 4), "red").save(part, format="PNG")
    source = data.open_source(Data(source=f"folder:{folder}/images"), (4, 4, 3))
    assert (len(source), source.classes) == (2, ("a", "b"))
    assert source[0]["image"].shape == (4, 4, 3)
    for count in (3, 5):
        with output_files.whole(folder / "d.npz") as part, part.open("wb") as file:
            np.savez(file, image=np.zeros((count, 4, 4, 3), np.uint8))
        assert len(data.open_source(Data(source=f"npz:{folder}/d.npz"), (4, 4, 3))) == count


def test_only_errors_of_a_stores_library_are_said_to_be_the_stores():
    from botocore.exceptions import EndpointConnectionError, NoCredentialsError
    from google.protobuf.message import DecodeError

    assert "no credentials were found" in (paths.fault(NoCredentialsError()) or "")
    silent = OSError("put failed")
    silent.__cause__ = EndpointConnectionError(endpoint_url="http://x")
    assert "does not answer: Could not connect" in (paths.fault(silent) or "")
    assert paths.fault(DecodeError("bad")) is None and paths.fault(OSError("disk")) is None
