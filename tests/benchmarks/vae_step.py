"""VAE training steps beside PyTorch eager: python -m tests.benchmarks.vae_step [--write] [--rounds N]

The presets `vae-conv`, `vq-vae` (without the prior of its tokens) and `hierarchical` at batch 64, f32, one batch that
stays in memory. torch_vaes.py has the other side, turns.py says how they take turns.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.benchmarks import report, turns

BATCH = 64
PRESETS = ("vae-conv", "vq-vae", "hierarchical")


def model_of(name: str) -> Any:
    from jaxgen import zoo

    model = zoo.load(name).run.model
    return replace(model, prior=0) if name == "vq-vae" else model


def ours(name: str) -> Callable[[], Any]:
    """Return what takes one step as jaxgen's loop does, and waits for it."""
    from jaxgen.core.config import Run

    return turns.step_of(Run(model=model_of(name), batch=BATCH))


def theirs(name: str) -> Callable[[], Any]:
    from tests.benchmarks import torch_vaes

    make = {"vae-conv": torch_vaes.conv, "vq-vae": torch_vaes.quantised, "hierarchical": torch_vaes.ladder}[name]
    return make(model_of(name), BATCH)


def sides(name: str) -> dict[str, Callable[[], Callable[[], Any]]]:
    return {f"jaxgen, {name}": lambda: ours(name), f"PyTorch, {name}": lambda: theirs(name)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        turns.work({k: v for name in PRESETS for k, v in sides(name).items()}, sys.argv[2], repeats=3)
    else:
        wanted = report.arguments(__doc__, rounds=5)
        rows = []
        for name in PRESETS:
            rows += turns.measure("tests.benchmarks.vae_step", sides(name), wanted.rounds, BATCH, "step", name)
        report.publish("vae-step", rows, wanted.write)
