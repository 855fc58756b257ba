"""A run's small files, where the run lies in an object store: written on this machine, and copied there as they grow.

Stores can't append to an object. Metrics, TensorBoard's records, samples and plots are therefore files of a temporary
folder, of which whatever has changed is sent every few seconds, before a checkpoint is sealed, and at the end.
"""

import sys
import tempfile
import threading
from pathlib import Path

from jaxgen.core import paths

PERIOD = 20.0  # seconds
FETCHED = "config.json", "environment.json", "data.json", "metrics.jsonl"  # what a run that goes on writes on in


class Mirror:
    """The small files of the run in `folder`, as a context: they lie in `files` meanwhile."""

    def __init__(self, folder: Path, period: float = PERIOD):
        self.folder, self.period = folder, period
        self.temporary = tempfile.TemporaryDirectory(prefix="jaxgen-run-")
        self.files = Path(self.temporary.name)
        self.sent: dict[Path, tuple[int, int]] = {}
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self._send_often, daemon=True)

    def __enter__(self) -> "Mirror":
        for name in FETCHED:
            if (place := self.folder / name).is_file():
                (self.files / name).write_bytes(place.read_bytes())
                self.sent[self.files / name] = stamp(self.files / name)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        try:
            self.send()
        finally:
            self.temporary.cleanup()

    def send(self):
        """Copy all files that have changed since they were last sent. Raises OSError and the store's own errors."""
        with self.lock:
            for file in sorted(self.files.rglob("*")):
                if file.suffix == ".part" or not file.is_file() or self.sent.get(file) == (now := stamp(file)):
                    continue
                paths.send(file, self.folder / file.relative_to(self.files).as_posix())
                self.sent[file] = now

    def _send_often(self):
        while not self.ended.wait(self.period):
            try:
                self.send()
            except Exception as error:  # the next time, or the checkpoint's, which does not pass it over
                print(f"Files of {self.folder} could not be sent ({paths.fault(error) or error}).", file=sys.stderr)


def stamp(file: Path) -> tuple[int, int]:
    """Return what changes where a file does."""
    found = file.stat()
    return found.st_size, found.st_mtime_ns
