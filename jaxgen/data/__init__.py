"""Examples from disk to device: sources, transforms, the loader. Knows no model."""

from jaxgen.data.loader import batches, to_device
from jaxgen.data.sources import Source, open_source
from jaxgen.data.tfds import prepare
from jaxgen.data.transforms import transform

__all__ = ["Source", "batches", "open_source", "prepare", "to_device", "transform"]
