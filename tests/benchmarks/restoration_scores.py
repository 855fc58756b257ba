"""Published weights on the standard sets: python -m tests.benchmarks.restoration_scores --data DIR [--write]

DIR is the folder of real data (JAXGEN_TEST_DATA). Whole images, untiled. Enlarging: the image is made small by
MATLAB's bicubic, with or without rounding to 8 bits as in the net's training, and PSNR is of the luma of studio range
with as many pixels shaved off as the factor, grey images as in jaxgen/media/comparison_sheet.py; noise: Gaussian, sigma
25, numpy.random.RandomState(0) through a set in the order of names, neither clipped nor rounded. The figure of each
image is printed: faults of single images are not seen in a mean.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.commands.restore import ImageRestorer
from jaxgen.core.cache import use_compilation_cache
from jaxgen.inference.restoration import Model, open_model
from jaxgen.media import photo
from jaxgen.media.comparison_sheet import measured
from tests.benchmarks import report

VDSR, IMDN, DNCNN = "weights/vdsr_model_epoch_50.pth", "weights/IMDN_x4.pth", "weights/dncnn_25.pth"
SPAN = {scale: f"weights/span/spanx{scale}_ch48.bin" for scale in (2, 4)}  # published for ncnn, without scores
PRESETS = {VDSR: "vdsr", IMDN: "imdn", DNCNN: "dncnn", SPAN[2]: "span", SPAN[4]: "span"}
SOURCES = {
    "bicubic": "Kim, Lee and Lee 2016",
    VDSR: "https://github.com/twtygqyy/pytorch-vdsr",
    IMDN: "Hui et al. 2019",
    DNCNN: "Zhang et al. 2017",
    SPAN[2]: "Wan et al. 2024",
    SPAN[4]: "Wan et al. 2024",
}
# What restores, at which scale, on which set, and the published PSNR of these weights.
ROWS: list[tuple[str, int, str, float | None]] = [
    *(("bicubic", s, "sr/Set5", p) for s, p in ((2, 33.66), (3, 30.39), (4, 28.42))),
    *(("bicubic", s, "sr/Set14", p) for s, p in ((2, 30.24), (3, 27.55), (4, 26.00))),
    *((VDSR, s, "sr/Set5", p) for s, p in ((2, 37.65), (3, 33.77), (4, 31.45))),
    *((VDSR, s, "sr/Set14", None) for s in (2, 3, 4)),
    (IMDN, 4, "sr/Set5", 32.21),
    (IMDN, 4, "sr/Set14", 28.58),
    *((SPAN[s], s, f"sr/{test}", None) for test in ("Set5", "Set14") for s in (2, 4)),
    (DNCNN, 1, "denoise/Set12", 30.44),
    (DNCNN, 1, "denoise/BSD68", 29.23),
]


def scores_of(model: Model, folder: Path) -> dict[str, Any]:
    """Return the mean scores of a folder's images, and how long restoring them took, compilation included."""
    scale = int(model.scale)
    work, noise = ImageRestorer(model, 0, 0, False, 1e9, 0, None, scale > 1), np.random.RandomState(0)
    found, seconds = [], 0.0
    for file in photo.find(folder):
        clean = photo.read(file).pixels
        if scale > 1:
            given, conditioning = work.degraded(clean)
            clean = clean[: len(given) * scale, : given.shape[1] * scale]
        else:
            given, conditioning = (clean + noise.normal(0, 25 / 127.5, clean.shape)).astype(np.float32), {}
        start = time.perf_counter()
        answer = np.concatenate(list(work.restored(given, conditioning)))
        seconds += time.perf_counter() - start
        values = measured(clean, answer, scale)
        found.append({name.partition("_border")[0]: value for name, value in values.items()})
        print(f"{file.stem} {found[-1]['psnr_y']:.2f}", flush=True)
    means = {name: float(np.mean([one[name] for one in found])) for name in ("psnr_y", "ssim_y")}
    return means | {"pictures": len(found), "seconds": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of real data")
    parser.add_argument("--only", help="some of the weights, with + between, such as bicubic+IMDN_x4.pth")
    parser.add_argument("--write", action="store_true", help=report.WRITE)
    wanted = parser.parse_args()
    use_compilation_cache()
    rows = []
    for what, scale, folder, theirs in ROWS:
        name, data = (text.rpartition("/")[2] for text in (what, folder))
        task, border = (f"x{scale}", f"_border{scale}") if scale > 1 else ("sigma 25", "")
        labels = {"weights": name, "task": task, "set": data}
        about = {"model": name, "preset": PRESETS.get(what), "data": f"{data} {task}"}
        rows += report.row(labels, {f"psnr_y{border}@published": theirs}, **about, source=SOURCES[what])
        if wanted.only and name not in wanted.only.split("+"):
            continue
        model = open_model(str(wanted.data / what) if "/" in what else what, "", scale)
        found = scores_of(model, wanted.data / folder)
        values = {f"psnr_y{border}": found["psnr_y"], f"ssim_y{border}": found["ssim_y"], "seconds": found["seconds"]}
        rows += report.row(labels, values, **about, weights=name if "/" in what else None)
        print(labels, values, flush=True)
    report.publish("restoration-scores", rows, wanted.write)


if __name__ == "__main__":
    main()
