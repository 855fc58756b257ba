"""Checks of sizes that a file declares, before anything is allocated."""

import os
from contextlib import suppress
from pathlib import Path

from jaxgen.core.errors import InputError

INFLATED = 500  # how many times its packed size a file of images may have; DEFLATE of zeros reaches 1,000
SMALL = 2**28  # bytes; below it any ratio is harmless


def machine_memory() -> int:
    """Return the bytes of memory of this machine, or of this container if it has fewer."""
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        have = min(have, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return have


def check_size(size: int, packed: int, what: str):
    """Raise InputError if data of a declared size in bytes don't fit into memory, or are a decompression bomb.

    packed: the bytes in which they are stored
    """
    if size > (have := machine_memory()):
        raise InputError(f"{what} declares {size / 1e9:,.1f} GB, and this machine has {have / 1e9:,.1f} GB of memory.")
    if size > SMALL and size > INFLATED * packed:
        raise InputError(
            f"{what} declares {size / 1e9:,.1f} GB in {packed / 1e6:,.1f} MB: this is a decompression bomb, not images."
        )
