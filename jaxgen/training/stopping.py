"""Stopping a run: SIGTERM and SIGINT are handled between two calls, in all processes at the same step."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import jax

from jaxgen.runs import sharding

T = TypeVar("T")


class Interrupted(BaseException):
    """The user, or the machine's owner, asked the run to stop; everything is saved."""

    def __init__(self, signum: int, sentence: str):
        super().__init__(sentence)
        self.signum = signum


class Stop:
    """Whether SIGTERM or SIGINT asked this process, or one of the others, to stop."""

    signum = 0

    def handle(self, signum, frame):
        if self.signum:  # the second time
            os._exit(128 + signum)
        self.signum = signum

    def asked(self, at: int) -> bool:
        if jax.process_count() == 1:
            return bool(self.signum)
        return at % 10 == 0 and sharding.any_process(bool(self.signum))


@contextmanager
def stopping() -> Iterator[Stop]:
    """Turn SIGTERM and SIGINT into a question that the loop asks between two calls; a second one leaves at once."""
    stop, old = Stop(), {}
    if threading.current_thread() is threading.main_thread():
        old = {s: signal.signal(s, stop.handle) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for s, handler in old.items():
            signal.signal(s, handler)


def interruptible(work: Callable[[], T], stop: Stop) -> T:
    """Return work(), done in a thread: a compilation holds Python's signal handlers up for as long as it takes."""
    result: list[T | BaseException] = []

    def target():
        try:
            result.append(work())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
        if stop.signum:
            raise Interrupted(stop.signum, "Stopped before the first step; what was saved is untouched.")
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]
