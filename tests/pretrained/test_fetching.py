"""Published files: fetched once, checked, kept whole or not at all; what a user reads where they can't be had."""

import hashlib
import re
import threading
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from jaxgen.core.errors import InputError
from jaxgen.pretrained import fetching
from jaxgen.pretrained.fetching import File, fetched
from tests.helpers.file_server import Server, serving

CONTENT = np.random.default_rng(0).bytes(700_000)  # more than one block
OTHER = np.random.default_rng(1).bytes(700_000)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE", 0.0)
    monkeypatch.delenv("JAXGEN_OFFLINE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as found:
        yield found


def file_at(server: Server, path: str = "w.pth", content: bytes = CONTENT) -> File:
    return File("w.pth", sha256(content), len(content), server.address + path)


def wrong(files: list[File], folder: Path) -> str:
    """Return the error's text."""
    with pytest.raises(InputError) as caught:
        fetched(files, folder, "The weights w")
    return str(caught.value)


def test_a_file_is_fetched_once_and_checked_each_time(server, tmp_path):
    server.answers["/w.pth"] = [CONTENT]
    said: list[str] = []
    for _ in range(2):
        [path] = fetched([file_at(server)], tmp_path / "new" / "w", "The weights w", lambda: said.append("once"))
        assert path.read_bytes() == CONTENT
    assert server.asked == ["/w.pth"] and said == ["once"]
    assert [found.name for found in path.parent.iterdir()] == ["w.pth"]
    path.write_bytes(OTHER)  # by the user, or by a failing disk
    assert f"{path} is not the published file: its SHA-256 is {sha256(OTHER)}, not {sha256(CONTENT)}" in wrong(
        [file_at(server)], path.parent
    )
    path.write_bytes(CONTENT[:-1])
    assert "it has 699,999 bytes, not 700,000; delete it, and it is fetched again" in wrong(
        [file_at(server)], path.parent
    )
    assert path.read_bytes() == CONTENT[:-1] and server.asked == ["/w.pth"], "a user's file is never replaced"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (OTHER, f"its SHA-256 is {sha256(OTHER)}, not {sha256(CONTENT)}"),
        (CONTENT[:-1], "it has 699,999 bytes, not 700,000"),
        (CONTENT + b"x", "the server gives more than the 700,000 bytes of the published file"),
        (404, "the server answers 404 Not Found"),
    ],
)
def test_nothing_but_the_published_file_is_kept(server, tmp_path, answer, reason):
    server.answers["/w.pth"] = [answer]
    assert reason in wrong([file_at(server)], tmp_path)
    assert list(tmp_path.iterdir()) == [] and server.asked == ["/w.pth"], "another try would give the same"


def test_failures_that_pass_are_tried_again(server, tmp_path):
    server.answers["/w.pth"] = [503, (CONTENT[:300_000], len(CONTENT)), CONTENT]
    assert fetched([file_at(server)], tmp_path, "The weights w")[0].read_bytes() == CONTENT
    server.asked.clear()
    server.answers["/never.pth"] = [503]
    assert "the server answers 503" in wrong([file_at(server, "never.pth")], tmp_path / "b")
    assert len(server.asked) == fetching.TRIES
    server.answers["/never.pth"] = [(CONTENT[:300_000], len(CONTENT))]
    assert "the connection broke off after 300,000 of 700,000 bytes" in wrong(
        [file_at(server, "never.pth")], tmp_path / "c"
    )


def test_redirects_lead_to_https_or_to_this_machine(server, tmp_path):
    server.answers |= {"/here": [f"{server.address}w.pth"], "/w.pth": [CONTENT]}
    assert fetched([file_at(server, "here")], tmp_path, "The weights w")[0].read_bytes() == CONTENT
    for away in ("http://example.invalid/w.pth", "ftp://127.0.0.1/w.pth", "file:///etc/passwd"):
        server.answers["/away"] = [away]
        text = wrong([file_at(server, "away")], tmp_path / "b")
        assert away in text and re.search("which is not https|not allowed", text)
    with pytest.raises(fetching.Unreachable, match="which is not https"):
        fetching.check_address(f"{server.address}w.pth", "https://example.invalid/w.pth")
    with pytest.raises(fetching.Unreachable, match="which is not https"):
        fetching.download("http://example.invalid/w.pth", 1)


def test_offline_it_says_what_to_put_where(server, tmp_path, monkeypatch):
    two = [File("a.param", sha256(b"a"), 1, "https://example.invalid/a"), file_at(server)]
    monkeypatch.setenv("JAXGEN_OFFLINE", "1")
    text = wrong(two, tmp_path)
    assert text.startswith("The weights w can't be fetched (JAXGEN_OFFLINE is set): get https://example.invalid/a ")
    for file in two:
        assert f"get {file.address} (SHA-256 {file.sha256}), and put it at {tmp_path / file.name}" in text
    (tmp_path / "a.param").write_bytes(b"a")
    assert "example.invalid" not in (text := wrong(two, tmp_path)) and "w.pth" in text
    (tmp_path / "w.pth").write_bytes(CONTENT)
    assert fetched(two, tmp_path, "The weights w") == [tmp_path / "a.param", tmp_path / "w.pth"]
    assert server.asked == []


def test_no_server_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as server:
        pass
    assert re.search(r"can't be fetched \(.*refused\): get http://127.0.0.1", wrong([file_at(server)], tmp_path))


def test_files_of_a_folder_are_kept_as_one_zip(server, tmp_path, monkeypatch):
    parts = {"manifest.json": b"{}", "Variable": CONTENT, "Variable_1": b""}
    whole = b"".join(parts.values())
    file = File("style.zip", sha256(whole), len(whole), f"{server.address}wave/", tuple(parts))
    server.answers |= {f"/wave/{name}": [content] for name, content in parts.items()}
    [path] = fetched([file], tmp_path / "a", "The weights w")
    with zipfile.ZipFile(path) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == parts
    assert server.asked == [f"/wave/{name}" for name in parts]
    monkeypatch.setenv("JAXGEN_OFFLINE", "1")
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path))
    said = wrong([file], tmp_path / "b")
    assert (
        f"on a machine with network, which fetches 3 files of {file.address} and keeps them as b/style.zip in" in said
    )
    assert said.endswith(f"; copy this to {tmp_path / 'b' / 'style.zip'}.")
    (tmp_path / "b").mkdir()

    def put(members: dict[str, bytes]):
        with zipfile.ZipFile(tmp_path / "b" / "style.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    put({name: parts[name] for name in sorted(parts)})
    assert fetched([file], tmp_path / "b", "The weights w") == [tmp_path / "b" / "style.zip"]
    put({**parts, "Variable": OTHER})
    assert "its SHA-256 is" in wrong([file], tmp_path / "b")
    for members in ({**parts, "more": b""}, {"manifest.json": b"{}"}, {**parts, "Variable_1": b"x"}):
        put(members)
        assert "it is no zip of the 3 files" in wrong([file], tmp_path / "b")
    (tmp_path / "b" / "style.zip").write_bytes(b"<html>")
    assert "it can't be read" in wrong([file], tmp_path / "b")


def test_ctrl_c_leaves_nothing_broken(server, tmp_path, monkeypatch):
    def pressed(done: float):
        raise KeyboardInterrupt

    @contextmanager
    def progress(text, total):
        assert (text, total) == ("fetching w.pth", len(CONTENT))
        yield pressed

    server.answers["/w.pth"] = [CONTENT]
    with monkeypatch.context() as patch:
        patch.setattr(fetching, "progress", progress)
        with pytest.raises(KeyboardInterrupt):
            fetched([file_at(server)], tmp_path, "The weights w")
    assert list(tmp_path.iterdir()) == []
    assert fetched([file_at(server)], tmp_path, "The weights w")[0].read_bytes() == CONTENT


def test_two_at_once(server, tmp_path):
    server.answers["/w.pth"] = [CONTENT]
    begin, found = threading.Barrier(2), []

    def work():
        begin.wait()
        found.append(fetched([file_at(server)], tmp_path, "The weights w"))

    workers = [threading.Thread(target=work) for _ in range(2)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    assert found == [[tmp_path / "w.pth"]] * 2
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [CONTENT]
