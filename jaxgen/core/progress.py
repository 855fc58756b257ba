"""Progress of long work: a bar on a terminal, and elsewhere a line every 30 seconds, on stderr."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Hear = Callable[[str, float, float | None], None]  # of which work, how much is done, of how much
PERIOD = 30.0  # seconds between two lines
speakers: list[threading.Event] = []  # of the work under way, the innermost last
hearer: ContextVar[Hear | None] = ContextVar("hearer", default=None)


@contextmanager
def progress(
    text: str, total: float | None = None, delay: float = 0.0, unit: str = ""
) -> Iterator[Callable[..., None]]:
    """Yield the function (done, total=total) to call with how much of the work is done.

    delay: seconds after which a bar appears
    unit:  what is counted, such as "frames": how many are done per second is shown as well
    """
    if (hear := hearer.get()) is not None:
        hear(text, 0.0, total)
        yield lambda done, total=total: hear(text, done, total)
        return
    if sys.stderr.isatty():
        with _bar(text, total, delay, unit) as move:
            yield move
        return
    began, known = time.monotonic(), {"done": 0.0, "total": total}

    def update(done: float, total: float | None = total):
        known.update(done=done, total=total)

    with lines(lambda: report(text, known["done"] or 0.0, known["total"], time.monotonic() - began, unit)):
        yield update


@contextmanager
def heard(hear: Hear) -> Iterator[None]:
    """Have this thread's progress sent to a function (text, done, total), not to the terminal.

    What it raises ends the work.
    """
    token = hearer.set(hear)
    try:
        yield
    finally:
        hearer.reset(token)


def tracked(things: Iterable[T], text: str, total: int) -> Iterator[T]:
    """Yield the things, with their number as the progress."""
    with progress(text, total) as show:
        for i, thing in enumerate(things):
            yield thing
            show(i + 1)


@contextmanager
def lines(line: Callable[[], str], say: Callable[[str], object] | None = None) -> Iterator[None]:
    """Print `line()` every PERIOD seconds, but nothing for "": also while one part of the work takes longer.

    Lines of work within this work replace them. say: prints a line; None: to stderr
    """
    ended = threading.Event()

    def speak():
        while not ended.wait(PERIOD):
            if speakers[-1] is ended and (text := line()):
                say(text) if say else print(text, file=sys.stderr, flush=True)

    speakers.append(ended)
    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        ended.set()
        speaker.join()
        speakers.remove(ended)


def report(text: str, done: float, total: float | None, seconds: float, unit: str = "") -> str:
    """Return a line on work that has taken so long."""
    if unit and done and seconds:
        text += f", {done / seconds:.3g} {unit}/s"
    if not total or not done:
        return f"{text}: {duration(seconds)} so far"
    left = seconds * (total - done) / done
    return f"{text}: {done / total:.0%} after {duration(seconds)}, about {duration(left)} left"


def duration(seconds: float) -> str:
    """Return a time in words: 0.012 s, 45 s, 12 min, 3.5 h, 2 days."""
    for limit, unit, name in ((100, 1, "s"), (6000, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.2g} {name}"
    return f"{seconds / 86_400:,.0f} days"


@contextmanager
def _bar(text: str, total: float | None, delay: float, unit: str) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    began, columns = time.monotonic(), list(Progress.get_default_columns())
    if unit:
        columns.append(TextColumn("{task.fields[pace]}"))
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    row = bar.add_task(text, total=total, pace="")

    def move(done: float, total: float | None = total):
        if not bar.live.is_started and time.monotonic() - began >= delay:
            bar.start()
        pace = f"{done / max(time.monotonic() - began, 1e-9):.3g} {unit}/s" if unit else ""
        bar.update(row, completed=done, total=total, pace=pace)

    try:
        if not delay:
            bar.start()
        yield move
    finally:
        bar.stop()
