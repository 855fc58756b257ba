"""Diffusion and flow models on MNIST: python -m tests.benchmarks.diffusion_quality --data DIR [--write]

DIR is the folder of real data (JAXGEN_TEST_DATA). Every method is trained at 32x32 with one small U-Net by the user's
commands, a flow with a transformer beside it, for equally many steps of the same batch, and its samples are scored by
fid_lenet as the GANs' are (gan_quality.py). Models of few steps, and the flow beside them, are scored at several
numbers of steps. VDM, at 28x28, is asked for its likelihood. A run that is finished is not repeated: the command can be
stopped and started again; --table trains nothing, --jobs does so many things at once.
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

from tests.benchmarks import report

UNET = "--model.net.width 16 --model.net.depth 1 --model.net.heads 2"
DIT = "--model.classes 0 --model.net.width 96 --model.net.depth 6 --model.net.heads 3 --model.net.patch 4"
STEPS, BATCH = 2000, 32
MULTISTEP = "sampler=dpm++2m,steps=12"
SIDE = 28  # VDM's pictures: its bits are those of MNIST as it is


@dataclass(frozen=True)
class Model:
    """A preset, what is changed of it, and the ways its samples are drawn; none: it is its likelihood that counts."""

    preset: str
    settings: str = UNET
    sampling: tuple[str, ...] = (MULTISTEP,)


FEW = tuple(f"steps={n}" for n in (1, 2, 4, 8))
LOG = f"{MULTISTEP},grid=log-snr"
EULER = (LOG, *(f"sampler=ddim,{few}" for few in FEW))
MODELS = {
    "ddpm": Model("ddpm", f"{UNET} --model.learning-rate 1e-3", (LOG,)),
    "edm": Model("edm"),
    "edm2": Model("edm2", f"--model.classes 0 {UNET}"),
    "sit": Model("sit", DIT, (LOG,)),
    "flow": Model("flow", sampling=EULER),
    "flow-ot": Model("flow-ot", sampling=EULER[:4]),
    "shortcut": Model("shortcut", sampling=FEW),
    "meanflow": Model("meanflow", sampling=FEW),
    "consistency": Model("consistency", sampling=FEW[:3]),
    "vdm": Model("vdm", f"--model.image {SIDE} {SIDE} 1 --model.net.width 16", ()),
}


def main():
    parser = report.quality(__doc__, "diffusion-quality")
    parser.add_argument("--jobs", type=int, default=1, help="so many things at once (default %(default)s)")
    wanted = parser.parse_args()
    out = wanted.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    if not wanted.table:
        names = wanted.only.split("+") if wanted.only else list(MODELS)
        with ThreadPoolExecutor(wanted.jobs) as pool:
            trained = {pool.submit(told, train, name, wanted.data.absolute(), out): name for name in names}
            for future in as_completed(trained):
                if future.result():
                    for sampling in MODELS[trained[future]].sampling or (None,):
                        pool.submit(told, score, trained[future], sampling, out)
    publish(out, wanted.write)


def told(work: Callable[..., None], name: str, *rest: Any) -> bool:
    """Do the work; a failure is told, and the others go on."""
    try:
        work(name, *rest)
    except subprocess.CalledProcessError as error:
        print(f"{name}: {(error.stderr or '').strip().splitlines()[-1:]}", flush=True)
        return False
    return True


def train(name: str, data: Path, out: Path):
    """Train a model in OUT/<name>, or go on with it."""
    model = MODELS[name]
    settings = ["--data.source", f"idx:{data / 'mnist'}", "--out", str(out / name), *report.many_steps()]
    settings += ["--steps", str(STEPS), "--batch", str(BATCH), "--log.samples", str(STEPS // 2), "--save.every", "1000"]
    if model.preset != "edm2":  # which has its own ways
        settings += ["--optim.schedule", "cosine", "--optim.warmup", "200", "--optim.ema", "0.999"]
    command = [sys.executable, "-m", "train.diffusion", "--preset", model.preset, *model.settings.split(), *settings]
    subprocess.run(command, check=True, capture_output=True, text=True)


def score(name: str, sampling: str | None, out: Path):
    """Score a trained model's samples, drawn in a way, or its likelihood; append a row to OUT/results.jsonl."""
    from jaxgen import runs

    model, run = MODELS[name], out / name
    key: dict[str, Any] = {"model": name, "steps": STEPS, "settings": model.settings, "sampling": sampling}
    if any(key.items() <= found.items() for found in report.results(out)):
        return
    how = ["--metrics", "fid_lenet", "--sampling", sampling] if sampling else ["--metrics", "nll_16"]
    evaluate = [sys.executable, "-m", "jaxgen", "evaluate", str(run), *how]
    subprocess.run(evaluate, check=True, capture_output=True, text=True, env=report.EXACT)
    drawn = runs.load(run, sampling or "").model.sampling
    lines = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    value = next(x["value"] for x in reversed(lines) if x["sampling"] == str(drawn))
    row = key | {"seconds": max(report.trained(run).values()), "evaluations": drawn.evaluations}
    row["place"] = report.place()
    row |= {"fid_lenet": value} if sampling else {"bits": value / (SIDE * SIDE * math.log(2))}
    with (out / "results.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(row, flush=True)


def publish(out: Path, write: bool):
    found = [row for name in MODELS for row in report.results(out) if row["model"] == name and row["steps"] == STEPS]
    rows = [
        {
            "model": f"`{row['model']}`",
            "drawn by": row["sampling"].replace("sampler=", "").replace(",", ", ") if row["sampling"] else "",
            "evaluations": row["evaluations"] if row["sampling"] else "",
            "fid_lenet": f"{row['fid_lenet']:.4g}" if "fid_lenet" in row else "",
            "bits/dim": f"{row['bits']:.3f}" if "bits" in row else "",
            "training": f"{row['seconds'] / 60:.1f} min",
        }
        for row in found
    ]
    text = (
        f"MNIST at 32x32, {STEPS:,} steps of {BATCH}, a cosine rate, "
        "moving averages of 0.999 (`edm2`: its own ways; `ddpm`: a rate of 1e-3), one seed; a U-Net of width 16 with "
        "one block a resolution (`sit`: a DiT of 6 layers of 96 with patches of 4); 10,000 samples beside the 60,000 "
        "training digits, as the GANs' table has it; evaluations of the net for a picture; bits/dim: VDM's bound of "
        "-log2 P of the 10,000 test digits' 8-bit pixels, 16 times each. Training time beside other trainings."
    )
    report.publish("diffusion-quality", rows, text, write, where=report.places(found))


if __name__ == "__main__":
    main()
