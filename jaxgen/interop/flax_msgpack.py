"""Files of flax.serialization.to_bytes: msgpack, with arrays as an extension of it."""

from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 -- NumPy finds bfloat16 by its name then
import msgpack
import numpy as np

from jaxgen.interop.pickles import DTYPES, Unreadable, shown

# Flax writes lists as maps, so that an array is the shape of one tensor at most. Long ones would be allocated unread.
MOST_AXES, MOST_ITEMS = 64, 2**16
ARRAY, COMPLEX, SCALAR = 1, 2, 3
CHUNKED = "__msgpack_chunked_array__"  # arrays of more than 1 GB are cut


def is_msgpack(head: bytes) -> bool:
    """Return whether a file begins with a map from texts. An empty map's byte is that of a pickle."""
    length = {0xDE: 3, 0xDF: 5}.get(head[0], 1 if 0x81 <= head[0] <= 0x8F else 0)
    first = head[length : length + 1]
    return length > 0 and (b"\xa0" <= first <= b"\xbf" or b"\xd9" <= first <= b"\xdb")


def read_msgpack(path: Path) -> Any:
    """Return nested dicts of arrays. Raises Unreadable, and for broken bytes anything."""
    limits: Any = {"max_array_len": MOST_AXES, "max_map_len": MOST_ITEMS, "strict_map_key": False}
    return _joined(msgpack.unpackb(path.read_bytes(), ext_hook=_extension, raw=False, **limits))


def _extension(code: int, data: bytes) -> Any:
    if code not in (ARRAY, SCALAR):
        return None
    shape, name, values = msgpack.unpackb(data, raw=True, max_array_len=MOST_AXES)
    kind = name.decode()
    if kind not in DTYPES:
        raise Unreadable(f"holds an array of {shown(kind)}, which is not read")
    return np.frombuffer(values, DTYPES[kind]).reshape(shape)


def _joined(tree: Any) -> Any:
    """Return a tree with arrays that were cut in one piece."""
    if not isinstance(tree, dict):
        return tree
    if CHUNKED not in tree:
        return {key: _joined(value) for key, value in tree.items()}
    shape, chunks = (tree[key] for key in ("shape", "chunks"))
    flat = np.concatenate([chunks[key] for key in sorted(chunks, key=int)])
    return flat.reshape([shape[key] for key in sorted(shape, key=int)])
