"""Stacked MNIST, 1,000 modes: python -m tests.benchmarks.stacked_mnist --data DIR [--steps N] [--write]

Three random digits are the channels of an image (Metz et al. 2017, section 3.3.1); the package's LeNet-5 reads each
channel, and three digits are a mode. As in PacGAN (Lin et al. 2018, section 4.2; the protocol is VEEGAN's): how many
modes 26,000 samples hold, and KL(samples || training images) between the distributions over modes. DIR is the folder
of real data (JAXGEN_TEST_DATA). The images are written once, runs that are finished are not repeated, and --table
shows what is there.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.core.errors import choose
from jaxgen.evaluation.results import Result
from tests.benchmarks import report
from tests.benchmarks.gan_models import MODELS

SAMPLES, PICTURES = 26_000, 60_000
STACKED = {
    name: [*MODELS[name].argv, "--model.image", "32", "32", "3"] for name in ("dcgan", "unrolled", "wgan-gp", "r3gan")
}
# Modes and KL, each with larger nets and far more steps.
PAPERS = {"dcgan": (99.0, 3.40), "unrolled": (48.7, 4.32)}
SOURCE = "Lin et al. 2018, table 2"


def write_pictures(data: Path, out: Path) -> Path:
    """Write PICTURES stacked training digits, and their modes, once; return the file."""
    file = out / "stacked-mnist.npz"
    if not file.exists():
        from jaxgen.core.config import Data
        from jaxgen.data import batches, open_source
        from jaxgen.media.image_grid import to_u8

        mnist, image = Data("tfds:mnist", str(data / "tfds")), (32, 32, 1)
        read = list(batches(open_source(mnist, image), mnist, image, batch=1000, seed=0, train=False))
        digits = np.concatenate([to_u8(some["image"][..., 0]) for some in read])  # [n 32 32]
        labels = np.concatenate([some["label"] for some in read])
        chosen = np.random.default_rng(0).integers(0, len(digits), (PICTURES, 3))
        part = file.with_suffix(".part.npz")
        np.savez(part, image=np.moveaxis(digits[chosen], 1, -1), mode=modes_of(labels[chosen]))  # [n 32 32 3]
        part.replace(file)
    return file


def modes_of(digits: np.ndarray) -> np.ndarray:
    """Return the number that three digits i32[n 3] spell."""
    return digits @ np.array([100, 10, 1])


class Judge:
    """Reads the digits of images with the package's LeNet-5."""

    def __init__(self):
        import jax

        from jaxgen.pretrained.feature_extractors import extractor

        lenet = extractor("lenet")

        @jax.jit
        def read(x):
            channels = [lenet.apply(lenet.variables, x[..., i : i + 1])["logits"].argmax(1) for i in range(3)]
            return jax.numpy.stack(channels, 1)  # [b 3]

        self.read = read

    def __call__(self, images: Iterable[Any], count: int) -> np.ndarray:
        """Return the modes i64[count] of batches of images f32[b 32 32 3] in [-1, 1]."""
        from jaxgen.media.image_grid import to_u8

        found = [modes_of(np.asarray(self.read(to_u8(np.asarray(x)) / np.float32(127.5) - 1))) for x in images]
        return np.concatenate(found)[:count]


def compare(modes: np.ndarray, real: np.ndarray) -> dict[str, Any]:
    """Return how many modes there are, and KL(p || q) in nats, p the samples' distribution, q the real images'.

    A mode that q has not is counted as if a thousandth of a real image were of it.
    """
    p = np.bincount(modes, minlength=1000) / len(modes)
    q = np.maximum(np.bincount(real, minlength=1000), 1e-3) / len(real)
    seen = p > 0
    return {"modes": int(seen.sum()), "kl": float((p[seen] * np.log(p[seen] / q[seen])).sum())}


def train(name: str, steps: int, pictures: Path, out: Path) -> dict[str, Any]:
    """Train a model where OUT has no run of it, and return the modes of its samples, by the averaged weights."""
    from jaxgen.inference.sampling import drawer
    from jaxgen.runs.load import open_run

    folder = out / f"{name}-{steps}"
    settings = ["--data.source", f"npz:{pictures}", "--steps", str(steps), "--out", str(folder)]
    settings += ["--log.samples", str(max(steps // 4, 1)), "--save.every", str(max(steps // 4, 1))]
    call = [sys.executable, "-m", "train.gan", *STACKED[name], *settings]
    subprocess.run(["nice", "-n", "5", *call], check=True, stdout=subprocess.DEVNULL)
    run, mesh, task, state, frozen, _ = open_run(folder)
    with np.load(pictures) as file:
        real = file["mode"]
    drawn = drawer(task, mesh, run.batch)(state, frozen, 0, SAMPLES, {})
    return {"model": name, "steps": steps, **compare(Judge()(drawn, SAMPLES), real)}


def floor(pictures: Path) -> dict[str, Any]:
    """Return the same of as many of the training images."""
    with np.load(pictures) as file:
        real = file["mode"]
        images = file["image"][:SAMPLES] / np.float32(127.5) - 1
    return {"model": "floor", "steps": 0, **compare(Judge()(np.array_split(images, 26), SAMPLES), real)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of real data")
    parser.add_argument("--out", type=Path, default=Path("runs/stacked-mnist"), help="(default %(default)s)")
    parser.add_argument("--steps", type=int, default=4000, help="updates of the generator (default %(default)s)")
    parser.add_argument("--only", help=f"some of {', '.join(STACKED)}, with commas between")
    parser.add_argument("--table", action="store_true", help="train nothing: show what is there")
    parser.add_argument("--write", action="store_true", help=report.WRITE)
    wanted = parser.parse_args()
    out = wanted.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    names = wanted.only.split(",") if wanted.only else list(STACKED)
    file = out / "results.jsonl"
    found = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def add(row: dict[str, Any]):
        found.append(row)
        print(row, flush=True)
        with file.open("a") as opened:
            opened.write(json.dumps(row) + "\n")

    if not wanted.table:
        pictures = write_pictures(wanted.data.absolute(), out)
        if not any(row["model"] == "floor" for row in found):
            add(floor(pictures))
        for name in names:
            choose(name, STACKED, "model")
            if not any((row["model"], row["steps"]) == (name, wanted.steps) for row in found):
                add(train(name, wanted.steps, pictures, out))
    latest = {row["model"]: row for row in found if row["steps"] in (0, wanted.steps)}
    rows = [result for name in (*STACKED, "floor") if name in latest for result in row_of(name, latest[name])]
    if not rows:
        raise SystemExit(f"{out} holds no results of {wanted.steps} steps yet.")
    report.publish("stacked-mnist", rows, wanted.write)


def row_of(name: str, row: dict[str, Any]) -> list[Result]:
    """Return the results of a model, and those of its paper."""
    labels = {"images": f"floor: {SAMPLES:,} training images" if name == "floor" else f"`{name}`"}
    values = {"modes_lenet": row["modes"], "kl_modes_lenet": row["kl"]}
    about: dict[str, Any] = {"model": name, "data": "stacked MNIST"}
    theirs = dict(zip((f"{metric}@published" for metric in values), PAPERS.get(name, ()), strict=False))
    trained = {} if name == "floor" else {"preset": name, "steps": row["steps"], "seeds": 1}
    return [*report.row(labels, values, **about, **trained), *report.row(labels, theirs, **about, source=SOURCE)]


if __name__ == "__main__":
    main()
