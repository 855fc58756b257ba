"""Images, folders and sources for the tests of data, and a check of its refusals."""

import io
import os
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxgen.core.config import Data
from jaxgen.core.errors import InputError
from jaxgen.data import open_source
from jaxgen.data.arrays import Arrays

REAL = os.environ.get("JAXGEN_TEST_DATA")
real = pytest.mark.skipif(not REAL, reason="JAXGEN_TEST_DATA does not point at the real data")


@pytest.fixture(autouse=True, name="cache")
def own_cache(tmp_path, monkeypatch):
    """Give each test its own cache folder."""
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def numbered(n, size=(4, 4), channels=1):
    """Return a source in which image i is filled with i."""
    images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, *size, channels))
    return Arrays(np.ascontiguousarray(images), np.arange(n, dtype=np.int32), tuple(map(str, range(n))))


def sample_image(seed=0, size=(40, 30), mode="RGB"):
    """Return smooth noise, width x height."""
    rng = np.random.default_rng(seed)
    return (
        Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8))
        .resize(size, Image.Resampling.BICUBIC)
        .convert(mode)
    )


def tree(root, files):
    """Write PNG images (or the given bytes) under root; return root."""
    for i, (name, content) in enumerate((dict.fromkeys(files) if isinstance(files, list) else files).items()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            sample_image(i).save(path)
        else:
            path.write_bytes(content)
    return root


def message(call, *parts):
    """Check that the call raises InputError with one sentence on one line that holds the parts; return it."""
    with pytest.raises(InputError) as error:
        call()
    text = str(error.value)
    assert "\n" not in text and text[0].isupper() | text.startswith("/") and text.endswith((".", "?")), text
    for part in parts:
        assert str(part) in text, (part, text)
    return text


def opened(source, **fields) -> Any:
    """Return the source as a given class."""
    return open_source(Data(source=source, **fields))


def refuse(source, *parts, **fields):
    return message(lambda: open_source(Data(source=source, **fields)), *parts)


def as_unit(pixels):
    return np.asarray(pixels, np.float32) / np.float32(127.5) - np.float32(1)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def equal_example(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
