"""Every GAN on MNIST beside PyTorch's DCGAN tutorial: python -m tests.benchmarks.gan_quality --data DIR [--write]

DIR is the folder of real data (JAXGEN_TEST_DATA). Each preset is trained by the user's command with the settings
of tests/benchmarks/gan_models.py, for N updates of the generator, for as many as the time of DCGAN's N updates
allows, and for as many as gan_models.py says: the largest of them; its FID is read at all. Times of a step are
measured first, each in a process of its own: let nothing else run then, or delete OUT/times.json to measure them
again. A run that is finished is not repeated, so that the command can be stopped and started again; --table trains
nothing and shows what is there.
"""

import argparse
import functools
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.evaluation.results import Result
from tests.benchmarks import report
from tests.benchmarks.gan_models import BATCH, MODELS, WIDTH
from tests.benchmarks.metrics import imported, measured, value_of

SAMPLES = 10_000
TORCH = "torch"
ROWS = (*MODELS, TORCH)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of real data")
    parser.add_argument("--out", type=Path, default=Path("runs/gan-quality"), help="(default %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="of training (default %(default)s)")
    parser.add_argument("--updates", type=int, default=2000, help="of the generator, N (default %(default)s)")
    parser.add_argument("--only", help=f"some of {', '.join(ROWS)}, with commas between")
    parser.add_argument("--table", action="store_true", help="train nothing: show what is there")
    parser.add_argument("--write", action="store_true", help=report.WRITE)
    parser.add_argument("--time", metavar="NAME", help=argparse.SUPPRESS)  # what a process of its own does
    parser.add_argument("--torch", type=int, nargs=3, metavar=("SEED", "STEPS", "EVERY"), help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    data, out = wanted.data.absolute(), wanted.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    if wanted.time:
        return print(seconds_of(wanted.time, data))
    if wanted.torch:
        return train_torch(data, out, *wanted.torch)
    names = [choose_row(name) for name in wanted.only.split(",")] if wanted.only else list(ROWS)
    if not wanted.table:
        times = measure_times(names, data, out)
        for seed in range(wanted.seeds):
            for name in names:
                train(name, seed, plan(times, name, wanted.updates), data, out)
    publish(data, out, wanted.updates, wanted.write)


def choose_row(name: str) -> str:
    from jaxgen.core.errors import choose

    return choose(name, ROWS, "model")


def mnist(data: Path) -> list[str]:
    return ["--data.source", "tfds:mnist", "--data.dir", str(data / "tfds")]


def again(data: Path, out: Path, *args: str) -> list[str]:
    """Return this module's command."""
    return [sys.executable, "-m", "tests.benchmarks.gan_quality", "--data", str(data), "--out", str(out), *args]


# ---- times


def measure_times(names: list[str], data: Path, out: Path) -> dict[str, float]:
    """Return the seconds of a step of DCGAN and of these models, from OUT/times.json where they are in it."""
    file = out / "times.json"
    times = json.loads(file.read_text()) if file.exists() else {}
    for name in dict.fromkeys(("dcgan", *names)):
        if name not in times:
            told = subprocess.run(again(data, out, "--time", name), check=True, capture_output=True, text=True)
            times[name] = float(told.stdout.split()[-1])
            print(f"{name}: {1000 * times[name]:.1f} ms a step", flush=True)
            file.write_text(json.dumps(times, indent=1) + "\n")
    return times


def seconds_of(name: str, data: Path, calls: int = 7, least: float = 0.5) -> float:
    """Return the seconds of one step, batches from the loader included: a median of `calls` times half a second."""
    take = torch_steps(data, 0)[0] if name == TORCH else our_steps(name, data)
    take(10)
    start = time.perf_counter()
    take(10)
    count = 10 * max(1, round(least / (time.perf_counter() - start)))
    found = []
    for _ in range(calls):
        start = time.perf_counter()
        take(count)
        found.append((time.perf_counter() - start) / count)
    return statistics.median(found)


def our_steps(name: str, data: Path) -> Callable[[int], Any]:
    """Return what takes so many steps, a multiple of 10, as jaxgen's loop does, and waits for them."""
    import jax

    from jaxgen.commands.parse import parse
    from jaxgen.core import cache
    from jaxgen.core.config import Mesh
    from jaxgen.core.spec import spec_of
    from jaxgen.data import open_source
    from jaxgen.runs import sharding
    from jaxgen.runs.load import build_task
    from jaxgen.training import loop

    cache.use_compilation_cache()
    run = parse("gan", [*MODELS[name].argv, *mnist(data)]).run
    mesh = sharding.make_mesh(Mesh(data=1))
    task = build_task(run, mesh)
    state = sharding.make_state(task, mesh, jax.random.key(0), spec_of(task, run.batch))
    step = loop.lower(run, task, mesh, state, {}).compile()
    setup = loop.Setup(mesh, task, sharding.abstract_state(task, mesh, spec_of(task, run.batch)), {})
    stream = loop.open_stream(run, setup, open_source(run.data, run.model.image), 0)

    def take(count: int):
        nonlocal state
        metrics = {}
        for _ in range(count // run.compute.steps_per_call):
            state, metrics = step(state, next(stream), {})
        jax.block_until_ready((state, metrics))

    return take


def plan(times: dict[str, float], name: str, updates: int) -> tuple[int, int, int]:
    """Return (steps in all, steps between two FIDs, steps in the time of DCGAN's N)."""
    quarter = updates // 4
    same_time = max(1, round(4 * times["dcgan"] / times[name])) * quarter
    longest = updates if name == TORCH else MODELS[name].updates
    return max(updates, same_time, longest), math.gcd(updates, same_time, longest), same_time


# ---- training


def train(name: str, seed: int, plan: tuple[int, int, int], data: Path, out: Path):
    """Train one model from one seed, and append what came out to OUT/results.jsonl; what is there stays."""
    steps, every, same_time = plan
    key = {"model": name, "seed": seed, "steps": steps, "settings": "" if name == TORCH else MODELS[name].settings}
    if any(key.items() <= found.items() for found in report.results(out)):
        return
    start = time.perf_counter()
    run = out / f"{name}-{seed}"
    if name == TORCH:
        call = again(data, out, "--torch", str(seed), str(steps), str(every))
    else:
        settings = [*mnist(data), "--steps", str(steps), "--seed", str(seed), "--out", str(run)]
        settings += ["--eval.every", str(every), "--eval.metrics", "fid_lenet", "--eval.count", str(SAMPLES)]
        settings += ["--log.every", "100", "--log.samples", str(every), "--save.every", str(every)]
        call = [sys.executable, "-m", "train.gan", *MODELS[name].argv, *settings]
    try:
        told = subprocess.run(["nice", "-n", "5", *call], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        print(f"{name}, seed {seed}: {error.stderr.strip().splitlines()[-1]}", flush=True)
        return
    row: dict[str, Any] = key | {"same_time": same_time}
    if name == TORCH:
        row |= json.loads(told.stdout.splitlines()[-1])
    else:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        fids = {line["step"]: line["eval/train/fid_lenet"] for line in lines if "eval/train/fid_lenet" in line}
        row["fid"] = {str(step): fid for step, fid in fids.items()}
        if MODELS[name].conditional:
            row["as_asked"] = as_asked(run)
    row["seconds"] = round(time.perf_counter() - start)
    with (out / "results.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(f"{name}, seed {seed}, {row['seconds']} s: {row['fid']}", flush=True)


def as_asked(folder: Path) -> float:
    """Return the share of samples, labels in turn, that the package's LeNet-5 takes for what was asked for."""
    import jax
    import jax.numpy as jnp

    from jaxgen.inference.sampling import drawer
    from jaxgen.pretrained.feature_extractors import extractor
    from jaxgen.runs.load import open_run

    run, mesh, task, state, frozen, _ = open_run(folder)
    lenet = extractor("lenet")
    guess = jax.jit(lambda x: lenet.apply(lenet.variables, x)["logits"].argmax(1))
    label = np.resize(np.arange(task.classes, dtype=np.int32), SAMPLES)
    stream = drawer(task, mesh, run.batch)(state, frozen, 0, SAMPLES, {"label": label})
    guessed = np.concatenate([np.asarray(guess(jnp.clip(x, -1, 1))) for x in stream])[:SAMPLES]
    return float((guessed == label).mean())


# ---- PyTorch


def torch_steps(data: Path, seed: int):
    """Return (what takes so many steps, the generator, its moving average) of the DCGAN tutorial's game at 32x32.

    The tutorial's layers but one, so that 32x32 goes down to 4x4; its weights, loss, rates and prior.
    """
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]
    from torch.optim.swa_utils import AveragedModel  # pyright: ignore[reportMissingImports]

    from jaxgen.core.config import Data
    from jaxgen.data import batches, open_source

    torch.manual_seed(seed)
    w = WIDTH
    layers: list[Any] = []
    for i, (a, b) in enumerate(((100, 4 * w), (4 * w, 2 * w), (2 * w, w))):
        layers += [nn.ConvTranspose2d(a, b, 4, 2 if i else 1, 1 if i else 0, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    generator = nn.Sequential(*layers, nn.ConvTranspose2d(w, 1, 4, 2, 1, bias=False), nn.Tanh())
    layers = [nn.Conv2d(1, w, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for a, b in ((w, 2 * w), (2 * w, 4 * w)):
        layers += [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)]
    discriminator = nn.Sequential(*layers, nn.Conv2d(4 * w, 1, 4, 1, 0, bias=False), nn.Sigmoid(), nn.Flatten(0))
    for net in (generator, discriminator):
        for name, p in net.named_parameters():
            if not name.endswith("bias"):
                nn.init.normal_(p, float(p.ndim == 1), 0.02)
    # The moving average that our runs have; the tutorial has none.
    average = AveragedModel(
        generator, avg_fn=lambda old, new, n: old + (new - old) * (1 - min(0.999, (1 + n) / (10 + n))), use_buffers=True
    )
    adams = [torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999)) for net in (discriminator, generator)]
    loss, image = nn.BCELoss(), (32, 32, 1)
    mnist = Data("tfds:mnist", str(data / "tfds"))
    stream = batches(open_source(mnist, image), mnist, image, batch=BATCH, seed=seed)
    ones, zeros = torch.ones(BATCH), torch.zeros(BATCH)

    def take(count: int):
        for _ in range(count):
            real = torch.from_numpy(next(stream)["image"]).permute(0, 3, 1, 2)
            fake = generator(torch.randn(BATCH, 100, 1, 1))
            adams[0].zero_grad()
            (loss(discriminator(real), ones) + loss(discriminator(fake.detach()), zeros)).backward()
            adams[0].step()
            adams[1].zero_grad()
            loss(discriminator(fake), ones).backward()
            adams[1].step()
            average.update_parameters(generator)

    return take, generator, average


def train_torch(data: Path, out: Path, seed: int, steps: int, every: int):
    """Train the tutorial's model and print {"fid": {step: value}, "fid_average": ...} as a line of JSON."""
    import torch  # pyright: ignore[reportMissingImports]

    from jaxgen.media.image_grid import grid, save_png
    from jaxgen.media.marks import DRAWN, Mark

    take, generator, average = torch_steps(data, seed)
    scores = open_scores_of(data)

    def pictures(net: Any, count: int) -> Iterator[np.ndarray]:
        torch.manual_seed(seed)
        with torch.no_grad():
            for _ in range(0, count, BATCH):
                yield net(torch.randn(BATCH, 100, 1, 1)).permute(0, 2, 3, 1).numpy()

    found: dict[str, dict[str, float]] = {"fid": {}, "fid_average": {}}
    for step in range(every, steps + 1, every):
        take(every)
        state = torch.get_rng_state()
        for kind, net in (("fid", generator), ("fid_average", average)):
            net.eval()
            value = scores.compare(scores.take_in(pictures(net, SAMPLES), SAMPLES))["fid_lenet"]
            net.train()
            found[kind][str(step)] = value
        torch.set_rng_state(state)
    average.eval()
    save_png(out / f"{TORCH}-{seed}.png", grid(np.concatenate([*pictures(average, 64)])), Mark(DRAWN))
    print(json.dumps(found))


def open_scores_of(data: Path):
    """Return the scores that our runs have, for images from elsewhere."""
    import jax

    from jaxgen import zoo
    from jaxgen.core.config import Data, Mesh, Run
    from jaxgen.evaluation.sample_scores import open_scores
    from jaxgen.runs import sharding

    jax.config.update("jax_platforms", "cpu")
    run = Run(zoo.load("dcgan").run.model, batch=BATCH, data=Data("tfds:mnist", str(data / "tfds")))
    mesh = sharding.make_mesh(Mesh(data=1))
    [scores] = open_scores(run, run.model.task(1), mesh, ["fid_lenet"], SAMPLES, "train")
    return scores


# ---- the table


def publish(data: Path, out: Path, updates: int, write: bool):
    """Show the table of what is there, and write it where asked to."""
    times = json.loads((out / "times.json").read_text()) if (out / "times.json").exists() else {}
    rows = []
    for name in ROWS:
        settings = "" if name == TORCH else MODELS[name].settings
        runs = [r for r in report.results(out) if r["model"] == name and r["settings"] == settings]
        runs = [r for r in runs if str(updates) in r["fid"]]
        runs = list({r["seed"]: r for r in sorted(runs, key=lambda r: r["steps"])}.values())  # of a seed the longest
        if runs:
            torch = {"fid": "PyTorch, last weights", "fid_average": "PyTorch, moving average"}
            for kind, label in torch.items() if name == TORCH else (("fid", f"`{name}`"),):
                rows += row_of(label, name, [r | {"fid": r[kind]} for r in runs], updates, times.get(name))
    if not rows:
        raise SystemExit(f"{out} holds no results of {updates} updates yet.")
    gan = imported(data / "weights" / "mnist_gan_mlp_G--300.ckpt", "gan", out / "gan-mlp", *mnist(data))
    [value] = other_framework(gan)
    label, other = {"model": "imported `mnist_gan_mlp_G`"}, "mnist_gan_mlp_G"
    values = {"fid_lenet@generated": value_of(value)}
    rows += report.row(label, values, model=other, preset="gan", weights=other, data="MNIST")
    report.publish("gan-quality", rows, write)


def row_of(label: str, name: str, runs: list[dict[str, Any]], updates: int, seconds: float | None) -> list[Result]:
    """Return the results of a model, means over the seeds of its training."""
    same = runs[-1]["same_time"]
    asked = [r["as_asked"] for r in runs if "as_asked" in r]
    last = min(r["steps"] for r in runs)
    moments = {f"{updates:,} updates": updates, "final": last} | ({"equal time": same} if seconds else {})
    values: dict[str, Any] = {"ms_per_step": 1000 * seconds if seconds else None}
    for case, step in moments.items():
        values[f"fid_lenet@{case}"] = mean([r["fid"][str(step)] for r in runs]) | {"steps": step}
    values["class_accuracy_lenet"] = {"value": float(np.mean(asked)), "steps": last} if asked else None
    model = None if name == TORCH else MODELS[name]
    about: dict[str, Any] = {"preset": model.preset, "settings": model.changed} if model else {}
    return report.row({"model": label}, values, model=label.strip("`"), data="MNIST", seeds=len(runs), **about)


def mean(values: list[float]) -> dict[str, Any]:
    from jaxgen.evaluation.sample_scores import interval

    value, half = interval(values)
    return {"value": value} | ({"interval": half} if len(values) > 1 else {})


@functools.cache
def other_framework(run: Path) -> list[dict[str, Any]]:
    """Return what `evaluate` says of the imported GAN, once."""
    file = run / "evaluations.jsonl"
    if file.exists():
        return [json.loads(line) for line in file.read_text().splitlines()][-1:]
    return measured(run, "--metrics", "fid_lenet", "--seeds", "3")


if __name__ == "__main__":
    main()
