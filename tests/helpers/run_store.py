"""Tiny trained runs that the test files and the workers of one session share."""

import fcntl
import shutil
from hashlib import sha256
from pathlib import Path


class RunStore:
    """Runs in a folder; each is trained once, under a lock, by the first process that asks for it."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def __call__(self, to: Path, family: str, preset: str, *settings: str) -> Path:
        """Return `to`, a copy of the finished tiny run of a preset, on one device, without grids of samples."""
        from jaxgen.commands.parse import parse
        from jaxgen.training.loop import fit

        options = ["--preset", preset, "--tiny", "--mesh.data", "1", "--log.samples", "0", *settings]
        run = self.folder / sha256(" ".join([family, *options]).encode()).hexdigest()[:16]
        with run.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (done := run.with_suffix(".done")).exists():
                shutil.rmtree(run, ignore_errors=True)
                fit(parse(family, [*options, "--out", str(run)]).run)
                done.touch()
        shutil.copytree(run, to)
        return to
