"""Features and FID beside PyTorch: python -m tests.benchmarks.features [--write] [--rounds N]

lenet: 10,000 images of 32x32 in host memory, 8-bit rounding, the features of a LeNet-5, their moments and the Fréchet
distance to another Gaussian: what `evaluate --metrics fid_lenet --count 10000` does after the samples are drawn. Beside
it the same network in PyTorch eager, and NumPy's covariance and SciPy's root of a matrix, as the usual packages do.
inception: the same for FID's Inception-v3 with random weights at 299x299, of 64 images of 32x32, without the distance
(of 2,048 dimensions: tests.benchmarks.frechet). tests/benchmarks/turns.py says how the sides take turns.
"""

import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.benchmarks import report, turns

COUNTS = {"lenet": 10_000, "inception": 64}
BATCH = {"lenet": 500, "inception": 32}


def pictures(net: str) -> np.ndarray:
    channels = {"lenet": 1, "inception": 3}[net]
    return np.random.default_rng(0).uniform(-1, 1, (COUNTS[net], 32, 32, channels)).astype(np.float32)


def ours(net: str) -> Callable[[], Any]:
    """Return what takes in all images as `evaluate` does, and gives the distance."""
    import jax

    from jaxgen import zoo
    from jaxgen.core import cache
    from jaxgen.metrics.accumulate import MOMENTS
    from jaxgen.metrics.frechet import FRECHET
    from jaxgen.nn.resample import resize_tf1
    from jaxgen.pretrained.feature_extractors import extractor, of_task

    cache.use_compilation_cache()
    if net == "lenet":
        made = extractor("lenet")
    else:
        task = zoo.load("inception-v3-fid").run.model.task(1)
        params, extra = jax.jit(lambda: task.init(jax.random.key(0), {}))()
        made = of_task(net, task, "classifier", {"params": params["classifier"], **extra["classifier"]}, "2048")

    @jax.jit
    def extract(variables, x):
        x = jax.numpy.clip(jax.numpy.rint((x + 1) * 127.5), 0, 255) / 127.5 - 1
        return made.apply(variables, x if net == "lenet" else resize_tf1(x, (299, 299)))["features"]

    update, images = jax.jit(MOMENTS.update), pictures(net)
    valid = np.ones(BATCH[net], bool)
    d = jax.eval_shape(extract, made.variables, images[:1]).shape[1]

    def moments(images):
        state = MOMENTS.empty(d)
        for i in range(0, len(images), BATCH[net]):
            state = update(state, extract(made.variables, images[i : i + BATCH[net]]), valid)
        return jax.device_get(state)

    if net == "inception":
        return lambda: moments(images)
    other = moments(images[::-1] * 0.9)
    return lambda: FRECHET.result(other, moments(images))


def theirs(net: str) -> Callable[[], Any]:
    """Return the same in PyTorch eager, NumPy and SciPy."""
    import torch  # pyright: ignore[reportMissingImports]
    from scipy.linalg import sqrtm
    from torch import nn  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(turns.THREADS)
    torch.manual_seed(0)
    if net == "lenet":
        layers = [nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
        model = nn.Sequential(*layers, nn.Conv2d(16, 120, 5), nn.ReLU(), nn.Flatten(), nn.Linear(120, 84), nn.ReLU())
    else:
        from tests.helpers.torch_reference import prepare

        prepare()
        from torch_fidelity.feature_extractor_inceptionv3 import (  # pyright: ignore[reportMissingImports]
            FeatureExtractorInceptionV3,
        )

        class Random(FeatureExtractorInceptionV3):
            def load_state_dict(self, *args, **kwargs):
                """Keep the random weights it is made with: its own are a download."""

        with tempfile.TemporaryDirectory() as folder:
            torch.save({}, f"{folder}/none.pth")  # the constructor wants a file
            model = Random("inception", ["2048"], f"{folder}/none.pth")
    model.eval()
    images = torch.from_numpy(pictures(net).transpose(0, 3, 1, 2).copy())

    @torch.no_grad()
    def features(images) -> np.ndarray:
        found = []
        for x in images.split(BATCH[net]):
            x = ((x + 1) * 127.5).round().clip(0, 255)
            found.append(model(x / 127.5 - 1) if net == "lenet" else model(x.to(torch.uint8))[0])
        return torch.cat(found).double().numpy()

    def moments(images):
        x = features(images)
        return x.mean(0), np.cov(x.T)

    if net == "inception":
        return lambda: moments(images)
    mean2, cov2 = moments(images.flip(0) * 0.9)

    def distance():
        mean1, cov1 = moments(images)
        return np.square(mean1 - mean2).sum() + np.trace(cov1 + cov2 - 2 * np.real(sqrtm(cov1 @ cov2)))

    return distance


SIDES: turns.Sides = {
    "jaxgen, LeNet-5": lambda: ours("lenet"),
    "PyTorch, LeNet-5": lambda: theirs("lenet"),
    "jaxgen, Inception-v3": lambda: ours("inception"),
    "PyTorch, Inception-v3": lambda: theirs("inception"),
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        turns.work(SIDES, sys.argv[2], repeats=1)
    else:
        wanted = report.arguments(__doc__, rounds=5)
        rows = []
        for net, count in COUNTS.items():
            sides = {name: side for name, side in SIDES.items() if net in name.lower()}
            rows += turns.measure("tests.benchmarks.features", sides, wanted.rounds, count, "features")
        report.publish("features", rows, wanted.write)
