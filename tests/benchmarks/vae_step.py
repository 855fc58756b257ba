"""VAE training steps beside PyTorch eager: python -m tests.benchmarks.vae_step [--write] [--rounds N]

The presets `vae-conv` and `hierarchical` at batch 64, f32, one batch that stays in memory. torch_vaes.py has the other
side, turns.py says how they take turns.
"""

import sys
from collections.abc import Callable
from typing import Any

from tests.benchmarks import report, turns

BATCH = 64
PRESETS = ("vae-conv", "hierarchical")


def ours(name: str) -> Callable[[], Any]:
    """Return what takes one step as jaxgen's loop does, and waits for it."""
    from jaxgen import zoo
    from jaxgen.config import Run

    return turns.step_of(Run(model=zoo.load(name).run.model, batch=BATCH))


def theirs(name: str) -> Callable[[], Any]:
    from jaxgen import zoo
    from tests.benchmarks import torch_vaes

    make = {"vae-conv": torch_vaes.conv, "hierarchical": torch_vaes.ladder}[name]
    return make(zoo.load(name).run.model, BATCH)


def sides(name: str) -> dict[str, Callable[[], Callable[[], Any]]]:
    return {f"jaxgen, {name}": lambda: ours(name), f"PyTorch, {name}": lambda: theirs(name)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        turns.work({k: v for name in PRESETS for k, v in sides(name).items()}, sys.argv[2], repeats=1)
    else:
        wanted = report.arguments(__doc__, rounds=5)
        rows, text = [], f"f32, batch {BATCH}, 32x32x1; {turns.load()}"
        for name in PRESETS:
            rows += turns.measure("tests.benchmarks.vae_step", sides(name), wanted.rounds, BATCH, "step")
        report.publish("vae-step", rows, text, wanted.write)
