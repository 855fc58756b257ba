"""Numbers that ask for more memory than there is are refused before any of it is allocated."""

from pathlib import Path

import pytest

from jaxgen.core import memory
from jaxgen.core.errors import InputError
from jaxgen.media.batch_files import numbered
from jaxgen.metrics.accumulate import empty_rows

MACHINE = 8 * 10**9  # bytes


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: memory.check_fits(10**10, "batch=9"), r"batch=9 takes 10\.0 GB, and this machine has 8\.0 GB"),
        (lambda: numbered(Path("a.png"), 2**31), "--answers 2147483648 takes"),
        (lambda: empty_rows(10**9, 1280), "Keeping the features of 1,000,000,000 images takes"),
        (lambda: memory.check_size(9 * 10**9, 10**9, "a.npz"), r"a\.npz cannot be read: it declares 9\.0 GB"),
        (lambda: memory.check_size(2 * 10**9, 10**7, "a.npz"), "it declares 2,000 MB in 10.00 MB, as a decompression"),
    ],
)
def test_more_than_the_machine_has_is_refused(ask, words, monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: MACHINE)
    with pytest.raises(InputError, match=words):
        ask()


def test_what_fits_is_taken(monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: MACHINE)
    memory.check_fits(MACHINE, "batch=9")
    memory.check_size(10**9, 10**6, "black masks, which pack well")
    assert [path.name for path in numbered(Path("a.png"), 3)] == ["a.png", "a-2.png", "a-3.png"]
