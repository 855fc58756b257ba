"""Images/s beside a torch DataLoader doing the same work: python -m tests.benchmarks.input_pipeline [--write]

Needs torch and JAXGEN_TEST_DATA. Both read the same files, resize with Pillow's bicubic filter, and give shuffled f32
batches in [-1, 1]; 2 threads (ours) against 2 worker processes (torch's), alternating in one run. "first" is ours with
nothing kept in memory, as in a first epoch; "later" is ours as it runs from the second epoch on.
"""

import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from jaxgen.core.config import Data
from jaxgen.data import batches, examples, open_source
from jaxgen.evaluation.results import Result
from tests.benchmarks import report

BATCH, WORKERS, ROUNDS = 64, 2, 5
SETS = {"MNIST, 32x32": ((32, 32, 1), 300), "flowers128, 64x64": ((64, 64, 3), 30)}  # size, batches a round


class Mnist:
    """A torch map-style dataset over arrays, resized one by one."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, size: int):
        self.images, self.labels, self.size = images, labels, size

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple:
        import torch  # pyright: ignore[reportMissingImports]

        picture = Image.fromarray(self.images[index]).resize((self.size, self.size), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(picture)[None]).float().div_(127.5).sub_(1), int(self.labels[index])


class Flowers:
    """A torch map-style dataset over image files."""

    def __init__(self, names: list[Path], labels: list[int], size: int):
        self.names, self.labels, self.size = names, labels, size

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple:
        import torch  # pyright: ignore[reportMissingImports]

        with Image.open(self.names[index]) as picture:
            picture = picture.convert("RGB").resize((self.size, self.size), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
        return pixels.float().div_(127.5).sub_(1), self.labels[index]


def rows() -> list[Result]:
    """Return the results of each set: images/s of ours (first pass, later passes) and of torch, and their ratios."""
    real = os.environ.get("JAXGEN_TEST_DATA")
    if not real:
        sys.exit("Set JAXGEN_TEST_DATA to the folder of real data.")
    table = []
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(f"{real}/flowers128/flowers128_2000.zip") as file:
            file.extractall(folder)
        for (name, (image, count)), source_name in zip(
            SETS.items(), (f"idx:{real}/mnist", f"folder:{folder}/flowers"), strict=True
        ):
            data = Data(source=source_name, threads=WORKERS, crop="none")
            source: Any = open_source(data)
            if name.startswith("MNIST"):
                dataset: Any = Mnist(source.images[..., 0], source.labels, image[0])
            else:
                dataset = Flowers([source.path / part for part in source.names], source.labels, image[0])
            kept = batches(source, data, image, batch=BATCH, seed=0)
            for _ in range(-(-len(source) // BATCH) + 1):  # one epoch, so that all is kept
                next(kept)
            examples.CACHE_BYTES = 0
            fresh = batches(source, data, image, batch=BATCH, seed=0)
            examples.CACHE_BYTES = 2**30
            theirs = torch_batches(dataset)
            rates = alternate({"first": fresh, "later": kept, "torch": theirs}, count)
            kept.close()
            fresh.close()
            cases = {"first": "first pass", "later": "later passes", "torch": "PyTorch"}
            values = {f"images_per_second@{cases[key]}": rate for key, rate in rates.items()}
            values |= {f"speed_ratio@{cases[key]}": rates[key] / rates["torch"] for key in ("first", "later")}
            table += report.row({"set": name}, values, model="input pipeline", data=name)
    return table


def torch_batches(dataset: Any) -> Iterator:
    """Yield torch batches without end."""
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(WORKERS)
    batched = torch.utils.data.DataLoader(dataset, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)
    while True:
        yield from batched


def alternate(iterators: dict[str, Iterator], count: int) -> dict[str, float]:
    """Return the median images/s of each iterator over ROUNDS turns of `count` batches."""
    rates: dict[str, list[float]] = {name: [] for name in iterators}
    for turn in range(ROUNDS + 1):
        for name, iterator in iterators.items():
            for _ in range(8):  # what was read ahead while the others had their turn
                next(iterator)
            start = time.perf_counter()
            for _ in range(count):
                next(iterator)
            if turn:  # the first turn warms up
                rates[name].append(count * BATCH / (time.perf_counter() - start))
    return {name: median(values) for name, values in rates.items()}


if __name__ == "__main__":
    options = report.arguments(__doc__, ROUNDS)
    ROUNDS = options.rounds
    report.publish("input-pipeline", rows(), options.write)
