"""Restorers trained here, beside interpolation: python -m tests.benchmarks.restoration_quality --data DIR [--write]

DIR is the folder of real data (JAXGEN_TEST_DATA). Enlarging is learned on T91 and scored on Set5, noise of sigma 25 on
Train400 and Set12, its last checkpoint on BSD68 too, as restoration_scores.py scores published weights. Each model is
trained by the user's command for the given minutes, or rather the steps that are thought to take them; every checkpoint
is scored, and curve.png in OUT draws PSNR over time: with --write it is README's. vdsr-short is planned to take as long
as edsr-small. A run that is finished is not repeated.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import report
from tests.benchmarks.restoration_scores import scores_of

CHECKPOINTS = 6
CURVE = report.README.parent / "notebooks" / "restoration-curve.png"


@dataclass(frozen=True)
class Model:
    """A preset, what is changed of it, for how many steps, and what it is scored on."""

    script: str
    preset: str
    settings: str
    steps: int
    train: str
    test: str
    scale: int = 2


SOURCE, FAST = "sr/T91", "--model.recipe.learning-rate 1e-3"
VDSR = f"--batch 8 --model.scales 2 {FAST}"
SMALL = "--batch 8 --model.image 64 64 3 --model.width 32 --model.depth 8"
MODELS = {
    "srcnn": Model("super_resolution", "srcnn", f"--batch 16 {FAST}", 16_000, SOURCE, "sr/Set5"),
    "vdsr": Model("super_resolution", "vdsr", VDSR, 4800, SOURCE, "sr/Set5"),
    "vdsr-short": Model("super_resolution", "vdsr", VDSR, 600, SOURCE, "sr/Set5"),
    "edsr-small": Model("super_resolution", "edsr", f"{SMALL} {FAST}", 4000, SOURCE, "sr/Set5"),
    "dncnn": Model("restoration", "dncnn", "--batch 32", 6000, "denoise/Train400", "denoise/Set12", 1),
}


def main():
    parser = report.quality(__doc__, "restoration-quality")
    wanted = parser.parse_args()
    out = wanted.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    if not wanted.table:
        for name in wanted.only.split("+") if wanted.only else MODELS:
            measure(name, MODELS[name], wanted.data.absolute(), out)
    publish(wanted.data.absolute(), out, wanted.write)


def measure(name: str, model: Model, data: Path, out: Path):
    """Train a model and score its checkpoints, a line of OUT/results.jsonl each; what is there is not done again."""
    run = out / name
    settings = [*model.settings.split(), "--data.source", f"folder:{data / model.train}", "--steps", str(model.steps)]
    every = model.steps // CHECKPOINTS // 50 * 50  # a multiple of a call's steps
    settings += ["--save.every", str(every), "--save.keep", str(CHECKPOINTS), "--out", str(run)]
    settings += [*report.many_steps(), "--log.every", "50", "--log.samples", str(model.steps)]
    settings += ["--optim.schedule", "cosine"]
    command = [sys.executable, "-m", f"train.{model.script}", "--preset", model.preset, *settings]
    subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, known = report.trained(run), {(row["model"], row["step"], row["set"]) for row in report.results(out)}
    for step in sorted(int(file.stem) for file in (run / "checkpoints").glob("*.sha256")):
        tests = [model.test, "denoise/BSD68"] if name == "dncnn" and step == model.steps else [model.test]
        spent = max(t for at, t in seconds.items() if at <= step)
        for test in tests:
            if (name, step, test) in known:
                continue
            psnr = score(run, step, data / test, model.scale)
            row = {"model": name, "step": step, "seconds": spent, "set": test, "psnr": psnr, "place": report.place()}
            print(row, flush=True)
            with (out / "results.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")


def score(run: Path, step: int, folder: Path, scale: int) -> float:
    """Return the mean PSNR of luma of a set, whole images, by a run's averaged weights at a step."""
    import jax

    from jaxgen.core.cache import use_compilation_cache
    from jaxgen.core.capabilities import Degradation, Transform
    from jaxgen.core.config import Mesh
    from jaxgen.core.spec import spec_of
    from jaxgen.core.types import averaged
    from jaxgen.inference.restoration import Model as Opened
    from jaxgen.runs import checkpoint, sharding
    from jaxgen.runs.config_io import load_config
    from jaxgen.runs.load import build_task

    use_compilation_cache()
    config, mesh = load_config(run), sharding.make_mesh(Mesh(data=1))
    task = build_task(config, mesh)
    like = sharding.abstract_state(task, mesh, spec_of(task, config.batch))
    state, _ = checkpoint.restore(run / "checkpoints", step, like)
    params, context = averaged(jax.device_put(state), {})
    degrade = task.get(Degradation).degrade
    opened = Opened(task.get(Transform), degrade, params, context, scale, run.name)
    return scores_of(opened, folder)["psnr_y"]


def publish(data: Path, out: Path, write: bool):
    from jaxgen.inference.restoration import open_model

    found = report.results(out)
    bicubic = scores_of(open_model("bicubic", "", 2), data / "sr/Set5")["psnr_y"]
    there = {"vdsr-short", "edsr-small"} <= {row["model"] for row in found}
    for target in (out / "curve.png", *([CURVE] if write and there else [])):
        plot(found, bicubic, target)
    values = {"psnr_y_border2": bicubic}
    rows = report.row({"model": "bicubic", "set": "Set5 x2"}, values, model="bicubic", data="Set5 x2", steps=0)
    for name, model in MODELS.items():
        for row in (row for row in found if row["model"] == name and row["step"] == model.steps):
            what = f"{row['set'].rpartition('/')[2]} {f'x{model.scale}' if model.scale > 1 else 'sigma 25'}"
            border = f"_border{model.scale}" if model.scale > 1 else ""
            values = {"training_minutes": row["seconds"] / 60, f"psnr_y{border}": row["psnr"]}
            about = {"model": name, "preset": model.preset, "data": what, "steps": row["step"], "seeds": 1}
            about |= {"settings": model.settings, "places": [row["place"]]}
            rows += report.row({"model": f"`{name}`", "set": what}, values, **about)
    report.publish("restoration-quality", rows, write)


def plot(found: list[dict[str, Any]], bicubic: float, target: Path):
    """Draw PSNR on Set5 over minutes, and on Set12."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    tests = [test for test in ("sr/Set5", "denoise/Set12") if any(row["set"] == test for row in found)]
    for i, test in enumerate(tests):
        axes = figure.add_subplot(
            1, len(tests), i + 1, title=test.rpartition("/")[2], xlabel="minutes", ylabel="PSNR Y, dB"
        )
        for name in MODELS:
            if points := [
                (row["seconds"] / 60, row["psnr"]) for row in found if (row["model"], row["set"]) == (name, test)
            ]:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
        if test == "sr/Set5":
            axes.axhline(bicubic, color="grey", linestyle=":", label="bicubic")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False)
    figure.savefig(target, dpi=100)


if __name__ == "__main__":
    main()
