"""What enlarging a photograph takes: python -m tests.benchmarks.restore_memory --weights WEIGHTS [--size H W] [--write]

The peak of the resident memory of `python -m jaxgen restore` in a process of its own, imports and compilation included,
on an image of noise, and how long it took.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks import report

MEMORY = 4  # GiB that it is allowed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="of IMDN x4")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(3000, 4000), help="height and width (default %(default)s)"
    )
    parser.add_argument("--write", action="store_true", help=report.WRITE)
    wanted = parser.parse_args()
    height, width = wanted.size
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).save(picture)
        start = time.perf_counter()
        command = [sys.executable, "-m", "jaxgen", "restore", str(picture), "--with", str(wanted.weights)]
        subprocess.run([*command, "--memory", str(MEMORY)], check=True)
        seconds = time.perf_counter() - start
    kibibytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    labels = {"image": f"{height}x{width}", "answer": f"{4 * height}x{4 * width}", "weights": "IMDN x4"}
    values = {"memory_limit_gib": MEMORY, "peak_memory_gib": kibibytes / 2**20, "minutes": seconds / 60}
    rows = report.row(labels, values, model="imdn", preset="imdn", weights=wanted.weights.name)
    report.publish("restore-memory", rows, wanted.write)


if __name__ == "__main__":
    main()
