"""The Fréchet distance of clips by the shipped action net: python -m tests.benchmarks.video_distance [--write]

Clips of `moving-shapes` that the net was not trained on, 16 frames of 64x64: one half beside the other, as it is, with
noise, frozen, and with frames in another order, each more and more. The distance grows with the damage to time.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.cache import use_compilation_cache
from jaxgen.core.config import Data
from jaxgen.core.spec import ArraySpec
from jaxgen.data import open_source
from jaxgen.evaluation.sample_scores import extract
from jaxgen.metrics.frechet import FRECHET_VIDEO
from jaxgen.pretrained.feature_extractors import Extractor, extractor
from tests.benchmarks import report

NAME = "action_moving_shapes"
SHAPE, COUNT, BATCH = (16, 64, 64, 3), 500, 50


def noisy(clips: np.ndarray, sigma: float) -> np.ndarray:
    """Return clips u8 with Gaussian noise of a standard deviation, of 255."""
    rng = np.random.RandomState(0)
    return np.clip(np.rint(clips + rng.normal(0, sigma, clips.shape)), 0, 255).astype(np.uint8)


def frozen(clips: np.ndarray, frames: float) -> np.ndarray:
    """Return clips whose last frames all are the one before them."""
    last = clips.shape[1] - int(frames)
    return np.concatenate([clips[:, :last], np.repeat(clips[:, last - 1 : last], int(frames), 1)], 1)


def disordered(clips: np.ndarray, share: float) -> np.ndarray:
    """Return clips in which so many parts of a hundred of the frames, at random places, change places at random."""
    rng, frames = np.random.RandomState(0), clips.shape[1]
    made = clips.copy()
    for clip, own in zip(made, clips, strict=True):
        places = np.sort(rng.permutation(frames)[: round(share / 100 * frames)])
        clip[places] = own[np.roll(places, 1)] if len(places) == 2 else own[rng.permutation(places)]
    return made


DAMAGE: dict[str, tuple[Callable[[np.ndarray, float], np.ndarray], tuple[float, ...], str]] = {
    "noise": (noisy, (20, 40, 80), "sigma {:.0f} of 255"),
    "frozen": (frozen, (4, 8, 12), "the last {:.0f} of 16 frames"),
    "disordered": (disordered, (25, 50, 100), "{:.0f} % of the frames"),
}


def halves(count: int = COUNT, shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Return two halves, drawn at random, of the first clips of the test set, u8[count t h w c] each."""
    clips, _ = labelled(2 * count, shape)
    # Not every other one: labels take turns with the numbers.
    numbers = np.random.RandomState(0).permutation(2 * count)
    return clips[numbers[:count]], clips[numbers[count:]]


def labelled(count: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first clips of the test set, u8[count t h w c], and their motions."""
    source = open_source(Data("moving-shapes", split="test"), {"video": ArraySpec("video", shape)})
    clips = [source[i] for i in range(count)]
    return np.stack([clip["video"] for clip in clips]), np.array([clip["label"] for clip in clips])


def moments(net: Extractor, clips: np.ndarray) -> Any:
    """Return the moments of the features of clips u8[n t h w c]."""
    look, update = jax.jit(partial(extract, net, "clean")), jax.jit(FRECHET_VIDEO.update)
    total: Any = None
    for start in range(0, len(clips), BATCH):
        some = clips[start : start + BATCH]
        found = look(net.variables, jnp.asarray(some, jnp.float32) / 127.5 - 1)["features"]
        total = FRECHET_VIDEO.empty(found.shape[1]) if total is None else total
        total = update(total, found, jnp.ones(len(some), bool))
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default=NAME, help="an extractor, or the folder of a run (default %(default)s)")
    parser.add_argument("--write", action="store_true", help=report.WRITE)
    wanted = parser.parse_args()
    use_compilation_cache()
    net = extractor(wanted.net)
    real, other = halves()
    base = moments(net, real)
    metric = f"fvd_{NAME}"
    distance = lambda clips: FRECHET_VIDEO.result(base, moments(net, clips))["fvd"]  # noqa: E731
    rows = report.row({"clips": "the other half", "damage": "none"}, {metric: distance(other)}, model="real clips")
    for name, (change, amounts, text) in DAMAGE.items():
        for amount in amounts:
            labels = {"clips": f"the other half, {name}", "damage": text.format(amount)}
            rows += report.row(labels, {metric: distance(change(other, amount))}, model=f"clips, {name}")
            print(rows[-1].row, rows[-1].value, flush=True)
    report.publish("video-distance", rows, wanted.write)


if __name__ == "__main__":
    main()
