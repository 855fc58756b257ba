"""Published files: fetched once from their address, checked by their SHA-256, and kept.

They lie in the cache folder ($JAXGEN_CACHE). A file that the user has put there is checked as well. JAXGEN_OFFLINE=1
forbids all fetching.
"""

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from jaxgen.core.cache import cache_folder
from jaxgen.core.errors import InputError
from jaxgen.core.progress import progress
from jaxgen.media import output_files

BLOCK = 2**18  # bytes read at once
TRIES, PAUSE, TIMEOUT = 3, 1.0, 30.0  # seconds after a failure, the n-th time n times that; seconds without an answer
LOOPBACK = ("localhost", "127.0.0.1", "::1")
FLEETING = (408, 425, 429)  # statuses after which another try may succeed; so may it after all from 500 on


@dataclass(frozen=True)
class File:
    """A published file.

    size:    bytes
    address: https; with `parts` it ends in a slash
    parts:   the names of files at the address that are kept together, as the zip `name`; `sha256` and `size` are those
             of their contents, one after another in this order
    """

    name: str
    sha256: str
    size: int
    address: str
    parts: tuple[str, ...] = ()


class Unreachable(Exception):
    """A reason why an address gives no file."""


def fetched(
    files: Sequence[File], folder: Path, what: str, say: Callable[[], object] = lambda: None, advice: str = ""
) -> list[Path]:
    """Return the paths of files in a folder, after those that are not there were fetched. Safe in several processes.

    what:   their name in errors, such as "The weights imdn-x4"
    say:    called once before something is fetched
    advice: what else the user can do without network, as the end of a sentence
    Raises InputError for a file that is not the published one, and where one can't be fetched.
    """
    paths = [folder / file.name for file in files]
    missing = []
    for file, path in zip(files, paths, strict=True):
        if not path.exists():
            missing.append((file, path))
        elif wrong := difference(path, file):
            raise InputError(f"{path} is not the published file: {wrong}; delete it, and it is fetched again.")
    if not missing:
        return paths
    try:
        if os.environ.get("JAXGEN_OFFLINE", "0") not in ("", "0"):
            raise Unreachable("JAXGEN_OFFLINE is set")
        say()
        for file, path in missing:
            fetch(file, path)
    except Unreachable as error:
        raise InputError(f"{what} can't be fetched ({error}): {by_hand(missing)}{advice}.") from error
    return paths


def fetch(file: File, path: Path):
    """Write a file to a path once it has arrived and is the published one.

    Raises Unreachable, and InputError where it is another file or can't be written.
    """
    with progress(f"fetching {file.name}", file.size) as show, output_files.whole(path) as part:
        if file.parts:
            done = 0
            with zipfile.ZipFile(part, "w") as archive:
                for name in file.parts:
                    content = download(file.address + name, file.size - done, lambda n, before=done: show(before + n))
                    archive.writestr(name, content)
                    done += len(content)
        else:
            part.write_bytes(download(file.address, file.size, show))
        if wrong := difference(part, file):
            raise InputError(f"{file.address} is not the published file, and is not kept: {wrong}.")


def difference(path: Path, file: File) -> str:
    """Return what differs between a file on the disk and the published one: size or SHA-256. "": nothing."""
    digest, size = hashlib.sha256(), 0
    try:
        for block in contents(path, file):
            digest.update(block)
            size += len(block)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        return f"it can't be read ({error})"
    if size != file.size:
        return f"it has {size:,} bytes, not {file.size:,}"
    found = digest.hexdigest()
    return "" if found == file.sha256 else f"its SHA-256 is {found}, not {file.sha256}"


def contents(path: Path, file: File) -> Iterator[bytes]:
    """Yield the bytes of a file; of one with parts, those of the parts. Raises BadZipFile where they are others."""
    if not file.parts:
        with path.open("rb") as opened:
            while block := opened.read(BLOCK):
                yield block
        return
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        if sorted(archive.namelist()) != sorted(file.parts) or sum(sizes.values()) != file.size:
            raise zipfile.BadZipFile(f"it is no zip of the {len(file.parts)} files with {file.size:,} bytes together")
        for name in file.parts:
            yield archive.read(name)


def by_hand(missing: Iterable[tuple[File, Path]]) -> str:
    """Return what to do on a machine without network."""
    steps = []
    for file, path in missing:
        if file.parts:  # nobody gets so many by hand
            own = path.relative_to(cache_folder()) if path.is_relative_to(cache_folder()) else path.name
            steps.append(
                "run the same command on a machine with network, which fetches "
                f"{len(file.parts)} files of {file.address} and keeps them as {own} in its cache folder "
                f"(~/.cache/jaxgen or JAXGEN_CACHE); copy this to {path}"
            )
        else:
            steps.append(f"get {file.address} (SHA-256 {file.sha256}), and put it at {path}")
    return "; ".join(steps)


def download(address: str, limit: int, show: Callable[[float], object] = lambda done: None) -> bytes:
    """Return what an address gives. Raises Unreachable, also for more than `limit` bytes."""
    for left in reversed(range(TRIES)):
        try:
            return _once(address, limit, show)
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            error.close()
            if not left or (error.code < 500 and error.code not in FLEETING):
                raise Unreachable(reason) from error
        except (OSError, http.client.HTTPException) as error:
            if not left:
                cause = getattr(error, "reason", error)
                raise Unreachable(getattr(cause, "strerror", "") or str(cause) or type(cause).__name__) from error
        time.sleep(PAUSE * (TRIES - left))
    raise AssertionError("the last try returns or raises")


def _once(address: str, limit: int, show: Callable[[float], object]) -> bytes:
    check_address(address, address)
    opener, content = urllib.request.build_opener(Redirects(address)), bytearray()
    request = urllib.request.Request(address, headers={"User-Agent": "jaxgen"})
    with closing(opener.open(request, timeout=TIMEOUT)) as answer:
        while block := answer.read(min(BLOCK, limit + 1 - len(content))):
            content += block
            if len(content) > limit:
                raise Unreachable(f"the server gives more than the {limit:,} bytes of the published file")
            show(len(content))
        expected = answer.headers.get("Content-Length", "")
    if expected.isdigit() and len(content) < int(expected):
        raise ConnectionError(f"the connection broke off after {len(content):,} of {int(expected):,} bytes")
    return bytes(content)


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects of an address to https only."""

    def __init__(self, first: str):
        self.first = first

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        try:
            check_address(newurl, self.first)
        except Unreachable:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_address(address: str, first: str):
    """Raise Unreachable for an address that is not https. From this machine to itself http is allowed."""
    parts = urllib.parse.urlsplit(address)
    own = parts.hostname in LOOPBACK and urllib.parse.urlsplit(first).hostname in LOOPBACK
    if parts.scheme != "https" and not (own and parts.scheme == "http"):
        raise Unreachable(f"it leads to {address}, which is not https")
