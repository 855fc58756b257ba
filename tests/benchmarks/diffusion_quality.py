"""Diffusion and flow models on MNIST: python -m tests.benchmarks.diffusion_quality --data DIR [--write]

DIR is the folder of real data (JAXGEN_TEST_DATA). Every method is trained at 32x32 with one small U-Net by the user's
commands, a flow with a transformer beside it, for equally many steps of the same batch, and its samples are scored by
fid_lenet as the GANs' are (gan_quality.py). VDM, at 28x28, is asked for its likelihood as well. With --long: after more
steps, drawn in several numbers of sampling steps; OUT/long/samples.png, the README's with --write, shows what each one
drew. A run that is finished is not repeated: the command can be stopped and started again; --table trains nothing,
--jobs does so many things at once.
"""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxgen.evaluation.results import Result
from tests.benchmarks import report
from tests.benchmarks.tables import COUNTS, drawn

UNET = "--model.net.width 16 --model.net.depth 1 --model.net.heads 2"
DIT = "--model.classes 0 --model.net.width 96 --model.net.depth 6 --model.net.heads 3 --model.net.patch 4"
SIDE = 28  # VDM's images: its bits are those of MNIST as it is
SETTINGS = {  # of the preset of that name
    "ddpm": f"{UNET} --model.learning-rate 1e-3",
    "edm": UNET,
    "edm2": f"--model.classes 0 {UNET}",
    "sit": DIT,
    "flow": UNET,
    "flow-ot": UNET,
    "shortcut": UNET,
    "meanflow": UNET,
    "consistency": UNET,
    # Without halvings (the preset's net, which is the paper's) and at its rate, samples are strokes for a long time.
    "vdm": f"--model.image {SIDE} {SIDE} 1 {UNET} --model.net.multipliers 1 2 2 --model.learning-rate 1e-3",
}
SOLVER = "sampler=dpm++2m,steps=12"  # with edm's grid; the others', which are told times, is even in log sigma
LOG = f"{SOLVER},grid=log-snr"
EULER = tuple(f"sampler=ddim,steps={n}" for n in COUNTS)
OWN = tuple(f"steps={n}" for n in COUNTS)
LIKELIHOOD = ""
SHEET = report.README.parent / "notebooks" / "diffusion-mnist.png"
SHOWN = (8 * 66, 4 * 66)  # columns and rows of the images that a training draws


@dataclass(frozen=True)
class Table:
    """A table of models trained for so many steps of a batch, and the ways that each one's samples are drawn."""

    section: str
    steps: int
    batch: int
    ways: dict[str, tuple[str, ...]]


FEW = dict.fromkeys(("shortcut", "meanflow", "consistency"), OWN)
QUALITY = Table(
    "diffusion-quality",
    2000,
    32,
    {"ddpm": (LOG,), "edm": (SOLVER,), "edm2": (SOLVER,), "sit": (LOG,)}
    | {"flow": (LOG, *EULER), "flow-ot": (LOG, *EULER[:3])}
    | FEW
    | {"vdm": (LIKELIHOOD, LOG)},
)
LONG = Table(
    "diffusion-steps",
    8000,
    64,
    {"flow": (LOG, *EULER), "flow-ot": (LOG, *EULER)}
    | FEW
    | {"edm": (SOLVER, *EULER[3:]), "edm2": (SOLVER,), "ddpm": (LOG,), "sit": (LOG,), "vdm": (LIKELIHOOD, LOG)},
)


def main():
    parser = report.quality(__doc__, "diffusion-quality")
    parser.add_argument("--jobs", type=int, default=1, help="so many things at once (default %(default)s)")
    parser.add_argument("--long", action="store_true", help="the longer trainings instead")
    wanted = parser.parse_args()
    which = LONG if wanted.long else QUALITY
    out = wanted.out.absolute() / ("long" if wanted.long else "")
    out.mkdir(parents=True, exist_ok=True)
    if not wanted.table:
        names = wanted.only.split("+") if wanted.only else list(which.ways)
        with ThreadPoolExecutor(wanted.jobs) as pool:
            trained = {pool.submit(told, train, name, which, wanted.data.absolute(), out): name for name in names}
            for future in as_completed(trained):
                if future.result():
                    for way in which.ways[trained[future]]:
                        pool.submit(told, score, trained[future], which, way, out)
    (publish_long if wanted.long else publish)(out, wanted.write)


def told(work: Callable[..., None], name: str, *rest: Any) -> bool:
    """Do the work; a failure is told, and the others go on."""
    try:
        work(name, *rest)
    except subprocess.CalledProcessError as error:
        print(f"{name}: {(error.stderr or '').strip().splitlines()[-1:]}", flush=True)
        return False
    return True


def train(name: str, table: Table, data: Path, out: Path):
    """Train a model in OUT/<name>, or go on with it."""
    settings = ["--data.source", f"idx:{data / 'mnist'}", "--out", str(out / name), *report.many_steps()]
    settings += ["--steps", str(table.steps), "--batch", str(table.batch)]
    settings += ["--log.samples", str(table.steps // 2), "--save.every", "1000"]
    if name != "edm2":  # which has its own ways
        settings += ["--optim.schedule", "cosine", "--optim.warmup", "200", "--optim.ema", "0.999"]
    command = [sys.executable, "-m", "train.diffusion", "--preset", name, *SETTINGS[name].split(), *settings]
    subprocess.run(command, check=True, capture_output=True, text=True)


def score(name: str, table: Table, way: str, out: Path):
    """Score a trained model's samples, drawn in a way, or its likelihood; append a row to OUT/results.jsonl."""
    from jaxgen.runs.config_io import load_config

    run = out / name
    key: dict[str, Any] = {"model": name, "steps": table.steps, "settings": SETTINGS[name], "sampling": way or None}
    if any(key.items() <= found.items() for found in report.results(out)):
        return
    how = ["--metrics", "nll_16"] if way == LIKELIHOOD else ["--metrics", "fid_lenet", "--sampling", way]
    evaluate = [sys.executable, "-m", "jaxgen", "evaluate", str(run), *how]
    subprocess.run(evaluate, check=True, capture_output=True, text=True, env=report.EXACT)
    sampling = load_config(run, way).model.sampling
    lines = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    value = next(x["value"] for x in reversed(lines) if x["sampling"] == str(sampling))
    row = key | {"seconds": max(report.trained(run).values()), "nfe": sampling.nfe}
    row["place"] = report.place()
    row |= {"bits": value / (SIDE * SIDE * math.log(2))} if way == LIKELIHOOD else {"fid_lenet": value}
    with (out / "results.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(row, flush=True)


def rows_of(table: Table, out: Path) -> dict[str, list[dict[str, Any]]]:
    """Return what was measured, by the table's models."""
    found = [row for row in report.results(out) if row["steps"] == table.steps]
    rows = {name: [row for row in found if row["model"] == name] for name in table.ways}
    if not any(rows.values()):
        raise SystemExit(f"{out} holds no results yet.")
    return {name: several for name, several in rows.items() if several}


def results_of(row: dict[str, Any], labels: dict[str, str], case: str = "") -> list[Result]:
    """Return the results of one way that a model's samples were drawn, or of its likelihood."""
    name = f"fid_lenet@{case}" if case else "fid_lenet"
    values = {name: row.get("fid_lenet"), "bpd_16": row.get("bits"), "training_minutes": row["seconds"] / 60}
    if not case and row["sampling"]:
        values["nfe"] = row["nfe"]
    about = {"preset": row["model"], "data": "MNIST", "steps": row["steps"], "seeds": 1, "places": [row["place"]]}
    return report.row(labels, values, model=row["model"], **about)


def publish(out: Path, write: bool):
    found = [row for several in rows_of(QUALITY, out).values() for row in several]
    rows = []
    for row in found:
        if (row["sampling"] or LIKELIHOOD) in QUALITY.ways[row["model"]]:
            sampler = row["sampling"].replace("sampler=", "").replace(",", ", ") if row["sampling"] else ""
            rows += results_of(row, {"model": f"`{row['model']}`", "sampler": sampler})
    report.publish(QUALITY.section, rows, write)


def publish_long(out: Path, write: bool):
    """Show a row for each model, a column for each number of sampling steps."""
    rows, found = [], rows_of(LONG, out)
    for name, several in found.items():
        by = {row["sampling"]: row for row in several}
        cells = {drawn(n): by.get(own) or by.get(euler) for n, own, euler in zip(COUNTS, OWN, EULER, strict=True)}
        cells["DPM-Solver++, 12 sampling steps"] = by.get(LOG) or by.get(SOLVER)
        cells[""] = by.get(None)
        for case, row in cells.items():
            rows += results_of(row, {"model": f"`{name}`"}, case) if row else []
    report.publish(LONG.section, rows, write)
    whole = found.keys() == LONG.ways.keys()
    sheet(out, [name for name in found if name != "vdm"], [out / "samples.png", *([SHEET] if write and whole else [])])


def sheet(out: Path, names: list[str], targets: list[Path]):
    """Write some of the samples that each training drew in the end, its model's name below."""
    import numpy as np
    from PIL import Image

    from jaxgen.media.image_grid import captioned, save_png
    from jaxgen.media.marks import DRAWN, Mark

    last = [max((out / name / "samples").glob("*.png")) for name in names]
    cells = [Image.open(path).convert("RGB").crop((0, 0, *SHOWN)) for path in last]
    pictures = np.stack([np.asarray(cell, np.float32) for cell in cells]) / 127.5 - 1
    for path in targets:
        save_png(path, captioned(pictures, names, 3), Mark(DRAWN))


if __name__ == "__main__":
    main()
