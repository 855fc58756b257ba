"""Examples from disk to device: sources, transforms, loader, degradations. It does not depend on models."""

from jaxgen.data.draws import evenly, shuffled
from jaxgen.data.fingerprint import fingerprint
from jaxgen.data.loader import RandomSubset, batches, check_source, to_device
from jaxgen.data.open import open_source, with_classes
from jaxgen.data.sources import Source, Subset, labels_of
from jaxgen.data.tfds import prepare
from jaxgen.data.transforms import transform

__all__ = [
    "RandomSubset",
    "Source",
    "Subset",
    "batches",
    "check_source",
    "evenly",
    "fingerprint",
    "labels_of",
    "open_source",
    "prepare",
    "shuffled",
    "to_device",
    "transform",
    "with_classes",
]
