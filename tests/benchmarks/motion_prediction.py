"""Prediction of the CMU split: python -m tests.benchmarks.motion_prediction --data FILE.zip RUN... [--write]

Each RUN is a run of train.motion with 25 joints, 10 frames to 25 at a stride of 2. The protocol is that of Dang et al.
2021 (MSR-GCN): of each test action all windows of every second frame; the mean distance in millimetres over all 38
joints of frames 2, 4, 8, 10, 14 and 25 of the future. Joints at the place of another have its error, joints that do not
move have none. Beside them stand the last pose, repeated (zero velocity), and the published figures.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgen import zoo
from jaxgen.core.capabilities import Transform
from jaxgen.core.config import Data
from jaxgen.core.spec import Example
from jaxgen.core.types import averaged
from jaxgen.data.known_skeletons import CMU
from jaxgen.data.mocap import Mocap
from jaxgen.evaluation.results import Result
from jaxgen.inference.opening import open_trained
from tests.benchmarks import report

TIMES = {80: 1, 160: 3, 320: 7, 400: 9, 560: 13, 1000: 24}  # milliseconds: the frame, counted from 0
SOURCE = "Dang et al. 2021, MSR-GCN"
PUBLISHED = {
    "basketball": (10.24, 18.64, 36.94, 45.96, 61.12, 86.24),
    "jumping": (15.19, 28.85, 55.97, 69.11, 92.38, 126.16),
    "running": (13.17, 20.91, 29.88, 33.37, 38.26, 43.62),
    "soccer": (10.92, 19.40, 37.41, 47.00, 65.25, 101.85),
    "walking": (6.38, 10.25, 16.88, 20.05, 25.48, 36.78),
    "washwindow": (5.41, 10.93, 24.51, 31.79, 45.13, 70.16),
}
TRAINED = [name for name in PUBLISHED if name != "washwindow"]  # whose training files the data have


def shares() -> np.ndarray:
    """Return how much each of the 25 joints counts in the mean over 38, f64[25]."""
    counts = np.zeros(len(CMU))
    for joint in range(len(CMU)):
        at = joint
        while at > 0 and not CMU.offsets[at].any():  # it is where its parent is
            at = CMU.parents[at]
        counts[at] += at in CMU.moving
    return counts[list(CMU.moving)] / len(CMU)


def windows(path: Path, example: Example, action: str) -> tuple[np.ndarray, np.ndarray]:
    """Return past f32[n 10 25 3] and future f32[n 25 25 3] of an action: the windows of every second frame."""
    source = Mocap(path, Data(f"mocap:{path}", split="test", stride=2), example)
    kept = [i for i, (name, start) in enumerate(source.examples) if f"/{action}/" in name and start % 2 == 0]
    some = [source[i] for i in kept]
    return np.stack([x["past"] for x in some]), np.stack([x["future"] for x in some])


def errors(made: np.ndarray, true: np.ndarray) -> list[float]:
    """Return the error of each time in the data's unit; made and true f32[n 25 25 3]."""
    away = np.linalg.norm(made.astype(np.float64) - true, axis=-1) @ shares()  # [n 25]
    return [float(away[:, frame].mean()) for frame in TIMES.values()]


def rows_of(model: str, found: dict[str, list[float]], source: str | None = None, **more: Any) -> list[Result]:
    """Return the results for each action, and for the mean over those with training data."""
    means = [float(np.mean([found[action][i] for action in TRAINED])) for i in range(len(TIMES))]
    rows = []
    for action, values in {**found, "mean of five": means}.items():
        named = {f"mpjpe_{time}ms": round(value, 2) for time, value in zip(TIMES, values, strict=True)}
        values = {name: {"value": value, "source": source} if source else value for name, value in named.items()}
        rows += report.row({"model": model, "action": action}, values, model=model, data="CMU split", **more)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the CMU split as .zip")
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--write", action="store_true", help=report.WRITE)
    wanted = parser.parse_args()
    rows, still, example = [], {}, None
    for folder in wanted.runs:
        opened = open_trained(str(folder))
        transform, example = opened.task.get(Transform), opened.task.example
        nets = averaged(opened.state, opened.frozen)
        predict = jax.jit(lambda nets, past, t=transform: t.apply(*nets, {"past": past}, None)["future"])
        found = {}
        for action in PUBLISHED:
            past, future = windows(wanted.data, example, action)
            parts = np.array_split(past, max(len(past) // 128, 1))
            found[action] = errors(np.concatenate([np.asarray(predict(nets, x)) for x in parts]), future)
            still[action] = errors(np.broadcast_to(past[:, -1:], future.shape), future)
            print(f"{folder} {action} ({len(past)} windows)", np.round(found[action], 2), np.round(still[action], 2))
        run = opened.run
        preset = zoo.load(run.preset).run
        changed = [
            f"{field.name} {value}"
            for field in dataclasses.fields(run.model)
            if (value := getattr(run.model, field.name)) != getattr(preset.model, field.name)
        ]
        settings = ", ".join([*changed, f"{run.optim.schedule} schedule, batch {run.batch}"])
        rows += rows_of(f"`{folder.name}`", found, preset=run.preset, steps=int(opened.state.step), settings=settings)
    rows += rows_of("zero velocity", still)
    rows += rows_of("MSR-GCN", {k: list(v) for k, v in PUBLISHED.items()}, SOURCE)
    actions = [*PUBLISHED, "mean of five"]
    rows.sort(key=lambda result: actions.index((result.row or {})["action"]))
    report.publish("motion-prediction", rows, wanted.write)


if __name__ == "__main__":
    main()
