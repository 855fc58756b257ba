"""The presets, and those of them whose tiny runs differ."""

import dataclasses
from functools import cache

from jaxgen import zoo
from jaxgen.core.config import Run
from jaxgen.data.degradations import Degradation

NAMES = list(zoo.ZOO)


@cache
def alike(name: str, size: str = "tiny") -> Run:
    """Return a preset's run with simple degradations; those of data/degradations.py have their own tests."""
    run = getattr(zoo.load(name), size)
    if not hasattr(run.model, "degradation"):
        return run
    return dataclasses.replace(run, model=dataclasses.replace(run.model, degradation=Degradation()))


# Presets that differ only in size share a tiny run: the first one is trained for all.
DISTINCT = [n for i, n in enumerate(NAMES) if not any(alike(n) == alike(m) for m in NAMES[:i])]
# The first preset of each file.
FIRST = [n for i, n in enumerate(DISTINCT) if all(zoo.ZOO[n] != zoo.ZOO[m] for m in DISTINCT[:i])]
