"""The zoo: every preset and the module it is written in. Explicit, and imported only when asked for."""

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxgen.errors import choose

if TYPE_CHECKING:
    from jaxgen.config import Preset

ZOO = {
    "dcgan": "jaxgen.models.gan.dcgan",
    "dcgan-64": "jaxgen.models.gan.dcgan",
}


def family(name: str) -> list[str]:
    """Return the presets of a family, a folder of jaxgen/models; the first is its default."""
    return [preset for preset, module in ZOO.items() if module.startswith(f"jaxgen.models.{name}.")]


def load(name: str, within: Sequence[str] = tuple(ZOO)) -> "Preset":
    """Return a preset. Raises InputError with the nearest name where there is none of this name."""
    return importlib.import_module(ZOO[choose(name, within, "preset")]).PRESETS[name]
