"""The shipped weights: python -m tests.benchmarks.shipped --data DIR [--only denoise+enlarge-x4] [--write]

DIR is the folder of real data (JAXGEN_TEST_DATA). None of its images that are scored here were trained on. Enlarging:
as in restoration_scores.py, beside bicubic. Other degradations: those of the weights' training, keyed by the image's
number, beside the degraded input; noise also at sigma 25, from numpy.random.RandomState(0), and none at all. A denoiser
is scored on images without noise, too: what it does to them is damage. Seconds: one colour image of 512x512, without
compilation.
"""

import argparse
import io
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from jaxgen.commands.restore import ImageRestorer
from jaxgen.core.cache import use_compilation_cache
from jaxgen.data.degradations import Degradation
from jaxgen.inference.restoration import Model, open_model
from jaxgen.media import photo
from jaxgen.media.comparison_sheet import measured
from jaxgen.pretrained import catalogue
from tests.benchmarks import report

PHOTOGRAPHS = (
    *(f"photos/{name}" for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")),
    *("photos/china.jpg", "photos/flower.jpg", "style/content/tubingen.jpg"),
)
SIGMA = 25
MOST = 50.0  # dB that an image counts as at most


def images(data: Path, name: str) -> Iterator[np.ndarray]:
    """Yield the images f32[h w c] of a set in [-1, 1]."""
    if name == "photographs":
        yield from (photo.read(data / path).pixels for path in PHOTOGRAPHS)
    elif name == "flowers":
        with zipfile.ZipFile(data / "flowers128/flowers128_2000.zip") as file:
            names = sorted(name for name in file.namelist() if name.endswith(".jpg"))[::10]  # 200 of five classes
            for one in names:
                yield np.asarray(Image.open(io.BytesIO(file.read(one))).convert("RGB"), np.float32) / 127.5 - 1
    else:
        yield from (photo.read(path).pixels for path in photo.find(data / name))


def tasks(model: Model) -> list[tuple[str, str]]:
    """Return the sets and cases that weights are scored on: (set, "training" | "sigma 25" | "clean")."""
    if model.scale > 1:
        return [(name, "training") for name in ("sr/Set5", "sr/Set14", "photographs")]
    every = [("flowers", "training"), ("photographs", "training")]
    if not isinstance(model.degrade, Degradation) or replace(model.degrade, noise=(0.0, 0.0)) != Degradation():
        return every  # not a denoiser
    return [("denoise/BSD68", f"sigma {SIGMA}"), ("photographs", f"sigma {SIGMA}"), ("photographs", "clean"), *every]


def scores(model: Model, data: Path, name: str, case: str) -> dict[str, float]:
    """Return the means over a set: PSNR of inputs and answers in dB, the share improved, and the worst change."""
    scale, noise, before, after, metric = int(model.scale), np.random.RandomState(0), [], [], ""
    work, bicubic = restorer(model, scale > 1), restorer(open_model("bicubic", "", scale)) if scale > 1 else None
    for number, clean in enumerate(images(data, name)):
        if case == "training":
            given, conditioning = work.degraded(clean, str(number))
            clean = clean[: len(given) * scale, : given.shape[1] * scale]
        else:
            given = clean if case == "clean" else clean + noise.normal(0, SIGMA / 127.5, clean.shape)
            given, conditioning = given.astype(np.float32), {}
        answer = np.concatenate(list(work.restored(given, conditioning)))
        simple = np.concatenate(list(bicubic.restored(given, {}))) if bicubic else given
        found = [measured(clean, x, scale) for x in (simple, answer)]
        kind = "psnr_y" if scale > 1 or clean.shape[2] == 1 else "psnr_rgb"  # enlarged and grey images: the luma
        metric = next(key for key in found[0] if key.startswith(kind))
        before.append(min(found[0][metric], MOST))
        after.append(min(found[1][metric], MOST))
    change = np.subtract(after, before)
    return {
        f"{metric}@input": float(np.mean(before)),
        metric: float(np.mean(after)),
        "improved": float((change > 0).mean()),
        "worst_change": float(change.min()),
    }


def restorer(model: Model, degrade: bool = False) -> ImageRestorer:
    """Return what the command `restore` works with."""
    return ImageRestorer(model, 384, 32, False, 1e9, 0, None, degrade)


def seconds(model: Model, data: Path) -> float:
    """Return the seconds that a colour image of 512x512 takes; for an enlarger that is the input."""
    image = photo.read(data / "photos/astronaut.png").pixels
    work, best = restorer(model), np.inf
    for _ in range(3):
        start = time.perf_counter()
        list(work.restored(image, {}))
        best = min(best, time.perf_counter() - start)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of real data")
    parser.add_argument("--only", help="some of the weights, with + between")
    parser.add_argument("--write", action="store_true", help=report.WRITE)
    wanted = parser.parse_args()
    use_compilation_cache()
    rows = []
    for name in wanted.only.split("+") if wanted.only else restorers():
        entry, model = catalogue.entry_of(name), open_model(name, "", None)
        about = {"model": name, "preset": entry.preset, "weights": name}
        time_taken = seconds(model, wanted.data)
        for folder, case in tasks(model):
            found = scores(model, wanted.data, folder, case)
            title = folder.rpartition("/")[2] + ("" if case == "training" else f", {case}")
            labels = {"weights": name, "for": entry.what, "images": title}
            rows += report.row(labels, found | {"seconds": time_taken}, **about, data=title)
            print(labels, found, flush=True)
    report.publish("shipped", rows, wanted.write)


def restorers() -> list[str]:
    """Return the names of the shipped weights that restore whole images without a mask."""
    found = []
    for name in catalogue.names():
        entry = catalogue.entry_of(name)
        if entry.shipped and entry.family in ("restoration", "super_resolution") and name != "fill":
            found.append(name)
    return found


if __name__ == "__main__":
    main()
