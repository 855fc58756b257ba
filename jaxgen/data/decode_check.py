"""Check that images decode: once, in a thread pool; results are stored in the user's cache folder."""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import PIL
from PIL import Image

from jaxgen.core import paths
from jaxgen.core.cache import cache_folder
from jaxgen.core.progress import progress
from jaxgen.data import image_files
from jaxgen.data.image_decoding import decode
from jaxgen.data.image_files import reason
from jaxgen.data.image_folders import Stamp

CHUNK = 64  # files per task
PROGRESS_DELAY = 2.0  # seconds before a progress bar appears


def find_undecodable(root: Path, stamps: dict[str, Stamp], read: Callable[[str], bytes]) -> dict[str, str]:
    """Return {name: error} of the files that do not decode; `stamps` lists all files, in order.

    Of animations and of files with several pages the first is decoded, which is printed.
    """
    store = _store(root)
    known = _load(store)
    todo = [name for name, stamp in stamps.items() if name not in known or known[name][0] != stamp]
    bad = {}
    if todo:
        try:
            for name, wrong, lasting, several in _decode_all(root, todo, read):
                if wrong:
                    bad[name] = wrong
                if lasting:
                    known[name] = (stamps[name], wrong, several)
        finally:  # an interrupted check resumes from here
            _save(store, known)
    bad |= {name: known[name][1] for name in stamps if name in known and known[name][1]}
    if moving := [name for name in stamps if name in known and known[name][2]]:
        has = f"{len(moving)} of {len(stamps)} images in {root}"
        print(f"{has} have several frames or pages: the first is used (such as {moving[0]}).", file=sys.stderr)
    return {name: bad[name] for name in stamps if name in bad}


def _decode_all(root: Path, names: list[str], read: Callable[[str], bytes]) -> Iterator[tuple[str, str, bool, bool]]:
    """Yield (name, error or "", whether this is permanent, unlike a missing permission, whether it has more frames)."""

    def check(chunk: list[str]) -> list[tuple[str, str, bool, bool]]:
        found = []
        for name in chunk:
            try:
                data = read(name)
                decode(data)
                found.append((name, "", True, image_files.is_animated(data)))
            except Exception as error:  # Pillow raises many types on damaged data
                found.append((name, reason(error), getattr(error, "errno", None) is None, False))
        return found

    text, checked = f"checking the images in {root.name}", 0
    with (
        ThreadPoolExecutor((os.cpu_count() or 1) + 2, "jaxgen-check") as pool,
        progress(text, len(names), PROGRESS_DELAY) as show,
    ):
        pending = {pool.submit(check, names[i : i + CHUNK]) for i in range(0, len(names), CHUNK)}
        try:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for task in done:
                    yield from task.result()
                    checked += len(task.result())
                    show(checked)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C does not wait for a million files


def _store(root: Path) -> Path:
    name = hashlib.sha256(os.fsencode(paths.absolute(root) if paths.remote(root) else root.resolve())).hexdigest()[:24]
    return cache_folder() / "decode_check" / f"{name}.json"


def _rules() -> list:
    """Return what a result depends on, beside the file: the first is the version of the store."""
    return [2, PIL.__version__, image_files.FORMATS, Image.MAX_IMAGE_PIXELS]


def _load(store: Path) -> dict[str, tuple[Stamp, str, bool]]:
    """Return {name: (stamp, error or "", whether it has more frames)}.

    {} if the store is missing, damaged or from other rules.
    """
    try:
        saved = json.loads(store.read_text())
        if saved["rules"] != _rules():
            return {}
        return {name: ((size, time), *rest) for name, (size, time, *rest) in saved["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _save(store: Path, known: dict[str, tuple[Stamp, str, bool]]) -> None:
    files = {name: (*stamp, *rest) for name, (stamp, *rest) in known.items()}
    part = store.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):  # without a cache folder, the next start checks again
        store.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"rules": _rules(), "files": files}))
        part.replace(store)  # atomic
