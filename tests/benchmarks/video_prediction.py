"""Predictors of video trained for equal time: python -m tests.benchmarks.video_prediction --data DIR [--write]

DIR is the folder of real data (JAXGEN_TEST_DATA), with MNIST. Three small nets learn `moving-digits` by the user's
command, each for the steps that take about 5 minutes of one core, and are scored by `evaluate` on the first 1,000 clips
of the test set, 10 frames to 10, beside the last frame repeated. A run that is finished is not repeated.
"""

import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.core.config import Data
from jaxgen.data import open_source
from tests.benchmarks import report

COUNT = 1000  # clips of the test set
METRICS = "mse_pixel_sum", "mae_pixel_sum", "psnr_rgb"
COPY = "last frame repeated"


@dataclass(frozen=True)
class Model:
    """A preset, what is changed of it, and for how many steps."""

    preset: str
    settings: str
    steps: int


MODELS = {
    "convlstm-small": Model("convlstm", "--batch 4 --model.widths 32 32 --model.sampling-steps 250", 620),
    "convmixer-small": Model(
        "simvp-convmixer", "--batch 4 --model.width 16 --model.hidden 128 --model.depth 4", 430
    ),
    "phydnet-small": Model("phydnet", "--batch 2 --model.widths 64 --model.teacher-steps 490", 295),
}  # fmt: skip


def main():
    parser = report.quality(__doc__, "video-prediction")
    wanted = parser.parse_args()
    out, data = wanted.out.absolute(), wanted.data.absolute()
    out.mkdir(parents=True, exist_ok=True)
    if not wanted.table:
        known = {row["model"] for row in report.results(out)}
        for name in wanted.only.split("+") if wanted.only else (COPY, *MODELS):
            if name not in known:
                row = copied(data) if name == COPY else measured(MODELS[name], data, out / name)
                row |= {"model": name, "place": report.place()}
                print(row, flush=True)
                with (out / "results.jsonl").open("a") as file:
                    file.write(json.dumps(row) + "\n")
    publish(out, wanted.write)


def source_of(data: Path) -> str:
    return f"moving-digits:{data / 'mnist'}"


def copied(data: Path) -> dict[str, Any]:
    """Return the scores of the last frame of the past as each predicted one."""
    source = open_source(Data(source_of(data), split="test"))
    clips = np.stack([source[i]["video"] for i in range(COUNT)]).astype(np.float64) / 255  # [n 20 h w 1]
    error = clips[:, 10:] - clips[:, 9:10]
    squares = np.square(error).sum((2, 3, 4))
    values = squares.mean(), np.abs(error).sum((2, 3, 4)).mean(), (-10 * np.log10(squares / error[0, 0].size)).mean()
    return {"values": dict(zip(METRICS, map(float, values), strict=True))}


def measured(model: Model, data: Path, run: Path) -> dict[str, Any]:
    """Train a model and score it; return its scores and the CPU minutes of the training, where it was done here."""
    settings = ["--data.source", source_of(data), "--steps", str(model.steps), "--out", str(run)]
    settings += ["--log.every", "20", "--log.samples", str(model.steps), "--save.every", str(model.steps)]
    command = ["-m", "train.video", "--preset", model.preset, *model.settings.split(), *settings]
    values = {}
    if not (run / "checkpoints" / f"{model.steps}.sha256").exists():
        before = cpu_seconds()
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        values["cpu_minutes"] = (cpu_seconds() - before) / 60
    scores = ["-m", "jaxgen", "evaluate", str(run), "--split", f"test[:{COUNT}]", "--metrics", ",".join(METRICS)]
    subprocess.run([sys.executable, *scores], check=True, capture_output=True)
    lines = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    return {"values": {row["metric"]: row["value"] for row in lines} | values}


def cpu_seconds() -> float:
    """Return the CPU seconds of the processes that this one has started and that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def publish(out: Path, write: bool):
    rows = []
    for row in report.results(out):
        name, model = row["model"], MODELS.get(row["model"])
        about: dict[str, Any] = {
            "model": name,
            "data": f"moving-digits, {COUNT:,} test clips",
            "places": [row["place"]],
        }
        if model:
            about |= {"preset": model.preset, "steps": model.steps, "settings": model.settings, "seeds": 1}
        rows += report.row({"model": f"`{name}`" if model else name}, row["values"], **about)
    report.publish("video-prediction", rows, write)


if __name__ == "__main__":
    main()
