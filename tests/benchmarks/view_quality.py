"""Scenes learned here, PSNR over time: python -m tests.benchmarks.view_quality --data DIR [--write]

DIR is the folder of real data (JAXGEN_TEST_DATA). Each model learns NeRF's lego, of images of 50x50, by the user's
command, and is scored on held-out views while it trains, as `--eval.every` does. The last checkpoint is scored on
all of them. A run that is finished, or was stopped by hand, is not repeated with --table.
"""

import json
import subprocess
import sys
from pathlib import Path

from tests.benchmarks import report

COMMON = "--model.image 50 50 3 --model.rays 32 --batch 8 --log.every 50"
SCORED = "--log.count 4 --eval.every 250 --eval.batches 1 --eval.metrics psnr_rgb --mesh.data 1"
GRID = "--model.table 14 --model.levels 8 --model.finest 256 --model.near 2 --model.far 6 --model.samples 32"
MODELS = {  # settings and steps
    "hash-grid": (f"{GRID} --model.parts 64 --model.cells 32", 2500),
    "nerf": ("--model.width 64 --model.coarse 32 --model.fine 32", 2000),
}


def main():
    wanted = report.quality(__doc__, "view-quality").parse_args()
    out = wanted.out.absolute()
    for name in wanted.only.split("+") if wanted.only else MODELS:
        if not wanted.table:
            train(name, wanted.data.absolute() / "nerf" / "lego400.tar", out / name)
    publish(out, wanted.write)


def train(name: str, data: Path, run: Path):
    """Train a model, and score its last checkpoint on all held-out views."""
    settings, steps = MODELS[name]
    words = [*f"{COMMON} {SCORED} {settings}".split(), "--data.source", f"nerf:{data}", "--steps", str(steps)]
    command = [sys.executable, "-m", "train.rendering", "--preset", name, *words, "--out", str(run)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    score = [sys.executable, "-m", "jaxgen", "evaluate", str(run), "--metrics", "psnr_rgb"]
    subprocess.run(score, check=True, capture_output=True, text=True)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def publish(out: Path, write: bool):
    rows = []
    for name, (settings, _) in MODELS.items():
        seconds = report.trained(out / name)
        final = {line["step"]: line["value"] for line in lines(out / name / "evaluations.jsonl")}
        scored = {line["step"]: line.get("eval/test/psnr_rgb") for line in lines(out / name / "metrics.jsonl")}
        scored = {step: psnr for step, psnr in scored.items() if psnr is not None or step in final}
        for step, psnr in sorted((dict.fromkeys(final) | scored).items()):
            spent = max(t for at, t in seconds.items() if at <= step) / 60
            values = {"training_minutes": spent, "psnr_rgb@8 views": psnr, "psnr_rgb": final.get(step)}
            about = {"model": name, "preset": name, "data": "lego 50x50", "steps": step, "seeds": 1}
            about |= {"settings": f"{COMMON} {settings}"}
            rows += report.row({"model": f"`{name}`", "after": f"{step:,} steps"}, values, **about)
    report.publish("view-quality", rows, write)


if __name__ == "__main__":
    main()
