"""Drawing of SVGs that strangers made, by resvg in processes of their own: an SVG can only cost its own image."""

import base64
import contextlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.parsers import expat

from jaxgen.core.errors import InputError

SECONDS = 60  # the longest that an SVG may take; an emoji takes 0.1 at 512x512
SHARE = 50  # SVGs that are worth a process
# What a renderer's process that ended says about the SVG; other ends, such as by the system, say nothing about it.
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL)
ENDS: dict[int, str] = {signal.SIGALRM: "drawing it takes too long"}
ENDS |= dict.fromkeys(CRASHES, "the renderer crashes at it")
FILES = ("image", "feimage")  # elements that can name a file, which resvg reads


class Drawn:
    """The outcome for one SVG: the bytes of a PNG in RGB, on white, or the reason why it can't be drawn."""

    def __init__(self, png: bytes = b"", fault: str = ""):
        self.png, self.fault = png, fault


def renderer() -> str:
    """Return the renderer's name and version. Raises InputError if it is not installed."""
    try:
        return f"resvg-py {importlib.metadata.version('resvg-py')}"
    except importlib.metadata.PackageNotFoundError:
        raise InputError("Emoji are drawn by resvg-py: pip install jaxgen[emoji].") from None


def draw(svgs: Sequence[str]) -> Iterator[Drawn]:
    """Yield the outcome of each SVG, in order. Raises InputError if the renderer does not work at all."""
    renderer()
    count = max(1, min(os.cpu_count() or 1, len(svgs) // SHARE))
    here, processes = threading.local(), []

    def one(svg: str) -> Drawn:
        if not hasattr(here, "process"):
            here.process = _Process()
            processes.append(here.process)
        return here.process.draw(svg)

    pool = ThreadPoolExecutor(count, "jaxgen-svg")  # resvg holds Python's lock: threads alone gain nothing
    try:
        yield from pool.map(one, svgs)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.close()


def check(svg: str):
    """Raise ValueError for an SVG that is no XML, or holds an element that can name a file."""
    parser = expat.ParserCreate()
    parser.StartElementHandler = _refuse_files
    try:
        parser.Parse(svg, True)
    except expat.ExpatError as error:
        raise ValueError(f"it is not XML ({error})") from None


def _refuse_files(name: str, attributes: dict):
    if name.rpartition(":")[2].lower() in FILES:
        raise ValueError(f"it holds <{name}>, which could read files of this machine")


class _Process:
    """A renderer's process, which is started again after an SVG that ended it."""

    def __init__(self):
        self.process: Any = None

    def draw(self, svg: str) -> Drawn:
        try:
            check(svg)
            line = json.dumps({"svg": svg}).encode()  # ASCII: halves of characters pass too
        except ValueError as error:
            return Drawn(fault=str(error))
        process: Any = self.process or self._start()
        self.process = process
        try:
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            reply = process.stdout.readline()
        except (BrokenPipeError, ValueError):  # closed at the other end, or by close()
            reply = b""
        if reply.endswith(b"\n"):
            reply = json.loads(reply)
            return Drawn(base64.b64decode(reply.get("png", "")), reply.get("fault", ""))
        code = process.wait()
        self.close()
        if fault := ENDS.get(-code):
            return Drawn(fault=fault)
        raise InputError(f"The renderer {renderer()} does not work: its process ended with status {code}.")

    def _start(self) -> subprocess.Popen:
        # Not by multiprocessing, which would import the user's script again. -P: beside the file are other modules.
        script = Path(__file__).with_name("svg_worker.py")
        return subprocess.Popen(
            [sys.executable, "-P", str(script), str(SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def close(self):
        """End the process, also in the middle of an SVG."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()
