"""The fingerprint of a data source, by which a run notices that its data have changed."""

import hashlib
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxgen.data.arrays import Arrays, Named
from jaxgen.data.domains import PairedImages, UnpairedImages
from jaxgen.data.emoji import Emoji
from jaxgen.data.folder import Folder
from jaxgen.data.moving_digits import MovingDigits
from jaxgen.data.posed_images import PosedImages
from jaxgen.data.sounds import Sounds
from jaxgen.data.sources import Source, Subset
from jaxgen.data.tfds import Tfds
from jaxgen.data.video_folder import VideoFolder


def fingerprint(source: Source) -> dict[str, int | str]:
    """Return the numbers of examples and files of a source, and a digest of the files' names and sizes.

    Times are left out: a copy of a folder has other ones. Arrays in memory count by their contents.
    """
    digest, files = hashlib.sha256(), 0
    for name, number in stamps(source):
        digest.update(f"{name}\0{number}\n".encode("utf-8", "surrogateescape"))
        files += 1
    return {"examples": len(source), "files": files, "digest": digest.hexdigest()[:16]}


def stamps(source: Any) -> Iterator[tuple[str, int]]:
    """Yield the name of each file or array of a source with its size or check sum; nothing of images drawn by rule."""
    match source:
        case Subset():
            yield from stamps(source.source)
        case UnpairedImages():
            for side in (source.source, source.image):
                yield from stamps(side)
        case PairedImages():
            yield from stamps(source.folder)
        case Folder():
            for name in source.names:
                yield name, source.files.stamps[name][0]
        case VideoFolder():
            for name, (size, _) in source.stamps.items():
                yield name, size
        case PosedImages() | Sounds():
            yield from source.stamps.items()
        case MovingDigits():
            yield from stamps(source.digits)
        case Emoji():
            for drawn in source.sets:
                yield drawn.icons.style, int(drawn.icons.digest[:16], 16)
        case Arrays():
            yield "images", check_sum(source.images)
            if source.labels is not None:
                yield "labels", check_sum(source.labels)
        case Named():
            for name, values in source.arrays.items():
                yield name, check_sum(values)
        case Tfds():
            yield source.builder.info.full_name, int(source.builder.info.dataset_size)


def check_sum(values: np.ndarray) -> int:
    """Return the CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(values).data.cast("B"))


def difference(then: dict[str, Any], now: dict[str, Any]) -> str:
    """Return what differs between two fingerprints, as a part of a sentence; "" for equal ones."""
    for what in ("examples", "files"):
        if then.get(what) != now[what]:
            return f"{then.get(what):,} {what} then, {now[what]:,} now"
    return "" if then.get("digest") == now["digest"] else "the names or sizes of files, or the contents of arrays"
