"""The claim to a run's folder in an object store, which knows no locks: an object that is renewed while a run goes on.

Only one of several processes can create it. One that finds it there watches it: what changes is of a run that goes on,
and what stays as it is for `STALE` seconds is of one that was killed. Clocks of two machines are never compared.
"""

import json
import os
import secrets
import socket
import sys
import threading
import time
from pathlib import Path

from jaxgen.core import paths
from jaxgen.core.errors import InputError

RENEW, STALE = 10.0, 45.0  # seconds; a machine that is busy renews late


class Lease:
    """The claim of this process to a folder, as a context. Raises InputError where another one has it."""

    def __init__(self, folder: Path, renew: float = RENEW, stale: float = STALE):
        self.folder, self.place, self.renew, self.stale = folder, folder / "lock", renew, stale
        self.owner, self.count, self.other = secrets.token_hex(8), 0, ""
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> "Lease":
        if not self._created():
            self._wait()
            self.place.unlink(missing_ok=True)
            if not self._created():
                raise InputError(_taken(self.folder, self._content()))
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        if not self.other:
            self.place.unlink(missing_ok=True)

    def check(self):
        """Raise InputError where another process has taken the folder, as after a pause longer than `stale`."""
        if self.other:
            raise InputError(f"{self._name()} lost {self.folder}: {self.other}")

    def _created(self) -> bool:
        try:
            paths.create(self.place, self._text())
        except FileExistsError:
            return False
        return True

    def _wait(self):
        """Return when the object is of a process that has ended. Raises InputError where one goes on."""
        first, end = self._content(), time.monotonic() + self.stale
        if ended_here(first):
            return
        print(f"{self.folder} has the lock of another process: watching it for {self.stale:g} s.", file=sys.stderr)
        while time.monotonic() < end:
            time.sleep(min(1.0, self.stale / 10))
            if (now := self._content()) != first:
                if now is None:
                    return
                raise InputError(_taken(self.folder, now))

    def _renew(self):
        while not self.ended.wait(self.renew):
            try:
                if owner_of(now := self._content()) != self.owner:
                    self.other = _taken(self.folder, now)
                    return
                self.count += 1
                self.place.write_bytes(self._text())
            except Exception as error:  # tried again in a moment: the store's library has given up on this one
                print(
                    f"The lock of {self.folder} could not be renewed ({paths.fault(error) or error}).", file=sys.stderr
                )

    def _content(self) -> bytes | None:
        try:
            return self.place.read_bytes()
        except FileNotFoundError:
            return None

    def _text(self) -> bytes:
        about = {"owner": self.owner, "renewed": self.count, "host": socket.gethostname(), "pid": os.getpid()}
        return json.dumps(about | {"boot": boot()}).encode()

    def _name(self) -> str:
        return f"This process ({socket.gethostname()}, {os.getpid()})"


def owner_of(content: bytes | None) -> str:
    """Return the owner that a lock names; "" where it names none."""
    return str(_read(content).get("owner", ""))


def ended_here(content: bytes | None) -> bool:
    """Return whether a lock is of a process of this machine, since it was started, that is no more."""
    about = _read(content)
    if content is None or about.get("boot") != boot() or not boot() or about.get("host") != socket.gethostname():
        return content is None
    return not Path(f"/proc/{about.get('pid')}").exists()


def boot() -> str:
    """Return what distinguishes this start of this machine from all others; "" where that is unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _read(content: bytes | None) -> dict:
    try:
        found = json.loads(content or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _taken(folder: Path, content: bytes | None) -> str:
    about = _read(content)
    where = f" ({about['host']}, process {about['pid']})" if {"host", "pid"} <= about.keys() else ""
    return f"{folder} is being trained in by another process{where}: wait for it, or stop it."
