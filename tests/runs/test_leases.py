"""The claim to a folder in a store, and the small files that are sent to it; by fsspec's store in memory."""

import json
import secrets
import time

import pytest

from jaxgen.core import paths
from jaxgen.core.errors import InputError
from jaxgen.runs import lease, seals
from jaxgen.runs.lease import Lease
from jaxgen.runs.mirror import Mirror


@pytest.fixture
def folder():
    place = paths.path(f"memory://{secrets.token_hex(4)}/run")
    yield place
    paths.delete(place.parent, ignore_errors=True)


def test_a_folder_in_use_is_refused_and_a_dead_ones_is_taken(folder, capsys):
    with Lease(folder, renew=0.02):
        with pytest.raises(InputError, match=r"is being trained in by another process \(.*, process \d+\)"):
            Lease(folder, stale=5).__enter__()
        assert "watching it for 5 s" in capsys.readouterr().err
    assert not (folder / "lock").exists()
    (folder / "lock").write_text('{"owner": "gone", "host": "elsewhere", "pid": 1}')
    began = time.monotonic()
    with Lease(folder, stale=0.2) as one:
        assert time.monotonic() - began >= 0.2
        one.check()


def test_a_killed_process_of_this_machine_holds_nobody_up(folder, monkeypatch):
    with Lease(folder, renew=60):
        about = json.loads((folder / "lock").read_bytes())
    assert not lease.ended_here(json.dumps(about).encode())
    dead = json.dumps({**about, "pid": 2**30}).encode()
    assert lease.ended_here(dead)
    monkeypatch.setattr(lease, "boot", lambda: "another start")
    assert not lease.ended_here(dead)


def test_one_that_lost_its_folder_saves_no_more(folder):
    with Lease(folder, renew=0.02) as one:
        (folder / "lock").write_text('{"owner": "another"}')
        one.thread.join(timeout=5)
        with pytest.raises(InputError, match=r"lost .* is being trained in by another process"):
            one.check()
    assert (folder / "lock").exists(), "the other's"


def test_small_files_are_fetched_and_sent_as_they_change(folder):
    (folder / "metrics.jsonl").write_text("1\n")
    with Mirror(folder, period=0.02) as mirror:
        assert (mirror.files / "metrics.jsonl").read_text() == "1\n"
        with (mirror.files / "metrics.jsonl").open("a") as file:
            file.write("2\n")
        (mirror.files / "samples").mkdir()
        (mirror.files / "samples" / "1.png").write_bytes(b"png")
        (mirror.files / ".x.part").write_bytes(b"half")
        end = time.monotonic() + 5
        while time.monotonic() < end and not (folder / "samples" / "1.png").exists():
            time.sleep(0.01)
        assert (folder / "metrics.jsonl").read_text() == "1\n2\n"
        (mirror.files / "losses.png").write_bytes(b"plot")
    assert sorted(paths.stamps(folder)) == ["losses.png", "metrics.jsonl", "samples/1.png"]
    assert not mirror.files.exists()


def test_seals_hold_in_a_store(folder):
    for step in (2, 4, 6):
        (folder / str(step) / "state").mkdir(parents=True)
        (folder / str(step) / "state" / "x").write_bytes(b"%d" % step)
        seals.seal(folder, step)
    assert seals.newest_whole(folder) == (6, {}) and len(seals.digest(folder, 6)) == 64
    (folder / "6" / "state" / "x").write_bytes(b"7")
    assert seals.set_aside_damaged(folder) == {6: "6/state/x is not as it was written"}
    assert seals.sealed_steps(folder) == [2, 4] and (folder / "6.damaged" / "state" / "x").exists()
    assert seals.prune(folder, 1) == [] and seals.sealed_steps(folder) == [4]
