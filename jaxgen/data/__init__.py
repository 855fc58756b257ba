"""Examples from disk to device: sources, transforms, the loader. Knows no model."""

from jaxgen.data.loader import Some, batches, shuffled, to_device
from jaxgen.data.sources import Part, Source, labels_of, open_source
from jaxgen.data.tfds import prepare
from jaxgen.data.transforms import transform

__all__ = [
    "Part",
    "Some",
    "Source",
    "batches",
    "labels_of",
    "open_source",
    "prepare",
    "shuffled",
    "to_device",
    "transform",
]
