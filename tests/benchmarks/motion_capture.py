"""Motion capture, trained for equal CPU time: python -m tests.benchmarks.motion_capture [PRESET ...] [--write]

Nets learn from clips of an actor that plays the takes of some people, and are measured on the takes of others:
trained on CMU's salsa and Indian dances, the CMU split's training takes and DeepMimic's clips; measured on CMU's
martial arts and the five takes of AnimatedDrawings. The test clips are drawn twice, with nothing in front of the actor
and with something in front in each. `--runs DIR` keeps the runs.
"""

import argparse
import tarfile
import tempfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from jaxgen import zoo
from jaxgen.core.capabilities import Transform
from jaxgen.core.config import Data
from jaxgen.core.spec import spec_of
from jaxgen.core.step import init_state, make_step
from jaxgen.core.types import averaged
from jaxgen.data.actor_clips import ActorClips
from jaxgen.evaluation.results import Result
from jaxgen.metrics.poses import acceleration_error, aligned_distance, joint_distance
from jaxgen.runs import sharding
from jaxgen.runs.load import build_task
from tests.benchmarks import report
from tests.helpers.untrained import save_untrained

MEASURES = {"mpjpe": joint_distance, "pa_mpjpe": aligned_distance, "acceleration": acceleration_error}
PRESETS = ("capture-lstm", "capture-frame", "capture-temporal", "capture-transformer")
FRAMES = 400  # of each take of the CMU split
BATCH, EMA, IMAGE, WIDTHS = 16, 0.99, (32, 32, 3), (32, 64, 128)
POOL, HELD_OUT = 2000, 160  # clips
DATA = "takes of other people than those of the training"


def unpack(shared: Path, out: Path):
    """Write the takes into train and test."""
    for part in ("train", "test"):
        (out / part).mkdir(parents=True)
    for name in ("cmu_bvh_12", "animated_drawings_bvh_5", "deepmimic_motions"):
        with tarfile.open(shared / f"{name}.tar.xz") as archive:
            for info in archive.getmembers():
                if info.isfile() and info.name.endswith((".bvh", ".txt")) and (file := archive.extractfile(info)):
                    held = name.startswith("animated") or "martial" in info.name
                    (out / ("test" if held else "train") / Path(info.name).name).write_bytes(file.read())
    with zipfile.ZipFile(shared / "cmu_mocap_csm_split.zip") as archive:
        for name in archive.namelist():
            if "/train/" in name and name.endswith(".txt"):
                lines = archive.read(name).decode().splitlines()[:FRAMES]
                (out / "train" / Path(name).name).write_text("\n".join(lines))


def stacked(examples: list[dict]) -> dict[str, np.ndarray]:
    """Return a batch of examples as nets take them."""
    made = {name: np.stack([example[name] for example in examples]) for name in ("clip", "pose", "turns", "root")}
    return {**made, "clip": made["clip"] / np.float32(127.5) - 1}


def errors(made: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Return the errors in millimetres of poses f32[n t j 3] in metres."""
    return {name: 1000 * float(np.mean(measure(true, made))) for name, measure in MEASURES.items()}  # pyright: ignore


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=PRESETS)
    parser.add_argument("--data", type=Path, required=True, help="the folder mocap/ of the shared data")
    parser.add_argument("--minutes", type=float, default=1.5, help="CPU minutes of training of each net")
    parser.add_argument("--runs", type=Path, help="a folder for the runs")
    parser.add_argument("--write", action="store_true", help=report.WRITE)
    wanted = parser.parse_args()
    runs = {name: small(name) for name in wanted.presets}
    example = next(iter(runs.values())).model.task(1).example
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "takes"
        unpack(wanted.data, path)
        source = ActorClips(path, Data(f"actor:{path}"), example)
        order = np.random.default_rng(0).permutation(POOL)
        pool = [source.draw(int(i % len(source)), int(i)) for i in order]
        tests = {}
        for hidden, label in ((0.0, ""), (1.0, "@hidden")):
            held = ActorClips(path, Data(f"actor:{path}", split="test"), example, hidden)
            rows = np.linspace(0, len(held) - 1, HELD_OUT).astype(int)
            tests[label] = stacked([held[int(i)] for i in rows])
        print(f"{len(source)} windows of {len(source.takes)} takes; {len(held)} of {len(held.takes)} for the test")
        mean = np.mean([example["pose"] for example in pool], (0, 1))
        still = {
            f"{name}{label}": value
            for label, test in tests.items()
            for name, value in errors(np.broadcast_to(mean, test["pose"].shape), test["pose"]).items()
        }
        found = rows_of("mean pose", still)
        for name, run in runs.items():
            values, steps = trained(run, pool, tests, wanted.minutes, wanted.runs)
            print(name, steps, {key: round(value, 1) for key, value in values.items()}, flush=True)
            size = f"{IMAGE[0]}x{IMAGE[1]}, encoder {' '.join(map(str, WIDTHS))}"
            settings = f"{size}, ema {EMA}, batch {BATCH}, constant schedule, {POOL} clips"
            found += rows_of(f"`{name}`", values, preset=name, steps=steps, settings=settings)
            report.publish("motion-capture", found, wanted.write)


def rows_of(model: str, values: dict[str, float], **more) -> list[Result]:
    rounded = {name: round(value, 2) for name, value in values.items()}
    return report.row({"model": model}, rounded, model=model, data=DATA, **more)


def small(name: str):
    """Return a preset's run for a short training: small frames, batches and averages."""
    run = zoo.load(name).run
    return replace(
        run,
        preset=name,
        batch=BATCH,
        optim=replace(run.optim, schedule="constant"),
        model=replace(run.model, image=IMAGE, widths=WIDTHS, ema=EMA),
    )


def trained(run, pool: list[dict], tests: dict, minutes: float, keep: Path | None) -> tuple[dict[str, float], int]:
    """Return the errors of a net after some CPU minutes of training without compilation, and its number of steps."""
    mesh = sharding.make_mesh(replace(run.mesh, data=1))

    task = build_task(replace(run, steps=10_000), mesh)
    step = jax.jit(make_step(task), donate_argnums=0)
    state = jax.jit(lambda key: init_state(task, key, spec_of(task, BATCH)))(jax.random.key(0))
    start, steps = 0.0, 0
    while not start or time.process_time() - start < 60 * minutes:
        rows = np.random.default_rng(steps).integers(len(pool), size=BATCH)
        state, metrics = step(state, stacked([pool[row] for row in rows]), {})
        jax.block_until_ready(state)
        start, steps = start or time.process_time(), steps + 1  # the first step compiles
        if steps % 50 == 1:
            print(steps, {key: round(float(value), 3) for key, value in metrics.items()}, flush=True)
    transform, nets = task.get(Transform), averaged(state, {})
    capture = jax.jit(lambda nets, clip: transform.apply(*nets, {"clip": clip}, None)["pose"])
    values = {}
    for label, test in tests.items():
        made = np.concatenate([capture(nets, clip) for clip in np.split(test["clip"], HELD_OUT // BATCH)])
        values |= {f"{name}{label}": value for name, value in errors(made, test["pose"]).items()}
    if keep:
        save_untrained(replace(run, steps=steps, out=str(keep / run.preset)), lambda _: jax.device_get(state))
    return values, steps


if __name__ == "__main__":
    main()
