"""From the command to the first image: python -m tests.benchmarks.startup [--write] [--rounds N]

Times `python -m train.gan --preset dcgan --tiny` until its first samples/*.png is there, once with an empty compilation
cache and once with what that run left.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from jaxgen.evaluation.results import Result
from tests.benchmarks import report

ROOT = Path(__file__).parents[2]
LIMIT = 300  # seconds


def first_picture(cache: Path, out: Path) -> float:
    """Return the seconds from the command to its first image; waits for the run to end."""
    command = [sys.executable, "-m", "train.gan", "--preset", "dcgan", "--tiny", "--out", str(out)]
    start = time.perf_counter()
    run = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "JAXGEN_CACHE": str(cache)}, stdout=subprocess.DEVNULL)
    while not list((out / "samples").glob("*.png")):
        if run.poll() not in (None, 0) or time.perf_counter() - start > LIMIT:
            run.kill()
            raise SystemExit(f"No image after {LIMIT} s, or the command failed.")
        time.sleep(0.02)
    seconds = time.perf_counter() - start
    run.wait()
    return seconds


def measure(rounds: int) -> list[Result]:
    """Return the results for each state of the cache."""
    times: dict[str, list[float]] = {"empty": [], "warm": []}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(rounds):
            for name, seconds in times.items():
                seconds.append(first_picture(Path(folder, f"cache{i}"), Path(folder, f"{name}{i}")))
    about: dict[str, Any] = {"model": "dcgan", "preset": "dcgan", "settings": "--tiny"}
    rows = []
    for name, seconds in times.items():
        rows += report.row({"compilation cache": name}, {"seconds": median(seconds)}, **about)
    return rows


if __name__ == "__main__":
    wanted = report.arguments(__doc__, rounds=3)
    report.publish("startup", measure(wanted.rounds), wanted.write)
