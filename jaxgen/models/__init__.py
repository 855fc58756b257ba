"""The models, a folder for each family. `jaxgen.models()` returns the presets with their families."""

import sys
from types import ModuleType


class _Models(ModuleType):
    """This package, which can be called: `jaxgen.models` is its name as soon as any model is imported."""

    def __call__(self, family: str = "") -> dict[str, str]:
        """Return {preset: family} of all presets, or of a family's. Raises InputError for an unknown family."""
        from jaxgen import zoo
        from jaxgen.core.errors import choose

        families = [choose(family, zoo.families(), "family")] if family else zoo.families()
        return {preset: name for name in families for preset in zoo.family(name)}


sys.modules[__name__].__class__ = _Models
