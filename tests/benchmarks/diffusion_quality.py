"""Diffusion and flow models on MNIST: python -m tests.benchmarks.diffusion_quality --data DIR [--write]

DIR is the folder of real data (JAXGEN_TEST_DATA). Every method is trained at 32x32 with one small U-Net by the
user's commands, a flow with a transformer beside it, for equally many steps of the same batch, and its samples are
scored by fid_lenet as the GANs' are (gan_quality.py). Models of few steps, and the flow beside them, are scored at
several numbers of steps. A run that is finished is not repeated: the command can be stopped and started again; --table
trains nothing.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import report

UNET = "--model.net.width 16 --model.net.depth 1 --model.net.heads 2"
DIT = "--model.classes 0 --model.net.width 96 --model.net.depth 6 --model.net.heads 3 --model.net.patch 4"
STEPS, BATCH = 2000, 32
MULTISTEP = "sampler=dpm++2m,steps=12"


@dataclass(frozen=True)
class Model:
    """A preset, what is changed of it, and the ways its samples are drawn."""

    preset: str
    settings: str = UNET
    sampling: tuple[str, ...] = (MULTISTEP,)


FEW = tuple(f"steps={n}" for n in (1, 2, 4, 8, 32))
LOG = f"{MULTISTEP},grid=log-snr"
MODELS = {
    "ddpm": Model("ddpm", sampling=(LOG,)),
    "edm": Model("edm"),
    "flow": Model("flow", sampling=(LOG, *(f"sampler=ddim,{few}" for few in FEW))),
    "flow-ot": Model("flow-ot", sampling=(LOG, *(f"sampler=ddim,{few}" for few in FEW[:4]))),
    "shortcut": Model("shortcut", sampling=FEW[:4]),
    "meanflow": Model("meanflow", sampling=FEW[:4]),
    "consistency": Model("consistency", sampling=FEW[:2]),
    "edm2": Model("edm2", f"--model.classes 0 {UNET}"),
    "sit": Model("sit", DIT, (LOG,)),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of real data")
    parser.add_argument("--out", type=Path, default=Path("runs/diffusion-quality"), help="(default %(default)s)")
    parser.add_argument("--only", help="some of the models, with + between")
    parser.add_argument("--table", action="store_true", help="train nothing: show what is there")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    wanted = parser.parse_args()
    out = wanted.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    if not wanted.table:
        for name in wanted.only.split("+") if wanted.only else MODELS:
            measure(name, MODELS[name], wanted.data.absolute(), out)
    publish(out, wanted.write)


def results(out: Path) -> list[dict[str, Any]]:
    file = out / "results.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def measure(name: str, model: Model, data: Path, out: Path):
    """Train a model and score its samples, and append a row to OUT/results.jsonl for each way they are drawn."""
    run = out / name
    settings = ["--data.source", "tfds:mnist", "--data.dir", str(data / "tfds"), "--out", str(run)]
    settings += ["--steps", str(STEPS), "--batch", str(BATCH), "--log.samples", str(STEPS), "--save.every", "500"]
    if model.preset != "edm2":  # which has its own ways
        settings += ["--optim.schedule", "cosine", "--optim.warmup", "200", "--optim.ema", "0.999"]
    train = [sys.executable, "-m", "train.diffusion", "--preset", model.preset, *model.settings.split(), *settings]
    subprocess.run(train, check=True, capture_output=True, text=True)
    seconds = round(max(report.trained(run).values()))
    for sampling in model.sampling:
        key = {"model": name, "steps": STEPS, "settings": model.settings, "sampling": sampling}
        if any(key.items() <= found.items() for found in results(out)):
            continue
        evaluate = [sys.executable, "-m", "jaxgen", "evaluate", str(run), "--metrics", "fid_lenet"]
        evaluate += ["--sampling", sampling]
        subprocess.run(evaluate, check=True, capture_output=True, text=True)
        found = json.loads((run / "evaluations.jsonl").read_text().splitlines()[-1])
        row = key | {"seconds": seconds, "fid_lenet": found["value"], "evaluations": calls(run, sampling)}
        with (out / "results.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)


def calls(run: Path, sampling: str) -> int:
    from jaxgen import runs

    return runs.load(run, sampling).model.sampling.evaluations


def publish(out: Path, write: bool):
    rows = [
        {
            "model": f"`{found['model']}`",
            "drawn by": found["sampling"].replace("sampler=", "").replace(",", ", "),
            "evaluations": found["evaluations"],
            "fid_lenet": f"{found['fid_lenet']:.4g}",
            "training": f"{found['seconds'] / 60:.0f} min",
        }
        for name in MODELS
        for found in results(out)
        if found["model"] == name
    ]
    text = (
        f"MNIST at 32x32, {STEPS:,} steps of {BATCH}, rate down along a cosine, moving averages of 0.999 (`edm2`: its "
        "own ways), one seed; a U-Net of width 16 with one block a resolution (`sit`: a DiT of 6 layers of 96 with "
        "patches of 4); 10,000 samples beside the 60,000 training digits, as the GANs' table has it; "
        "evaluations of the net for a picture; training time on one core, beside other work."
    )
    report.publish("diffusion-quality", rows, text, write)


if __name__ == "__main__":
    main()
