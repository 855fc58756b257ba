"""What a run is: frozen dataclasses, parsed by tyro, written to and read from JSON."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Data:
    """Where the examples come from and what is done to each one."""

    source: str = "digits"  # digits | shapes | tfds:NAME | folder:PATH | idx:PATH | npz:PATH
    dir: str | None = None  # where prepared TFDS sets live; unset: TFDS's own default
    split: str = "train"  # which part of the source; TFDS slices such as train[:90%] work too
    crop: Literal["none", "center", "random"] = "center"  # none: squash; else keep the aspect, cover, cut
    flip: bool = False  # mirror left to right, half of the time
    skip_bad: bool = False  # leave unreadable images out instead of stopping
    threads: int = 4  # threads that read and transform
    prefetch: int = 2  # batches kept ready ahead of the step
