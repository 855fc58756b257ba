"""Anomalies among digits: python -m tests.benchmarks.anomaly --data DIR [--steps N] [--only 0-9] [--write]

A VAE is trained on nine digits of MNIST and has to find the tenth in the test set, as `python -m jaxgen score` ranks
it: by an importance-weighted estimate of -log p(x), and by the squared error of the reconstruction. DIR is the folder
of real data (JAXGEN_TEST_DATA). Runs that are finished are not repeated, and --table shows what is there.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from jaxgen.core.errors import numbers
from tests.benchmarks import report

SAMPLES = 10  # of z, for each image's likelihood


def measure(digit: int, steps: int, data: Path, out: Path) -> dict[str, Any]:
    """Train without a digit where OUT has no such run, and return the areas under the curve for finding it."""
    from jaxgen.commands.score import anomalous, data_at, scores_of
    from jaxgen.data import open_source
    from jaxgen.metrics.auroc import auroc
    from jaxgen.runs.load import open_run

    folder = out / f"without-{digit}-{steps}"
    kept = ",".join(str(d) for d in range(10) if d != digit)
    settings = ["--data.source", "tfds:mnist", "--data.dir", str(data / "tfds"), "--data.only", kept]
    settings += ["--steps", str(steps), "--log.samples", "0", "--out", str(folder)]
    call = [sys.executable, "-m", "train.vae", "--preset", "vae", *settings]
    subprocess.run(["nice", "-n", "5", *call], check=True, stdout=subprocess.DEVNULL)
    opened = open_run(folder)
    about = data_at(opened.run, "tfds:mnist", "test")
    source = open_source(about, (28, 28, 1))
    odd = anomalous(source, str(digit))
    found: dict[str, Any] = {"digit": digit, "steps": steps}
    for by in ("likelihood", "reconstruction"):
        found[by] = auroc(scores_of(opened, source, about, by, SAMPLES), odd)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of real data")
    parser.add_argument("--out", type=Path, default=Path("runs/anomaly"), help="(default %(default)s)")
    parser.add_argument("--steps", type=int, default=3000, help="of 100 images (default %(default)s)")
    parser.add_argument("--only", default="0-9", help="which digits are left out in turn (default %(default)s)")
    parser.add_argument("--table", action="store_true", help="train nothing: show what is there")
    parser.add_argument("--write", action="store_true", help=report.WRITE)
    wanted = parser.parse_args()
    out = wanted.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    file = out / "results.jsonl"
    found = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    for digit in () if wanted.table else numbers(wanted.only, 10, "only"):
        if not any((row["digit"], row["steps"]) == (digit, wanted.steps) for row in found):
            found.append(measure(digit, wanted.steps, wanted.data.absolute(), out))
            print(found[-1], flush=True)
            with file.open("a") as opened:
                opened.write(json.dumps(found[-1]) + "\n")
    rows = sorted((row for row in found if row["steps"] == wanted.steps), key=lambda row: row["digit"])
    if not rows:
        raise SystemExit(f"{out} holds no results of {wanted.steps} steps yet.")
    columns = ("likelihood", "reconstruction")
    mean = {"digit": "mean", **{by: sum(row[by] for row in rows) / len(rows) for by in columns}}
    table = []
    for row in [*rows, mean]:
        values = {f"auroc_{by}": row[by] for by in columns}
        about = {"preset": "vae", "data": "MNIST", "steps": wanted.steps, "seeds": 1}
        table += report.row({"digit left out": str(row["digit"])}, values, model="vae", **about)
    report.publish("anomaly", table, wanted.write)


if __name__ == "__main__":
    main()
