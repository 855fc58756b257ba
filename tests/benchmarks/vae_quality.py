"""Every autoencoder on MNIST, beta-VAEs on shapes: python -m tests.benchmarks.vae_quality --data DIR [--write]
from tests.helpers.capabilities import encode

DIR is the folder of real data (JAXGEN_TEST_DATA). Each model is trained and measured by the user's commands. A run that
is finished is not repeated, so that the command can be stopped and started again; --jobs trains so many at once, a
core each or all of them on one GPU; --table trains nothing and shows what is there. With --nll: VAEs on dynamically
binarised MNIST, and their likelihood by importance sampling.
"""

import json
import math
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.evaluation.results import Result
from tests.benchmarks import report

SAMPLES = 10_000
LOCK = threading.Lock()
MEASURED = ("nll_1", "reconstruction_psnr", "active_units", "rfid_lenet")


@dataclass(frozen=True)
class Model:
    """A preset, what is changed of it, the steps it gets, and whether its samples come from a sampler fitted after."""

    preset: str
    settings: str = ""
    steps: int = 5000
    sampler: str = ""
    shapes: bool = False

    @property
    def argv(self) -> list[str]:
        return ["--preset", self.preset, *self.settings.split()]


GREY, SMALL = "--model.image 32 32 1", "--model.image 32 32 3"
QUALITY = {
    "autoencoder": Model("autoencoder", sampler="mixture"),
    "autoencoder-denoising": Model("autoencoder-denoising", sampler="mixture"),
    "autoencoder-sparse": Model("autoencoder-sparse", sampler="mixture"),
    "autoencoder-conv": Model("autoencoder-conv", sampler="mixture", steps=1500),
    "mae": Model("mae", "--optim.warmup 100", steps=1500),
    "vae": Model("vae"),
    "vae, mixture": Model("vae", sampler="mixture"),
    "vae, two-stage": Model("vae", sampler="two-stage"),
    "vae-conv": Model("vae-conv", steps=1500),
    "vae-residual": Model("vae-residual", GREY, steps=1000),
    "cvae": Model("cvae"),
    "cvae-conv": Model("cvae-conv", steps=1500),
    "iwae": Model("iwae", "--model.samples 5"),
    "vae-iaf": Model("vae-iaf"),
    "vae-vamp": Model("vae-vamp"),
    "hierarchical": Model("hierarchical", steps=400),
    "vq-vae": Model("vq-vae", steps=1500),
    "vq-vae-residual": Model("vq-vae-residual", steps=1500),
    "vq-vae-finite": Model("vq-vae-finite", steps=1500),
    "vqgan": Model("vqgan", "--model.start 300", steps=1000),
    "aae": Model("aae"),
    "wae-mmd": Model("wae-mmd"),
    "vae-gan": Model("vae-gan", steps=1000),
    "beta-vae": Model("beta-vae", f"{SMALL} --model.anneal 500", steps=1500, shapes=True),
    "beta-vae, beta 1": Model("beta-vae", f"{SMALL} --model.anneal 500 --model.beta 1", steps=1500, shapes=True),
}
WIDE = "--model.latent 50 --model.nets.width 200 --model.nets.depth 2"
LONG = "--data.binarise dynamic --optim.schedule cosine"
NLL = {
    "vae": Model("vae", f"{WIDE} {LONG}", 100_000),
    "iwae": Model("iwae", LONG, 60_000),
    "vae-vamp": Model("vae-vamp", LONG, 60_000),
    "vae-iaf": Model("vae-iaf", LONG, 60_000),
}
PUBLISHED = {"vae": 89.8, "iwae": 86.8, "vae-vamp": 85.8}
SOURCE = "Burda et al. 2016; Tomczak and Welling 2018"


def main():
    parser = report.quality(__doc__, "vae-quality")
    parser.add_argument("--seeds", type=int, default=3, help="of training (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="models at once (default %(default)s)")
    parser.add_argument("--nll", action="store_true", help="the likelihoods instead")
    wanted = parser.parse_args()
    models = NLL if wanted.nll else QUALITY
    out = wanted.out.absolute() / ("nll" if wanted.nll else "")
    out.mkdir(parents=True, exist_ok=True)
    names = [choose_row(name, models) for name in wanted.only.split("+")] if wanted.only else list(models)
    if not wanted.table:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(wanted.jobs))
        groups: dict[str, list[str]] = {}  # rows of one run, one after the other
        for name in names:
            groups.setdefault(folder_of(name), []).append(name)
        with ThreadPoolExecutor(wanted.jobs) as pool:
            for seed in range(1 if wanted.nll else wanted.seeds):
                for group in groups.values():
                    rows = {name: models[name] for name in group}
                    pool.submit(measure_all, rows, seed, wanted.data.absolute(), out, cores)
    (publish_nll if wanted.nll else publish)(models, out, wanted.write)


def choose_row(name: str, models: dict[str, Model]) -> str:
    from jaxgen.core.errors import choose

    return choose(name, models, "model")


def folder_of(name: str) -> str:
    """Return the folder of a row's run: rows that differ in the sampler alone share one."""
    return name.partition(",")[0] + ("-beta1" if name.endswith("beta 1") else "")


def measure_all(models: dict[str, Model], *rest: Any):
    """Measure the rows of one run; a failure is told, and the others go on."""
    for name, model in models.items():
        try:
            measure(name, model, *rest)
        except subprocess.CalledProcessError as error:
            print(f"{name}: {(error.stderr or '').strip().splitlines()[-1:]}", flush=True)


def measure(name: str, model: Model, seed: int, data: Path, out: Path, cores: list[int]):
    """Train a model from one seed and measure it, on one core or the GPU, and append a row to OUT/results.jsonl."""
    key = {"model": name, "seed": seed, "steps": model.steps, "settings": model.settings}
    if any(key.items() <= found.items() for found in report.results(out)):
        return
    alone = hasattr(os, "sched_setaffinity") and not report.gpu()
    with LOCK:
        core = cores.pop() if alone else 0
    pinned = ["taskset", "-c", str(core)] if alone else []
    try:
        run = out / f"{folder_of(name)}-{seed}"
        source = ["--data.source", "shapes"] if model.shapes else mnist(data)
        settings = [*source, "--steps", str(model.steps), "--seed", str(seed), "--out", str(run)]
        settings += ["--log.every", "100", "--log.samples", str(model.steps), "--save.every", "5000"]
        settings += report.many_steps()
        train = [*pinned, sys.executable, "-m", "train.vae", *model.argv, *settings]
        subprocess.run(train, check=True, capture_output=True, text=True)
        seconds = max(report.trained(run).values())
        metrics = ["nll_5000", "nll_1", "active_units"] if out.name == "nll" else wanted_of(run, model)
        row: dict[str, Any] = key | {"seconds": round(seconds), "place": report.place()}
        evaluate = [*pinned, sys.executable, "-m", "jaxgen", "evaluate", str(run), "--count", str(SAMPLES)]
        evaluate += ["--sampler", model.sampler] if model.sampler else []
        evaluate += ["--metrics", ",".join(metrics)]
        subprocess.run(evaluate, check=True, capture_output=True, text=True, env=report.EXACT)
        lines = (run / "evaluations.jsonl").read_text().splitlines()
        row |= {found["metric"]: found["value"] for found in map(json.loads, lines[-len(metrics) :])}
        if "mae_loss" in row:  # the squared error of hidden pixels in [-1, 1]
            row["reconstruction_psnr"] = 10 * math.log10(4 / row["mae_loss"])
        last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
        row |= {k.partition("/")[2]: v for k, v in last.items() if k.endswith(("/perplexity", "/codes_used"))}
        if model.shapes:
            row["mig"] = mig(run)
        with LOCK, (out / "results.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{name}, seed {seed}: {row}", flush=True)
    finally:
        with LOCK:
            cores += [core] if alone else []


def wanted_of(run: Path, model: Model) -> list[str]:
    """Return what can be measured of a run."""
    from jaxgen.core.capabilities import Codec, Density, Transform
    from jaxgen.runs.config_io import load_config

    config = load_config(run)
    task = config.model.task(config.steps)
    codec, transform = task.find(Codec), task.find(Transform)
    if codec is None or codec.decode is None:
        return ["loss"]
    names = [name for name in MEASURED if name != "nll_1" or task.find(Density)]
    if model.shapes:
        return [name for name in names if name != "rfid_lenet"]
    return [*names, "fid_lenet"] if (transform and not transform.subject) or model.sampler else names


def mnist(data: Path) -> list[str]:
    return ["--data.source", f"idx:{data / 'mnist'}"]


def mig(folder: Path, count: int = 5000) -> float:
    """Return the mutual information gap of a run's codes on held-out shapes; the shape itself is a factor as well."""
    import jax

    from jaxgen.core.capabilities import Codec
    from jaxgen.core.spec import image_of
    from jaxgen.core.types import averaged
    from jaxgen.data import RandomSubset, batches, open_source
    from jaxgen.metrics.disentanglement import mutual_information_gap
    from jaxgen.runs.load import open_run

    run, _, task, state, frozen, _ = open_run(folder)
    encode = jax.jit(task.get(Codec).encode)
    source = RandomSubset(open_source(run.data.at("test"), image_of(task)), count)
    codes, factors = [], []
    for batch in batches(source, run.data, image_of(task), batch=500, seed=0, train=False):
        codes.append(np.asarray(encode(*averaged(state, frozen), {"image": batch["image"]})))
        factors.append(np.concatenate([batch["factors"], batch["label"][:, None]], 1))
    return mutual_information_gap(np.concatenate(codes), np.concatenate(factors))["mig"]


# ---- the tables


METRICS = {  # of what is in OUT/results.jsonl
    "nll_1": "nll_1",
    "reconstruction_psnr": "reconstruction_psnr",
    "fid_lenet": "fid_lenet",
    "rfid_lenet": "rfid_lenet",
    "active_units": "active_units",
    "codes_used": "codebook_use",
    "perplexity": "perplexity",
    "mig": "mig",
}


def publish(models: dict[str, Model], out: Path, write: bool):
    rows = []
    for name, model in models.items():
        if found := rows_of(out, name, model):
            values = {metric: mean([r[key] for r in found if key in r]) for key, metric in METRICS.items()}
            if model.preset == "mae":
                values["hidden_patch_psnr"] = values.pop("reconstruction_psnr")
            about = {"data": "shapes" if model.shapes else "MNIST", "seeds": len(found)}
            rows += results_of(name, model, values, found, **about)
    show("vae-quality", rows, out, write)


def publish_nll(models: dict[str, Model], out: Path, write: bool):
    rows = []
    for name, model in models.items():
        for found in rows_of(out, name, model)[:1]:
            values = {"training_seconds": found["seconds"], "active_units": found["active_units"]}
            values |= {metric: found[metric] for metric in ("nll_5000_dynamic", "nll_1_dynamic")}
            rows += results_of(name, model, values, [found], data="binarised MNIST", seeds=1)
            theirs = {"nll_5000_dynamic@published": PUBLISHED.get(name)}
            rows += report.row({"model": f"`{name}`"}, theirs, model=name, data="binarised MNIST", source=SOURCE)
    show("vae-nll", rows, out, write)


def results_of(name: str, model: Model, values: dict[str, Any], found: list[dict[str, Any]], **about: Any):
    """Return the results of a row of a table, of what was found of the seeds."""
    about |= {"preset": model.preset, "steps": model.steps, "settings": model.settings}
    return report.row({"model": f"`{name}`"}, values, model=name, places=[r["place"] for r in found], **about)


def show(table: str, rows: list[Result], out: Path, write: bool):
    if not rows:
        raise SystemExit(f"{out} holds no results yet.")
    report.publish(table, rows, write)


def rows_of(out: Path, name: str, model: Model) -> list[dict[str, Any]]:
    key = {"model": name, "steps": model.steps, "settings": model.settings}
    return [found for found in report.results(out) if key.items() <= found.items()]


def mean(values: list[float]) -> dict[str, float] | None:
    from jaxgen.evaluation.sample_scores import interval

    if not values:
        return None
    value, half = interval(values)
    return {"value": value} | ({"interval": half} if len(values) > 1 else {})


if __name__ == "__main__":
    main()
