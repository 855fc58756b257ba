"""Checks of the sizes that a file declares and that settings ask for, before anything is allocated."""

import os
from contextlib import suppress
from pathlib import Path

from jaxgen.core.errors import InputError

# How many times its packed size a file of images may have. DEFLATE makes 230 to 1,000 of zeros, 115 of dSprites.
INFLATED = 150
SMALL = 2**30  # bytes; below it any ratio is harmless, such as that of black masks


def machine_memory() -> int:
    """Return the bytes of memory of this machine, or of this container if it has fewer."""
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        have = min(have, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return have


def fault_of(size: int, packed: int) -> str:
    """Return why data of a declared size in bytes, stored in `packed` bytes, can't be read; "" if they can."""
    if size > (have := machine_memory()):
        return f"it declares {size / 1e9:,.1f} GB, more than the {have / 1e9:,.1f} GB of this machine's memory"
    if size > SMALL and size > INFLATED * packed:
        return f"it declares {size / 1e6:,.0f} MB in {packed / 1e6:,.2f} MB, as a decompression bomb does"
    return ""


def check_size(size: int, packed: int, what: str):
    """Raise InputError if data of a declared size don't fit into memory, or are a decompression bomb."""
    if fault := fault_of(size, packed):
        raise InputError(f"{what} cannot be read: {fault}.")


def check_fits(needed: float, what: str):
    """Raise InputError where `what` takes more bytes than this machine has; what: settings and their values."""
    if needed > (have := machine_memory()):
        raise InputError(f"{what} takes {needed / 1e9:,.1f} GB, and this machine has {have / 1e9:,.1f} GB of memory.")
