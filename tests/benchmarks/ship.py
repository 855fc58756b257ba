"""Weights that ship: python -m tests.benchmarks.ship RUN NAME --what "enlarges 4 times" --data "..." --scores "..."

Writes jaxgen/pretrained/weights/NAME.safetensors: the averaged weights of a run in float16, with a model card in their
metadata. The card has preset, settings, steps, starts (command line and devices of each, from RUN/environment.json),
and what is said here: what the net is for, its data with their licences, and its scores with their protocol.
"""

import argparse
import json
import tempfile
from pathlib import Path

import jax
import numpy as np

from jaxgen.interop import convert
from jaxgen.interop.read import notes, read
from jaxgen.interop.write import write_safetensors
from jaxgen.pretrained.catalogue import WEIGHTS
from jaxgen.runs.load import open_run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    for card in ("what", "data", "scores"):
        parser.add_argument(f"--{card}", required=True)
    parser.add_argument("--before", type=Path, nargs="*", default=[], help="runs that it started from, the first first")
    given = parser.parse_args()
    opened = open_run(given.run, with_frozen=False)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        convert.export_nets(opened.run, opened.state, tuple(opened.state.params), "safetensors", file, True)
        tensors, card = read(file), notes(file)
    card["model"] = json.dumps(jax.tree.map(lambda x: bare(x) if isinstance(x, str) else x, json.loads(card["model"])))
    half = {name: x.astype(np.float16) if x.dtype == np.float32 else x for name, x in tensors.items()}
    card |= {"what": given.what, "data": given.data, "scores": given.scores, "licence": "Apache-2.0"}
    card["training"] = json.dumps([made(run) for run in (*given.before, given.run)])
    write_safetensors(WEIGHTS / f"{given.name}.safetensors", half, card, overwrite=True)


def made(run: Path) -> list[dict[str, str]]:
    """Return the command line, devices and versions of each start of a run, without the paths of this machine."""
    starts = json.loads((run / "environment.json").read_text())
    return [
        {"command": " ".join(map(bare, start["command"])), "devices": f"{start['cpus']} cores, {start['devices']}"}
        | {"time": start["time"], "jax": start["versions"]["jax"], "commit": str(start["commit"])}
        for start in starts
    ]


def bare(word: str) -> str:
    """Return a word of a command line with the last part of a path alone: folder:/a/b is folder:b."""
    kind, colon, path = word.rpartition(":") if ":/" in word else ("", "", word)
    return f"{kind}{colon}{Path(path).name}" if path.startswith("/") else word


if __name__ == "__main__":
    main()
