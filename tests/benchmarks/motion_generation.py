"""Generators of motion: python -m tests.benchmarks.motion_generation --data FILE.zip [--minutes N] [--write]

Small versions of the generators are trained on five actions of the CMU split for equal CPU times, one after the other,
and so is the classifier that judges them (action-gru). A run that is there already is not trained again. From each 100
clips of 60 frames are drawn for each action, a VAE's from its prior; `real` are as many windows of the test takes,
evenly spaced. The Frechet distance of the classifier's 30 features is that to these windows. Beside the generators
stand windows of the training takes, and two floors: the mean pose of an action, and the frames of the test windows in
random order. Models without classes are drawn from the first frames of training windows; they have no accuracy.
"""

import argparse
import dataclasses
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import zoo
from jaxgen.core.capabilities import Classifier, Transform
from jaxgen.core.config import Data
from jaxgen.core.rng import sample_keys
from jaxgen.core.spec import Example, label_spec
from jaxgen.core.step import init_state, make_step
from jaxgen.core.types import averaged
from jaxgen.data.mocap import Mocap
from jaxgen.data.motion_clips import format_of
from jaxgen.evaluation.results import Result
from jaxgen.inference.opening import open_trained, with_frames
from jaxgen.media.array_files import save_arrays
from jaxgen.metrics.frechet import frechet_distance
from jaxgen.metrics.motion import diversity, foot_sliding, multimodality
from tests.benchmarks import report

ACTIONS = ("basketball", "jumping", "running", "soccer", "walking")  # those that have training and test takes
SHORT = "--optim.schedule cosine --optim.warmup 30 --model.ema 0.98 --model.learning-rate 1e-3"
LAYERS = f"--model.hidden 256 --model.depth 3 --model.dropout 0 --batch 16 {SHORT}"
MODELS = {
    "action-gru": "--batch 32 --optim.schedule cosine",
    "motion-vae": f"--model.latent 128 {LAYERS}",
    "mdm": f"--model.width 128 {LAYERS}",
    "mvae": f"--batch 32 {SHORT}",
    "acrnn": f"--model.width 256 --model.frames 50 --batch 16 {SHORT}",
}
JUDGE = "action-gru"
CLIP = 60  # frames
COUNT, BATCH, PAIRS = 100, 50, 200  # clips of an action, clips at a time, pairs of clips whose distance is taken
PROBE = 10  # steps whose CPU time is measured before a training


def options(name: str, data: Path, out: Path) -> list[str]:
    """Return the settings of a training but the number of steps."""
    source = ("--data.source", f"mocap:{data}", "--data.only", ",".join(ACTIONS))
    return ["--preset", name, *MODELS[name].split(), *source, "--log.samples", "0", "--out", str(out / name)]


def trained(name: str, data: Path, out: Path, minutes: float) -> float:
    """Train a model for about that many CPU minutes, beside reading and compiling; return the minutes of all of it."""
    note = out / f"{name}.minutes"
    if note.exists():
        return float(note.read_text())
    from jaxgen.commands.parse import parse

    run = parse("motion", options(name, data, out)).run
    task = run.model.task(1000)
    draw = np.random.default_rng(0)
    batch = {
        key: draw.normal(size=(run.batch, *spec.shape)).astype(np.float32)
        if spec.kind == "pose"
        else np.zeros(run.batch, np.int32)
        for key, spec in task.example.items()
    }
    state, step = init_state(task, jax.random.key(0), batch), jax.jit(make_step(task))
    jax.block_until_ready(step(state, batch, {}))
    start = time.process_time()
    for _ in range(PROBE):
        state, _ = jax.block_until_ready(step(state, batch, {}))
    steps = max(int(60 * minutes / ((time.process_time() - start) / PROBE)) // 100 * 100, 100)
    print(f"{name}: {steps} steps", flush=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "train.motion", *options(name, data, out), "--steps", str(steps)]
    subprocess.run([*command, "--save.every", str(steps)], check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 60
    note.write_text(f"{spent:.2f}")
    return spent


def windows(data: Path, example: Example, split: str) -> dict[str, np.ndarray]:
    """Return COUNT windows f32[n t k 6] of each action, evenly spaced over those of its takes."""
    source = Mocap(data, Data(f"mocap:{data}", split=split, stride=2), example)
    labels, found = np.asarray(source.labels), {}
    for action in ACTIONS:
        mine = np.flatnonzero(labels == source.classes.index(action))
        mine = mine[np.linspace(0, len(mine) - 1, COUNT).astype(int)]
        found[action] = np.stack([source[int(i)]["motion"] for i in mine])
    return found


def drawn(opened: Any, data: Path) -> dict[str, np.ndarray]:
    """Return COUNT clips f32[n t k 6] of each action; of a model without classes under the actions in turn."""
    opened = with_frames(opened, CLIP)
    task, transform = opened.task, opened.task.get(Transform)
    nets = averaged(opened.state, opened.frozen)
    needs = [name for name in transform.required if name != "label"]
    example = {name: task.example[name] for name in needs} | {"label": label_spec(0)}
    source = Mocap(data, Data(f"mocap:{data}", stride=2), example) if needs else None
    apply = jax.jit(lambda given, keys: transform.apply(*nets, given, keys)["motion"])
    classes, found = opened.run.data.classes, {}
    for number, action in enumerate(ACTIONS):
        clips = []
        for first in range(0, COUNT, BATCH):
            given: dict[str, Any] = {}
            indices = np.arange(first, first + BATCH) + number * COUNT
            if "label" in transform.required:
                given["label"] = np.full(BATCH, classes.index(action), np.int32)
            if source is not None:
                mine = np.flatnonzero(np.asarray(source.labels) == source.classes.index(action))
                some = mine[np.linspace(0, len(mine) - 1, COUNT).astype(int)][first : first + BATCH]
                given |= {name: np.stack([source[int(i)][name] for i in some]) for name in needs}
            clips.append(np.asarray(apply(given, sample_keys(jax.random.key(0), jnp.asarray(indices)))))
        found[action] = np.concatenate(clips)
    return found


def judged(
    clips: dict[str, np.ndarray], judge: Any, real: np.ndarray | None, labelled: bool = True
) -> tuple[dict, Any]:
    """Return the scores of clips of the actions, and their features f32[n d]."""
    classify = jax.jit(
        lambda x: judge.task.get(Classifier).classify(*averaged(judge.state, judge.frozen), {"motion": x})
    )
    made = np.concatenate([clips[action] for action in ACTIONS])
    parts = [jax.device_get(classify(some)) for some in np.split(made, len(made) // BATCH)]
    features, logits = (np.concatenate([part[name] for part in parts]) for name in ("features", "logits"))
    classes = judge.run.data.classes
    labels = np.repeat([classes.index(action) for action in ACTIONS], COUNT)
    known = format_of(judge.task.example["motion"])
    feet = known.places(made.astype(np.float32))[:, :, list(known.feet)]
    moments = lambda x: (x.mean(0), np.cov(x.astype(np.float64), rowvar=False))  # noqa: E731
    scores: dict[str, Any] = {
        "fid_action_gru": None if real is None else round(frechet_distance(*moments(real), *moments(features)), 3),
        "accuracy_action_gru": round(float((logits.argmax(-1) == labels).mean()), 4) if labelled else None,
        "diversity_action_gru": round(diversity(features, PAIRS), 3),
        "multimodality_action_gru": round(multimodality(features, labels, PAIRS), 3) if labelled else None,
        "foot_sliding_cm_s": round(float(foot_sliding(feet, known.rate).mean()), 2),
    }
    return scores, features


def floors(real: dict[str, np.ndarray], known: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Return clips of the mean pose of each action's training windows, and real ones with their frames shuffled."""
    draw = np.random.default_rng(0)
    still = {action: np.broadcast_to(x.mean((0, 1)), x.shape).copy() for action, x in known.items()}
    return {
        "mean pose": still,
        "shuffled frames": {action: x[:, draw.permutation(x.shape[1])] for action, x in real.items()},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the CMU split as .zip")
    parser.add_argument("--out", type=Path, default=Path("runs/motion-generation"), help="(default %(default)s)")
    parser.add_argument("--minutes", type=float, default=6.0, help="CPU minutes of a training (default %(default)s)")
    parser.add_argument("--only", default="", help="some of the models, with + between")
    parser.add_argument("--picture", type=Path, help="a .gif: the middle real clips, and below those of each model")
    parser.add_argument("--write", action="store_true", help=report.WRITE)
    wanted = parser.parse_args()
    wanted.out.mkdir(parents=True, exist_ok=True)
    names = [name for name in MODELS if name == JUDGE or not wanted.only or name in wanted.only.split("+")]
    minutes = {name: trained(name, wanted.data, wanted.out, wanted.minutes / (1 + (name == JUDGE))) for name in names}
    judge = open_trained(str(wanted.out / JUDGE))
    real = windows(wanted.data, judge.task.example, "test")
    known = windows(wanted.data, judge.task.example, "train")
    scores, features = judged(real, judge, None)
    rows: list[Result] = []

    def add(model: str, scores: dict, **more: Any):
        print(model, scores, flush=True)
        rows.extend(report.row({"model": model}, scores, model=model, data="CMU split", **more))

    add("held-out clips", scores)
    add("training clips", judged(known, judge, features)[0])
    shown = [real]
    for name in names[1:]:
        opened = open_trained(str(wanted.out / name))
        labelled = "label" in opened.task.get(Transform).required
        shown.append(drawn(opened, wanted.data))
        found = judged(shown[-1], judge, features, labelled)[0]
        found["cpu_minutes"] = round(minutes[name], 1)
        preset = zoo.load(name).run.model
        fields = [(f.name, getattr(opened.run.model, f.name)) for f in dataclasses.fields(preset)]
        changed = [f"{key} {value}" for key, value in fields if value != getattr(preset, key)]
        settings = ", ".join([*changed, f"cosine schedule, warm-up 30, batch {opened.run.batch}"])
        add(f"`{name}`", found, preset=name, steps=int(opened.state.step), settings=settings)
    for name, clips in floors(real, known).items():
        add(name, judged(clips, judge, features)[0])
    if wanted.picture:
        middle = np.stack([clips[action][COUNT // 2] for clips in shown for action in ACTIONS])
        save_arrays(wanted.picture, judge.task.example["motion"], middle, None, len(ACTIONS))
    report.publish("motion-generation", rows, wanted.write)


if __name__ == "__main__":
    main()
