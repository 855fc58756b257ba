"""Paths of this machine, and of object stores: s3://bucket/run, gs://bucket/run, and whatever else fsspec knows.

A path in a store has pathlib's methods (universal_pathlib), but the system can't open it: what needs a file of its own
takes `local`. Credentials, regions and endpoints are read as the stores' own tools read them (AWS_ENDPOINT_URL, ...).
"""

import logging
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, TypeGuard

from jaxgen.core.errors import InputError

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://")
# A store that does not answer is given up after these seconds and attempts: forever would look like work.
CONNECT, READ, ATTEMPTS = 10, 60, 5
LIBRARIES = ("botocore", "s3fs", "aiobotocore", "aiohttp", "gcsfs", "google.auth", "google.api_core")
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}  # the extra that brings a store's library


def path(name: str | PurePath) -> Path:
    """Return the path of a file or folder, on this machine or in a store; "~" is the user's folder.

    Raises InputError for a kind of store that isn't known, or whose library is not installed.
    """
    if not ADDRESS.match(str(name)):
        return Path(name).expanduser()
    import fsspec.config
    from upath import UPath

    _set_limits(fsspec.config.conf)
    logging.getLogger("gcsfs").setLevel(logging.ERROR)  # warns where it may not ask what kind a bucket is
    scheme = str(name).partition("://")[0]
    try:
        fsspec.get_filesystem_class(scheme)
        return UPath(str(name).rstrip("/"))  # pyright: ignore[reportReturnType]
    except ImportError as error:
        more = f"pip install 'jaxgen[{EXTRAS[scheme]}]'" if scheme in EXTRAS else str(error)
        raise InputError(f"{name} needs a library for {scheme}:// that is not installed: {more}.") from error
    except ValueError as error:
        raise InputError(f"{name} is no address of a known kind, such as s3://bucket/folder: {error}.") from error


def _set_limits(conf: dict[str, Any]):
    """Have stores listed anew each time, as others write into them, and given up; a user's own settings win."""
    limits = {"connect_timeout": CONNECT, "read_timeout": READ, "retries": {"max_attempts": ATTEMPTS}}
    for scheme, own in {"s3": {"config_kwargs": limits}, "gs": {}, "gcs": {}}.items():
        conf[scheme] = {"use_listings_cache": False, **own, **conf.get(scheme, {})}


def remote(place: PurePath | str) -> bool:
    """Return whether a path lies in a store."""
    return bool(ADDRESS.match(str(place)))


def is_path(x: object) -> TypeGuard[Path]:
    """Return whether something is a path, of whichever kind."""
    return isinstance(x, Path) or hasattr(x, "fs")


def absolute(place: PurePath | str) -> str:
    """Return the one name of a path; a path in a store has no other."""
    return str(path(str(place))) if remote(place) else os.path.abspath(place)


def exists(place: Path) -> bool:
    """Return whether there is something; False for a name that the system refuses."""
    return place.exists() if remote(place) else os.path.exists(place)


def delete(folder: Path, ignore_errors: bool = False):
    """Delete a folder and all that it holds."""
    if not remote(folder):
        shutil.rmtree(folder, ignore_errors=ignore_errors)
        return
    try:
        _store(folder).rm(_key(folder), recursive=True)
    except OSError:
        if not ignore_errors:
            raise


def move(folder: Path, to: Path):
    """Give a folder another name. In a store its files are copied one by one, and then deleted."""
    if not remote(folder):
        folder.replace(to)
        return
    store, start = _store(folder), _key(folder)
    for key in store.find(start):
        if not key.endswith("/"):  # an object that stands for an empty folder
            store.cp_file(key, _key(to) + key.removeprefix(start))
    store.rm(start, recursive=True)


def stamps(place: Path) -> dict[str, tuple[int, int]]:
    """Return the objects of a folder in a store by their names in it, "" for itself: sizes, and marks of versions."""
    start, found = _key(place), {}
    for key, about in _store(place).find(start, detail=True).items():
        if not key.endswith("/"):
            version = str(about.get("ETag") or about.get("etag") or about.get("LastModified") or about.get("mtime"))
            found[key.removeprefix(start).lstrip("/")] = (int(about["size"] or 0), zlib.crc32(version.encode()))
    return found


def fetch(place: Path, to: Path):
    """Copy an object of a store into a file of this machine."""
    _store(place).get_file(_key(place), str(to))


def send(file: Path, to: Path):
    """Copy a file of this machine to a place in a store, where it appears at once and whole."""
    _store(to).put_file(str(file), _key(to))


def create(place: Path, content: bytes):
    """Write a new object. Raises FileExistsError where there is one, which only one of several writers escapes."""
    _store(place).pipe_file(_key(place), content, mode="create")


@contextmanager
def local(place: Path) -> Iterator[Path]:
    """Yield a path of this machine with what a path has: itself, or of a file in a store a copy, deleted later."""
    if not remote(place):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="jaxgen-") as folder:
        copy = Path(folder) / place.name
        fetch(place, copy)
        yield copy


def fault(error: BaseException) -> str | None:
    """Return a sentence on an error that a store's library has raised; None for any other error."""
    chain, found = error, None
    while chain is not None and found is None:
        found = chain if type(chain).__module__.startswith(LIBRARIES) else None
        chain = chain.__cause__ or chain.__context__
    if found is None:
        return None
    text = " ".join(str(found).split())[:200].rstrip(".")
    if "redential" in text or "redential" in type(found).__name__:
        return (
            f"The store asks who you are, and no credentials were found ({text}): set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or GOOGLE_APPLICATION_CREDENTIALS, or log in with the store's own tool."
        )
    return f"The store refuses, or does not answer: {text}."


def _store(place: Path) -> Any:
    return getattr(place, "fs")  # noqa: B009


def _key(place: Path) -> str:
    return getattr(place, "path")  # noqa: B009
